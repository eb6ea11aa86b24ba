"""Which operators of a graph compute in integers, and with which scales, in any format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ExportError
from vae_edge.terms import FloatArray

__all__ = [
    "FLOAT_PLAN",
    "LARGEST",
    "LARGEST_PAIR",
    "QuantizationPlan",
    "QuantizedWeights",
    "Range",
    "WeightMode",
    "fit_pairs",
    "quantize_weights",
]


LARGEST = 127
# x86 without VNNI adds the products of two neighbours, uint8 by int8, in 16 bits, and saturates:
# 255 * 128 fit.
LARGEST_PAIR = 128


class WeightMode(str, Enum):
    """How the weights of an operator that computes in float are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


@dataclass(frozen=True, kw_only=True)
class Range:
    """The real values that the 256 steps of an 8-bit tensor span; always holds 0.

    Attributes:
        low: real value of the lowest step.
        high: real value of the highest.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low <= 0 <= self.high):
            raise ExportError(f"a range must be finite and hold 0; received {self}.")

    @property
    def scale(self) -> float:
        """Real value of one step, as the nearest float32; 1 where the range is empty."""
        return float(np.float32((self.high - self.low) / 255)) or 1.0

    @property
    def zero_point(self) -> int:
        """The step, from 0 to 255, that stands for exactly 0."""
        return int(np.clip(np.rint(-self.low / self.scale), 0, 255))

    def scaled(self, factor: float) -> Range:
        """Give the range with both ends multiplied."""
        return Range(low=self.low * factor, high=self.high * factor)

    def joined(self, other: Range) -> Range:
        """Give the smallest range that holds both."""
        return Range(low=min(self.low, other.low), high=max(self.high, other.high))


@dataclass(frozen=True, kw_only=True)
class QuantizedWeights:
    """Weights in int8, symmetric: real = stored * scale.

    Attributes:
        stored: int8, -127 to 127.
        scales: float32, one per output channel, the last axis; or a single one.
    """

    stored: npt.NDArray[np.int8]
    scales: FloatArray

    def real(self) -> FloatArray:
        """Give the weights as they take part in the computation."""
        return np.asarray(self.stored * self.scales, np.float32)


def quantize_weights(
    kernel: FloatArray, *, per_channel: bool = True, paired: bool = False
) -> QuantizedWeights:
    """Round to int8 with a scale per output channel (the last axis), or one for all.

    scale = max |w| / 127, so that nothing saturates; ties round to even.

    Args:
        kernel: float32, the output channels last.
        per_channel: a scale for each of them.
        paired: two neighbours of one sign add up to no more than `LARGEST_PAIR` steps either, see
            `fit_pairs`.
    """
    axes = tuple(range(kernel.ndim - 1)) if per_channel else None
    steps = np.atleast_1d(np.abs(kernel).max(axis=axes)) / LARGEST
    if paired:
        sums = np.max([_pair_sums(matrix).max(axis=0) for _, matrix in _orders(kernel)], axis=0)
        steps = np.maximum(steps, (sums if per_channel else sums.max()) / LARGEST_PAIR)
    scales = np.asarray(np.where(steps > 0, steps, 1 / LARGEST), np.float32)
    stored = np.clip(np.rint(kernel / scales), -LARGEST, LARGEST).astype(np.int8)
    return QuantizedWeights(stored=fit_pairs(stored) if paired else stored, scales=scales)


def fit_pairs(stored: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Lower weights until no two neighbours of one sign add up to more than `LARGEST_PAIR`.

    Neighbours are multiplied and added together by ONNX Runtime on x86 without VNNI. Which they are
    depends on whether it walks channels or places first, and on where it begins, so that all of
    them are held to that, in either order. Both of a pair give way, the larger first.

    Args:
        stored: int8, the output channels last; (height, width, channels, outputs) of a convolution.
    """
    for order, matrix in _orders(stored):
        lowered = matrix.astype(np.int16)
        first, second = lowered[:-1], lowered[1:]
        same = (first > 0) == (second > 0)
        rows = np.flatnonzero((same & (np.abs(first + second) > LARGEST_PAIR)).any(axis=1))
        for row in rows:
            a, b = lowered[row], lowered[row + 1]
            excess = np.where((a > 0) == (b > 0), np.abs(a + b) - LARGEST_PAIR, 0).clip(0)
            of_larger, of_smaller = (excess + 1) // 2, excess // 2
            larger = np.abs(a) >= np.abs(b)
            a -= (np.sign(a) * np.where(larger, of_larger, of_smaller)).astype(np.int16)
            b -= (np.sign(b) * np.where(larger, of_smaller, of_larger)).astype(np.int16)
        stored = _back(lowered.astype(np.int8), stored.shape, order)
    return stored


