"""Sibling layers merged into one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import Activate, Activation, Conv, Dense, Graph, Node, Reshape
from exporters.lowering.base import run_passes
from exporters.lowering.dense_as_conv import DenseAsConv
from exporters.lowering.merge_heads import MergeHeads
from exporters.lowering.split_weights import SplitWeights

pytestmark = pytest.mark.host


def dense(inputs: int, outputs: int, seed: int = 0) -> Dense:
    rng = np.random.default_rng(seed)
    return Dense(
        kernel=rng.standard_normal((inputs, outputs), np.float32),
        bias=rng.standard_normal(outputs, np.float32),
    )


def conv(shape: tuple[int, int, int], channels: int, seed: int = 0) -> Conv:
    whole = dense(int(np.prod(shape)), channels, seed)
    return Conv(kernel=whole.kernel.reshape(*shape, channels), bias=whole.bias)


def heads(shape: tuple[int, ...], ops, followers) -> Graph:
    nodes = []
    for index, (op, follower) in enumerate(zip(ops, followers, strict=True)):
        head, last = f"head{index}", f"last{index}"
        nodes += [
            Node(name=head, op=op, inputs=("x",), output=head),
            Node(name=last, op=follower, inputs=(head,), output=last),
        ]
    outputs = {f"y{index}": f"last{index}" for index in range(len(ops))}
    return Graph(input="x", input_shape=shape, nodes=tuple(nodes), outputs=outputs)


@settings(max_examples=60)
@given(
    shape=st.tuples(*(st.integers(1, 3),) * 3),
    channels=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=2, max_size=4),
    as_conv=st.booleans(),
    seed=st.integers(0, 999),
)
def test_siblings_are_one_layer_and_compute_the_same(assert_same, shape, channels, as_conv, seed):
    size = int(np.prod(shape))
    ops = [
        conv(shape, count, seed + i) if as_conv else dense(size, count, seed + i)
        for i, (count, _) in enumerate(channels)
    ]
    followers = [dense(count, last, seed + 9) for count, last in channels]
    graph = heads(shape if as_conv else (size,), ops, followers)
    result = MergeHeads()(graph)
    assert result.applied == tuple(f"head{i}" for i in range(len(channels)))
    assert result.refused == ()
    merged = result.graph.nodes[0]
    assert merged.name == "+".join(result.applied)
    assert merged.op.kernel.shape[-1] == sum(count for count, _ in channels)
    assert len(result.graph.nodes) == 1 + len(channels)
    assert_same(graph, result.graph)


def test_split_heads_of_an_encoder_are_merged(assert_same):
    nodes = (
        Node(name="flat", op=Reshape(to=(12,)), inputs=("x",), output="flat"),
        Node(name="mean", op=dense(12, 2), inputs=("flat",), output="mean"),
        Node(name="spread", op=dense(12, 2, 1), inputs=("flat",), output="spread"),
    )
    graph = Graph(
        input="x", input_shape=(2, 3, 2), nodes=nodes, outputs={"m": "mean", "s": "spread"}
    )
    last, results = run_passes(graph, (DenseAsConv(), SplitWeights(), MergeHeads()))
    assert results[-1][1].applied == ("mean", "spread")
    assert last.operators()["Conv"] == 1
    assert_same(graph, last)


def test_wide_siblings_are_left_alone(assert_same):
    graph = heads((4,), [dense(4, 33), dense(4, 32, 1)], [dense(33, 2), dense(32, 2)])
    result = MergeHeads()(graph)
    assert result.applied == ()
    reason = "they have 65 channels; more than 64 do not pay"
    assert [(r.node, r.reason) for r in result.refused] == [("head0", reason), ("head1", reason)]
    assert_same(graph, result.graph)
    assert MergeHeads(max_channels=65)(graph).applied == ("head0", "head1")


def test_siblings_of_another_kind_are_left_alone(assert_same):
    shape = (2, 2, 3)
    ops = [conv(shape, 2), replace(conv((1, 2, 3), 2, 1), strides=(2, 1))]
    graph = heads(shape, ops, [dense(2, 2), dense(2, 2)])
    result = MergeHeads()(graph)
    assert result.applied == ()
    assert [r.reason for r in result.refused] == [
        "those that read the same tensor are of another kind"
    ] * 2
    assert_same(graph, result.graph)


@pytest.mark.parametrize(
    ("shape", "op", "follower"),
    [
        ((4,), replace(dense(4, 3), activation=Activation.RELU), dense(3, 2)),
        ((4,), dense(4, 3), Activate(activation=Activation.TANH)),
        ((5, 4), dense(4, 3), dense(3, 2)),
        ((2, 2, 3), replace(conv((2, 2, 1), 3), groups=3), dense(3, 2)),
    ],
    ids=["activation", "no dense layer behind", "several rows", "groups"],
)
def test_other_siblings_are_none_of_its_business(shape, op, follower):
    graph = heads(shape, [op, op], [follower, follower])
    result = MergeHeads()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes


def test_a_layer_that_leaves_the_graph_is_no_head(assert_same):
    plain = heads((4,), [dense(4, 3), dense(4, 3, 1)], [dense(3, 2), dense(3, 2)])
    outputs = {**plain.outputs, "raw": "head0"}
    graph = Graph(input="x", input_shape=(4,), nodes=plain.nodes, outputs=outputs)
    result = MergeHeads()(graph)
    assert result.applied == ()
    assert_same(graph, result.graph)


def test_only_children_are_left_alone(chain):
    graph = chain((4,), dense(4, 3), dense(3, 2))
    result = MergeHeads()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes
