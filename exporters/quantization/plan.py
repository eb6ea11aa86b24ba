"""Which operators of a graph compute in integers, and with which scales, in any format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ExportError
from vae_edge.terms import FloatArray

__all__ = [
    "FLOAT_PLAN",
    "LARGEST",
    "LARGEST_BESIDE_UINT8",
    "QuantizationPlan",
    "QuantizedWeights",
    "Range",
    "WeightMode",
    "quantize_weights",
]


LARGEST = 127
# x86 without VNNI adds two products of uint8 and int8 in 16 bits, and saturates: 2 * 255 * 64 fit.
LARGEST_BESIDE_UINT8 = 64


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
    kernel: FloatArray, *, per_channel: bool = True, limit: int = LARGEST
) -> QuantizedWeights:
    """Round to int8 with a scale per output channel (the last axis), or one for all.

    scale = max |w| / limit, so that nothing saturates; ties round to even.
    """
    axes = tuple(range(kernel.ndim - 1)) if per_channel else None
    peak = np.atleast_1d(np.abs(kernel).max(axis=axes))
    scales = np.asarray(np.where(peak > 0, peak, 1) / limit, np.float32)
    stored = np.clip(np.rint(kernel / scales), -limit, limit)
    return QuantizedWeights(stored=stored.astype(np.int8), scales=scales)


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
        weight_limit: largest int8 weight of what multiplies integers; those that are widened
            always reach to 127.
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
    weight_limit: int = LARGEST
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
            kernel, per_channel=output not in self.per_tensor, limit=self.limit(output)
        )

    def limit(self, output: str) -> int:
        """Give the largest int8 weight of the node that makes `output`."""
        multiplied = output in self.integer | self.integer_input | self.dynamic
        return self.weight_limit if multiplied else LARGEST


FLOAT_PLAN = QuantizationPlan()