_ORDERS: Mapping[int, tuple[tuple[int, ...], ...]] = {4: ((0, 1, 2, 3), (2, 0, 1, 3))}


def _orders(kernel: npt.NDArray[Any]) -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
    """Give weights as (inputs, outputs), in every order that a runtime may walk the inputs."""
    for order in _ORDERS.get(kernel.ndim, (tuple(range(kernel.ndim)),)):
        yield order, kernel.transpose(order).reshape(-1, kernel.shape[-1])


def _back(
    matrix: npt.NDArray[np.int8], shape: tuple[int, ...], order: tuple[int, ...]
) -> npt.NDArray[np.int8]:
    ordered = matrix.reshape([shape[axis] for axis in order])
    return np.ascontiguousarray(ordered.transpose(np.argsort(order)))


def _pair_sums(matrix: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Give what neighbours of one sign add up to, without it; (inputs, outputs)."""
    if len(matrix) < 2:
        return np.asarray(np.abs(matrix), np.float32)
    parts = (np.maximum(matrix, 0), np.maximum(-matrix, 0))
    return np.asarray(np.maximum(*(part[:-1] + part[1:] for part in parts)), np.float32)


@dataclass(frozen=True, kw_only=True)
class QuantizationPlan:
    """What is quantized. Nodes are named by the tensor that they make.

    Attributes:
        integer: nodes that compute in 8-bit integers, inputs and output included.
        integer_input: dense nodes that read integers and make floats; ONNX only.
        dynamic: dense nodes with int8 weights that quantize what they read as it comes; ONNX only,
            where other nodes widen their weights when the model loads.
        ranges: of every tensor that is read or made as integers.
        weights: how nodes that compute in float store their weights; float32 where not named.
        per_tensor: nodes whose int8 weights have one scale for all channels.
        stored: int8 weights that were chosen otherwise than each by itself.
        integer_io: the graph's own inputs and outputs are integers too.
        paired: of what multiplies integers, neighbouring weights are held to `LARGEST_PAIR`.
        signed: 8-bit values are stored from -128 to 127 instead of 0 to 255; ONNX only, for TFLite
            always stores them so.
        notes: what was not done, and why.
    """

    integer: frozenset[str] = frozenset()
    integer_input: frozenset[str] = frozenset()
    dynamic: frozenset[str] = frozenset()
    ranges: Mapping[str, Range] = field(default_factory=dict)
    weights: Mapping[str, WeightMode] = field(default_factory=dict)
    per_tensor: frozenset[str] = frozenset()
    stored: Mapping[str, QuantizedWeights] = field(default_factory=dict)
    integer_io: bool = False
    paired: bool = False
    signed: bool = False
    notes: tuple[str, ...] = ()

    def weight_mode(self, output: str) -> WeightMode:
        """Give how the node that makes `output` stores its weights, if it computes in float."""
        return self.weights.get(output, WeightMode.FLOAT32)

    def int8_weights(self, output: str, kernel: FloatArray) -> QuantizedWeights:
        """Give the int8 weights of the node that makes `output`."""
        chosen = self.stored.get(output)
        if chosen is not None:
            return chosen
        return quantize_weights(
            kernel, per_channel=output not in self.per_tensor, paired=self.is_paired(output)
        )

    def is_paired(self, output: str) -> bool:
        """Tell whether weights of the node that makes `output` are held to `LARGEST_PAIR`."""
        return self.paired and output in self.integer | self.integer_input | self.dynamic


FLOAT_PLAN = QuantizationPlan()
