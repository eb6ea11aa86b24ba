"""Transposed convolutions as convolutions: every form against the definition, and against Keras."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import Activation, Conv, ConvTranspose, Graph, Node, Reshape
from exporters.lowering.lower_conv_transpose import Form, LowerConvTranspose

pytestmark = pytest.mark.host

PASSES = [LowerConvTranspose(form=form) for form in Form]
forms = pytest.mark.parametrize("lower", PASSES, ids=lambda each: each.form.name)


def transposed(
    kernel, strides=(2, 2), before=(0, 0), output=(8, 8), channels=(3, 2), activation=None, seed=0
):
    rng = np.random.default_rng(seed)
    channels_in, channels_out = channels
    return ConvTranspose(
        kernel=rng.standard_normal((*kernel, channels_out, channels_in), np.float32),
        bias=rng.standard_normal(channels_out, np.float32),
        strides=strides,
        pads_before=before,
        output_size=output,
        activation=activation,
    )


def kernels(graph: Graph) -> Counter:
    return Counter(n.op.kernel.shape[:2] for n in graph.nodes if isinstance(n.op, Conv))


@st.composite
def cases(draw):
    pair = lambda low, high: draw(st.tuples(*(st.integers(low, high),) * 2))  # noqa: E731
    size, kernel, strides = pair(1, 5), pair(1, 5), pair(1, 3)
    # Beyond what Keras can ask for: cuts and empty edges of any width, at both ends.
    before, output = pair(0, 5), pair(1, 15)
    op = transposed(
        kernel,
        strides,
        before,
        output,
        pair(1, 3),
        draw(st.sampled_from([None, Activation.RELU, Activation.RELU6])),
        draw(st.integers(0, 999)),
    )
    return size, op


@forms
@settings(max_examples=1000)
@given(case=cases())
def test_every_form_computes_the_transposed_convolution(chain, assert_same, lower, case):
    size, op = case
    graph = chain((*size, op.kernel.shape[3]), op)
    result = lower(graph)
    assert result.applied == ("a",)
    assert result.refused == ()
    assert "ConvTranspose" not in result.graph.operators()
    assert_same(graph, result.graph)


KERNELS = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (3, 2), (1, 4), (5, 3)]
STRIDES = [(1, 1), (2, 2), (3, 3), (2, 1), (1, 3), (3, 2)]


def output_paddings(kernel, strides, padding) -> list[tuple[int, int] | None]:
    """Those that Keras and TensorFlow take, None for Keras's own choice."""
    given = {tuple(min(extra, s - 1) for s in strides) for extra in range(max(strides))}
    # With `same` Keras asks for (n - 1) * stride + k - 2 * (k // 2) + output padding; where that is
    # (n - 1) * stride, TensorFlow refuses, since a convolution would lead back to n - 1 values.
    refused = {
        extra
        for extra in given
        if padding == "same" and any(k % 2 == 0 == e for k, e in zip(kernel, extra, strict=True))
    }
    return [None, *sorted(given - refused)]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", STRIDES, ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_every_form_computes_what_keras_does(from_keras, in_tensorflow, kernel, strides, padding):
    import keras

    rng = np.random.default_rng(sum(kernel) + 10 * sum(strides))
    rows = rng.standard_normal((2, 4, 3, 3), np.float32)
    for output_padding in output_paddings(kernel, strides, padding):
        image = keras.Input((4, 3, 3))
        layer = keras.layers.Conv2DTranspose(
            2, kernel, strides, padding, output_padding=output_padding, bias_initializer="normal"
        )
        model = keras.Model(image, layer(image))
        wanted = model(rows).numpy()
        graph = from_keras(model)
        assert graph.operators() == {"ConvTranspose": 1}
        for lower in PASSES:
            found = in_tensorflow(lower(graph).graph, rows)["z_mean"]
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()


def test_phases_do_as_many_products_as_the_transposed_convolution(chain):
    graph = LowerConvTranspose()(chain((4, 4, 3), transposed((3, 3)))).graph
    assert kernels(graph) == {(2, 2): 1, (2, 1): 1, (1, 2): 1, (1, 1): 1}
    assert graph.operators() == {"Concat": 1, "Conv": 4, "DepthToSpace": 1}


def test_rows_make_both_column_phases_in_one_convolution(chain):
    graph = LowerConvTranspose(form=Form.ROWS)(chain((4, 4, 3), transposed((3, 3)))).graph
    assert graph.operators() == {"Concat": 1, "Conv": 2, "DepthToSpace": 1}
    # 2 * (4 + 2) = 12 products for 9.
    assert kernels(graph) == {(2, 2): 1, (1, 2): 1}
    assert {n.op.kernel.shape[3] for n in graph.nodes if isinstance(n.op, Conv)} == {4}


@pytest.mark.parametrize(("below", "convolutions"), [(16, 4), (17, 2)])
def test_few_positions_are_spread_by_rows(chain, assert_same, below, convolutions):
    graph = chain((4, 4, 3), transposed((3, 3)))
    result = LowerConvTranspose(rows_below=below)(graph)
    assert result.graph.operators()["Conv"] == convolutions
    assert_same(graph, result.graph)


@forms
def test_stride_one_is_one_convolution_with_the_flipped_kernel(chain, lower):
    op = transposed((3, 2), strides=(1, 1), output=(6, 5))
    graph = lower(chain((4, 4, 3), op)).graph
    assert graph.operators() == {"Conv": 1}
    (node,) = graph.nodes
    np.testing.assert_array_equal(node.op.kernel, op.kernel[::-1, ::-1].transpose(0, 1, 3, 2))
    assert node.op.pads == ((2, 2), (1, 1))
    np.testing.assert_array_equal(node.op.bias, op.bias)


@forms
def test_a_stride_along_one_axis_needs_no_phases_along_the_other(chain, lower):
    graph = lower(chain((4, 4, 3), transposed((3, 3), strides=(2, 1), output=(8, 6)))).graph
    assert graph.operators()["Conv"] == 2
    graph = lower(chain((4, 4, 3), transposed((3, 3), strides=(1, 2), output=(6, 8)))).graph
    assert graph.operators()["Conv"] == (1 if lower.form is Form.ROWS else 2)


@forms
def test_a_kernel_smaller_than_the_stride_gives_the_bias_between(chain, in_tensorflow, lower):
    op = transposed((1, 1), strides=(3, 3), output=(6, 6), activation=Activation.RELU)
    rows = np.random.default_rng(1).standard_normal((2, 2, 2, 3), np.float32)
    y = in_tensorflow(lower(chain((2, 2, 3), op)).graph, rows)["y"]
    between = np.ones((6, 6), bool)
    between[::3, ::3] = False
    wanted = np.broadcast_to(np.maximum(op.bias, 0), y[:, between].shape)
    np.testing.assert_array_equal(y[:, between], wanted)
    products = np.maximum(rows @ op.kernel[0, 0].T + op.bias, 0)
    np.testing.assert_allclose(y[:, ::3, ::3], products, atol=1e-6)


@forms
def test_phases_longer_than_the_output_are_cut(chain, lower):
    op = transposed((2, 2), output=(7, 8))
    assert lower(chain((4, 4, 3), op)).graph.operators()["Slice"] == 1
    even = transposed((2, 2), output=(8, 8))
    assert "Slice" not in lower(chain((4, 4, 3), even)).graph.operators()


@forms
def test_activations_are_applied_in_every_convolution(chain, lower):
    op = transposed((3, 3), activation=Activation.RELU6)
    graph = lower(chain((4, 4, 3), op)).graph
    found = {n.op.activation for n in graph.nodes if isinstance(n.op, Conv)}
    assert found == {Activation.RELU6}


@forms
def test_every_layer_is_rewritten_and_what_is_read_keeps_its_name(chain, assert_same, lower):
    first = transposed((3, 3), output=(6, 6), channels=(3, 4))
    second = transposed((2, 3), output=(12, 12), channels=(4, 1), seed=1)
    plain = chain((3, 3, 3), first, second)
    graph = Graph(
        input="x", input_shape=(3, 3, 3), nodes=plain.nodes, outputs={"first": "a", "y": "b"}
    )
    result = lower(graph)
    assert result.applied == ("a", "b")
    assert result.graph.outputs == {"first": "a", "y": "b"}
    assert {node.name for node in result.graph.nodes} == {"a", "b"}
    assert_same(graph, result.graph)


def test_other_layers_are_neither_rewritten_nor_refused(chain):
    graph = chain((3, 4), Reshape(to=(12,)))
    result = LowerConvTranspose()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes


def test_names_that_are_taken_are_not_taken_again(assert_same):
    op = transposed((3, 3))
    nodes = (
        Node(name="taken", op=Reshape(to=(4, 4, 3)), inputs=("x",), output="a/0"),
        Node(name="a", op=op, inputs=("a/0",), output="a"),
    )
    graph = Graph(input="x", input_shape=(48,), nodes=nodes, outputs={"y": "a"})
    assert_same(graph, LowerConvTranspose()(graph).graph)


@forms
@pytest.mark.parametrize(("least", "lowered"), [(432, True), (433, False)])
def test_phases_of_few_products_are_left_to_the_runtime(chain, assert_same, lower, least, lowered):
    # 3 * 3 taps, 3 channels in and 4 out, 4 * 4 values in, over 4 phases: 432 products.
    graph = chain((4, 4, 3), transposed((3, 3), channels=(3, 4)))
    result = replace(lower, min_products=least)(graph)
    assert result.applied == (("a",) if lowered else ())
    assert [(r.node, r.reason) for r in result.refused] == (
        []
        if lowered
        else [
            (
                "a",
                (
                    "a phase has 432 products; with fewer than 433 the runtime's own transposed "
                    "convolution is faster"
                ),
            )
        ]
    )
    assert_same(graph, result.graph)


@forms
def test_what_the_runtime_has_no_form_of_is_lowered_however_small(chain, assert_same, lower):
    always = replace(lower, min_products=10**9)
    one = chain((4, 4, 3), transposed((3, 3), strides=(1, 1), output=(6, 6)))
    assert always(one).applied == ("a",)
    # The input reaches to 9; up to a stride more is padding that runtimes know, 11 is not.
    reached = chain((4, 4, 3), transposed((3, 3), output=(9, 9)))
    assert always(reached).applied == ()
    beyond = chain((4, 4, 3), transposed((3, 3), output=(11, 9)))
    result = always(beyond)
    assert result.applied == ("a",)
    assert_same(beyond, result.graph)
