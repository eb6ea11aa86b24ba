"""Blocks of pixels put in their places by concatenations and reshapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import (
    Activate,
    Activation,
    Affine,
    Concat,
    DepthToSpace,
    Graph,
    Node,
    Reshape,
    Transpose,
)
from exporters.lowering.interleave_by_concat import InterleaveByConcat

pytestmark = pytest.mark.host

TANH = Activate(activation=Activation.TANH)


def phases(size, channels, block, by_rows: bool, also_read: bool = False) -> Graph:
    """Phases, each another function of the input, on the channels of one tensor."""
    rng = np.random.default_rng(0)
    rows, columns = block
    count = rows if by_rows else rows * columns
    width = channels * columns if by_rows else channels
    nodes = []
    for index in range(count):
        scale, offset = rng.standard_normal((2, width), np.float32)
        op = Affine(scale=scale, offset=offset)
        nodes.append(Node(name="phase", op=op, inputs=("x",), output=f"phase{index}"))
    parts = tuple(node.output for node in nodes)
    nodes.append(Node(name="join", op=Concat(axis=2), inputs=parts, output="joined"))
    nodes.append(Node(name="d", op=DepthToSpace(block=block), inputs=("joined",), output="d"))
    outputs = {"y": "d", "joined": "joined"} if also_read else {"y": "d"}
    return Graph(input="x", input_shape=(*size, width), nodes=tuple(nodes), outputs=outputs)


@pytest.mark.parametrize("flat", [False, True])
@settings(max_examples=200)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 3),
    block=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    by_rows=st.booleans(),
    also_read=st.booleans(),
)
def test_every_pixel_comes_to_its_place(
    assert_same, flat, size, channels, block, by_rows, also_read
):
    graph = phases(size, channels, block, by_rows, also_read)
    result = InterleaveByConcat(flat_rows=flat)(graph)
    assert result.applied == ("d",)
    assert "DepthToSpace" not in result.graph.operators()
    assert_same(graph, result.graph)


def test_columns_stand_on_the_channels_and_rows_beside_each_other():
    graph = InterleaveByConcat()(phases((4, 5), 2, (2, 3), by_rows=False)).graph
    joined = [node for node in graph.nodes if isinstance(node.op, Concat)]
    assert [(node.op.axis, len(node.inputs)) for node in joined] == [(2, 3), (2, 3), (1, 2)]
    assert [n.op.to for n in graph.nodes if isinstance(n.op, Reshape)] == [(8, 15, 2)]


def test_flat_rows_are_put_together_as_rows():
    graph = InterleaveByConcat(flat_rows=True)(phases((4, 5), 2, (2, 2), by_rows=True)).graph
    shapes = [n.op.to for n in graph.nodes if isinstance(n.op, Reshape)]
    # Two rows of 5 columns of 2 phases of 2 channels; then the image.
    assert shapes == [(4, 1, 20), (4, 1, 20), (8, 10, 2)]


def test_what_is_no_concatenation_is_permuted(chain, assert_same):
    graph = chain((3, 4, 12), TANH, DepthToSpace(block=(2, 3)))
    result = InterleaveByConcat()(graph)
    moves = [n.op for n in result.graph.nodes if isinstance(n.op, Transpose)]
    assert moves == [Transpose(order=(0, 2, 1, 3))]
    assert_same(graph, result.graph)


def test_parts_that_lie_across_two_rows_are_permuted(assert_same):
    nodes = (
        Node(name="a", op=TANH, inputs=("x",), output="a"),
        Node(name="b", op=TANH, inputs=("a",), output="b"),
        Node(name="j", op=Concat(axis=2), inputs=("x", "a", "b"), output="j"),
        Node(name="d", op=DepthToSpace(block=(2, 1)), inputs=("j",), output="d"),
    )
    graph = Graph(input="x", input_shape=(2, 3, 2), nodes=nodes, outputs={"y": "d"})
    result = InterleaveByConcat()(graph)
    assert result.graph.operators() == {"Activate": 2, "Concat": 1, "Reshape": 2, "Transpose": 1}
    assert_same(graph, result.graph)


def test_other_layers_are_neither_rewritten_nor_refused(chain):
    graph = chain((3, 4), TANH)
    result = InterleaveByConcat()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes
