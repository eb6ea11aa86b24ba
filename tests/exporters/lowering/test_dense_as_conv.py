"""Dense layers on flattened images as convolutions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import Activation, Dense, Graph, Node, Reshape
from exporters.lowering.dense_as_conv import DenseAsConv

pytestmark = pytest.mark.host


def dense(inputs: int, outputs: int, seed: int = 0, activation: Activation | None = None) -> Dense:
    rng = np.random.default_rng(seed)
    return Dense(
        kernel=rng.standard_normal((inputs, outputs), np.float32),
        bias=rng.standard_normal(outputs, np.float32),
        activation=activation,
    )


@settings(max_examples=100)
@given(
    shape=st.tuples(*(st.integers(1, 5),) * 3),
    outputs=st.integers(1, 5),
    activation=st.sampled_from([None, Activation.RELU]),
    seed=st.integers(0, 999),
)
def test_a_dense_layer_on_an_image_is_a_convolution(
    chain, assert_same, shape, outputs, activation, seed
):
    size = int(np.prod(shape))
    graph = chain(shape, Reshape(to=(size,)), dense(size, outputs, seed, activation))
    result = DenseAsConv()(graph)
    assert result.applied == ("b",)
    conv, vector = result.graph.nodes
    assert conv.op.kernel.shape == (*shape, outputs)
    assert conv.inputs == ("x",)
    assert vector.op.to == (outputs,)
    assert_same(graph, result.graph)


def test_heads_that_share_a_flatten_both_read_the_image(assert_same):
    nodes = (
        Node(name="flat", op=Reshape(to=(12,)), inputs=("x",), output="flat"),
        Node(name="mean", op=dense(12, 2), inputs=("flat",), output="mean"),
        Node(name="spread", op=dense(12, 3, 1), inputs=("flat",), output="spread"),
    )
    graph = Graph(
        input="x", input_shape=(2, 3, 2), nodes=nodes, outputs={"m": "mean", "s": "spread"}
    )
    result = DenseAsConv()(graph)
    assert result.applied == ("mean", "spread")
    assert result.graph.operators() == {"Conv": 2, "Reshape": 2}
    assert all("flat" not in node.inputs for node in result.graph.nodes)
    assert_same(graph, result.graph)


def test_a_dense_layer_behind_another_is_left_alone(chain, assert_same):
    graph = chain((5,), dense(5, 4), dense(4, 3))
    result = DenseAsConv()(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [
        ("a", "it does not follow a Flatten"),
        ("b", "it does not follow a Flatten"),
    ]
    assert_same(graph, result.graph)


def test_what_is_no_image_is_left_alone(chain, assert_same):
    graph = chain((2, 6), Reshape(to=(12,)), dense(12, 3))
    result = DenseAsConv()(graph)
    assert [(r.node, r.reason) for r in result.refused] == [
        ("b", "what is flattened has the shape (2, 6); expected (height, width, channels)")
    ]
    assert_same(graph, result.graph)


def test_a_dense_layer_on_every_pixel_is_none_of_its_business(chain):
    graph = chain((12,), Reshape(to=(2, 2, 3)), dense(3, 2))
    result = DenseAsConv()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes
