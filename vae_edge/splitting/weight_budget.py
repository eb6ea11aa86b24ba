"""What a configuration may ask for: no more weights than the file beside it holds.

A configuration of a few hundred bytes can ask for a layer of a billion filters, and Keras makes and
fills the weights before it looks for them in the file. The file's own are known beforehand.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vae_edge.errors import ModelError

__all__ = ["WeightBudget"]

# Layers that are made twice, or hold state that is not saved, stay within these.
_TIMES = 4
_SMALL = 2**22


@dataclass(kw_only=True)
class WeightBudget:
    """Counts the weights that layers make while a file is loaded, and stops them beyond its own.

    Attributes:
        held: values in the file's weights.
        where: the file, for messages.
        made: values that layers have asked for so far.
        excess: why loading was stopped; None where it was not. Keras wraps what is raised inside
            of it in errors of its own, so that this is where to look.
    """

    held: int
    where: str
    made: int = 0
    excess: ModelError | None = None

    @contextlib.contextmanager
    def watched(self, keras: Any) -> Iterator[None]:
        """Count what is made inside the block.

        Args:
            keras: the module.

        Raises:
            ModelError: inside the block and inside of Keras, more was asked for.
        """
        layer_class = keras.layers.Layer
        before = layer_class.add_weight

        def add_weight(layer: Any, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
            self._take(layer, shape)
            return before(layer, shape, *args, **kwargs)

        layer_class.add_weight = add_weight
        try:
            yield
        finally:
            layer_class.add_weight = before

    def _take(self, layer: Any, shape: Any) -> None:
        sizes = (shape,) if isinstance(shape, (int, float)) else tuple(shape or ())
        if not all(isinstance(size, (int, float)) for size in sizes):
            return  # Keras says what is wrong with it
        self.made += math.prod(int(size) for size in sizes)
        if self.made > max(_SMALL, _TIMES * self.held):
            asked = ", ".join(f"{size:g}" for size in sizes)
            self.excess = ModelError(
                f"{self.where}: is not loaded: its layer '{layer.name}' asks for weights of shape "
                f"({asked}), and the whole file holds {self.held} values. It is damaged or "
                "made to exhaust memory. Save the model again with model.save('model.keras')."
            )
            raise self.excess
