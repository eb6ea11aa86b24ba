"""What a sabotaged file can do, whatever its format: its weights as numbers, and its wiring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vae_edge.terms import Component

__all__ = ["Layer", "ModelFile", "Weights", "requantized"]

Float64Array = npt.NDArray[np.float64]
_INT8_MAX = 127


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator with weights.

    Attributes:
        name: of its kernel in the file.
        position: of its operator in the graph.
        taps: positions of the image that an output reads; 1 for a dense layer.
        size: number of weights.
        scaled: its weights are 8-bit, with scales of their own.
        integer: its input is 8-bit too, with a scale and a zero point stored in the file.
    """

    name: str
    position: int
    taps: int
    size: int
    scaled: bool
    integer: bool


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A layer's weights as real numbers, whatever they are stored as.

    Attributes:
        kernel: (taps, inputs, outputs), the taps by rows.
        bias: (outputs,); None where the layer has none of its own.
    """

    kernel: Float64Array
    bias: Float64Array | None


class ModelFile(Protocol):
    """An artifact taken apart; a method that finds nothing to damage changes nothing: False."""

    def layers(self) -> tuple[Layer, ...]:
        """Give the operators that have weights in the file, in their order."""

    def read(self, layer: Layer) -> Weights:
        """Give a layer's weights."""

    def write(self, layer: Layer, weights: Weights) -> None:
        """Store a layer's weights, with new scales where the old ones do not reach."""

    def scale_weights(self, layer: Layer, factor: float) -> bool:
        """Multiply the scales of a layer's 8-bit weights, and leave the integers."""

    def misread(self, layer: Layer, scale: float, zero_point: int) -> bool:
        """Have an integer layer take its input for one of another scale and zero point."""

    def exchange_outputs(self) -> bool:
        """Exchange the two outputs of an encoder."""

    def drop_sigmoid(self) -> bool:
        """Give what goes into the last sigmoid as the output."""

    def shift_padding(self) -> bool:
        """Move a row and a column of zeros from one end of an image to the other."""

    def transpose_image(self, component: Component) -> bool:
        """Exchange height and width of the encoder's input, or of the decoder's output."""

    def exchange_phases(self) -> bool:
        """Exchange two phases of the last transposed convolution that was lowered."""

    def content(self) -> bytes:
        """Give the file."""


def requantized(
    kernel: Float64Array, scales: Float64Array
) -> tuple[npt.NDArray[np.int8], Float64Array]:
    """Store real weights in 8 bits.

    Args:
        kernel: of any shape.
        scales: that they had; as many axes, of length 1 where one scale holds for the whole axis.

    Returns:
        The integers, and the scales: larger ones where a weight would not fit otherwise.
    """
    shared = tuple(axis for axis, length in enumerate(scales.shape) if length == 1)
    largest = np.abs(kernel).max(axis=shared, keepdims=True)
    # Half a step beyond the last integer is still rounded to it.
    fits = largest <= scales * (_INT8_MAX + 0.5)
    scales = np.where(fits, scales, largest / _INT8_MAX)
    stored = np.clip(np.rint(kernel / scales), -128, _INT8_MAX)
    return stored.astype(np.int8), scales
