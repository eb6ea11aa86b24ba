"""What ran inside a model: the output of every Keras layer, and every tensor of an artifact.

Both are plain numpy, so that whatever compares them needs neither Keras nor a runtime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ParityError
from vae_edge.terms import FloatArray, Precision

__all__ = ["ArtifactTrace", "LayerTrace", "StoredTensor", "TensorTrace"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerTrace:
    """The output of one Keras layer.

    Attributes:
        name: of the layer; of one in a nested model `model/layer`.
        kind: its class.
        inputs: places, in the list that this stands in, of the layers that it reads.
        values: float32 (rows, ...).
        outputs: names of the component's outputs that this is.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    values: FloatArray
    outputs: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.values.shape[1:]

    @property
    def size(self) -> int:
        """Values of one row."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTensor:
    """Integers, and what they stand for: (integer - zero_point) * scale.

    Attributes:
        integers: (rows, values of a row).
        scale: real value of one step.
        zero_point: integer that stands for 0.
    """

    integers: npt.NDArray[Any]
    scale: float
    zero_point: int

    def real(self) -> FloatArray:
        """Give the values that the integers stand for, float32."""
        # Wider first: int8 minus its zero point does not fit in int8.
        centred = self.integers.astype(np.int32) - np.int32(self.zero_point)
        return centred.astype(np.float32) * np.float32(self.scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorTrace:
    """One tensor of an artifact that depends on its input.

    Attributes:
        name: in the file.
        values: float32 (rows, values of a row), in the order in which they lie in memory.
        stored: the integers behind the values; None for a float tensor.
        aliases: names of tensors with the same values: before the quantizer that makes this one,
            after the dequantizer that reads it.
    """

    name: str
    values: FloatArray
    stored: StoredTensor | None = None
    aliases: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """How the values are stored."""
        return "float32" if self.stored is None else str(self.stored.integers.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class ArtifactTrace:
    """Every tensor of an artifact.

    Attributes:
        name: of the artifact, for messages.
        precision: as its types show it; what names it says nothing about its values.
        tensors: each after those that it is computed from; the input comes first.
        outputs: places in `tensors` by the name of the output.
    """

    name: str
    precision: Precision
    tensors: tuple[TensorTrace, ...]
    outputs: Mapping[str, int]

    def __post_init__(self) -> None:
        if not self.tensors:
            raise ParityError(f"{self.name}: no tensor depends on the input. Export it again.")
