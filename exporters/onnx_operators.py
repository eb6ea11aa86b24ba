"""Operators that ONNX has as one of its own, or as a short sequence of them, at one opset.

All of them compute in float; pooling to the maximum also moves 8-bit values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from exporters.graph import Activate, Activation, Affine, Binary, BinaryKind, Layout, Node, Shape
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

__all__ = ["OnnxEmitter", "objection", "writable", "write_operator"]

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
_LAID_OUT = (GroupNorm, Pool, Resize)
_ONE = {
    Activation.RELU: "Relu",
    Activation.TANH: "Tanh",
    Activation.SIGMOID: "Sigmoid",
    Activation.SOFTPLUS: "Softplus",
    Activation.SOFTSIGN: "Softsign",
    Activation.HARD_SILU: "HardSwish",
    Activation.EXP: "Exp",
    Activation.LOG: "Log",
    Activation.SQRT: "Sqrt",
    Activation.ABS: "Abs",
}
_BINARY = {
    BinaryKind.ADD: "Add",
    BinaryKind.SUBTRACT: "Sub",
    BinaryKind.MULTIPLY: "Mul",
    BinaryKind.DIVIDE: "Div",
    BinaryKind.MAXIMUM: "Max",
    BinaryKind.MINIMUM: "Min",
}


class OnnxEmitter(Protocol):
    """The writer of a model, as far as operators need it. Tensors are names."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shapes of the graph's tensors, of one row."""

    @property
    def batch(self) -> int | None:
        """Rows per inference; None for any number."""

    def inputs(self, node: Node) -> list[str]:
        """Give what a node reads, as integers or floats as it computes."""

    def constant(self, stem: str, values: npt.NDArray[Any]) -> str:
        """Store values."""

    def add(
        self, kind: str, inputs: Sequence[str], output: str | None = None, **attributes: Any
    ) -> str:
        """Add an operator and give its output."""

    def made(self, node: Node, value: str) -> None:
        """State what a node's tensor is."""


def writable(op: object) -> bool:
    """Tell whether an operator can be written here."""
    return isinstance(op, _KINDS)


def objection(op: object) -> str | None:
    """Say why an operator of these cannot be written as it is."""
    if isinstance(op, _LAID_OUT) and op.layout is not Layout.CHANNELS_FIRST:
        return "has its channels last"
    return None


@singledispatch
def write_operator(op: Any, node: Node, emitter: OnnxEmitter) -> None:
    """Write an operator that `writable` accepts.

    Raises:
        ExportError: any other.
    """
    del emitter
    raise ExportError(f"{node.name}: {type(op).__name__} has no direct ONNX form.")


def _number(emitter: OnnxEmitter, value: float) -> str:
    return emitter.constant("number", np.asarray(value, np.float32))


def _integers(emitter: OnnxEmitter, values: Sequence[int]) -> str:
    return emitter.constant("integers", np.asarray(values, np.int64))


@write_operator.register
def _activate(op: Activate, node: Node, emitter: OnnxEmitter) -> None:
    (x,) = emitter.inputs(node)
    emitter.made(node, _activated(op, x, emitter))


def _activated(op: Activate, x: str, emitter: OnnxEmitter) -> str:
    kind = op.activation
    add = emitter.add
    if kind in _ONE:
        return add(_ONE[kind], [x])
    if kind is Activation.RELU6:
        return add("Clip", [x, _number(emitter, 0.0), _number(emitter, 6.0)])
    if kind in (Activation.LEAKY_RELU, Activation.ELU):
        return add("LeakyRelu" if kind is Activation.LEAKY_RELU else "Elu", [x], alpha=op.alpha)
    if kind is Activation.SELU:
        # Klambauer et al., "Self-Normalizing Neural Networks", 2017: the constants that Keras
        # uses, to more digits than the operator's own defaults.
        return add("Selu", [x], alpha=1.6732632423543772, gamma=1.0507009873554805)
    if kind is Activation.SILU:
        return add("Mul", [x, add("Sigmoid", [x])])
    if kind is Activation.MISH:
        # The operator itself came with opset 18 and has no kernel in the oldest runtimes.
        return add("Mul", [x, add("Tanh", [add("Softplus", [x])])])
    if kind is Activation.HARD_SIGMOID:
        return add("HardSigmoid", [x], alpha=1 / 6, beta=0.5)
    if kind is Activation.SQUARE:
        return add("Mul", [x, x])
    if kind is Activation.RSQRT:
        return add("Reciprocal", [add("Sqrt", [x])])
    if kind is Activation.GELU:
        # x / 2 * (1 + erf(x / sqrt(2))): the operator itself came with opset 20.
        erf = add("Erf", [add("Div", [x, _number(emitter, 2**0.5)])])
        product = add("Mul", [x, add("Add", [erf, _number(emitter, 1.0)])])
        return add("Mul", [product, _number(emitter, 0.5)])
    if kind is Activation.GELU_TANH:
        # x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
        cube = add("Mul", [add("Mul", [x, x]), x])
        inner = add("Add", [x, add("Mul", [cube, _number(emitter, 0.044715)])])
        tanh = add("Tanh", [add("Mul", [inner, _number(emitter, (2 / math.pi) ** 0.5)])])
        half = add("Mul", [x, _number(emitter, 0.5)])
        return add("Mul", [half, add("Add", [tanh, _number(emitter, 1.0)])])
    raise ExportError(f"{kind} has no direct ONNX form.")


@write_operator.register
def _affine(op: Affine, node: Node, emitter: OnnxEmitter) -> None:
    (value,) = emitter.inputs(node)
    scales, offsets = np.any(op.scale != 1), np.any(op.offset)
    if scales or not offsets:
        value = emitter.add("Mul", [value, emitter.constant(f"{node.output}/scale", op.scale)])
    if offsets:
        value = emitter.add("Add", [value, emitter.constant(f"{node.output}/offset", op.offset)])
    emitter.made(node, value)


@write_operator.register
def _binary(op: Binary, node: Node, emitter: OnnxEmitter) -> None:
    emitter.made(node, emitter.add(_BINARY[op.kind], emitter.inputs(node)))


@write_operator.register
def _pool(op: Pool, node: Node, emitter: OnnxEmitter) -> None:
    (top, bottom), (left, right) = op.pads
    attributes: dict[str, Any] = {
        "kernel_shape": list(op.size),
        "strides": list(op.strides),
        "pads": [top, left, bottom, right],
    }
    if op.kind is PoolKind.AVERAGE:
        attributes["count_include_pad"] = 0
    kind = "MaxPool" if op.kind is PoolKind.MAX else "AveragePool"
    emitter.made(node, emitter.add(kind, emitter.inputs(node), **attributes))


@write_operator.register
def _reduce(op: Reduce, node: Node, emitter: OnnxEmitter) -> None:
    axes = _integers(emitter, [axis + 1 for axis in op.axes])
    (x,) = emitter.inputs(node)
    kind = {
        ReduceKind.MEAN: "ReduceMean",
        ReduceKind.MAX: "ReduceMax",
        ReduceKind.SUM: "ReduceSum",
    }[op.kind]
    emitter.made(node, emitter.add(kind, [x, axes], keepdims=1))


@write_operator.register
def _resize(op: Resize, node: Node, emitter: OnnxEmitter) -> None:
    _, height, width = emitter.shapes[node.inputs[0]]
    (x,) = emitter.inputs(node)
    options: dict[str, Any] = {
        "mode": "linear",
        "coordinate_transformation_mode": "half_pixel",
    }
    if op.height % height == 0 and op.width % width == 0:
        # Whole factors are exact, and leave the batch alone.
        scales = [1, 1, op.height // height, op.width // width]
        inputs = [x, "", emitter.constant("scales", np.asarray(scales, np.float32))]
    else:
        inputs = [x, "", "", _integers(emitter, [op.height, op.width])]
        options["axes"] = [2, 3]
    emitter.made(node, emitter.add("Resize", inputs, **options))


@write_operator.register
def _layer_norm(op: LayerNorm, node: Node, emitter: OnnxEmitter) -> None:
    (x,) = emitter.inputs(node)
    weights = [
        emitter.constant(f"{node.output}/scale", op.scale),
        emitter.constant(f"{node.output}/offset", op.offset),
    ]
    emitter.made(
        node, emitter.add("LayerNormalization", [x, *weights], axis=-1, epsilon=op.epsilon)
    )


@write_operator.register
def _group_norm(op: GroupNorm, node: Node, emitter: OnnxEmitter) -> None:
    """Every group as the only channel of an instance, then scale and offset per channel."""
    (x,) = emitter.inputs(node)
    shape = emitter.shapes[node.output]
    batch = -1 if emitter.batch is None else emitter.batch
    plain = op.groups == len(op.scale)
    if plain:
        weights = [op.scale, op.offset]
    else:
        x = emitter.add("Reshape", [x, _integers(emitter, [0, op.groups, -1])])
        weights = [np.ones(op.groups, np.float32), np.zeros(op.groups, np.float32)]
    constants = [emitter.constant(f"{node.output}/instance", each) for each in weights]
    value = emitter.add("InstanceNormalization", [x, *constants], epsilon=op.epsilon)
    if not plain:
        value = emitter.add("Reshape", [value, _integers(emitter, [batch, *shape])])
        for kind, each in (("Mul", op.scale), ("Add", op.offset)):
            per_channel = emitter.constant(f"{node.output}/{kind}", each.reshape(-1, 1, 1))
            value = emitter.add(kind, [value, per_channel])
    emitter.made(node, value)


@write_operator.register
def _prelu(op: PRelu, node: Node, emitter: OnnxEmitter) -> None:
    (x,) = emitter.inputs(node)
    emitter.made(node, emitter.add("PRelu", [x, emitter.constant("alpha", op.alpha)]))


@write_operator.register
def _clip(op: Clip, node: Node, emitter: OnnxEmitter) -> None:
    (x,) = emitter.inputs(node)
    bounds = [
        _number(emitter, bound) if math.isfinite(bound) else "" for bound in (op.low, op.high)
    ]
    emitter.made(node, emitter.add("Clip", [x, *bounds]))


@write_operator.register
def _softmax(op: Softmax, node: Node, emitter: OnnxEmitter) -> None:
    del op
    (x,) = emitter.inputs(node)
    emitter.made(node, emitter.add("Softmax", [x], axis=-1))
