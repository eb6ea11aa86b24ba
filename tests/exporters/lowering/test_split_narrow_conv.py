"""Convolutions to few channels as products and a sum of shifted maps."""

from __future__ import annotations

from dataclasses import replace

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
    DepthToSpace,
    Graph,
    Layout,
    Node,
    SumShifted,
)
from exporters.lowering.split_narrow_conv import SplitNarrowConv

pytestmark = pytest.mark.host

SAME = ((1, 1), (1, 1))


def narrow(taps=(3, 3), channels=(8, 1), pads=SAME, seed=0, **changes) -> Conv:
    rng = np.random.default_rng(seed)
    op = Conv(
        kernel=rng.standard_normal((*taps, *channels), np.float32),
        bias=rng.standard_normal(channels[1], np.float32),
        pads=pads,
    )
    return replace(op, **changes)


pairs = st.tuples(st.integers(0, 3), st.integers(0, 3))


@pytest.mark.parametrize("bias_in_maps", [True, False])
@settings(max_examples=600)
@given(
    size=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    taps=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.tuples(st.integers(8, 11), st.integers(1, 4)),
    pads=st.tuples(pairs, pairs),
    same=st.booleans(),
    seed=st.integers(0, 999),
)
def test_products_and_their_sum_are_the_convolution(
    chain, assert_same, bias_in_maps, size, taps, channels, pads, same, seed
):
    if same:
        after = [min(pad[1], n - 1) for n, pad in zip(taps, pads, strict=True)]
        pads = tuple((n - 1 - end, end) for n, end in zip(taps, after, strict=True))
    pads = tuple(tuple(min(end, n - 1) for end in pair) for n, pair in zip(taps, pads, strict=True))
    assume(taps != (1, 1))
    assume(all(n + sum(pad) >= t for n, pad, t in zip(size, pads, taps, strict=True)))
    graph = chain((*size, channels[0]), narrow(taps, channels, pads, seed))
    result = SplitNarrowConv(bias_in_maps=bias_in_maps)(graph)
    assert result.applied == ("a",)
    assert result.graph.operators() == {"Dense": 1, "SumShifted": 1}
    assert_same(graph, result.graph)


def upsampled(size, channels, block, op, *between) -> Graph:
    """A convolution of an image that is put together from blocks of pixels."""
    ops = (DepthToSpace(block=block), *between, op)
    names = [f"n{index}" for index in range(len(ops))]
    nodes = [
        Node(name=name, op=each, inputs=(before,), output=name)
        for name, each, before in zip(names, ops, ["x", *names], strict=False)
    ]
    shape = (*size, channels * block[0] * block[1])
    return Graph(input="x", input_shape=shape, nodes=tuple(nodes), outputs={"y": names[-1]})


@pytest.mark.parametrize("pointwise", [False, True])
@settings(max_examples=400)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    block=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    taps=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.tuples(st.integers(8, 9), st.integers(1, 4)),
    pads=st.tuples(pairs, pairs),
    bias_in_maps=st.booleans(),
    active=st.booleans(),
    seed=st.integers(0, 999),
)
def test_products_of_blocks_and_their_sum_are_the_convolution(
    assert_same, pointwise, size, block, taps, channels, pads, bias_in_maps, active, seed
):
    pads = tuple(tuple(min(end, n - 1) for end in pair) for n, pair in zip(taps, pads, strict=True))
    assume(block != (1, 1))
    large = [n * stride for n, stride in zip(size, block, strict=True)]
    assume(taps != (1, 1))
    assume(all(n + sum(pad) >= t for n, pad, t in zip(large, pads, taps, strict=True)))
    between = [Activate(activation=Activation.LEAKY_RELU, alpha=0.3)] if active else []
    graph = upsampled(size, channels[0], block, narrow(taps, channels, pads, seed), *between)
    lower = SplitNarrowConv(bias_in_maps=bias_in_maps, block_growth=99, pointwise=pointwise)
    found = lower(graph).graph
    product = "Conv" if pointwise else "Dense"
    wanted = {product: 1, "SumShifted": 1} | ({"Activate": 1} if active else {})
    assert found.operators() == wanted
    assert_same(graph, found)


def test_a_block_is_added_to_all_that_its_pixels_reach():
    op = narrow((3, 3), (8, 1))
    graph = upsampled((4, 5), 8, (2, 2), op)
    products, total = (n.op for n in SplitNarrowConv(block_growth=99)(graph).graph.nodes)
    assert isinstance(products, Dense)
    assert isinstance(total, SumShifted)
    assert (total.taps, total.strides, total.pads) == ((4, 4), (2, 2), SAME)
    maps = products.kernel.reshape(2, 2, 8, 4, 4)
    # The pixel at (1, 0) of a block is added to the outputs one row further down.
    np.testing.assert_array_equal(maps[1, 0, :, 1:, :3], maps[0, 0, :, :3, :3])
    assert not maps[1, 0, :, 0].any()
    assert not maps[1, 0, :, :, 3].any()


