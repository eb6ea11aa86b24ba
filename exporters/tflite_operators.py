"""Operators that TFLite computes as one of its own, or as a short sequence of them.

All of them compute in float; pooling also moves 8-bit values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from exporters.graph import Activate, Activation, Affine, Binary, BinaryKind, Node, Shape, same_pads
from exporters.operators import (
    Clip,
    GroupNorm,
    LayerNorm,
    Pool,
    PoolKind,
    PRelu,
    Reduce,
    ReduceKind,
    Resize,
    Softmax,
)
from vae_edge.errors import ExportError

__all__ = ["TFLiteEmitter", "writable", "write_operator"]

Options = tuple[str, Mapping[str, Any]]
_KINDS = (
    Activate,
    Affine,
    Binary,
    Clip,
    GroupNorm,
    LayerNorm,
    PRelu,
    Pool,
    Reduce,
    Resize,
    Softmax,
)
# One operator each: its name, its version in float, and its options.
_ONE: Mapping[Activation, tuple[str, int, Options | None]] = {
    Activation.RELU: ("RELU", 1, None),
    Activation.RELU6: ("RELU6", 1, None),
    Activation.TANH: ("TANH", 1, None),
    Activation.SIGMOID: ("LOGISTIC", 1, None),
    Activation.GELU: ("GELU", 1, ("GeluOptions", {"approximate": False})),
    Activation.GELU_TANH: ("GELU", 1, ("GeluOptions", {"approximate": True})),
    Activation.HARD_SILU: ("HARD_SWISH", 1, None),
    Activation.EXP: ("EXP", 1, None),
    Activation.LOG: ("LOG", 1, None),
    Activation.SQUARE: ("SQUARE", 1, None),
    Activation.SQRT: ("SQRT", 1, None),
    Activation.RSQRT: ("RSQRT", 1, None),
    Activation.ABS: ("ABS", 1, None),
}
_BINARY = {
    BinaryKind.ADD: ("ADD", "AddOptions"),
    BinaryKind.SUBTRACT: ("SUB", "SubOptions"),
    BinaryKind.MULTIPLY: ("MUL", "MulOptions"),
    BinaryKind.DIVIDE: ("DIV", "DivOptions"),
    BinaryKind.MAXIMUM: ("MAXIMUM", "MaximumMinimumOptions"),
    BinaryKind.MINIMUM: ("MINIMUM", "MaximumMinimumOptions"),
}
# exp(20) + 1 is exp(20) in float32, and its square is far from overflowing.
_MISH_IS_LINEAR = 20.0


class TFLiteEmitter(Protocol):
    """The writer of a file, as far as operators need it. Tensors are indices."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shapes of the graph's tensors, of one row."""

    @property
    def batch(self) -> int | None:
        """Rows per inference; None for any number."""

    def is_integer(self, node: Node) -> bool:
        """Tell whether a node computes in integers."""

    def inputs(self, node: Node) -> list[int]:
        """Give what a node reads, as integers or floats as it computes."""

    def output(self, node: Node) -> int:
        """Declare what a node makes."""

    def temporary(self, name: str, shape: Shape) -> int:
        """Declare a float tensor between operators of one node, of one row's shape."""

    def constant(self, name: str, values: npt.NDArray[Any]) -> int:
        """Store values."""

    def operator(
        self,
        name: str,
        version: int,
        inputs: Sequence[int],
        output: int,
        options: Options | None = None,
    ) -> None:
        """Add an operator."""

    def fused(self, activation: Activation | None) -> int:
        """Give the code of an activation that an operator applies by itself."""


def writable(op: object) -> bool:
    """Tell whether an operator can be written here."""
    return isinstance(op, _KINDS)


class _Steps:
    """Operators of one node, one after the other."""

    def __init__(self, emitter: TFLiteEmitter, node: Node) -> None:
        self._emitter, self._node = emitter, node
        self._shape = emitter.shapes[node.output]

    def number(self, value: float) -> int:
        return self._emitter.constant("number", np.asarray(value, np.float32))

    def integers(self, values: Sequence[int]) -> int:
        return self._emitter.constant("integers", np.asarray(values, np.int32))

    def array(self, name: str, values: npt.NDArray[Any]) -> int:
        return self._emitter.constant(f"{self._node.output}/{name}", np.asarray(values, np.float32))

    def add(
        self,
        name: str,
        *inputs: int,
        shape: Shape | None = None,
        last: bool = False,
        options: Options | None = None,
    ) -> int:
        """Add an operator, with the node's own output as its output where it is the last one."""
        where = f"{self._node.output}/{name.lower()}"
        output = (
            self._emitter.output(self._node)
            if last
            else self._emitter.temporary(where, self._shape if shape is None else shape)
        )
        self._emitter.operator(name, 1, list(inputs), output, options or _default(name))
        return output

    def clamped(self, name: str, *inputs: int, to: Activation, last: bool = False) -> int:
        kind, _ = _default(name)  # type: ignore[misc]  # only asked for with options
        options = (kind, {"fusedActivationFunction": self._emitter.fused(to)})
        return self.add(name, *inputs, options=options, last=last)

    def reshape(self, value: int, shape: Shape) -> int:
        full = [-1 if self._emitter.batch is None else self._emitter.batch, *shape]
        options = ("ReshapeOptions", {"newShape": full})
        return self.add("RESHAPE", value, self.integers(full), shape=shape, options=options)


