"""Sums of shifted maps as convolutions with kernels of ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exporters.graph import (
    Activate,
    Activation,
    Affine,
    Conv,
    Dense,
    Graph,
    Node,
    SumShifted,
)
from exporters.lowering.base import run_passes
from exporters.lowering.split_narrow_conv import SplitNarrowConv
from exporters.lowering.sum_by_convolution import SumByConvolution

pytestmark = pytest.mark.host

RNG = np.random.default_rng(8)
pairs = st.tuples(st.integers(0, 3), st.integers(0, 3))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


@settings(max_examples=600)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    taps=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 3),
    pads=st.tuples(pairs, pairs),
    dense=st.booleans(),
)
def test_two_convolutions_are_the_sum(chain, assert_same, size, taps, channels, pads, dense):
    pads = tuple(tuple(min(end, n - 1) for end in pair) for n, pair in zip(taps, pads, strict=True))
    assume(all(n + t - 1 > sum(pad) for n, pad, t in zip(size, pads, taps, strict=True)))
    maps = taps[0] * taps[1] * channels
    total = SumShifted(taps=taps, pads=pads, bias=normal(channels))
    layer = Dense(kernel=normal(3, maps), bias=normal(maps), activation=Activation.RELU)
    graph = chain((*size, 3), layer, total) if dense else chain((*size, maps), total)
    result = SumByConvolution()(graph)
    assert result.applied == (("b",) if dense else ("a",))
    assert result.graph.operators() == {"Conv": 3 if dense else 2}
    assert_same(graph, result.graph)


def test_kernels_hold_ones_and_zeros_alone_and_sum_every_map_once(chain):
    total = SumShifted(taps=(2, 3), pads=((1, 0), (1, 1)), bias=normal(2))
    down, across = (n.op for n in SumByConvolution()(chain((4, 4, 12), total)).graph.nodes)
    assert down.kernel.shape == (2, 1, 12, 6)
    assert across.kernel.shape == (1, 3, 6, 2)
    for op in (down, across):
        assert set(np.unique(op.kernel)) == {0, 1}
        np.testing.assert_array_equal(op.kernel.sum(axis=(0, 1, 3)), np.ones(op.kernel.shape[2]))
    assert (down.pads, across.pads) == (((0, 1), (0, 0)), ((0, 0), (1, 1)))


def test_products_become_a_pointwise_convolution(chain):
    dense = Dense(kernel=normal(3, 6), bias=normal(6))
    total = SumShifted(taps=(2, 3), pads=((1, 0), (1, 1)), bias=normal(1))
    first = SumByConvolution()(chain((4, 4, 3), dense, total)).graph.nodes[0]
    assert isinstance(first.op, Conv)
    np.testing.assert_array_equal(first.op.kernel, dense.kernel[np.newaxis, np.newaxis])
    np.testing.assert_array_equal(first.op.bias, dense.bias)


def test_products_that_others_read_are_made_before_them(assert_same):
    nodes = (
        Node(
            name="products",
            op=Dense(kernel=normal(3, 6), bias=normal(6)),
            inputs=("x",),
            output="maps",
        ),
        Node(name="t", op=Activate(activation=Activation.TANH), inputs=("maps",), output="t"),
        Node(
            name="sum",
            op=SumShifted(taps=(2, 3), pads=((1, 0), (1, 1)), bias=normal(1)),
            inputs=("maps",),
            output="sum",
        ),
    )
    graph = Graph(input="x", input_shape=(4, 4, 3), nodes=nodes, outputs={"y": "sum", "t": "t"})
    result = SumByConvolution()(graph)
    assert result.applied == ("sum",)
    assert_same(graph, result.graph)


@pytest.mark.parametrize("bias_in_maps", [True, False])
def test_a_split_convolution_ends_as_three(chain, assert_same, bias_in_maps):
    op = Conv(kernel=normal(3, 3, 8, 2), bias=normal(2), pads=((1, 1), (1, 1)))
    graph = chain((5, 6, 8), op)
    last, results = run_passes(
        graph, (SplitNarrowConv(bias_in_maps=bias_in_maps), SumByConvolution())
    )
    assert [result.applied for _, result in results] == [("a",), ("a",)]
    assert last.operators() == {"Conv": 3}
    assert_same(graph, last)


def test_sums_at_strides_are_left_alone(chain):
    total = SumShifted(taps=(2, 3), strides=(1, 2), pads=((0, 0), (0, 0)), bias=normal(1))
    graph = chain((4, 4, 6), total)
    result = SumByConvolution()(graph)
    assert [r.reason for r in result.refused] == ["strides (1, 2); expected 1 of each"]
    assert result.graph.nodes == graph.nodes


def test_other_layers_are_neither_rewritten_nor_refused(chain):
    graph = chain((3,), Affine(scale=normal(3), offset=normal(3)))
    result = SumByConvolution()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes
