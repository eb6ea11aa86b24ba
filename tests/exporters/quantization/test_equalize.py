"""Channels brought to one range without changing the function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.graph import (
    Activate,
    Activation,
    Conv,
    ConvTranspose,
    Dense,
    Graph,
    Node,
    Reshape,
)
from exporters.quantization.equalize import Equalize

pytestmark = pytest.mark.host

RELU = Activation.RELU


def uneven(rng: np.random.Generator, *shape: int, axis: int = -1) -> np.ndarray:
    """Weights whose output channels differ by factors up to 30."""
    factors = np.exp(rng.uniform(0, 3.4, shape[axis]))
    along = np.ones(len(shape), int)
    along[axis] = -1
    return np.float32(rng.standard_normal(shape) * factors.reshape(along))


def conv(rng, channels_in, channels, *, groups=1, activation=RELU) -> Conv:
    return Conv(
        kernel=uneven(rng, 3, 3, channels_in // groups, channels),
        bias=rng.standard_normal(channels, np.float32),
        pads=((1, 1), (1, 1)),
        groups=groups,
        activation=activation,
    )


def transposed(rng, channels_in, channels, size, activation=RELU) -> ConvTranspose:
    return ConvTranspose(
        kernel=uneven(rng, 3, 3, channels, channels_in, axis=2),
        bias=rng.standard_normal(channels, np.float32),
        strides=(2, 2),
        pads_before=(0, 0),
        output_size=size,
        activation=activation,
    )


def dense(rng, inputs, outputs, activation=RELU) -> Dense:
    return Dense(
        kernel=uneven(rng, inputs, outputs),
        bias=rng.standard_normal(outputs, np.float32),
        activation=activation,
    )


@pytest.fixture(scope="session")
def reach_of():
    from exporters.quantization.simulate import observe_ranges

    def measure(graph: Graph, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: high for name, (_, high) in observe_ranges(graph, rows).items()}

    return measure


@pytest.fixture(scope="session")
def assert_equalized(reach_of, by_definition, in_tensorflow):
    """Equalize a graph; the function stays, and every equalized tensor's channels reach alike."""

    def check(graph: Graph, equalized: tuple[str, ...], channels: dict[str, int], seed=0) -> None:
        rows = np.random.default_rng(seed).standard_normal((16, *graph.input_shape), np.float32)
        reach = reach_of(graph, rows)
        result = Equalize(reach=reach)(graph)
        assert result.applied == equalized
        wanted, found = by_definition(graph, rows), in_tensorflow(result.graph, rows)
        for name, value in wanted.items():
            assert np.abs(found[name] - value).max() <= 1e-5 * np.abs(value).max()
        after = reach_of(result.graph, rows)
        for name, count in channels.items():
            before = reach[name].reshape(-1, count).max(axis=0)
            top, now = before.max(), after[name].reshape(-1, count).max(axis=0)
            # A channel is never blown up more than 64 times.
            np.testing.assert_allclose(now, np.minimum(top, 64 * before), rtol=1e-4)
            assert before.min() < 0.9 * top

    return check


@settings(max_examples=20)
@given(
    widths=st.tuples(*(st.integers(2, 6),) * 3),
    depthwise=st.booleans(),
    seed=st.integers(0, 999),
)
def test_convolutions_one_after_the_other(chain, assert_equalized, widths, depthwise, seed):
    rng = np.random.default_rng(seed)
    first, second, third = widths
    middle = (
        conv(rng, second, 2 * second, groups=second) if depthwise else conv(rng, second, 2 * second)
    )
    graph = chain(
        (5, 6, first),
        conv(rng, first, second),
        middle,
        conv(rng, 2 * second, third, activation=None),
    )
    assert_equalized(graph, ("a", "b"), {}, seed)


def test_every_channel_reaches_as_far_as_the_widest(chain, assert_equalized):
    rng = np.random.default_rng(0)
    graph = chain((5, 6, 3), conv(rng, 3, 8), conv(rng, 8, 6), conv(rng, 6, 2, activation=None))
    assert_equalized(graph, ("a", "b"), {"a": 8, "b": 6})


def test_a_decoder_from_dense_to_transposed_convolutions(chain, assert_equalized):
    rng = np.random.default_rng(1)
    graph = chain(
        (2,),
        dense(rng, 2, 3 * 3 * 4),
        Reshape(to=(3, 3, 4)),
        transposed(rng, 4, 5, (6, 6)),
        transposed(rng, 5, 1, (12, 12), activation=None),
    )
    # What the dense layer makes is laid out as channels by the reshape.
    assert_equalized(graph, ("a", "c"), {"b": 4, "c": 5})


def test_an_encoder_from_convolutions_to_two_dense_heads(chain, assert_equalized):
    rng = np.random.default_rng(2)
    plain = chain(
        (4, 4, 2), conv(rng, 2, 6), Reshape(to=(96,)), dense(rng, 96, 3, None), dense(rng, 96, 2)
    )
    *most, last = plain.nodes
    nodes = (*most, replace(last, inputs=("b",)))
    graph = Graph(input="x", input_shape=(4, 4, 2), nodes=nodes, outputs={"m": "c", "s": "d"})
    assert_equalized(graph, ("a",), {"a": 6})


