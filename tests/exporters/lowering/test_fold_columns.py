"""Convolutions to few channels, several columns at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exporters.graph import Activation, Conv, Layout, Reshape
from exporters.lowering.fold_columns import FoldColumns

pytestmark = pytest.mark.host

SAME = ((1, 1), (1, 1))


def narrow(taps=(3, 3), channels=(2, 1), pads=SAME, seed=0, **changes) -> Conv:
    rng = np.random.default_rng(seed)
    op = Conv(
        kernel=rng.standard_normal((*taps, *channels), np.float32),
        bias=rng.standard_normal(channels[1], np.float32),
        pads=pads,
    )
    return replace(op, **changes)


@pytest.mark.parametrize("columns", [2, 3, 4, 7])
@settings(max_examples=100)
@given(
    height=st.integers(1, 5),
    blocks=st.integers(1, 3),
    taps=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    rows_padded=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    left=st.integers(0, 8),
    activation=st.sampled_from([None, Activation.RELU]),
    seed=st.integers(0, 999),
)
def test_folded_columns_compute_the_convolution(
    chain,
    assert_same,
    columns,
    height,
    blocks,
    taps,
    channels,
    rows_padded,
    left,
    activation,
    seed,
):
    assume(taps != (1, 1))
    assume(height + sum(rows_padded) >= taps[0])
    # As many columns as before: the pads of the columns add up to the taps but one.
    left = min(left, taps[1] - 1)
    pads = (rows_padded, (left, taps[1] - 1 - left))
    graph = chain(
        (height, blocks * columns, channels[0]),
        narrow(taps, channels, pads, seed, activation=activation),
    )
    result = FoldColumns(columns=columns)(graph)
    assert result.applied == ("a",)
    assert result.graph.operators() == {"Conv": 1, "Reshape": 2}
    assert_same(graph, result.graph)
    # No block is read that no column reaches.
    kernel = result.graph.nodes[1].op.kernel
    assert kernel[:, 0].any()
    assert kernel[:, -1].any()


def test_a_block_holds_its_columns_and_reads_both_neighbours(chain):
    op = narrow((1, 3), (1, 1), ((0, 0), (1, 1)))
    graph = FoldColumns(columns=2)(chain((2, 4, 1), op)).graph
    wide, product, _ = graph.nodes
    assert isinstance(wide.op, Reshape)
    assert wide.op.to == (2, 2, 2)
    a, b, c = op.kernel.ravel()
    # Blocks before, at and behind; their two columns in, the two columns out.
    wanted = np.zeros((1, 3, 2, 2), np.float32)
    wanted[0, 0, 1, 0] = a
    wanted[0, 1, :, 0] = b, c
    wanted[0, 1, :, 1] = a, b
    wanted[0, 2, 0, 1] = c
    np.testing.assert_array_equal(product.op.kernel, wanted)
    np.testing.assert_array_equal(product.op.bias, np.tile(op.bias, 2))
    assert product.op.pads == ((0, 0), (1, 1))


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (
            narrow(strides=(1, 2)),
            "strides (1, 2), dilations (1, 1), groups 1; expected 1 of each",
        ),
        (
            narrow(dilations=(2, 1)),
            "strides (1, 1), dilations (2, 1), groups 1; expected 1 of each",
        ),
        (
            narrow(channels=(1, 2), groups=2),
            "strides (1, 1), dilations (1, 1), groups 2; expected 1 of each",
        ),
        (narrow(pads=((1, 1), (0, 1))), "it makes 5 columns of 6; expected as many"),
        (narrow(), "6 columns cannot be folded by 4"),
    ],
)
def test_what_cannot_be_folded_is_left_alone(chain, assert_same, op, reason):
    graph = chain((4, 6, 2), op)
    result = FoldColumns()(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [("a", reason)]
    assert_same(graph, result.graph)


def test_channels_first_are_left_alone(chain, assert_same):
    graph = chain((2, 4, 4), narrow(layout=Layout.CHANNELS_FIRST))
    result = FoldColumns()(graph)
    assert [r.reason for r in result.refused] == ["its channels come first"]
    assert_same(graph, result.graph)


@pytest.mark.parametrize("op", [narrow(channels=(2, 5)), narrow((1, 1), pads=((0, 0), (0, 0)))])
def test_wide_and_pointwise_convolutions_are_none_of_its_business(chain, op):
    graph = chain((4, 4, 2), op)
    result = FoldColumns()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes
