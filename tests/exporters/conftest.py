"""A small untrained VAE with every layer of the real one, data for it, and graphs by definition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from exporters import graph as ir
from exporters import operators as more
from exporters.graph import Activation

# The same examples every time, and none that is judged by how long it takes.
settings.register_profile(
    "exporters",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("exporters")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved `.keras` VAE for 16x16 images; large enough that every weight gets quantized."""
    from vae_edge.training.model import VAE
    from vae_edge.training.settings import Architecture

    path = tmp_path_factory.mktemp("tiny") / "tiny.keras"
    shape = Architecture(
        image_shape=(16, 16, 1), latent_dim=3, encoder_filters=(8, 24), decoder_filters=(24, 8)
    )
    model = VAE(shape, seed=7)
    # Untrained biases are zero; a lost bias would go unnoticed.
    rng = np.random.default_rng(0)
    for half in (model.encoder, model.decoder):
        half.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in half.get_weights()])
    model.save(path)
    return path


@pytest.fixture(scope="session")
def tiny_vae(tiny_model: Path):
    from vae_edge.keras_vae import load_keras_vae

    return load_keras_vae(tiny_model)


@pytest.fixture(scope="session")
def tiny_representative():
    from exporters.representative import Representative

    rng = np.random.default_rng(1)

    def draw(count: int) -> np.ndarray:
        return rng.integers(0, 256, (count, 16, 16, 1)).astype(np.float32) / np.float32(255)

    return Representative(source="noise", seed=3, calibration=draw(64), golden=draw(16))


@pytest.fixture(scope="session")
def by_definition() -> Callable[[ir.Graph, np.ndarray], dict[str, np.ndarray]]:
    """Compute a graph from its operators' definitions, in float64 and with numpy alone."""

    def compute(graph: ir.Graph, rows: np.ndarray) -> dict[str, np.ndarray]:
        tensors = {graph.input: np.asarray(rows, np.float64)}
        for node in graph.nodes:
            tensors[node.output] = _defined(node.op, *(tensors[name] for name in node.inputs))
        return {name: tensors[tensor] for name, tensor in graph.outputs.items()}

    return compute


@pytest.fixture(scope="session")
def in_tensorflow() -> Callable[[ir.Graph, np.ndarray], dict[str, np.ndarray]]:
    """Compute a graph's outputs as the exporters do."""
    import tensorflow as tf

    from exporters.tf_graph import compute

    def run(graph: ir.Graph, rows: np.ndarray) -> dict[str, np.ndarray]:
        outputs = compute(graph, tf.constant(rows, tf.float32))
        return {name: value.numpy() for name, value in outputs.items()}

    return run


@pytest.fixture(scope="session")
def chain() -> Callable[..., ir.Graph]:
    """A graph of operators one after the other: the nodes a, b, ... make tensors of those names."""

    def build(shape: tuple[int, ...], *ops: Any) -> ir.Graph:
        names = "abcdefghijklmnop"[: len(ops)]
        nodes = tuple(
            ir.Node(name=name, op=op, inputs=(source,), output=name)
            for name, op, source in zip(names, ops, ("x", *names), strict=False)
        )
        return ir.Graph(input="x", input_shape=shape, nodes=nodes, outputs={"y": names[-1]})

    return build


@pytest.fixture(scope="session")
def more_operators() -> Mapping[str, tuple[tuple[int, ...], Any]]:
    """Operators of `exporters.operators`, each with the shape of a row for it."""
    rng = np.random.default_rng(5)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    image = (5, 6, 4)
    found: dict[str, tuple[tuple[int, ...], Any]] = {
        "layer norm": (image, more.LayerNorm(epsilon=1e-3, scale=normal(4), offset=normal(4))),
        "layer norm of a vector": (
            (7,),
            more.LayerNorm(epsilon=0.1, scale=normal(7), offset=normal(7)),
        ),
        "prelu": (image, more.PRelu(alpha=normal(1, 1, 4))),
        "prelu of each value": ((3, 4), more.PRelu(alpha=normal(3, 4))),
        "clip": (image, more.Clip(low=-0.5, high=0.75)),
        "clip above": (image, more.Clip(low=-math.inf, high=0.5)),
        "clip below": (image, more.Clip(low=0.25, high=math.inf)),
        "softmax": (image, more.Softmax()),
        "resize": (image, more.Resize(height=10, width=18)),
        "resize to odd sizes": (image, more.Resize(height=3, width=11)),
    }
    for groups in (1, 2, 4):
        norm = more.GroupNorm(groups=groups, epsilon=1e-3, scale=normal(4), offset=normal(4))
        found[f"norm of {groups} groups"] = image, norm
    for kind in more.ReduceKind:
        found[f"{kind.value} of pixels"] = image, more.Reduce(kind=kind, axes=(0, 1))
        found[f"{kind.value} of channels"] = image, more.Reduce(kind=kind, axes=(2,))
    for kind in more.PoolKind:
        found[f"{kind.value} pool"] = image, more.Pool(kind=kind, size=(2, 3), strides=(1, 2))
        # `same` of a window of 3 x 2 with strides of 2 x 1 on 5 x 6.
        found[f"{kind.value} pool, same"] = (
            image,
            more.Pool(kind=kind, size=(3, 2), strides=(2, 1), pads=((1, 1), (0, 1))),
        )
    return found


@pytest.fixture(scope="session")
def from_keras() -> Callable[[Any], ir.Graph]:
    """Read a model of one input and one output, as the `z_mean` of an encoder."""
    import keras

    from exporters.keras_graph import read_graph
    from vae_edge.keras_vae import KerasVAE
    from vae_edge.terms import Component

    def read(model: Any) -> ir.Graph:
        image = model.inputs[0]
        unused = keras.layers.Flatten()(image)
        encoder = keras.Model(image, {"z_mean": model(image), "z_log_var": unused})
        vae = KerasVAE(
            name="test",
            source_sha256="",
            encoder=encoder,
            decoder=None,
            latent_dim=1,
            image_shape=tuple(image.shape[1:]),
        )
        graph = read_graph(vae, Component.ENCODER)
        alone = {"z_mean": graph.outputs["z_mean"]}
        return ir.Graph(
            input=graph.input, input_shape=graph.input_shape, nodes=graph.nodes, outputs=alone
        ).with_nodes(graph.nodes)

    return read


@singledispatch
def _defined(op: Any, *values: np.ndarray) -> np.ndarray:
    raise NotImplementedError(type(op).__name__)


def _activated(x: np.ndarray, activation: Activation | None, alpha: float = 0.0) -> np.ndarray:
    if activation is None:
        return x
    return {
        Activation.RELU: lambda: np.maximum(x, 0),
        Activation.RELU6: lambda: np.clip(x, 0, 6),
        Activation.LEAKY_RELU: lambda: np.where(x > 0, x, alpha * x),
        Activation.ELU: lambda: np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1)),
        Activation.TANH: lambda: np.tanh(x),
        Activation.SIGMOID: lambda: 1 / (1 + np.exp(-x)),
        Activation.SILU: lambda: x / (1 + np.exp(-x)),
        Activation.GELU: lambda: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
        Activation.GELU_TANH: lambda: (
            x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        ),
        Activation.SOFTPLUS: lambda: np.log1p(np.exp(x)),
        Activation.SOFTSIGN: lambda: x / (1 + np.abs(x)),
        Activation.MISH: lambda: x * np.tanh(np.log1p(np.exp(x))),
        Activation.HARD_SIGMOID: lambda: np.clip(x / 6 + 0.5, 0, 1),
        Activation.HARD_SILU: lambda: x * np.clip(x / 6 + 0.5, 0, 1),
        Activation.EXP: lambda: np.exp(x),
        Activation.LOG: lambda: np.log(x),
        Activation.SQUARE: lambda: x**2,
        Activation.SQRT: lambda: np.sqrt(x),
        Activation.RSQRT: lambda: 1 / np.sqrt(x),
        Activation.ABS: lambda: np.abs(x),
        # Klambauer et al., "Self-Normalizing Neural Networks", 2017.
        Activation.SELU: lambda: (
            1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
        ),
    }[activation]()


@_defined.register
def _(op: ir.Conv, x: np.ndarray) -> np.ndarray:
    if op.layout is ir.Layout.CHANNELS_FIRST:
        x = x.transpose(0, 2, 3, 1)
    x = np.pad(x, ((0, 0), *op.pads, (0, 0)))
    kernel = op.kernel.astype(np.float64)
    (rows, columns, width, _), groups = kernel.shape, op.groups
    height_out, width_out = (
        (x.shape[1 + axis] - (kernel.shape[axis] - 1) * op.dilations[axis] - 1) // op.strides[axis]
        + 1
        for axis in (0, 1)
    )
    per_group = kernel.shape[3] // groups
    y = np.zeros((len(x), height_out, width_out, kernel.shape[3]))
    for ky, kx, group in itertools.product(range(rows), range(columns), range(groups)):
        top, left = ky * op.dilations[0], kx * op.dilations[1]
        seen = x[
            :,
            top : top + (height_out - 1) * op.strides[0] + 1 : op.strides[0],
            left : left + (width_out - 1) * op.strides[1] + 1 : op.strides[1],
            group * width : (group + 1) * width,
        ]
        made = slice(group * per_group, (group + 1) * per_group)
        y[..., made] += seen @ kernel[ky, kx, :, made]
    y = _activated(y + op.bias, op.activation)
    return y.transpose(0, 3, 1, 2) if op.layout is ir.Layout.CHANNELS_FIRST else y


@_defined.register
def _(op: ir.ConvTranspose, x: np.ndarray) -> np.ndarray:
    """out[s * i + k - p] += x[i] w[k]"""
    first = op.layout is ir.Layout.CHANNELS_FIRST
    x = x.transpose(0, 2, 3, 1) if first else x
    kernel = op.kernel.astype(np.float64)
    y = np.zeros((len(x), *op.output_size, kernel.shape[2]))
    for i, j, ky, kx in np.ndindex(*x.shape[1:3], *kernel.shape[:2]):
        row = op.strides[0] * i + ky - op.pads_before[0]
        column = op.strides[1] * j + kx - op.pads_before[1]
        if 0 <= row < op.output_size[0] and 0 <= column < op.output_size[1]:
            y[:, row, column] += x[:, i, j] @ kernel[ky, kx].T
    y = _activated(y + op.bias, op.activation)
    return y.transpose(0, 3, 1, 2) if first else y


@_defined.register
def _(op: ir.Dense, x: np.ndarray) -> np.ndarray:
    return _activated(x @ op.kernel.astype(np.float64) + op.bias, op.activation)


@_defined.register
def _(op: ir.SumShifted, x: np.ndarray) -> np.ndarray:
    height, width, channels = op.shape((x.shape[1:],))
    maps = x.reshape(*x.shape[:3], channels, *op.taps)
    y = np.zeros((len(x), height, width, channels)) + op.bias
    for i, j, ky, kx in np.ndindex(*x.shape[1:3], *op.taps):
        row = op.strides[0] * i + ky - op.pads[0][0]
        column = op.strides[1] * j + kx - op.pads[1][0]
        if 0 <= row < height and 0 <= column < width:
            y[:, row, column] += maps[:, i, j, :, ky, kx]
    return y


@_defined.register
def _(op: ir.DepthToSpace, x: np.ndarray) -> np.ndarray:
    height, width, channels = op.shape((x.shape[1:],))
    y = np.empty((len(x), height, width, channels))
    rows, columns = op.block
    for p, q in np.ndindex(rows, columns):
        first = (p * columns + q) * channels
        y[:, p::rows, q::columns] = x[..., first : first + channels]
    return y


@_defined.register
def _(op: ir.Affine, x: np.ndarray) -> np.ndarray:
    return x * op.scale.astype(np.float64) + op.offset


@_defined.register
def _(op: ir.Activate, x: np.ndarray) -> np.ndarray:
    return _activated(x, op.activation, op.alpha)


@_defined.register
def _(op: ir.Binary, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    functions = {
        ir.BinaryKind.ADD: np.add,
        ir.BinaryKind.SUBTRACT: np.subtract,
        ir.BinaryKind.MULTIPLY: np.multiply,
        ir.BinaryKind.DIVIDE: np.divide,
        ir.BinaryKind.MAXIMUM: np.maximum,
        ir.BinaryKind.MINIMUM: np.minimum,
    }
    return functions[op.kind](x, y)


def _last(x: np.ndarray, layout: ir.Layout) -> np.ndarray:
    return x.transpose(0, 2, 3, 1) if layout is ir.Layout.CHANNELS_FIRST else x


def _back(x: np.ndarray, layout: ir.Layout) -> np.ndarray:
    return x.transpose(0, 3, 1, 2) if layout is ir.Layout.CHANNELS_FIRST else x


@_defined.register
def _(op: more.Pool, x: np.ndarray) -> np.ndarray:
    x = _last(x, op.layout)
    height, width, _ = more.Pool(
        kind=op.kind, size=op.size, strides=op.strides, pads=op.pads
    ).shape((x.shape[1:],))
    y = np.zeros((len(x), height, width, x.shape[3]))
    reduce = np.max if op.kind is more.PoolKind.MAX else np.mean
    for row, column in np.ndindex(height, width):
        top = row * op.strides[0] - op.pads[0][0]
        left = column * op.strides[1] - op.pads[1][0]
        # Only what lies in the image.
        window = x[
            :, max(top, 0) : max(top + op.size[0], 0), max(left, 0) : max(left + op.size[1], 0)
        ]
        y[:, row, column] = reduce(window, axis=(1, 2))
    return _back(y, op.layout)


@_defined.register
def _(op: more.Reduce, x: np.ndarray) -> np.ndarray:
    reduce = {
        more.ReduceKind.MEAN: np.mean,
        more.ReduceKind.MAX: np.max,
        more.ReduceKind.SUM: np.sum,
    }[op.kind]
    return reduce(x, axis=tuple(axis + 1 for axis in op.axes), keepdims=True)


@_defined.register
def _(op: more.Resize, x: np.ndarray) -> np.ndarray:
    x = _last(x, op.layout)
    for axis, size in ((1, op.height), (2, op.width)):
        places = np.clip((np.arange(size) + 0.5) * x.shape[axis] / size - 0.5, 0, x.shape[axis] - 1)
        before = np.floor(places).astype(int)
        share = (places - before).reshape([-1 if each == axis else 1 for each in range(4)])
        after = np.minimum(before + 1, x.shape[axis] - 1)
        x = x.take(before, axis) * (1 - share) + x.take(after, axis) * share
    return _back(x, op.layout)


def _standard(x: np.ndarray, axes: tuple[int, ...], epsilon: float) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


@_defined.register
def _(op: more.LayerNorm, x: np.ndarray) -> np.ndarray:
    return _standard(x, (-1,), op.epsilon) * op.scale + op.offset


@_defined.register
def _(op: more.GroupNorm, x: np.ndarray) -> np.ndarray:
    x = _last(x, op.layout)
    size = x.shape[3] // op.groups
    parts = [x[..., start : start + size] for start in range(0, x.shape[3], size)]
    y = np.concatenate([_standard(part, (1, 2, 3), op.epsilon) for part in parts], axis=3)
    return _back(y * op.scale + op.offset, op.layout)


@_defined.register
def _(op: more.PRelu, x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, op.alpha * x)


@_defined.register
def _(op: more.Clip, x: np.ndarray) -> np.ndarray:
    return np.clip(x, op.low, op.high)


@_defined.register
def _(op: more.Softmax, x: np.ndarray) -> np.ndarray:  # noqa: ARG001
    power = np.exp(x - x.max(axis=-1, keepdims=True))
    return power / power.sum(axis=-1, keepdims=True)


@_defined.register
def _(op: ir.Reshape, x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), *op.to)


@_defined.register
def _(op: ir.Transpose, x: np.ndarray) -> np.ndarray:
    return x.transpose(0, *(axis + 1 for axis in op.order))


@_defined.register
def _(op: ir.Concat, *values: np.ndarray) -> np.ndarray:
    return np.concatenate(values, axis=op.axis + 1)


@_defined.register
def _(op: ir.Pad, x: np.ndarray) -> np.ndarray:
    return np.pad(x, ((0, 0), *op.pads))


@_defined.register
def _(op: ir.Repeat, x: np.ndarray) -> np.ndarray:
    rows, columns = np.arange(x.shape[1] * op.rows), np.arange(x.shape[2] * op.columns)
    return x[:, rows // op.rows][:, :, columns // op.columns]


@_defined.register
def _(op: ir.Slice, x: np.ndarray) -> np.ndarray:
    for axis, (start, size) in enumerate(zip(op.starts, op.sizes, strict=True), 1):
        x = x.take(range(start, start + size), axis)
    return x
