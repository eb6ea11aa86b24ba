"""Operators beside those of `exporters.graph`: pooling, reductions, normalisation, resizing.

Shapes are those of one row. Images are (height, width, channels) unless a layout says otherwise;
one-dimensional layers are read as images of height 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from exporters.graph import Layout, Pads, Shape
from vae_edge.errors import ExportError
from vae_edge.terms import FloatArray

__all__ = [
    "Clip",
    "GroupNorm",
    "LayerNorm",
    "PRelu",
    "Pool",
    "PoolKind",
    "Reduce",
    "ReduceKind",
    "Resize",
    "Softmax",
]


class PoolKind(str, Enum):
    """What is made of the values in a window."""

    MAX = "max"
    AVERAGE = "average"


class ReduceKind(str, Enum):
    """What is made of the values along axes."""

    MEAN = "mean"
    MAX = "max"
    SUM = "sum"


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Windows of an image, channel by channel; what lies outside the image does not count.

    Attributes:
        kind: maximum or average.
        size: of the window, along height and width.
        strides: along height and width.
        pads: places before and after, along height and width.
        layout: of input and output.
    """

    kind: PoolKind
    size: tuple[int, int]
    strides: tuple[int, int]
    pads: Pads = ((0, 0), (0, 0))
    layout: Layout = Layout.CHANNELS_LAST

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        (shape,) = inputs
        first = 1 if self.layout is Layout.CHANNELS_FIRST else 0
        sizes = tuple(
            (n + sum(pads) - window) // stride + 1
            for n, pads, window, stride in zip(
                shape[first : first + 2], self.pads, self.size, self.strides, strict=True
            )
        )
        return (*shape[:first], *sizes, *shape[first + 2 :])


@dataclass(frozen=True, kw_only=True)
class Reduce:
    """Mean, maximum or sum along row axes, which stay with size 1.

    Attributes:
        kind: which.
        axes: counted from 0, in order.
    """

    kind: ReduceKind
    axes: tuple[int, ...]

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return tuple(1 if axis in self.axes else n for axis, n in enumerate(inputs[0]))


@dataclass(frozen=True, kw_only=True)
class Resize:
    """An image in another size, between the nearest two values along each axis.

    Pixel centres are at halves: out[i] lies at (i + 0.5) * in / out - 0.5 of the input, and beyond
    the outermost centres the edge goes on.

    Attributes:
        height: of the output.
        width: of the output.
        layout: of input and output.
    """

    height: int
    width: int
    layout: Layout = Layout.CHANNELS_LAST

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        if self.layout is Layout.CHANNELS_FIRST:
            return inputs[0][0], self.height, self.width
        return self.height, self.width, inputs[0][2]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerNorm:
    """Mean 0 and variance 1 along the last axis, then a scale and an offset per value of it.

    Attributes:
        epsilon: added to the variance.
        scale: float32 (last axis,).
        offset: float32 (last axis,).
    """

    epsilon: float
    scale: FloatArray
    offset: FloatArray

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return inputs[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupNorm:
    """Mean 0 and variance 1 over an image's pixels and the channels of each group.

    Attributes:
        groups: into which channels are divided, in order; as many as channels for instance
            normalisation.
        epsilon: added to the variance.
        scale: float32 (channels,), applied afterwards.
        offset: float32 (channels,), added afterwards.
        layout: of input and output.
    """

    groups: int
    epsilon: float
    scale: FloatArray
    offset: FloatArray
    layout: Layout = Layout.CHANNELS_LAST

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        if len(self.scale) % self.groups:
            raise ExportError(f"{len(self.scale)} channels are not {self.groups} equal groups.")
        return inputs[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class PRelu:
    """A rectifier with slopes of its own: x where positive, else alpha * x.

    Attributes:
        alpha: float32, of the row's rank, 1 along axes that share a slope.
    """

    alpha: FloatArray

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        if np.broadcast_shapes(self.alpha.shape, inputs[0]) != inputs[0]:
            raise ExportError(f"slopes of {self.alpha.shape} do not fit {inputs[0]}.")
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Values not below `low` and not above `high`, either of which may be infinite."""

    low: float
    high: float

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """Exponentials along the last axis, divided by their sum."""

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return inputs[0]