def test_blocks_are_kept_together_only_where_asked_and_read_by_nobody_else(assert_same):
    op = narrow((3, 3), (8, 1))
    graph = upsampled((4, 5), 8, (2, 2), op)
    assert SplitNarrowConv()(graph).graph.operators()["DepthToSpace"] == 1
    for between in ((), (Activate(activation=Activation.TANH),)):
        graph = upsampled((4, 5), 8, (2, 2), op, *between)
        read = replace(graph, outputs={**graph.outputs, "image": "n0"})
        found = SplitNarrowConv(block_growth=99)(read).graph
        assert found.operators()["DepthToSpace"] == 1
        assert_same(read, found)


def test_what_differs_between_pixels_keeps_them_in_their_places(assert_same):
    scale, offset = np.random.default_rng(0).standard_normal((2, 8), np.float32)
    between = Affine(scale=scale, offset=offset)
    graph = upsampled((4, 5), 8, (2, 2), narrow((3, 3), (8, 1)), between)
    found = SplitNarrowConv(block_growth=99)(graph).graph
    assert found.operators()["DepthToSpace"] == 1
    assert_same(graph, found)


@pytest.mark.parametrize(
    ("channels", "block", "growth", "kept"),
    [
        # 16 maps for 9, both one vector; 25, two; 48 for 27, three for two.
        (1, (2, 2), 1.0, True),
        (1, (3, 3), 1.9, False),
        (1, (3, 3), 2.0, True),
        (3, (2, 2), 1.4, False),
        (3, (2, 2), 1.5, True),
        (1, (2, 2), 0.0, False),
    ],
)
def test_blocks_are_multiplied_where_they_take_few_more_vectors(channels, block, growth, kept):
    graph = upsampled((4, 5), 24, block, narrow((3, 3), (24, channels)))
    found = SplitNarrowConv(block_growth=growth)(graph).graph.operators()
    assert ("DepthToSpace" not in found) is kept


def test_maps_stand_by_channel_with_the_last_tap_first(chain):
    op = narrow((1, 2), (8, 2), ((0, 0), (0, 1)))
    dense = SplitNarrowConv(bias_in_maps=False)(chain((3, 3, 8), op)).graph.nodes[0].op
    first, second = op.kernel[0, 0], op.kernel[0, 1]
    wanted = np.stack([second[:, 0], first[:, 0], second[:, 1], first[:, 1]], axis=1)
    np.testing.assert_array_equal(dense.kernel, wanted)


def test_the_bias_stands_in_the_map_of_the_tap_on_the_pixel_itself(chain):
    op = narrow((3, 2), (8, 2), ((1, 1), (0, 1)))
    products, total = (n.op for n in SplitNarrowConv()(chain((4, 4, 8), op)).graph.nodes)
    # Tap (1, 0) is the third of six, the fourth from the end.
    wanted = np.zeros((2, 6), np.float32)
    wanted[:, 3] = op.bias
    np.testing.assert_array_equal(products.bias, wanted.ravel())
    np.testing.assert_array_equal(total.bias, [0, 0])


@pytest.mark.parametrize(("bias_in_maps", "pads"), [(False, SAME), (True, ((0, 0), (1, 1)))])
def test_the_bias_stands_in_the_sum_where_no_map_is_read_for_every_pixel(chain, bias_in_maps, pads):
    op = narrow(pads=pads)
    result = SplitNarrowConv(bias_in_maps=bias_in_maps)(chain((4, 4, 8), op))
    products, total = (n.op for n in result.graph.nodes)
    np.testing.assert_array_equal(products.bias, np.zeros(9))
    np.testing.assert_array_equal(total.bias, op.bias)


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (
            narrow(strides=(2, 1)),
            "strides (2, 1), dilations (1, 1), groups 1; expected 1 of each",
        ),
        (
            narrow(dilations=(1, 2)),
            "strides (1, 1), dilations (1, 2), groups 1; expected 1 of each",
        ),
        (
            narrow(channels=(4, 4), groups=2),
            "strides (1, 1), dilations (1, 1), groups 2; expected 1 of each",
        ),
        (narrow(activation=Activation.RELU), "it applies relu to the sum"),
        (
            narrow(channels=(7, 1)),
            "it has 7 channels in and 1 out; with fewer than 8 in it gains nothing",
        ),
        (
            narrow(pads=((3, 1), (1, 1))),
            "it pads ((3, 1), (1, 1)); expected less than the kernel's (3, 3)",
        ),
        (narrow((5, 3), (24, 3)), "it would need 45 maps; more than 44 do not pay"),
        (
            narrow((3, 3), (15, 2)),
            "it has 15 channels in and 2 out; with fewer than 16 in it gains nothing",
        ),
    ],
)
def test_what_would_gain_nothing_is_left_alone(chain, assert_same, op, reason):
    graph = chain((6, 6, op.kernel.shape[2] * op.groups), op)
    result = SplitNarrowConv(max_maps=44, channels_in=8)(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [("a", reason)]
    assert_same(graph, result.graph)


def test_channels_first_are_left_alone(chain, assert_same):
    graph = chain((8, 5, 5), narrow(layout=Layout.CHANNELS_FIRST))
    result = SplitNarrowConv()(graph)
    assert [r.reason for r in result.refused] == ["its channels come first"]
    assert_same(graph, result.graph)


@pytest.mark.parametrize("op", [narrow(channels=(8, 5)), narrow((1, 1), pads=((0, 0), (0, 0)))])
def test_wide_and_pointwise_convolutions_are_none_of_its_business(chain, op):
    graph = chain((4, 4, 8), op)
    result = SplitNarrowConv()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes
