"""Batch normalisation folded into layers: equal numbers, and every reason for not folding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import Activation, Affine, Conv, ConvTranspose, Dense, Graph, Reshape
from exporters.lowering.fold_batch_norm import FoldBatchNorm

pytestmark = pytest.mark.host


def layer(kind: str, rng: np.random.Generator, channels_in: int, channels: int, taps=(3, 2)):
    normal = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    if kind == "Dense":
        return Dense(kernel=normal(channels_in, channels), bias=normal(channels))
    if kind == "ConvTranspose":
        return ConvTranspose(
            kernel=normal(*taps, channels, channels_in),
            bias=normal(channels),
            strides=(2, 1),
            pads_before=(0, 0),
            output_size=(4 + taps[0], 4 + taps[1]),
        )
    groups = channels_in if kind == "depthwise" else 1
    return Conv(
        kernel=normal(*taps, channels_in // groups, channels * groups),
        bias=normal(channels * groups),
        pads=((1, 0), (2, 1)),
        groups=groups,
    )


def affine(rng: np.random.Generator, channels: int) -> Affine:
    return Affine(
        scale=rng.standard_normal(channels, np.float32),
        offset=rng.standard_normal(channels, np.float32),
    )


@pytest.mark.parametrize("kind", ["Conv", "depthwise", "ConvTranspose", "Dense"])
@settings(max_examples=60)
@given(
    channels_in=st.integers(1, 5),
    channels=st.integers(1, 5),
    taps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 999),
)
def test_folding_changes_weights_and_no_value(
    chain, assert_same, kind, channels_in, channels, taps, seed
):
    rng = np.random.default_rng(seed)
    op = layer(kind, rng, channels_in, channels, taps)
    graph = chain((3, 5, channels_in), op, affine(rng, len(op.bias)))
    result = FoldBatchNorm()(graph)
    assert result.applied == ("b",)
    assert result.refused == ()
    assert result.graph.operators() == {type(op).__name__: 1}
    assert_same(graph, result.graph)


def test_weights_and_bias_are_scaled_by_hand(chain):
    op = Dense(kernel=np.float32([[1, 2], [3, 4]]), bias=np.float32([5, 6]))
    scaled = Affine(scale=np.float32([2, -1]), offset=np.float32([7, 8]))
    (node,) = FoldBatchNorm()(chain((2,), op, scaled)).graph.nodes
    np.testing.assert_array_equal(node.op.kernel, [[2, -2], [6, -4]])
    np.testing.assert_array_equal(node.op.bias, [17, 2])
    assert node.op.kernel.dtype == node.op.bias.dtype == np.float32


def test_two_in_a_row_are_both_folded(chain, assert_same):
    rng = np.random.default_rng(2)
    graph = chain((4,), layer("Dense", rng, 4, 3), affine(rng, 3), affine(rng, 3))
    result = FoldBatchNorm()(graph)
    assert result.applied == ("b", "c")
    assert result.graph.operators() == {"Dense": 1}
    assert_same(graph, result.graph)


def test_a_layer_with_an_activation_is_left_alone(chain, assert_same):
    rng = np.random.default_rng(3)
    op = replace(layer("Conv", rng, 3, 4), activation=Activation.RELU)
    graph = chain((3, 5, 3), op, affine(rng, 4))
    result = FoldBatchNorm()(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [("b", "a applies relu before it")]
    assert_same(graph, result.graph)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_layer_that_is_read_elsewhere_is_left_alone(chain, assert_same, leaves):
    rng = np.random.default_rng(4)
    plain = chain((4,), layer("Dense", rng, 4, 3), affine(rng, 3))
    nodes, outputs = plain.nodes, {"y": "b", "raw": "a"}
    if not leaves:
        other = replace(nodes[1], name="other", op=affine(rng, 3), output="other")
        nodes, outputs = (*nodes, other), {"y": "b", "other": "other"}
    graph = Graph(input="x", input_shape=(4,), nodes=nodes, outputs=outputs)
    result = FoldBatchNorm()(graph)
    assert result.applied == ()
    assert {r.reason for r in result.refused} == {"the output of a is also read elsewhere"}
    assert len(result.refused) == (1 if leaves else 2)
    assert_same(graph, result.graph)


def test_what_has_no_weights_takes_none(chain, assert_same):
    rng = np.random.default_rng(5)
    graph = chain((4,), affine(rng, 4), Reshape(to=(2, 2)), affine(rng, 2))
    result = FoldBatchNorm()(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [
        ("a", "it follows the input, which has no weights to fold it into"),
        ("c", "it follows b (Reshape), which has no weights to fold it into"),
    ]
    assert_same(graph, result.graph)