def test_dense_layers_one_after_the_other(chain, assert_equalized):
    rng = np.random.default_rng(3)
    graph = chain((5,), dense(rng, 5, 9), dense(rng, 9, 7), dense(rng, 7, 2, None))
    assert_equalized(graph, ("a", "b"), {"a": 9, "b": 7})


def test_channels_that_a_reshape_puts_together_are_scaled_alike(chain, assert_equalized):
    rng = np.random.default_rng(4)
    graph = chain(
        (4, 4, 2), conv(rng, 2, 3), Reshape(to=(4, 2, 6)), conv(rng, 6, 2, activation=None)
    )
    assert_equalized(graph, ("a",), {"a": 3})
    graph = chain(
        (4, 4, 2), conv(rng, 2, 6), Reshape(to=(4, 8, 3)), conv(rng, 3, 2, activation=None)
    )
    assert_equalized(graph, ("a",), {"b": 3})
    graph = chain(
        (4, 4, 2), conv(rng, 2, 3), Reshape(to=(2, 4, 6)), transposed(rng, 6, 2, (4, 8), None)
    )
    assert_equalized(graph, ("a",), {"a": 3})
    graph = chain(
        (4, 4, 2),
        conv(rng, 2, 3),
        Reshape(to=(2, 4, 6)),
        conv(rng, 6, 12, groups=6, activation=None),
    )
    assert_equalized(graph, ("a",), {"a": 3})


def test_channels_that_a_reshape_cuts_up_are_left_alone(chain, reach_of):
    rng = np.random.default_rng(4)
    graph = chain(
        (4, 4, 2), conv(rng, 2, 6), Reshape(to=(4, 6, 4)), conv(rng, 4, 2, activation=None)
    )
    rows = rng.standard_normal((4, 4, 4, 2), np.float32)
    result = Equalize(reach=reach_of(graph, rows))(graph)
    assert result.applied == ()
    assert result.refused[0].reason == "a reshape cuts its 6 channels into 4"


def by_hand(reach: list[float], power: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Kernels of two layers of ones after equalizing."""
    count = len(reach)
    ones = [np.ones((count, count), np.float32)] * 2
    nodes = tuple(
        Node(
            name=name,
            op=Dense(kernel=kernel, bias=np.ones(count, np.float32), activation=RELU),
            inputs=(source,),
            output=name,
        )
        for name, source, kernel in zip("ab", "xa", ones, strict=True)
    )
    graph = Graph(input="x", input_shape=(count,), nodes=nodes, outputs={"y": "b"})
    result = Equalize(reach={"a": np.float32(reach)}, power=power)(graph)
    first, second = (node.op for node in result.graph.nodes)
    np.testing.assert_allclose(first.bias, first.kernel[0])
    np.testing.assert_array_equal(second.bias, 1)
    return first.kernel[0], second.kernel[:, 0]


def test_scales_by_hand():
    outputs, inputs = by_hand([8, 4, 1])
    np.testing.assert_allclose(outputs, [1, 2, 8])
    np.testing.assert_allclose(inputs, [1, 1 / 2, 1 / 8])


def test_half_the_power_goes_half_the_way():
    outputs, inputs = by_hand([16, 4, 1], power=0.5)
    np.testing.assert_allclose(outputs, [1, 2, 4])
    np.testing.assert_allclose(inputs, [1, 1 / 2, 1 / 4])
    np.testing.assert_array_equal(by_hand([16, 4, 1], power=0.0)[0], 1)


def test_channels_that_hardly_fire_are_not_blown_up_to_the_widest():
    outputs, _ = by_hand([128, 1, 0])
    np.testing.assert_allclose(outputs, [1, 64, 64])


@pytest.mark.parametrize(
    ("activation", "text"), [(None, "no activation"), (Activation.RELU6, "relu6")]
)
def test_what_does_not_let_scales_through_is_left_alone(chain, activation, text):
    rng = np.random.default_rng(5)
    graph = chain((4,), dense(rng, 4, 3, activation), dense(rng, 3, 2))
    result = Equalize(reach={"a": np.ones(3, np.float32), "b": np.ones(2, np.float32)})(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [
        ("a", f"{text} does not let scales through; expected relu"),
        ("b", "its output leaves the graph"),
    ]
    assert result.graph.nodes == graph.nodes


def test_what_is_read_by_other_layers_is_left_alone(chain):
    rng = np.random.default_rng(6)
    graph = chain((4,), dense(rng, 4, 3), Activate(activation=Activation.TANH), dense(rng, 3, 2))
    result = Equalize(reach={"a": np.ones(3, np.float32)})(graph)
    assert result.refused[0].reason == (
        "its output is read by Activate; expected convolutions and dense layers"
    )


def test_what_was_never_positive_is_left_alone(chain):
    rng = np.random.default_rng(7)
    graph = chain((4,), dense(rng, 4, 3), dense(rng, 3, 2))
    result = Equalize(reach={"a": np.zeros(3, np.float32)})(graph)
    assert result.refused[0].reason == "its output was never positive in calibration"


def test_what_leaves_the_graph_halfway_is_left_alone(chain):
    rng = np.random.default_rng(8)
    plain = chain((4,), dense(rng, 4, 6), Reshape(to=(2, 3)), dense(rng, 3, 2))
    graph = replace(plain, outputs={"y": "c", "raw": "a"})
    result = Equalize(reach={"a": np.ones(6, np.float32)})(graph)
    assert result.refused[0].reason == "its output leaves the graph"
