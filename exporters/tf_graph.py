"""Computing a graph in TensorFlow: to calibrate, to compare, and to give it to its converter."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from exporters.graph import (
    Activate,
    Activation,
    Affine,
    Binary,
    BinaryKind,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    DepthToSpace,
    Graph,
    KerasLayer,
    Layout,
    Node,
    Pad,
    Repeat,
    Reshape,
    Slice,
    SumShifted,
    Transpose,
)
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

__all__ = ["Observer", "Reweigh", "compute"]

Observer = Callable[[str, Any], Any]
Reweigh = Callable[[Node], Any]


def compute(
    graph: Graph, rows: Any, observe: Observer | None = None, reweigh: Reweigh | None = None
) -> dict[str, Any]:
    """Compute a component's outputs from a batch of its input.

    Works on eager tensors and inside a `tf.function`.

    Args:
        graph: any graph, lowered or not.
        rows: float32 tensor, (batch, *input_shape).
        observe: called with the name and value of every tensor as it is made, the input first; what
            it returns takes the tensor's place. Quantization looks at and rounds values so.
        reweigh: called with every node; gives the operator to compute in its place, whose weights
            may be tensors, or None for its own.

    Returns:
        Tensors by output name, (batch, ...).
    """
    watch = observe or (lambda name, value: value)
    tensors = {graph.input: watch(graph.input, rows)}
    for node in graph.nodes:
        op = (reweigh(node) if reweigh else None) or node.op
        value = _compute(op, *(tensors[name] for name in node.inputs))
        tensors[node.output] = watch(node.output, value)
    return {name: tensors[tensor] for name, tensor in graph.outputs.items()}


def _tf() -> Any:
    return importlib.import_module("tensorflow")


@singledispatch
def _compute(op: object, *values: Any) -> Any:
    raise NotImplementedError(type(op).__name__)


@_compute.register
def _conv(op: Conv, x: Any) -> Any:
    tf = _tf()
    first = op.layout is Layout.CHANNELS_FIRST
    x = tf.transpose(x, (0, 2, 3, 1)) if first else x
    x = _padded(x, (*op.pads, (0, 0)))
    channels = x.shape[-1]
    if op.groups == channels and op.groups > 1:
        kernel = op.kernel.reshape(*op.kernel.shape[:2], channels, -1)
        strides = (1, *op.strides, 1)
        if op.strides[0] == op.strides[1]:
            y = tf.nn.depthwise_conv2d(x, kernel, strides, "VALID", dilations=op.dilations)
        else:
            # TensorFlow has no depthwise kernel for unequal strides.
            y = tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID", dilations=op.dilations)
            y = y[:, :: op.strides[0], :: op.strides[1]]
    else:
        y = tf.nn.conv2d(x, op.kernel, op.strides, "VALID", dilations=op.dilations)
    y = _activated(y + op.bias, op.activation)
    return tf.transpose(y, (0, 3, 1, 2)) if first else y


@_compute.register
def _conv_transpose(op: ConvTranspose, x: Any) -> Any:
    tf = _tf()
    first = op.layout is Layout.CHANNELS_FIRST
    after = op.overhang(tuple(x.shape[1:]))
    x = tf.transpose(x, (0, 2, 3, 1)) if first else x
    # What the products reach in full, then cut or filled up to what was asked for.
    full = tuple(
        out + before + max(end, 0)
        for out, before, end in zip(op.output_size, op.pads_before, after, strict=True)
    )
    shape = (tf.shape(x)[0], *full, op.kernel.shape[2])
    y = tf.nn.conv2d_transpose(x, op.kernel, shape, op.strides, "VALID")
    top, left = op.pads_before
    height, width = op.output_size
    y = _activated(y[:, top : top + height, left : left + width] + op.bias, op.activation)
    return tf.transpose(y, (0, 3, 1, 2)) if first else y


@_compute.register
def _dense(op: Dense, x: Any) -> Any:
    tf = _tf()
    channels_in, channels_out = op.kernel.shape
    # Always a product of two matrices: that of images and a matrix reads beyond its weights in
    # TensorFlow 2.21, for some shapes with an axis of size 1.
    flat = x if len(x.shape) == 2 else tf.reshape(x, (-1, channels_in))
    y = _activated(tf.matmul(flat, op.kernel) + op.bias, op.activation)
    return y if len(x.shape) == 2 else tf.reshape(y, (-1, *x.shape[1:-1], channels_out))


@_compute.register
def _sum_shifted(op: SumShifted, x: Any) -> Any:
    tf = _tf()
    channels, taps = len(op.bias), op.taps[0] * op.taps[1]
    # Every map has a tap of its own, of weight one.
    ones = np.eye(channels * taps, dtype=np.float32).reshape(channels, *op.taps, channels * taps)
    size = [
        stride * (n - 1) + t for n, t, stride in zip(x.shape[1:3], op.taps, op.strides, strict=True)
    ]
    total = tf.nn.conv2d_transpose(
        x, ones.transpose(1, 2, 0, 3), [tf.shape(x)[0], *size, channels], op.strides, "VALID"
    )
    (top, bottom), (left, right) = op.pads
    return total[:, top : size[0] - bottom, left : size[1] - right] + op.bias


@_compute.register
def _depth_to_space(op: DepthToSpace, x: Any) -> Any:
    tf = _tf()
    height, width, channels = op.shape((tuple(x.shape[1:]),))
    (rows, columns), (small_height, small_width) = op.block, x.shape[1:3]
    blocks = tf.reshape(x, (-1, small_height, small_width, rows, columns * channels))
    return tf.reshape(tf.transpose(blocks, (0, 1, 3, 2, 4)), (-1, height, width, channels))


@_compute.register
def _affine(op: Affine, x: Any) -> Any:
    return x * op.scale + op.offset


@_compute.register
def _activate(op: Activate, x: Any) -> Any:
    return _activated(x, op.activation, op.alpha)


@_compute.register
def _binary(op: Binary, x: Any, y: Any) -> Any:
    tf = _tf()
    functions: dict[BinaryKind, Callable[[Any, Any], Any]] = {
        BinaryKind.ADD: tf.add,
        BinaryKind.SUBTRACT: tf.subtract,
        BinaryKind.MULTIPLY: tf.multiply,
        BinaryKind.DIVIDE: tf.divide,
        BinaryKind.MAXIMUM: tf.maximum,
        BinaryKind.MINIMUM: tf.minimum,
    }
    return functions[op.kind](x, y)


@_compute.register
def _reshape(op: Reshape, x: Any) -> Any:
    return _tf().reshape(x, (-1, *op.to))


@_compute.register
def _repeat(op: Repeat, x: Any) -> Any:
    tf = _tf()
    return tf.repeat(tf.repeat(x, op.rows, axis=1), op.columns, axis=2)


@_compute.register
def _transpose(op: Transpose, x: Any) -> Any:
    return _tf().transpose(x, (0, *(axis + 1 for axis in op.order)))


@_compute.register
def _concat(op: Concat, *values: Any) -> Any:
    return _tf().concat(values, op.axis + 1)


@_compute.register
def _pad(op: Pad, x: Any) -> Any:
    return _padded(x, op.pads)


@_compute.register
def _slice(op: Slice, x: Any) -> Any:
    box = (slice(a, a + n) for a, n in zip(op.starts, op.sizes, strict=True))
    return x[(slice(None), *box)]


@_compute.register
def _keras_layer(op: KerasLayer, *values: Any) -> Any:
    return op.call(*values)


@_compute.register
def _pool(op: Pool, x: Any) -> Any:
    tf = _tf()
    first = op.layout is Layout.CHANNELS_FIRST
    x = tf.transpose(x, (0, 2, 3, 1)) if first else x
    size = (1, *op.size, 1)
    strides = (1, *op.strides, 1)
    if op.kind is PoolKind.MAX:
        pads = ((0, 0), *op.pads, (0, 0))
        y = tf.nn.max_pool2d(tf.pad(x, pads, constant_values=x.dtype.min), size, strides, "VALID")
    else:
        # A window over zeros sums what is there; the same over ones counts it.
        counted = np.pad(np.ones((1, *x.shape[1:3], 1), np.float32), ((0, 0), *op.pads, (0, 0)))
        count = tf.nn.avg_pool2d(counted, size, strides, "VALID")
        y = tf.nn.avg_pool2d(_padded(x, (*op.pads, (0, 0))), size, strides, "VALID") / count
    return tf.transpose(y, (0, 3, 1, 2)) if first else y


@_compute.register
def _reduce(op: Reduce, x: Any) -> Any:
    tf = _tf()
    function = {
        ReduceKind.MEAN: tf.reduce_mean,
        ReduceKind.MAX: tf.reduce_max,
        ReduceKind.SUM: tf.reduce_sum,
    }[op.kind]
    return function(x, [axis + 1 for axis in op.axes], keepdims=True)


@_compute.register
def _resize(op: Resize, x: Any) -> Any:
    tf = _tf()
    first = op.layout is Layout.CHANNELS_FIRST
    x = tf.transpose(x, (0, 2, 3, 1)) if first else x
    y = tf.image.resize(x, (op.height, op.width), "bilinear")
    return tf.transpose(y, (0, 3, 1, 2)) if first else y


@_compute.register
def _layer_norm(op: LayerNorm, x: Any) -> Any:
    return _standard(x, [-1], op.epsilon) * op.scale + op.offset


@_compute.register
def _group_norm(op: GroupNorm, x: Any) -> Any:
    tf = _tf()
    first = op.layout is Layout.CHANNELS_FIRST
    x = tf.transpose(x, (0, 2, 3, 1)) if first else x
    height, width, channels = x.shape[1:]
    grouped = tf.reshape(x, (-1, height * width, op.groups, channels // op.groups))
    y = tf.reshape(_standard(grouped, [1, 3], op.epsilon), (-1, height, width, channels))
    y = y * op.scale + op.offset
    return tf.transpose(y, (0, 3, 1, 2)) if first else y


def _standard(x: Any, axes: list[int], epsilon: float) -> Any:
    tf = _tf()
    centred = x - tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axes, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon)


@_compute.register
def _prelu(op: PRelu, x: Any) -> Any:
    tf = _tf()
    return tf.nn.relu(x) - op.alpha * tf.nn.relu(-x)


@_compute.register
def _clip(op: Clip, x: Any) -> Any:
    return _tf().clip_by_value(x, op.low, op.high)


@_compute.register
def _softmax(op: Softmax, x: Any) -> Any:  # noqa: ARG001
    return _tf().nn.softmax(x)


def _padded(x: Any, pads: tuple[tuple[int, int], ...]) -> Any:
    return _tf().pad(x, ((0, 0), *pads)) if any(any(pair) for pair in pads) else x


def _activated(x: Any, activation: Activation | None, alpha: float = 0.0) -> Any:
    tf = _tf()
    functions: dict[Activation | None, Callable[[Any], Any]] = {
        None: lambda value: value,
        Activation.RELU: tf.nn.relu,
        Activation.RELU6: tf.nn.relu6,
        Activation.LEAKY_RELU: lambda value: tf.nn.leaky_relu(value, alpha),
        # TensorFlow's own has a scale of 1.
        Activation.ELU: lambda value: tf.where(value > 0, value, alpha * tf.math.expm1(value)),
        Activation.TANH: tf.nn.tanh,
        Activation.SIGMOID: tf.nn.sigmoid,
        Activation.SILU: tf.nn.silu,
        # TensorFlow's own is made of erfc, which tf2onnx does not know.
        Activation.GELU: lambda value: 0.5 * value * (1.0 + tf.math.erf(value / 2**0.5)),
        Activation.GELU_TANH: lambda value: tf.nn.gelu(value, approximate=True),
        Activation.SOFTPLUS: tf.nn.softplus,
        Activation.SOFTSIGN: tf.nn.softsign,
        Activation.SELU: tf.nn.selu,
        Activation.MISH: lambda value: value * tf.math.tanh(tf.nn.softplus(value)),
        Activation.HARD_SIGMOID: lambda value: tf.nn.relu6(value + 3.0) / 6.0,
        Activation.HARD_SILU: lambda value: value * (tf.nn.relu6(value + 3.0) / 6.0),
        Activation.EXP: tf.exp,
        Activation.LOG: tf.math.log,
        Activation.SQUARE: tf.square,
        Activation.SQRT: tf.sqrt,
        Activation.RSQRT: tf.math.rsqrt,
        Activation.ABS: tf.abs,
    }
    return functions[activation](x)
