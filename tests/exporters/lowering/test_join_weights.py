"""Layers joined with the dense layers that read them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import Activation, Conv, Dense, Graph, Node
from exporters.lowering.join_weights import JoinWeights
from exporters.lowering.merge_heads import MergeHeads
from exporters.lowering.split_weights import SplitWeights

pytestmark = pytest.mark.host


def conv(shape: tuple[int, ...], channels: int, seed: int) -> Conv:
    rng = np.random.default_rng(seed)
    return Conv(
        kernel=rng.standard_normal((*shape, channels), np.float32),
        bias=rng.standard_normal(channels, np.float32),
    )


def dense(inputs: int, outputs: int, seed: int = 1) -> Dense:
    rng = np.random.default_rng(seed)
    return Dense(
        kernel=rng.standard_normal((inputs, outputs), np.float32),
        bias=rng.standard_normal(outputs, np.float32),
    )


def heads(shape: tuple[int, ...], channels: int, seed: int) -> Graph:
    nodes = (
        Node(name="z_mean", op=conv(shape, channels, seed), inputs=("x",), output="m"),
        Node(name="z_log_var", op=conv(shape, channels, seed + 1), inputs=("x",), output="v"),
    )
    return Graph(
        input="x", input_shape=shape, nodes=nodes, outputs={"z_mean": "m", "z_log_var": "v"}
    )


@settings(max_examples=200)
@given(
    shape=st.tuples(*(st.integers(1, 4),) * 3),
    channels=st.integers(1, 16),
    seed=st.integers(0, 999),
    merged=st.booleans(),
)
def test_what_was_split_and_merged_is_whole_again(assert_same, shape, channels, seed, merged):
    graph = heads(shape, channels, seed)
    apart = SplitWeights()(graph).graph
    if merged:
        apart = MergeHeads()(apart).graph
    assert apart.operators()["Dense"] == 2
    joined = JoinWeights()(apart).graph
    assert joined.operators() == {"Conv": 2}
    assert_same(apart, joined)
    for name in ("m", "v"):
        mine, first = joined.maker(name).op, graph.maker(name).op
        np.testing.assert_allclose(mine.kernel, first.kernel, atol=1e-5)
        np.testing.assert_allclose(mine.bias, first.bias, atol=1e-5)


def test_biases_and_the_readers_activation_go_along(chain, assert_same):
    second = replace(dense(6, 2), activation=Activation.TANH)
    graph = chain((3,), dense(3, 6, 2), second)
    joined = JoinWeights()(graph).graph
    assert joined.operators() == {"Dense": 1}
    assert_same(graph, joined)


def test_refusals(chain):
    wide = chain((3,), dense(3, 4), dense(4, 4))
    result = JoinWeights()(wide)
    assert result.graph == wide
    assert [each.reason for each in result.refused] == ["it would have as many weights"]
    curved = chain((3,), replace(dense(3, 6), activation=Activation.RELU), dense(6, 2))
    assert JoinWeights()(curved).graph == curved
    others = chain((3,), dense(3, 6), dense(6, 2))
    assert JoinWeights(only=frozenset({"no such"}))(others).graph == others
