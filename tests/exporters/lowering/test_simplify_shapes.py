"""Reshapes joined and dropped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import Affine, Dense, Graph, Node, Reshape
from exporters.lowering.simplify_shapes import SimplifyShapes

pytestmark = pytest.mark.host

SHAPES = [(12,), (3, 4), (2, 3, 2), (12, 1), (1, 2, 6)]


def scaled(channels: int) -> Affine:
    values = np.arange(1, channels + 1, dtype=np.float32)
    return Affine(scale=values, offset=-values)


def test_reshapes_in_a_row_are_the_last_alone(chain, assert_same):
    graph = chain((12,), Reshape(to=(3, 4)), Reshape(to=(2, 6)), Reshape(to=(6, 2)), scaled(2))
    result = SimplifyShapes()(graph)
    assert result.applied == ("b", "c")
    assert [node.op.to for node in result.graph.nodes[:-1]] == [(6, 2)]
    assert_same(graph, result.graph)


def test_a_reshape_to_the_shape_that_is_there_is_nothing(chain, assert_same):
    graph = chain((3, 4), Reshape(to=(3, 4)), scaled(4), Reshape(to=(3, 4)), scaled(4))
    result = SimplifyShapes()(graph)
    assert result.applied == ("a", "c")
    assert result.graph.operators() == {"Affine": 2}
    assert_same(graph, result.graph)


def test_there_and_back_is_nothing(chain, assert_same):
    graph = chain((3, 4), Reshape(to=(12,)), Reshape(to=(3, 4)), scaled(4))
    result = SimplifyShapes()(graph)
    assert result.graph.operators() == {"Affine": 1}
    assert "b" in result.applied
    assert_same(graph, result.graph)


def test_an_output_is_made_even_where_nothing_is_computed(chain, assert_same):
    graph = chain((3, 4), Reshape(to=(3, 4)))
    result = SimplifyShapes()(graph)
    assert result.applied == ()
    assert result.graph.operators() == {"Reshape": 1}
    assert_same(graph, result.graph)


def test_a_reshape_that_others_read_stays_for_them(assert_same):
    kernel = np.ones((12, 2), np.float32)
    nodes = (
        Node(name="flat", op=Reshape(to=(12,)), inputs=("x",), output="flat"),
        Node(name="square", op=Reshape(to=(6, 2)), inputs=("flat",), output="square"),
        Node(
            name="dense",
            op=Dense(kernel=kernel, bias=np.ones(2, np.float32)),
            inputs=("flat",),
            output="dense",
        ),
        Node(name="scaled", op=scaled(2), inputs=("square",), output="scaled"),
    )
    graph = Graph(input="x", input_shape=(3, 4), nodes=nodes, outputs={"y": "scaled", "z": "dense"})
    result = SimplifyShapes()(graph)
    assert result.applied == ("square",)
    assert result.graph.maker("square").inputs == ("x",)
    assert result.graph.operators() == {"Affine": 1, "Dense": 1, "Reshape": 2}
    assert_same(graph, result.graph)


def test_a_single_reshape_is_left_as_it_is(chain):
    graph = chain((3, 4), Reshape(to=(12,)), scaled(12))
    result = SimplifyShapes()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes


@settings(max_examples=600)
@given(
    shapes=st.lists(st.one_of(st.sampled_from(SHAPES), st.none()), min_size=1, max_size=8),
    leaving=st.sets(st.integers(0, 7)),
)
def test_any_row_of_reshapes_computes_the_same_with_none_to_spare(assert_same, shapes, leaving):
    """None stands for a layer in between; some tensors in the row leave the graph as well."""
    nodes, shape, source = [], (12,), "x"
    for index, to in enumerate(shapes):
        op = scaled(shape[-1]) if to is None else Reshape(to=to)
        shape = op.shape((shape,))
        nodes.append(Node(name=f"n{index}", op=op, inputs=(source,), output=f"n{index}"))
        source = f"n{index}"
    outputs = {f"y{index}": f"n{index}" for index in leaving if index < len(nodes)}
    graph = Graph(
        input="x", input_shape=(12,), nodes=tuple(nodes), outputs={**outputs, "y": source}
    )
    result = SimplifyShapes()(graph)
    assert_same(graph, result.graph)
    left = result.graph
    for node in left.nodes:
        before = left.maker(node.inputs[0])
        if isinstance(node.op, Reshape):
            assert before is None or not isinstance(before.op, Reshape)
