"""Layers that stand in for those whose code is not at hand: they have a shape and no function."""

from __future__ import annotations

import importlib
from typing import Any

from vae_edge.splitting.config_check import MissingLayer

__all__ = ["missing_of", "stand_in_class"]

_MARK = "_vae_edge_missing"


def stand_in_class(missing: MissingLayer) -> type:
    """Give a layer class to load in place of a missing one.

    It bears the missing class's name, because Keras finds weights by the names of classes.
    """
    keras: Any = importlib.import_module("keras")

    class StandIn(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
        def __init__(self, name: str | None = None, **_: Any) -> None:
            super().__init__(name=name)

        def build(self, *_: Any, **__: Any) -> None:
            self.built = True

        def call(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError(f"{missing} was called")

        def compute_output_spec(self, *args: Any, **_: Any) -> Any:
            given = keras.tree.flatten(args)
            shapes = missing.output_shapes or (tuple(given[0].shape),)
            outputs = [keras.KerasTensor(shape, dtype=given[0].dtype) for shape in shapes]
            return outputs[0] if len(outputs) == 1 else outputs

        def load_own_variables(self, store: Any) -> None:
            pass

    StandIn.__name__ = missing.class_name
    setattr(StandIn, _MARK, missing)
    return StandIn


def missing_of(operation: Any) -> MissingLayer | None:
    """Give what an operation stands in for; None where it is a real one."""
    found: MissingLayer | None = getattr(type(operation), _MARK, None)
    return found