def _default(name: str) -> Options | None:
    for operator, kind in _BINARY.values():
        if operator == name:
            return kind, {}
    return None


@singledispatch
def write_operator(op: Any, node: Node, emitter: TFLiteEmitter) -> None:
    """Write an operator that `writable` accepts.

    Raises:
        ExportError: any other.
    """
    del emitter
    raise ExportError(f"{node.name}: {type(op).__name__} has no direct TFLite form.")


@write_operator.register
def _activate(op: Activate, node: Node, emitter: TFLiteEmitter) -> None:
    (x,) = emitter.inputs(node)
    if op.activation in _ONE or op.activation is Activation.LEAKY_RELU:
        name, version, options = _ONE.get(
            op.activation, ("LEAKY_RELU", 1, ("LeakyReluOptions", {"alpha": op.alpha}))
        )
        version = 2 if emitter.is_integer(node) else version
        emitter.operator(name, version, [x], emitter.output(node), options)
        return
    steps = _Steps(emitter, node)
    if op.activation is Activation.SILU:
        steps.add("MUL", x, steps.add("LOGISTIC", x), last=True)
    elif op.activation is Activation.ELU and op.alpha == 1.0:
        steps.add("ELU", x, last=True)
    elif op.activation is Activation.ELU:
        # The negative side of TFLite's ELU, whose scale is 1, scaled.
        options = ("LeakyReluOptions", {"alpha": op.alpha})
        steps.add("LEAKY_RELU", steps.add("ELU", x), last=True, options=options)
    elif op.activation is Activation.SELU:
        # Klambauer et al., "Self-Normalizing Neural Networks", 2017.
        options = ("LeakyReluOptions", {"alpha": 1.6732632423543772})
        scaled = steps.add("LEAKY_RELU", steps.add("ELU", x), options=options)
        steps.add("MUL", scaled, steps.number(1.0507009873554805), last=True)
    elif op.activation is Activation.SOFTPLUS:
        # log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which cannot overflow.
        small = steps.add("EXP", steps.add("NEG", steps.add("ABS", x)))
        tail = steps.add("LOG", steps.add("ADD", small, steps.number(1.0)))
        steps.add("ADD", steps.add("RELU", x), tail, last=True)
    elif op.activation is Activation.SOFTSIGN:
        below = steps.add("ADD", steps.add("ABS", x), steps.number(1.0))
        steps.add("DIV", x, below, last=True)
    elif op.activation is Activation.HARD_SIGMOID:
        clamped = steps.clamped("ADD", x, steps.number(3.0), to=Activation.RELU6)
        steps.add("MUL", clamped, steps.number(1 / 6), last=True)
    elif op.activation is Activation.MISH:
        # tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2) and e = exp(x).
        power = steps.add("EXP", steps.add("MINIMUM", x, steps.number(_MISH_IS_LINEAR)))
        n = steps.add("MUL", power, steps.add("ADD", power, steps.number(2.0)))
        share = steps.add("DIV", n, steps.add("ADD", n, steps.number(2.0)))
        steps.add("MUL", x, share, last=True)
    else:
        raise ExportError(f"{node.name}: {op.activation} has no direct TFLite form.")


@write_operator.register
def _affine(op: Affine, node: Node, emitter: TFLiteEmitter) -> None:
    (value,) = emitter.inputs(node)
    steps = _Steps(emitter, node)
    scales, offsets = np.any(op.scale != 1), np.any(op.offset)
    if scales or not offsets:
        value = steps.add("MUL", value, steps.array("scale", op.scale), last=not offsets)
    if offsets:
        steps.add("ADD", value, steps.array("offset", op.offset), last=True)


@write_operator.register
def _binary(op: Binary, node: Node, emitter: TFLiteEmitter) -> None:
    name, kind = _BINARY[op.kind]
    version = 2 if emitter.is_integer(node) else 1
    emitter.operator(name, version, emitter.inputs(node), emitter.output(node), (kind, {}))


@write_operator.register
def _pool(op: Pool, node: Node, emitter: TFLiteEmitter) -> None:
    shape = emitter.shapes[node.inputs[0]]
    same = tuple(
        same_pads(size, window, stride)
        for size, window, stride in zip(shape[:2], op.size, op.strides, strict=True)
    )
    padded = any(any(pair) for pair in op.pads)
    if padded and op.pads != same:
        raise ExportError(f"{node.name}: TFLite pools with `same` or no padding only.")
    name = "MAX_POOL_2D" if op.kind is PoolKind.MAX else "AVERAGE_POOL_2D"
    options = {
        "padding": 0 if padded else 1,  # SAME, VALID
        "strideH": op.strides[0],
        "strideW": op.strides[1],
        "filterHeight": op.size[0],
        "filterWidth": op.size[1],
    }
    version = 2 if emitter.is_integer(node) else 1
    emitter.operator(
        name, version, emitter.inputs(node), emitter.output(node), ("Pool2DOptions", options)
    )


