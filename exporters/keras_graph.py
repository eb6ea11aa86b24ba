"""From a Keras model to the graph that passes rewrite."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
    Graph,
    KerasLayer,
    Node,
    Op,
    Pad,
    Repeat,
    Reshape,
    Shape,
    same_pads,
)
from vae_edge.errors import ExportError
from vae_edge.keras_vae import KerasVAE
from vae_edge.terms import COMPONENT_INPUT, COMPONENT_OUTPUTS, Component, FloatArray

__all__ = ["read_graph"]

# Keras's names of activation functions. Those with parameters are read from layers only.
_ACTIVATIONS = {
    "relu": Activate(activation=Activation.RELU),
    "relu6": Activate(activation=Activation.RELU6),
    "leaky_relu": Activate(activation=Activation.LEAKY_RELU, alpha=0.2),
    "elu": Activate(activation=Activation.ELU, alpha=1.0),
    "tanh": Activate(activation=Activation.TANH),
    "sigmoid": Activate(activation=Activation.SIGMOID),
    "silu": Activate(activation=Activation.SILU),
    "gelu": Activate(activation=Activation.GELU),
    "softplus": Activate(activation=Activation.SOFTPLUS),
    "selu": Activate(activation=Activation.SELU),
}


def read_graph(vae: KerasVAE, component: Component) -> Graph:
    """Read one half of a Keras VAE.

    Layers that no pass knows, and layers with settings that none knows, become `KerasLayer`.

    Raises:
        ExportError: the half is no functional or sequential model, so that it has no layers to
            be read.
    """
    model = vae.component(component)
    name = COMPONENT_INPUT[component]
    reader = _Reader(made={name})
    results = reader.read(model, [name])
    names = COMPONENT_OUTPUTS[component]
    if component is Component.DECODER:
        outputs = {names[0]: results[0]}
    else:
        places = _places(model)
        outputs = {key: results[places[id(model.output[key])]] for key in names}
    graph = Graph(
        input=name, input_shape=vae.row_shape(component), nodes=tuple(reader.nodes), outputs=outputs
    )
    return graph.with_nodes(graph.nodes)


def _places(model: Any) -> dict[int, int]:
    """Where a model's outputs stand in its flat list of them; one may be there by several names."""
    tree: Any = importlib.import_module("keras").tree
    return {id(tensor): place for place, tensor in enumerate(tree.flatten(model.output))}


@dataclass(kw_only=True)
class _Reader:
    nodes: list[Node] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    def read(self, model: Any, inputs: list[str]) -> list[str]:
        """Read the operations of a functional model; give its outputs' tensors."""
        functional = getattr(model, "_functional", model)
        if not hasattr(functional, "_nodes_by_depth"):
            raise ExportError(
                f"{model.name}: is a subclassed {type(model).__name__}, so its layers cannot be "
                "read. Build it as a functional or sequential model, or export with --no-lowering."
            )
        tensors = {id(tensor): name for tensor, name in zip(functional.inputs, inputs, strict=True)}
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                given = [tensors[id(tensor)] for tensor in node.input_tensors]
                made = self._operation(node, given)
                tensors.update(
                    {id(tensor): name for tensor, name in zip(node.outputs, made, strict=True)}
                )
        return [tensors[id(tensor)] for tensor in functional.outputs]

    def _operation(self, node: Any, given: list[str]) -> list[str]:
        operation = node.operation
        keras: Any = importlib.import_module("keras")
        if isinstance(operation, keras.Model) and _is_functional(operation):
            return self.read(operation, given)
        if len(node.outputs) != 1:
            raise ExportError(
                f"{operation.name}: gives {len(node.outputs)} tensors, which no pass can follow. "
                "Export with --no-lowering."
            )
        shape = tuple(node.outputs[0].shape[1:])
        shapes = [tuple(tensor.shape[1:]) for tensor in node.input_tensors]
        ops = list(_known(operation, shapes, shape)) or [_opaque(node, shape)]
        for op in ops:
            given = [self._add(operation.name, op, given)]
        return given

    def _add(self, name: str, op: Op, inputs: list[str]) -> str:
        output, number = name, 0
        while output in self.made:
            number += 1
            output = f"{name}_{number}"
        self.made.add(output)
        self.nodes.append(Node(name=name, op=op, inputs=tuple(inputs), output=output))
        return output


def _is_functional(model: Any) -> bool:
    return hasattr(getattr(model, "_functional", model), "_nodes_by_depth")


def _opaque(node: Any, shape: Shape) -> Op:
    if any(n is None for n in shape):
        raise ExportError(f"{node.operation.name}: the shape of its output is not fixed: {shape}.")
    operation, arguments = node.operation, node.arguments
    keras_tensors = list(arguments.keras_tensors)

    def call(*tensors: Any) -> Any:
        filled = {id(wanted): value for wanted, value in zip(keras_tensors, tensors, strict=True)}
        args, kwargs = arguments.fill_in(filled)
        if "training" in kwargs:
            kwargs["training"] = False
        return operation(*args, **kwargs)

    return KerasLayer(kind=type(operation).__name__, call=call, output_shape=shape)


def _known(layer: Any, shapes: list[Shape], output: Shape) -> Iterator[Op]:
    """What a layer computes, in operators; nothing where one of them is unknown."""
    reader = _LAYERS.get(type(layer).__name__)
    keras: Any = importlib.import_module("keras")
    # A class of the same name elsewhere is somebody's own.
    if reader is None or type(layer) is not getattr(keras.layers, type(layer).__name__, None):
        operation = type(layer).__name__ if not isinstance(layer, keras.layers.Layer) else ""
        if operation in _OPERATIONS and len(set(shapes)) == 1 and len(shapes) == 2:
            yield Binary(kind=_OPERATIONS[operation])
        return
    ops = reader(layer, shapes, output)
    yield from ops or ()


def _activation(function: Any, shape: Shape) -> list[Op]:
    """An activation function; one that no pass knows stays a function of its own."""
    keras: Any = importlib.import_module("keras")
    if function is None or function is keras.activations.linear:
        return []
    for name, op in _ACTIVATIONS.items():
        if function is getattr(keras.activations, name, None):
            return [op]
    if isinstance(function, keras.layers.Layer):
        known = list(_known(function, [shape], shape))
        if known:
            return known
    kind = getattr(function, "__name__", type(function).__name__)
    return [KerasLayer(kind=kind, call=function, output_shape=shape)]


def _array(weight: Any) -> FloatArray:
    return np.asarray(weight.numpy(), np.float32)


def _bias(layer: Any, count: int) -> FloatArray:
    return _array(layer.bias) if layer.use_bias else np.zeros(count, np.float32)


def _last(layer: Any) -> bool:
    return bool(getattr(layer, "data_format", "channels_last") == "channels_last")


def _pads(layer: Any, shape: Shape, kernel: Shape) -> tuple[tuple[int, int], tuple[int, int]]:
    if layer.padding == "valid":
        return ((0, 0), (0, 0))
    first, second = (
        same_pads(size, taps, stride, dilation)
        for size, taps, stride, dilation in zip(
            shape[:2], kernel[:2], layer.strides, layer.dilation_rate, strict=True
        )
    )
    return (first, second)


def _conv(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    if not _last(layer) or layer.padding not in ("same", "valid"):
        return None
    kernel = _array(layer.kernel)
    op = Conv(
        kernel=kernel,
        bias=_bias(layer, kernel.shape[3]),
        strides=tuple(layer.strides),
        pads=_pads(layer, shapes[0], kernel.shape),
        dilations=tuple(layer.dilation_rate),
        groups=layer.groups,
    )
    return [op, *_activation(layer.activation, output)]


def _depthwise(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    if not _last(layer) or layer.padding not in ("same", "valid"):
        return None
    # (height, width, channels, multiplier): output channel c * multiplier + m reads channel c
    kernel = _array(layer.kernel)
    op = Conv(
        kernel=kernel.reshape(*kernel.shape[:2], 1, -1),
        bias=_bias(layer, output[-1]),
        strides=tuple(layer.strides),
        pads=_pads(layer, shapes[0], kernel.shape),
        dilations=tuple(layer.dilation_rate),
        groups=kernel.shape[2],
    )
    return [op, *_activation(layer.activation, output)]


def _separable(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    if not _last(layer) or layer.padding not in ("same", "valid"):
        return None
    depthwise, pointwise = _array(layer.depthwise_kernel), _array(layer.pointwise_kernel)
    first = Conv(
        kernel=depthwise.reshape(*depthwise.shape[:2], 1, -1),
        bias=np.zeros(pointwise.shape[2], np.float32),
        strides=tuple(layer.strides),
        pads=_pads(layer, shapes[0], depthwise.shape),
        dilations=tuple(layer.dilation_rate),
        groups=depthwise.shape[2],
    )
    second = Conv(kernel=pointwise, bias=_bias(layer, output[-1]))
    return [first, second, *_activation(layer.activation, output)]


def _conv_transpose(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    dilations = getattr(layer, "dilation_rate", (1, 1))
    if not _last(layer) or layer.padding not in ("same", "valid") or tuple(dilations) != (1, 1):
        return None
    kernel = _array(layer.kernel)
    # TensorFlow computes the gradient of the convolution that would give this input, so what is
    # cut off at the beginning is what that convolution would have padded there.
    before = tuple(
        max((n - 1) * stride + taps - out, 0) // 2 if layer.padding == "same" else 0
        for n, stride, taps, out in zip(
            shapes[0][:2], layer.strides, kernel.shape[:2], output[:2], strict=True
        )
    )
    op = ConvTranspose(
        kernel=kernel,
        bias=_bias(layer, kernel.shape[2]),
        strides=tuple(layer.strides),
        pads_before=(before[0], before[1]),
        output_size=(output[0], output[1]),
    )
    return [op, *_activation(layer.activation, output)]


def _dense(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    kernel = _array(layer.kernel)
    op = Dense(kernel=kernel, bias=_bias(layer, kernel.shape[1]))
    return [op, *_activation(layer.activation, output)]


def _reshape(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    # Flatten with its channels first moves them before it flattens.
    return [Reshape(to=output)] if _last(layer) else None


def _batch_norm(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    if layer.axis not in (-1, len(shapes[0])):
        return None
    channels = output[-1]
    gamma = _array(layer.gamma) if layer.scale else np.ones(channels, np.float32)
    beta = _array(layer.beta) if layer.center else np.zeros(channels, np.float32)
    deviation = np.sqrt(_array(layer.moving_variance).astype(np.float64) + layer.epsilon)
    scale = gamma / deviation
    offset = beta - _array(layer.moving_mean) * scale
    return [Affine(scale=scale.astype(np.float32), offset=offset.astype(np.float32))]


def _activation_layer(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    # `linear` computes nothing, and a node has to be there.
    return _activation(layer.activation, output) or [Reshape(to=output)]


def _relu(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    if layer.threshold:
        return None
    if not layer.negative_slope and layer.max_value is None:
        return [_ACTIVATIONS["relu"]]
    if not layer.negative_slope and layer.max_value == 6:
        return [_ACTIVATIONS["relu6"]]
    if layer.max_value is None:
        return [Activate(activation=Activation.LEAKY_RELU, alpha=float(layer.negative_slope))]
    return None


def _leaky(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    return [Activate(activation=Activation.LEAKY_RELU, alpha=float(layer.negative_slope))]


def _elu(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    return [Activate(activation=Activation.ELU, alpha=float(layer.alpha))]


def _nothing(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    # A reshape to the same shape, which passes drop: a layer that does nothing at inference.
    return [Reshape(to=output)]


def _zero_padding(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    if not _last(layer):
        return None
    rows, columns = layer.padding
    return [Pad(pads=(tuple(rows), tuple(columns), (0, 0)))]


def _upsampling(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    if not _last(layer) or layer.interpolation != "nearest" or tuple(layer.size) == (1, 1):
        return None
    rows, columns = layer.size
    return [Repeat(rows=rows, columns=columns)]


def _concatenate(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    rank = len(shapes[0]) + 1
    axis = layer.axis % rank
    return None if axis == 0 else [Concat(axis=axis - 1)]


def _binary(kind: BinaryKind) -> Callable[[Any, list[Shape], Shape], list[Op] | None]:
    def read(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
        return [Binary(kind=kind)] if len(shapes) == 2 and len(set(shapes)) == 1 else None

    return read


_LAYERS: Mapping[str, Callable[[Any, list[Shape], Shape], Iterable[Op] | None]] = {
    "Activation": _activation_layer,
    "ActivityRegularization": _nothing,
    "Add": _binary(BinaryKind.ADD),
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Conv2D": _conv,
    "Conv2DTranspose": _conv_transpose,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Dropout": _nothing,
    "ELU": _elu,
    "Flatten": _reshape,
    "GaussianNoise": _nothing,
    "LeakyReLU": _leaky,
    "Multiply": _binary(BinaryKind.MULTIPLY),
    "ReLU": _relu,
    "Reshape": _reshape,
    "SeparableConv2D": _separable,
    "SpatialDropout2D": _nothing,
    "UpSampling2D": _upsampling,
    "ZeroPadding2D": _zero_padding,
}
# Operators between tensors rather than layers: `a + b` in a functional model.
_OPERATIONS = {"Add": BinaryKind.ADD, "Multiply": BinaryKind.MULTIPLY}
