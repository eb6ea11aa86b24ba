"""Channels first: transposes put in, and taken out again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import (
    Activate,
    Activation,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Graph,
    Layout,
    Node,
    Reshape,
    Transpose,
)
from exporters.lowering.base import run_passes
from exporters.lowering.channels_first import ChannelsFirst, RemoveTransposes
from exporters.lowering.interleave_by_concat import InterleaveByConcat
from exporters.lowering.lower_conv_transpose import Form, LowerConvTranspose

pytestmark = pytest.mark.host

REASON = "no dense layer and no other transpose is beside it"


def conv(channels_in: int, channels: int, seed: int = 0, taps=(3, 2), **changes) -> Conv:
    rng = np.random.default_rng(seed)
    return Conv(
        kernel=rng.standard_normal((*taps, channels_in, channels), np.float32),
        bias=rng.standard_normal(channels, np.float32),
        pads=((1, 1), (0, 1)),
        **changes,
    )


def dense(inputs: int, outputs: int, seed: int = 0) -> Dense:
    rng = np.random.default_rng(seed)
    return Dense(
        kernel=rng.standard_normal((inputs, outputs), np.float32),
        bias=rng.standard_normal(outputs, np.float32),
    )


def node(name: str, op, *inputs: str) -> Node:
    return Node(name=name, op=op, inputs=inputs, output=name)


def encoder(channels: int = 1) -> Graph:
    nodes = (
        node("first", conv(channels, 4, activation=Activation.RELU, strides=(2, 1)), "x"),
        node("second", conv(4, 3, 1), "first"),
        node("flat", Reshape(to=(3 * 4 * 3,)), "second"),
        node("mean", dense(36, 2), "flat"),
        node("spread", dense(36, 2, 1), "flat"),
    )
    return Graph(
        input="x",
        input_shape=(6, 4, channels),
        nodes=nodes,
        outputs={"z_mean": "mean", "z_log_var": "spread"},
    )


def decoder(channels: int = 1) -> Graph:
    nodes = (
        node("dense", dense(2, 3 * 4 * 5), "z"),
        node("image", Reshape(to=(3, 4, 5)), "dense"),
        node("first", conv(5, 4), "image"),
        node("second", conv(4, channels, 1), "first"),
        node("sigmoid", Activate(activation=Activation.SIGMOID), "second"),
    )
    return Graph(input="z", input_shape=(2,), nodes=nodes, outputs={"y": "sigmoid"})


@settings(max_examples=100)
@given(
    size=st.tuples(st.integers(3, 5), st.integers(3, 5)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    taps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    between=st.sampled_from([None, Activation.TANH]),
    permute_dense=st.booleans(),
    seed=st.integers(0, 999),
)
def test_channels_first_compute_the_same(
    chain, assert_same, size, channels, taps, between, permute_dense, seed
):
    first = conv(channels[0], channels[1], seed, taps, activation=Activation.RELU)
    middle = [Activate(activation=between)] if between else []
    second = conv(channels[1], channels[2], seed + 1, taps)
    shape = second.shape((first.shape(((*size, channels[0]),)),))
    flat = int(np.prod(shape))
    ops = [first, *middle, second, Reshape(to=(flat,)), dense(flat, 3)]
    graph = chain((*size, channels[0]), *ops)
    turned = ChannelsFirst()(graph)
    assert turned.applied == ("a", "c" if between else "b")
    assert_same(graph, turned.graph)
    convs = [n for n in turned.graph.nodes if isinstance(n.op, Conv)]
    assert {n.op.layout for n in convs} == {Layout.CHANNELS_FIRST}
    assert turned.graph.operators()["Transpose"] == 4
    removed = RemoveTransposes(permute_dense=permute_dense)(turned.graph)
    assert_same(graph, removed.graph)
    left = [n.name for n in removed.graph.nodes if isinstance(n.op, Transpose)]
    assert [(r.node, r.reason) for r in removed.refused] == [(name, REASON) for name in left]


def test_convolutions_that_read_one_tensor_share_its_transpose(assert_same):
    nodes = (node("one", conv(3, 2), "x"), node("two", conv(3, 2, 1), "x"))
    graph = Graph(
        input="x", input_shape=(4, 5, 3), nodes=nodes, outputs={"one": "one", "two": "two"}
    )
    result = ChannelsFirst()(graph)
    assert result.applied == ("one", "two")
    assert result.graph.operators() == {"Conv": 2, "Transpose": 3}
    assert_same(graph, result.graph)


def test_transposed_convolutions_are_turned_as_well(chain, assert_same):
    rng = np.random.default_rng(4)
    op = ConvTranspose(
        kernel=rng.standard_normal((3, 2, 4, 3), np.float32),
        bias=rng.standard_normal(4, np.float32),
        strides=(2, 3),
        pads_before=(0, 1),
        output_size=(8, 11),
        activation=Activation.RELU,
    )
    graph = chain((4, 5, 3), op, conv(4, 2))
    last, results = run_passes(graph, (ChannelsFirst(), RemoveTransposes()))
    assert results[0][1].applied == ("a", "b")
    turned = next(n for n in last.nodes if isinstance(n.op, ConvTranspose))
    assert turned.op.layout is Layout.CHANNELS_FIRST
    assert last.operators()["Transpose"] == 2
    assert_same(graph, last)


def test_what_is_channels_first_already_is_left_as_it_is(chain):
    graph = ChannelsFirst()(chain((4, 5, 3), conv(3, 2))).graph
    result = ChannelsFirst()(graph)
    assert result.applied == ()
    assert result.graph.nodes == graph.nodes


@pytest.mark.parametrize("half", [encoder, decoder])
def test_dense_weights_take_every_transpose_of_a_half_with_one_channel(assert_same, half):
    graph = half()
    last, results = run_passes(graph, (ChannelsFirst(), RemoveTransposes()))
    assert "Transpose" not in last.operators()
    assert results[0][1].applied == ("first", "second")
    assert set(results[1][1].applied) == {"first", "second"}
    assert results[1][1].refused == ()
    assert_same(graph, last)


@pytest.mark.parametrize("half", [encoder, decoder])
def test_images_with_several_channels_keep_one_transpose(assert_same, half):
    graph = half(3)
    last, results = run_passes(graph, (ChannelsFirst(), RemoveTransposes()))
    assert last.operators()["Transpose"] == 1
    assert [r.reason for r in results[1][1].refused] == [REASON]
    assert_same(graph, last)


@pytest.mark.parametrize(("half", "beside"), [(encoder, "second"), (decoder, "first")])
def test_dense_weights_are_left_alone_where_asked_for(assert_same, half, beside):
    graph = half()
    last, results = run_passes(graph, (ChannelsFirst(), RemoveTransposes(permute_dense=False)))
    assert [(r.node, r.reason) for r in results[1][1].refused] == [(beside, REASON)]
    assert last.operators()["Transpose"] == 1
    for before in graph.nodes:
        if isinstance(before.op, Dense):
            assert last.maker(before.output).op is before.op
    assert_same(graph, last)


@pytest.mark.parametrize("flat_rows", [True, False])
@pytest.mark.parametrize("form", list(Form))
def test_a_whole_decoder_computes_the_same(assert_same, form, flat_rows):
    rng = np.random.default_rng(2)
    op = ConvTranspose(
        kernel=rng.standard_normal((3, 3, 4, 5), np.float32),
        bias=rng.standard_normal(4, np.float32),
        strides=(2, 2),
        pads_before=(0, 0),
        output_size=(6, 8),
        activation=Activation.RELU,
    )
    nodes = (
        node("dense", dense(2, 60), "z"),
        node("image", Reshape(to=(3, 4, 5)), "dense"),
        node("up", op, "image"),
        node("last", conv(4, 1), "up"),
    )
    graph = Graph(input="z", input_shape=(2,), nodes=nodes, outputs={"y": "last"})
    passes = (
        LowerConvTranspose(form=form),
        InterleaveByConcat(flat_rows=flat_rows),
        ChannelsFirst(),
        RemoveTransposes(),
    )
    last, _ = run_passes(graph, passes)
    # The dense layer makes its image channels first, for all phases at once.
    assert not any(isinstance(user.op, Transpose) for user in last.users("image"))
    assert_same(graph, last)


def test_a_head_with_a_layer_behind_it_keeps_its_place(assert_same):
    graph = encoder()
    tanh = node("tanh", Activate(activation=Activation.TANH), "mean")
    nodes = (*graph.nodes[:4], tanh, graph.nodes[4])
    graph = Graph(
        input="x",
        input_shape=graph.input_shape,
        nodes=nodes,
        outputs={"z_mean": "tanh", "z_log_var": "spread"},
    )
    last, _ = run_passes(graph, (ChannelsFirst(), RemoveTransposes()))
    assert "Transpose" not in last.operators()
    assert_same(graph, last)


@pytest.mark.parametrize("where", ["dense", "image", "flat", "relu"])
def test_values_that_are_read_elsewhere_are_not_permuted(assert_same, where):
    if where in ("dense", "image"):
        graph = decoder()
        tap = node("tap", Activate(activation=Activation.TANH), where)
    else:
        graph = encoder()
        source = "flat" if where == "flat" else "second"
        tap = node("tap", Activate(activation=Activation.TANH), source)
    outputs = {**graph.outputs, "tap": "tap"}
    graph = Graph(
        input=graph.input, input_shape=graph.input_shape, nodes=(*graph.nodes, tap), outputs=outputs
    )
    last, _ = run_passes(graph, (ChannelsFirst(), RemoveTransposes()))
    assert "Transpose" in last.operators()
    assert_same(graph, last)


def test_an_output_between_keeps_its_own_order(assert_same):
    plain = decoder(3)
    outputs = {"y": "sigmoid", "first": "first", "image": "image"}
    graph = Graph(input="z", input_shape=(2,), nodes=plain.nodes, outputs=outputs)
    last, _ = run_passes(graph, (ChannelsFirst(), RemoveTransposes()))
    assert_same(graph, last)


@pytest.mark.parametrize(
    ("orders", "left"),
    [
        (((2, 0, 1), (1, 2, 0)), []),
        (((2, 0, 1), (2, 0, 1)), [(1, 2, 0)]),
        (((2, 0, 1), (2, 0, 1), (2, 0, 1)), []),
        (((1, 0, 2), (0, 2, 1)), [(1, 2, 0)]),
    ],
)
def test_transposes_in_a_row_are_one_or_none(chain, assert_same, orders, left):
    sigmoid = Activate(activation=Activation.SIGMOID)
    ops = [Transpose(order=order) for order in orders]
    graph = chain((2, 3, 4), sigmoid, *ops, Activate(activation=Activation.TANH))
    result = RemoveTransposes()(graph)
    found = [n.op.order for n in result.graph.nodes if isinstance(n.op, Transpose)]
    assert found == left
    assert_same(graph, result.graph)


def test_transposes_that_cancel_at_an_output_still_make_it(chain, assert_same):
    sigmoid = Activate(activation=Activation.SIGMOID)
    graph = chain((2, 3, 4), sigmoid, Transpose(order=(2, 0, 1)), Transpose(order=(1, 2, 0)))
    result = RemoveTransposes()(graph)
    assert result.graph.operators() == {"Activate": 1, "Reshape": 1}
    assert result.applied == ("c",)
    assert_same(graph, result.graph)


@pytest.mark.parametrize(
    ("shape", "order", "kind"),
    [
        ((4, 5, 1), (2, 0, 1), "Reshape"),
        ((1, 1, 5), (2, 0, 1), "Reshape"),
        ((1, 4, 5), (2, 0, 1), "Transpose"),
        ((4, 5, 2), (2, 0, 1), "Transpose"),
        ((4, 1, 5), (0, 2, 1), "Reshape"),
    ],
)
def test_moving_axes_of_size_one_is_a_reshape(chain, assert_same, shape, order, kind):
    graph = chain(shape, Transpose(order=order), Activate(activation=Activation.TANH))
    result = RemoveTransposes()(graph)
    assert result.graph.operators() == {"Activate": 1, kind: 1}
    assert_same(graph, result.graph)


def test_a_dense_layer_on_every_pixel_is_not_permuted(chain, assert_same):
    graph = chain(
        (4, 3), dense(3, 6), Reshape(to=(4, 2, 3)), Transpose(order=(2, 0, 1)), Reshape(to=(12, 2))
    )
    result = RemoveTransposes()(graph)
    assert result.graph.operators()["Transpose"] == 1
    assert_same(graph, result.graph)


def test_a_reshape_to_rows_is_no_flatten(chain, assert_same):
    graph = chain((4, 2, 3), Transpose(order=(2, 0, 1)), Reshape(to=(6, 4)), dense(4, 2))
    result = RemoveTransposes()(graph)
    assert result.graph.operators()["Transpose"] == 1
    assert_same(graph, result.graph)


def test_transposes_before_a_concatenation_are_one_behind_it(assert_same):
    nodes = (
        node("one", conv(3, 2), "x"),
        node("two", conv(3, 2, 1), "x"),
        node("both", Concat(axis=2), "one", "two"),
    )
    graph = Graph(input="x", input_shape=(4, 5, 3), nodes=nodes, outputs={"y": "both"})
    last, _ = run_passes(graph, (ChannelsFirst(), RemoveTransposes()))
    assert last.operators()["Transpose"] == 2
    assert [n.op.axis for n in last.nodes if isinstance(n.op, Concat)] == [0]
    assert_same(graph, last)


def test_a_transpose_stays_before_a_concatenation_with_something_else(assert_same):
    nodes = (
        node("one", conv(3, 2), "x"),
        node("both", Concat(axis=2), "one", "x"),
    )
    graph = Graph(input="x", input_shape=(4, 5, 3), nodes=nodes, outputs={"y": "both"})
    last, _ = run_passes(graph, (ChannelsFirst(), RemoveTransposes()))
    assert [n.op.axis for n in last.nodes if isinstance(n.op, Concat)] == [2]
    assert_same(graph, last)


def test_a_transpose_goes_behind_an_activation_to_meet_the_next(chain, assert_same):
    graph = chain((4, 5, 3), conv(3, 2), Activate(activation=Activation.TANH), conv(2, 4))
    last, _ = run_passes(graph, (ChannelsFirst(), RemoveTransposes()))
    assert last.operators() == {"Activate": 1, "Conv": 2, "Transpose": 2}
    assert_same(graph, last)


def test_integer_graphs_keep_theirs_where_they_are(assert_same):
    nodes = (
        node("one", conv(3, 2), "x"),
        node("two", conv(3, 2, 1), "x"),
        node("both", Concat(axis=2), "one", "two"),
    )
    graph = Graph(input="x", input_shape=(4, 5, 3), nodes=nodes, outputs={"y": "both"})
    last, results = run_passes(graph, (ChannelsFirst(), RemoveTransposes(permute_dense=False)))
    assert last.operators()["Transpose"] == 3
    assert [r.node for r in results[1][1].refused] == ["one", "one", "two"]
    assert_same(graph, last)