@write_operator.register
def _reduce(op: Reduce, node: Node, emitter: TFLiteEmitter) -> None:
    name = {ReduceKind.MEAN: "MEAN", ReduceKind.MAX: "REDUCE_MAX", ReduceKind.SUM: "SUM"}[op.kind]
    steps = _Steps(emitter, node)
    axes = steps.integers([axis + 1 for axis in op.axes])
    steps.add(name, *emitter.inputs(node), axes, last=True, options=_keeping())


def _keeping() -> Options:
    return "ReducerOptions", {"keepDims": True}


@write_operator.register
def _resize(op: Resize, node: Node, emitter: TFLiteEmitter) -> None:
    size = emitter.constant("size", np.asarray([op.height, op.width], np.int32))
    options = ("ResizeBilinearOptions", {"alignCorners": False, "halfPixelCenters": True})
    emitter.operator(
        "RESIZE_BILINEAR", 3, [*emitter.inputs(node), size], emitter.output(node), options
    )


@write_operator.register
def _layer_norm(op: LayerNorm, node: Node, emitter: TFLiteEmitter) -> None:
    steps = _Steps(emitter, node)
    (x,) = emitter.inputs(node)
    shape = emitter.shapes[node.output]
    axis, reduced = steps.integers([len(shape)]), (*shape[:-1], 1)
    centred = steps.add("SUB", x, steps.add("MEAN", x, axis, shape=reduced, options=_keeping()))
    variance = steps.add(
        "MEAN", steps.add("MUL", centred, centred), axis, shape=reduced, options=_keeping()
    )
    inverse = _inverse_deviation(steps, variance, op.epsilon, reduced)
    standard = steps.add("MUL", centred, inverse)
    scaled = steps.add("MUL", standard, steps.array("scale", op.scale))
    steps.add("ADD", scaled, steps.array("offset", op.offset), last=True)


@write_operator.register
def _group_norm(op: GroupNorm, node: Node, emitter: TFLiteEmitter) -> None:
    """Means over all pixels, then of these over each group's channels: few values from there on."""
    steps = _Steps(emitter, node)
    (x,) = emitter.inputs(node)
    channels = emitter.shapes[node.output][2]
    pixels, one = steps.integers([1, 2]), (1, 1, channels)

    def mean(value: int) -> int:
        of_pixels = steps.add("MEAN", value, pixels, shape=one, options=_keeping())
        size = channels // op.groups
        if size == 1:
            return of_pixels
        apart = steps.reshape(of_pixels, (1, op.groups, size))
        axis = steps.integers([3])
        group = steps.add("MEAN", apart, axis, shape=(1, op.groups, 1), options=_keeping())
        spread = steps.add(
            "MUL",
            group,
            steps.array("ones", np.ones((1, 1, 1, size))),
            shape=(1, op.groups, size),
        )
        return steps.reshape(spread, one)

    centred = steps.add("SUB", x, mean(x))
    variance = mean(steps.add("MUL", centred, centred))
    inverse = _inverse_deviation(steps, variance, op.epsilon, one)
    factor = steps.add("MUL", inverse, steps.array("scale", op.scale), shape=one)
    steps.add(
        "ADD",
        steps.add("MUL", centred, factor),
        steps.array("offset", op.offset),
        last=True,
    )


def _inverse_deviation(steps: _Steps, variance: int, epsilon: float, shape: Shape) -> int:
    raised = steps.add("ADD", variance, steps.number(epsilon), shape=shape)
    return steps.add("RSQRT", raised, shape=shape)


@write_operator.register
def _prelu(op: PRelu, node: Node, emitter: TFLiteEmitter) -> None:
    steps = _Steps(emitter, node)
    steps.add("PRELU", *emitter.inputs(node), steps.array("alpha", op.alpha), last=True)


@write_operator.register
def _clip(op: Clip, node: Node, emitter: TFLiteEmitter) -> None:
    steps = _Steps(emitter, node)
    (value,) = emitter.inputs(node)
    bounded = math.isfinite(op.high)
    if math.isfinite(op.low) or not bounded:
        low = steps.number(max(op.low, float(np.finfo(np.float32).min)))
        value = steps.add("MAXIMUM", value, low, last=not bounded)
    if bounded:
        steps.add("MINIMUM", value, steps.number(op.high), last=True)


@write_operator.register
def _softmax(op: Softmax, node: Node, emitter: TFLiteEmitter) -> None:
    del op
    options = ("SoftmaxOptions", {"beta": 1.0})
    emitter.operator("SOFTMAX", 1, emitter.inputs(node), emitter.output(node), options)
