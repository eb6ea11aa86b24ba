"""Weights in a coarse and a fine part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import Activate, Activation, Conv, Dense, Graph, Reshape
from exporters.lowering.base import run_passes
from exporters.lowering.dense_as_conv import DenseAsConv
from exporters.lowering.split_weights import SplitWeights
from exporters.quantization.plan import quantize_weights

pytestmark = pytest.mark.host


def head(shape=(3, 2, 4), channels=3, seed=0, **changes) -> Conv:
    rng = np.random.default_rng(seed)
    op = Conv(
        kernel=rng.standard_normal((*shape, channels), np.float32),
        bias=rng.standard_normal(channels, np.float32),
    )
    return replace(op, **changes)


def dense(inputs=24, channels=3, seed=0, **changes) -> Dense:
    op = head((inputs,), channels, seed)
    return replace(Dense(kernel=op.kernel, bias=op.bias), **changes)


shapes = st.tuples(*(st.integers(1, 4),) * 3)


@settings(max_examples=600)
@given(shape=shapes, channels=st.integers(1, 16), flat=st.booleans(), seed=st.integers(0, 999))
def test_parts_add_up_to_the_layer(chain, assert_same, shape, channels, flat, seed):
    inputs = int(np.prod(shape))
    if flat:
        graph = chain(shape, Reshape(to=(inputs,)), dense(inputs, channels, seed))
        kinds = {"Dense": 2, "Reshape": 1}
    else:
        graph = chain(shape, head(shape, channels, seed), Reshape(to=(channels,)))
        kinds = {"Conv": 1, "Dense": 1, "Reshape": 1}
    result = SplitWeights()(graph)
    assert result.applied == (("b",) if flat else ("a",))
    assert result.graph.operators() == kinds
    assert_same(graph, result.graph)


@settings(max_examples=600)
@given(shape=shapes, channels=st.integers(1, 16), seed=st.integers(0, 999))
def test_eight_bits_each_store_the_weights_to_sixteen(chain, shape, channels, seed):
    op = head(shape, channels, seed)
    both = SplitWeights()(chain(shape, op)).graph.nodes[0].op
    whole, parts = quantize_weights(op.kernel), quantize_weights(both.kernel)
    # Storing the coarse part once more gives the same integers, and the scales to float32's last
    # bit: 127 times a scale is rounded on the way.
    np.testing.assert_array_equal(parts.stored[..., :channels], whole.stored)
    np.testing.assert_allclose(parts.scales[:channels], whole.scales, rtol=2**-23)
    real = parts.real().astype(np.float64)
    total = real[..., :channels] + real[..., channels:]
    steps = np.abs(total - op.kernel) / whole.scales
    # Half a step of the fine part, which spans half a step of the coarse one with 127; and again
    # float32's last bit, of weights up to 127 steps.
    assert steps.max() <= 0.5 * 0.5 / 127 + 127 * 2**-22


def test_the_bias_is_added_once(chain):
    op = head()
    both, total = (n.op for n in SplitWeights()(chain((3, 2, 4), op)).graph.nodes)
    np.testing.assert_array_equal(both.bias, [*op.bias, 0, 0, 0])
    np.testing.assert_array_equal(total.kernel, np.concatenate([np.eye(3), np.eye(3)]))
    np.testing.assert_array_equal(total.bias, np.zeros(3))


def test_a_wide_layer_is_left_alone(chain, assert_same):
    graph = chain((3, 2, 4), head(channels=65))
    result = SplitWeights()(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [
        ("a", "it has 65 channels; more than 64 would cost too much")
    ]
    assert_same(graph, result.graph)
    assert SplitWeights(max_channels=65)(graph).applied == ("a",)


@pytest.mark.parametrize(
    ("shape", "ops"),
    [
        ((4, 2, 4), [head()]),
        ((3, 2, 12), [head(channels=6, groups=3)]),
        ((3, 2, 4), [head(activation=Activation.RELU)]),
        ((24,), [dense(), Activate(activation=Activation.TANH)]),
        ((5, 24), [dense()]),
    ],
    ids=["several pixels", "groups", "activation", "read inside", "several rows"],
)
def test_layers_whose_sums_are_no_outputs_are_none_of_its_business(chain, shape, ops):
    graph = chain(shape, *ops)
    result = SplitWeights()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes


def test_both_heads_are_split_and_nothing_before_them(chain, assert_same):
    plain = chain((3, 2, 4), Reshape(to=(24,)), dense(channels=6), dense(6, 2), dense(6, 2, 1))
    *most, last = plain.nodes
    nodes = (*most, replace(last, inputs=("b",)))
    graph = Graph(input="x", input_shape=(3, 2, 4), nodes=nodes, outputs={"m": "c", "s": "d"})
    result = SplitWeights()(graph)
    assert result.applied == ("c", "d")
    assert_same(graph, result.graph)


def test_a_head_on_a_flattened_image_is_split_as_a_convolution_too(chain, assert_same):
    graph = chain((3, 2, 4), Reshape(to=(24,)), dense())
    last, results = run_passes(graph, (DenseAsConv(), SplitWeights()))
    assert [result.applied for _, result in results] == [("b",), ("b",)]
    assert last.operators() == {"Conv": 1, "Dense": 1, "Reshape": 1}
    assert_same(graph, last)
