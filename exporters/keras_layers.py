"""Keras layers as operators.

A one-dimensional layer is the two-dimensional one on an image of height 1: (steps, channels) is
read as (1, steps, channels), which moves no value.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from exporters.graph import (
    Affine,
    Binary,
    BinaryKind,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Op,
    Pad,
    Pads,
    Repeat,
    Reshape,
    Shape,
    Slice,
    Transpose,
    same_pads,
)
from exporters.keras_activations import activation, elu, leaky_relu, prelu, relu, softmax
from exporters.keras_normalization import (
    batch_norm,
    group_norm,
    layer_norm,
    normalization,
    rescaling,
)
from exporters.keras_weights import array, bias_of, broadcastable, channels_last
from exporters.operators import Pool, PoolKind, Reduce, ReduceKind, Resize

__all__ = ["read_layer"]

Reader = Callable[[Any, list[Shape], Shape], Iterable[Op] | None]


def read_layer(layer: Any, shapes: list[Shape], output: Shape) -> Iterable[Op] | None:
    """Give what a layer computes, one operator after the other; None where one is unknown.

    Args:
        layer: of Keras, or somebody's own.
        shapes: of its inputs' rows.
        output: of its output's row.
    """
    keras: Any = importlib.import_module("keras")
    reader = _LAYERS.get(type(layer).__name__)
    # A class of the same name elsewhere is somebody's own.
    if reader is None or type(layer) is not getattr(keras.layers, type(layer).__name__, None):
        return None
    return reader(layer, shapes, output)


def _two(values: Any, fill: Any = 1) -> tuple[Any, Any]:
    """Settings along height and width, from those of a layer of one dimension or two."""
    values = (values,) if isinstance(values, int) else tuple(values)
    return (fill, *values) if len(values) == 1 else (values[0], values[1])


def _image(shape: Shape) -> Shape:
    return (1, *shape) if len(shape) == 2 else shape


def _as_image(shape: Shape, output: Shape, *ops: Op) -> list[Op]:
    """Operators on an image, of a row that may have one dimension less."""
    if len(shape) == 3:
        return list(ops)
    return [Reshape(to=_image(shape)), *ops, Reshape(to=output)]


def _kernel(weight: Any) -> Any:
    """A kernel with two dimensions before its channels."""
    kernel = array(weight)
    return kernel[np.newaxis] if kernel.ndim == 3 else kernel


def _pads(layer: Any, shape: Shape, taps: tuple[int, int], dilations: tuple[int, int]) -> Pads:
    if layer.padding == "causal":
        return (0, 0), ((taps[1] - 1) * dilations[1], 0)
    if layer.padding == "valid":
        return (0, 0), (0, 0)
    rows, columns = (
        same_pads(*each)
        for each in zip(_image(shape)[:2], taps, _two(_strides(layer)), dilations, strict=True)
    )
    return rows, columns


def _strides(layer: Any) -> Any:
    return getattr(layer, "strides", 1)


def _readable(layer: Any) -> bool:
    return channels_last(layer) and layer.padding in ("same", "valid", "causal")


def _conv(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    if not _readable(layer):
        return None
    kernel = _kernel(layer.kernel)
    dilations = _two(layer.dilation_rate)
    op = Conv(
        kernel=kernel,
        bias=bias_of(layer, kernel.shape[3]),
        strides=_two(layer.strides),
        pads=_pads(layer, shapes[0], kernel.shape[:2], dilations),
        dilations=dilations,
        groups=layer.groups,
    )
    return [*_as_image(shapes[0], output, op), *activation(layer.activation, output)]


def _depthwise_op(layer: Any, weight: Any, shape: Shape, bias: Any) -> Conv:
    # (height, width, channels, multiplier): output channel c * multiplier + m reads channel c
    kernel = _kernel(weight)
    dilations = _two(layer.dilation_rate)
    return Conv(
        kernel=kernel.reshape(*kernel.shape[:2], 1, -1),
        bias=bias,
        strides=_two(layer.strides),
        pads=_pads(layer, shape, kernel.shape[:2], dilations),
        dilations=dilations,
        groups=kernel.shape[2],
    )


def _depthwise(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    if not _readable(layer):
        return None
    op = _depthwise_op(layer, layer.kernel, shapes[0], bias_of(layer, output[-1]))
    return [*_as_image(shapes[0], output, op), *activation(layer.activation, output)]


def _separable(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    if not _readable(layer):
        return None
    pointwise = _kernel(layer.pointwise_kernel)
    none = np.zeros(pointwise.shape[2], np.float32)
    first = _depthwise_op(layer, layer.depthwise_kernel, shapes[0], none)
    second = Conv(kernel=pointwise, bias=bias_of(layer, output[-1]))
    return [*_as_image(shapes[0], output, first, second), *activation(layer.activation, output)]


def _conv_transpose(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    dilations = _two(getattr(layer, "dilation_rate", 1))
    if not _readable(layer) or dilations != (1, 1):
        return None
    kernel, strides = _kernel(layer.kernel), _two(layer.strides)
    rows, columns = _image(output)[:2]
    # TensorFlow computes the gradient of the convolution that would give this input, so what is
    # cut off at the beginning is what that convolution would have padded there.
    before = tuple(
        max((n - 1) * stride + taps - out, 0) // 2 if layer.padding == "same" else 0
        for n, stride, taps, out in zip(
            _image(shapes[0])[:2], strides, kernel.shape[:2], (rows, columns), strict=True
        )
    )
    op = ConvTranspose(
        kernel=kernel,
        bias=bias_of(layer, kernel.shape[2]),
        strides=strides,
        pads_before=(before[0], before[1]),
        output_size=(rows, columns),
    )
    return [*_as_image(shapes[0], output, op), *activation(layer.activation, output)]


def _dense(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    kernel = array(layer.kernel)
    op = Dense(kernel=kernel, bias=bias_of(layer, kernel.shape[1]))
    return [op, *activation(layer.activation, output)]


def _pool(kind: PoolKind) -> Reader:
    def read(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
        if not _readable(layer):
            return None
        size = _two(layer.pool_size)
        op = Pool(
            kind=kind,
            size=size,
            strides=_two(layer.strides),
            pads=_pads(layer, shapes[0], size, (1, 1)),
        )
        return _as_image(shapes[0], output, op)

    return read


def _global_pool(kind: ReduceKind) -> Reader:
    def read(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
        if not channels_last(layer):
            return None
        axes = tuple(range(len(shapes[0]) - 1))
        return [Reduce(kind=kind, axes=axes), Reshape(to=output)]

    return read


def _reshape(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    # Flatten with its channels first moves them before it flattens.
    return [Reshape(to=output)] if channels_last(layer) else None


def _permute(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    return [Transpose(order=tuple(axis - 1 for axis in layer.dims))]


def _activation_layer(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    # `linear` computes nothing, and a node has to be there.
    return activation(layer.activation, output) or [Reshape(to=output)]


def _nothing(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    # A reshape to the same shape, which passes drop: a layer that does nothing at inference.
    return [Reshape(to=output)]


def _pairs(layer: Any, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """What is padded or cropped before and after, along height and width."""
    values = getattr(layer, name)
    rows, columns = (
        _two(values, (0, 0)) if isinstance(values[0], (tuple, list)) else ((0, 0), values)
    )
    return tuple(rows), tuple(columns)


def _zero_padding(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    if not channels_last(layer):
        return None
    pairs = _pairs(layer, "padding")
    return [Pad(pads=(*pairs[3 - len(shapes[0]) :], (0, 0)))]


def _cropping(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    if not channels_last(layer):
        return None
    pairs = _pairs(layer, "cropping")[3 - len(shapes[0]) :]
    return [Slice(starts=(*(before for before, _ in pairs), 0), sizes=output)]


def _upsampling(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    rows, columns = _two(layer.size)
    kind = getattr(layer, "interpolation", "nearest")
    if not channels_last(layer) or kind not in ("nearest", "bilinear"):
        return None
    if (rows, columns) == (1, 1):
        return [Reshape(to=output)]
    if kind == "bilinear":
        return [Resize(height=output[0], width=output[1])]
    return _as_image(shapes[0], output, Repeat(rows=rows, columns=columns))


def _resizing(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    shape = shapes[0]
    special = layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio or layer.antialias
    if not channels_last(layer) or special or len(shape) != 3:
        return None
    if layer.interpolation == "bilinear":
        return [Resize(height=output[0], width=output[1])]
    if layer.interpolation == "nearest" and not (output[0] % shape[0] or output[1] % shape[1]):
        times = output[0] // shape[0], output[1] // shape[1]
        return (
            [Reshape(to=output)] if times == (1, 1) else [Repeat(rows=times[0], columns=times[1])]
        )
    return None


def _repeat_vector(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:
    return [Reshape(to=(1, 1, *shapes[0])), Repeat(rows=1, columns=layer.n), Reshape(to=output)]


def _concatenate(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    rank = len(shapes[0]) + 1
    axis = layer.axis % rank
    return None if axis == 0 else [Concat(axis=axis - 1)]


def _merged(kind: BinaryKind, *, mean: bool = False) -> Reader:
    def read(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
        if len(shapes) < 2 or not broadcastable(shapes):
            return None
        ops: list[Op] = [Binary(kind=kind)] * (len(shapes) - 1)
        if mean:
            share = np.full(output[-1], 1 / len(shapes), np.float32)
            ops.append(Affine(scale=share, offset=np.zeros_like(share)))
        return ops

    return read


def _softmax(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    return softmax(layer.axis, output) if len(shapes) == 1 else None


_LAYERS: Mapping[str, Reader] = {
    "Activation": _activation_layer,
    "ActivityRegularization": _nothing,
    "Add": _merged(BinaryKind.ADD),
    "AlphaDropout": _nothing,
    "Average": _merged(BinaryKind.ADD, mean=True),
    "AveragePooling1D": _pool(PoolKind.AVERAGE),
    "AveragePooling2D": _pool(PoolKind.AVERAGE),
    "BatchNormalization": batch_norm,
    "Concatenate": _concatenate,
    "Conv1D": _conv,
    "Conv1DTranspose": _conv_transpose,
    "Conv2D": _conv,
    "Conv2DTranspose": _conv_transpose,
    "Cropping1D": _cropping,
    "Cropping2D": _cropping,
    "Dense": _dense,
    "DepthwiseConv1D": _depthwise,
    "DepthwiseConv2D": _depthwise,
    "Dropout": _nothing,
    "ELU": lambda layer, _, __: elu(layer.alpha),
    "Flatten": _reshape,
    "GaussianDropout": _nothing,
    "GaussianNoise": _nothing,
    "GlobalAveragePooling1D": _global_pool(ReduceKind.MEAN),
    "GlobalAveragePooling2D": _global_pool(ReduceKind.MEAN),
    "GlobalMaxPooling1D": _global_pool(ReduceKind.MAX),
    "GlobalMaxPooling2D": _global_pool(ReduceKind.MAX),
    "GroupNormalization": group_norm,
    "Identity": _nothing,
    "LayerNormalization": layer_norm,
    "LeakyReLU": lambda layer, _, __: leaky_relu(layer.negative_slope),
    "MaxPooling1D": _pool(PoolKind.MAX),
    "MaxPooling2D": _pool(PoolKind.MAX),
    "Maximum": _merged(BinaryKind.MAXIMUM),
    "Minimum": _merged(BinaryKind.MINIMUM),
    "Multiply": _merged(BinaryKind.MULTIPLY),
    "Normalization": normalization,
    "PReLU": prelu,
    "Permute": _permute,
    "ReLU": relu,
    "RepeatVector": _repeat_vector,
    "Rescaling": rescaling,
    "Reshape": _reshape,
    "Resizing": _resizing,
    "SeparableConv1D": _separable,
    "SeparableConv2D": _separable,
    "Softmax": _softmax,
    "SpatialDropout1D": _nothing,
    "SpatialDropout2D": _nothing,
    "Subtract": _merged(BinaryKind.SUBTRACT),
    "UpSampling1D": _upsampling,
    "UpSampling2D": _upsampling,
    "ZeroPadding1D": _zero_padding,
    "ZeroPadding2D": _zero_padding,
}
