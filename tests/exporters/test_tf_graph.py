"""Graphs computed in TensorFlow, against the operators' definitions in numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

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

pytestmark = pytest.mark.host

RNG = np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def assert_as_defined(by_definition, in_tensorflow, graph: Graph) -> None:
    rows = normal(3, *graph.input_shape)
    for name, wanted in by_definition(graph, rows).items():
        found = in_tensorflow(graph, rows)[name]
        assert found.shape == wanted.shape == (3, *graph.shapes[graph.outputs[name]])
        assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("shape", "op"),
    [
        ((5, 7, 3), Conv(kernel=normal(3, 2, 3, 4), bias=normal(4), pads=((1, 0), (2, 1)))),
        ((6, 7, 3), Conv(kernel=normal(2, 3, 3, 4), bias=normal(4), strides=(2, 3))),
        ((7, 8, 3), Conv(kernel=normal(3, 3, 3, 2), bias=normal(2), dilations=(2, 3))),
        ((5, 6, 4), Conv(kernel=normal(3, 3, 1, 8), bias=normal(8), groups=4)),
        ((7, 6, 4), Conv(kernel=normal(3, 3, 1, 4), bias=normal(4), groups=4, strides=(2, 1))),
        ((5, 5, 4), Conv(kernel=normal(3, 3, 2, 6), bias=normal(6), groups=2)),
        (
            (3, 5, 6),
            Conv(
                kernel=normal(2, 3, 3, 4),
                bias=normal(4),
                layout=Layout.CHANNELS_FIRST,
                activation=Activation.RELU6,
            ),
        ),
        ((9,), Dense(kernel=normal(9, 4), bias=normal(4), activation=Activation.RELU)),
        ((3, 2, 5), Dense(kernel=normal(5, 4), bias=normal(4))),
        ((4, 5, 12), SumShifted(taps=(2, 3), pads=((1, 0), (1, 1)), bias=normal(2))),
        (
            (4, 3, 24),
            SumShifted(taps=(4, 3), strides=(2, 3), pads=((1, 0), (2, 1)), bias=normal(2)),
        ),
        ((3, 2, 12), DepthToSpace(block=(2, 3))),
        ((3, 2, 4), DepthToSpace(block=(1, 2))),
        ((2, 3, 4), Affine(scale=normal(4), offset=normal(4))),
        ((2, 3, 4), Reshape(to=(4, 6))),
        ((2, 3, 4), Transpose(order=(2, 0, 1))),
        ((2, 3, 4), Pad(pads=((1, 0), (0, 2), (0, 1)))),
        ((2, 3, 4), Repeat(rows=2, columns=3)),
        ((4, 3, 5), Slice(starts=(1, 0, 2), sizes=(2, 3, 2))),
    ],
)
def test_operators_compute_what_they_are_defined_as(chain, by_definition, in_tensorflow, shape, op):
    assert_as_defined(by_definition, in_tensorflow, chain(shape, op))


def test_more_operators_compute_what_they_are_defined_as(
    chain, by_definition, in_tensorflow, more_operators
):
    for shape, op in more_operators.values():
        assert_as_defined(by_definition, in_tensorflow, chain(shape, op))
        if hasattr(op, "layout"):
            first = replace(op, layout=Layout.CHANNELS_FIRST)
            graph = chain((shape[2], *shape[:2]), first)
            assert_as_defined(by_definition, in_tensorflow, graph)


@pytest.mark.parametrize("activation", list(Activation))
def test_activations_compute_what_they_are_defined_as(
    chain, by_definition, in_tensorflow, activation
):
    # Roots and logarithms are of positive values.
    positive = activation in (Activation.LOG, Activation.SQRT, Activation.RSQRT)
    offset = np.full(5, 40 if positive else 0, np.float32)
    stretched = Affine(scale=np.full(5, 4, np.float32), offset=offset)
    graph = chain((2, 5), stretched, Activate(activation=activation, alpha=0.3))
    assert_as_defined(by_definition, in_tensorflow, graph)


@pytest.mark.parametrize(
    "op", [*(Binary(kind=kind) for kind in BinaryKind), Concat(axis=0), Concat(axis=2)]
)
def test_operators_of_two_tensors_compute_what_they_are_defined_as(
    by_definition, in_tensorflow, op
):
    nodes = (
        Node(name="left", op=Affine(scale=normal(4), offset=normal(4)), inputs=("x",), output="l"),
        Node(name="right", op=Affine(scale=normal(4), offset=normal(4)), inputs=("x",), output="r"),
        Node(name="both", op=op, inputs=("l", "r"), output="b"),
    )
    graph = Graph(input="x", input_shape=(2, 3, 4), nodes=nodes, outputs={"y": "b", "left": "l"})
    assert_as_defined(by_definition, in_tensorflow, graph)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    before=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    output=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    layout=st.sampled_from(Layout),
)
def test_transposed_convolutions_compute_what_they_are_defined_as(
    chain, by_definition, in_tensorflow, size, kernel, strides, before, output, layout
):
    for n, taps, stride, start, end in zip(size, kernel, strides, before, output, strict=True):
        # TensorFlow makes no output that a convolution would not lead back to this input.
        assume(start + end <= (n - 1) * stride + taps + stride - 1)
    op = ConvTranspose(
        kernel=normal(*kernel, 2, 3),
        bias=normal(2),
        strides=strides,
        pads_before=before,
        output_size=output,
        layout=layout,
    )
    shape = (*size, 3) if layout is Layout.CHANNELS_LAST else (3, *size)
    assert_as_defined(by_definition, in_tensorflow, chain(shape, op))


def test_an_opaque_layer_is_called_with_its_tensors(chain, in_tensorflow):
    op = KerasLayer(kind="Doubled", call=lambda value: value * 2, output_shape=(4,))
    rows = normal(3, 4)
    np.testing.assert_array_equal(in_tensorflow(chain((4,), op), rows)["y"], rows * 2)


def test_an_observer_sees_every_tensor_and_may_replace_it(chain):
    import tensorflow as tf

    from exporters.tf_graph import compute

    graph = chain(
        (2,),
        Affine(scale=np.float32([2, 2]), offset=np.float32([0, 0])),
        Activate(activation=Activation.RELU),
    )
    seen = {}

    def observe(name, value):
        seen[name] = value.numpy().tolist()
        return value + 1 if name == "a" else value

    outputs = compute(graph, tf.constant([[1.0, -3.0]]), observe)
    assert seen == {"x": [[1, -3]], "a": [[2, -6]], "b": [[3, 0]]}
    assert outputs["y"].numpy().tolist() == [[3, 0]]


@pytest.mark.parametrize("shape", [(1, 6, 6), (1, 4, 3), (2, 6, 6), (6, 1, 6), (1, 1, 6)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_products_of_images_compute_what_they_are_defined_as(
    chain, by_definition, in_tensorflow, shape, channels
):
    op = Dense(kernel=normal(shape[-1], channels), bias=normal(channels))
    assert_as_defined(by_definition, in_tensorflow, chain(shape, op))
