"""Small convolutions as matrix products over shifted copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exporters.graph import (
    Activate,
    Activation,
    Conv,
    ConvTranspose,
    Dense,
    Graph,
    Layout,
    Node,
    Pad,
    Slice,
)
from exporters.lowering.base import run_passes
from exporters.lowering.conv_as_product import ConvAsProduct
from exporters.lowering.lower_conv_transpose import Form, LowerConvTranspose

pytestmark = pytest.mark.host

NO_PADS = ((0, 0), (0, 0))


def conv(taps=(2, 2), channels=(3, 4), pads=NO_PADS, seed=0, **changes) -> Conv:
    rng = np.random.default_rng(seed)
    op = Conv(
        kernel=rng.standard_normal((*taps, *channels), np.float32),
        bias=rng.standard_normal(channels[1], np.float32),
        pads=pads,
    )
    return replace(op, **changes)


pairs = st.tuples(st.integers(0, 2), st.integers(0, 2))
taps_and_pads = st.tuples(
    st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (3, 1)]), st.tuples(pairs, pairs)
)


@settings(max_examples=1000)
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels_in=st.integers(1, 3),
    kernels=st.lists(taps_and_pads, min_size=1, max_size=4),
    activation=st.sampled_from([None, Activation.RELU]),
    seed=st.integers(0, 999),
)
def test_products_of_any_convolutions_that_share_an_input(
    assert_same, size, channels_in, kernels, activation, seed
):
    for taps, pads in kernels:
        assume(all(n + sum(pad) >= t for n, pad, t in zip(size, pads, taps, strict=True)))
    nodes = tuple(
        Node(
            name=f"n{index}",
            op=conv(taps, (channels_in, 1 + index), pads, seed + index, activation=activation),
            inputs=("x",),
            output=f"n{index}",
        )
        for index, (taps, pads) in enumerate(kernels)
    )
    outputs = {node.name: node.output for node in nodes}
    graph = Graph(input="x", input_shape=(*size, channels_in), nodes=nodes, outputs=outputs)
    result = ConvAsProduct(alone=True)(graph)
    assert result.applied == tuple(node.name for node in nodes)
    assert "Conv" not in result.graph.operators()
    assert result.graph.operators()["Dense"] == len(nodes)
    assert_same(graph, result.graph)


def test_a_pointwise_convolution_is_a_dense_layer_alone(chain):
    op = conv((1, 1), activation=Activation.RELU6)
    (node,) = ConvAsProduct(alone=True)(chain((3, 3, 3), op)).graph.nodes
    assert isinstance(node.op, Dense)
    assert node.op.activation is Activation.RELU6
    np.testing.assert_array_equal(node.op.kernel, op.kernel[0, 0])


def test_a_copy_in_place_is_the_input_itself(chain):
    op = conv((2, 1), pads=((1, 0), (0, 0)))
    graph = ConvAsProduct(alone=True)(chain((3, 3, 3), op)).graph
    # The lower tap lies on the pixel itself, the upper one reads the row above.
    assert graph.operators() == {"Concat": 1, "Dense": 1, "Pad": 1, "Slice": 1}
    (gathered,) = (n for n in graph.nodes if type(n.op).__name__ == "Concat")
    assert gathered.inputs[1] == "x"


def test_phases_of_a_transposed_convolution_share_their_copies(chain, assert_same):
    rng = np.random.default_rng(3)
    op = ConvTranspose(
        kernel=rng.standard_normal((3, 3, 2, 4), np.float32),
        bias=rng.standard_normal(2, np.float32),
        strides=(2, 2),
        pads_before=(0, 0),
        output_size=(8, 8),
    )
    graph = chain((4, 4, 4), op)
    last, results = run_passes(graph, (LowerConvTranspose(form=Form.PHASES), ConvAsProduct()))
    assert [result.applied for _, result in results] == [("a",), ("a",)]
    # Taps at (-1 or 0, -1 or 0): one pad, three copies, and the input itself.
    found = [type(node.op) for node in last.nodes]
    assert (found.count(Pad), found.count(Slice), found.count(Dense)) == (1, 3, 4)
    assert_same(graph, last)


def test_convolutions_of_two_tensors_keep_their_own_copies(chain, assert_same):
    graph = chain(
        (5, 5, 3),
        conv((2, 2), (3, 3), ((1, 0), (0, 1))),
        Activate(activation=Activation.TANH),
        conv((2, 1), (3, 2), seed=1),
    )
    result = ConvAsProduct(alone=True)(graph)
    assert result.applied == ("a", "c")
    assert_same(graph, result.graph)


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (conv(strides=(2, 2)), "strides (2, 2), dilations (1, 1), groups 1; expected 1 of each"),
        (conv(dilations=(1, 2)), "strides (1, 1), dilations (1, 2), groups 1; expected 1 of each"),
        (
            conv(channels=(1, 3), groups=3),
            "strides (1, 1), dilations (1, 1), groups 3; expected 1 of each",
        ),
        (conv((5, 2)), "it has 10 taps; more than 9 copy the input too often"),
    ],
)
def test_what_would_copy_too_often_is_left_alone(chain, assert_same, op, reason):
    graph = chain((6, 6, 3), op)
    result = ConvAsProduct()(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [("a", reason)]
    assert_same(graph, result.graph)


def test_channels_first_are_left_alone(chain, assert_same):
    graph = chain((3, 4, 4), conv(layout=Layout.CHANNELS_FIRST))
    result = ConvAsProduct()(graph)
    assert [r.reason for r in result.refused] == ["its channels come first"]
    assert_same(graph, result.graph)


def test_the_largest_kernel_can_be_chosen(chain, assert_same):
    graph = chain((6, 6, 3), conv((3, 3), pads=((1, 1), (1, 1))))
    result = ConvAsProduct(max_taps=8, alone=True)(graph)
    assert result.applied == ()
    assert_same(graph, result.graph)
    result = ConvAsProduct(max_taps=9, alone=True)(graph)
    assert result.applied == ("a",)
    assert result.graph.operators() == {"Concat": 1, "Dense": 1, "Pad": 1, "Slice": 8}
    assert_same(graph, result.graph)


def test_a_convolution_that_shares_nothing_is_left_alone(chain, assert_same):
    graph = chain((6, 6, 3), conv(), conv((2, 1), (4, 2)))
    result = ConvAsProduct()(graph)
    assert result.applied == ()
    reason = "no other convolution reads what it reads, so nothing gathered is shared"
    assert [(r.node, r.reason) for r in result.refused] == [("a", reason), ("b", reason)]
    assert_same(graph, result.graph)
