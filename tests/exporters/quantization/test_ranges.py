"""Ranges: shared where values are only moved, and searched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporters.graph import (
    Activate,
    Activation,
    Affine,
    Concat,
    Conv,
    Dense,
    Graph,
    Node,
    Pad,
    Reshape,
    Slice,
    Transpose,
)
from exporters.quantization.output_error import OutputError
from exporters.quantization.plan import QuantizationPlan, Range
from exporters.quantization.ranges import SharedRanges

pytestmark = pytest.mark.host

RELU = Activation.RELU


def node(name: str, op, *inputs: str) -> Node:
    return Node(name=name, op=op, inputs=inputs, output=name)


def scaled(channels: int) -> Affine:
    ones = np.ones(channels, np.float32)
    return Affine(scale=ones, offset=ones)


def extremes(**ends: tuple[float, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (np.float32([low]), np.float32([high])) for name, (low, high) in ends.items()}


def moves() -> Graph:
    nodes = (
        node("a", scaled(2), "x"),
        node("b", scaled(2), "x"),
        node("both", Concat(axis=2), "a", "b"),
        node("padded", Pad(pads=((1, 1), (0, 0), (0, 0))), "both"),
        node("cut", Slice(starts=(0, 0, 0), sizes=(2, 3, 4)), "padded"),
        node("turned", Transpose(order=(2, 0, 1)), "cut"),
        node("flat", Reshape(to=(24,)), "turned"),
        node("last", scaled(24), "flat"),
    )
    return Graph(input="x", input_shape=(2, 3, 2), nodes=nodes, outputs={"y": "last"})


def test_tensors_between_which_values_are_moved_have_one_range():
    shared = SharedRanges.of(
        moves(),
        extremes(x=(-9, 9), a=(-1, 2), b=(-3, 1), both=(-3, 2), flat=(-3, 2), last=(0.5, 7)),
    )
    moved = {"a", "b", "both", "padded", "cut", "turned", "flat"}
    assert len({shared.owner[name] for name in moved}) == 1
    assert len({shared.owner[name] for name in ("x", "a", "last")}) == 3
    ranges = shared.ranges(shared.observed)
    assert {ranges[name] for name in moved} == {Range(low=-3.0, high=2.0)}
    assert ranges["x"] == Range(low=-9.0, high=9.0)
    # Every range holds 0, whatever was met.
    assert ranges["last"] == Range(low=0.0, high=7.0)


def test_a_group_takes_the_range_that_it_is_given():
    shared = SharedRanges.of(moves(), extremes(x=(0, 1), a=(0, 1), last=(0, 1)))
    group = shared.owner["flat"]
    narrower = shared.ranges({**shared.observed, group: Range(low=0.0, high=0.5)})
    assert narrower["a"] == narrower["flat"] == Range(low=0.0, high=0.5)
    assert narrower["last"] == Range(low=0.0, high=1.0)


def test_groups_that_meet_later_become_one():
    nodes = (
        node("a", Reshape(to=(4,)), "x"),
        node("b", scaled(4), "a"),
        node("c", Reshape(to=(2, 2)), "b"),
        node("d", Reshape(to=(2, 2)), "a"),
        node("both", Concat(axis=0), "c", "d"),
    )
    graph = Graph(input="x", input_shape=(2, 2), nodes=nodes, outputs={"y": "both"})
    shared = SharedRanges.of(graph, extremes(x=(-1, 0), b=(0, 5)))
    assert set(shared.ranges(shared.observed).values()) == {Range(low=-1.0, high=5.0)}


def test_what_is_moved_to_several_places_has_one_range():
    nodes = (
        node("a", Reshape(to=(4,)), "x"),
        node("b", Reshape(to=(1, 4)), "x"),
        node("c", Reshape(to=(4, 1)), "x"),
    )
    graph = Graph(
        input="x", input_shape=(2, 2), nodes=nodes, outputs={"a": "a", "b": "b", "c": "c"}
    )
    shared = SharedRanges.of(graph, extremes(x=(-1, 0), a=(-1, 1), b=(-1, 2), c=(-1, 3)))
    ranges = shared.ranges(shared.observed)
    assert ranges == dict.fromkeys("xabc", Range(low=-1.0, high=3.0))


@pytest.mark.parametrize(
    ("activation", "high"), [(RELU, 8.0), (Activation.RELU6, 6.0), (None, 8.0)]
)
def test_ranges_are_those_of_what_a_layer_gives(chain, activation, high):
    from exporters.quantization.simulate import observe_ranges

    op = Dense(kernel=np.eye(2, dtype=np.float32), bias=np.zeros(2, np.float32))
    graph = chain((2,), replace(op, activation=activation))
    rows = np.float32([[-4, 8], [1, 2]])
    shared = SharedRanges.of(graph, observe_ranges(graph, rows))
    low = -4.0 if activation is None else 0.0
    assert shared.observed["a"] == Range(low=low, high=high)


def test_a_rectified_part_does_not_cut_what_it_is_put_beside():
    one = np.ones((1, 1, 1, 1), np.float32)
    zero = np.zeros(1, np.float32)
    nodes = (
        node("rectified", Conv(kernel=one, bias=zero, activation=RELU), "x"),
        node("linear", Conv(kernel=one, bias=zero), "x"),
        node("both", Concat(axis=2), "rectified", "linear"),
    )
    graph = Graph(input="x", input_shape=(1, 1, 1), nodes=nodes, outputs={"y": "both"})
    shared = SharedRanges.of(graph, extremes(rectified=(0, 2), linear=(-3, 2), both=(-3, 2)))
    assert shared.ranges(shared.observed)["both"] == Range(low=-3.0, high=2.0)


# Search


def search(graph: Graph, plan: QuantizationPlan, rows: np.ndarray, **settings):
    """Ranges that were searched, and the errors before and after."""
    from exporters.quantization.ranges import search_ranges, search_rows
    from exporters.quantization.simulate import Simulation, observe_ranges, run_graph

    shared = SharedRanges.of(graph, observe_ranges(graph, rows))
    used = search_rows(graph, rows)
    objective = OutputError().against(run_graph(graph, used))
    found = search_ranges(graph, plan, shared, rows, objective, **settings)
    simulation = Simulation(graph, plan)
    errors = tuple(
        objective(simulation.run(used, ranges))
        for ranges in (shared.ranges(shared.observed), found)
    )
    return shared, found, errors


def network(rng: np.random.Generator, chain) -> tuple[Graph, QuantizationPlan]:
    def conv(channels_in, channels, activation):
        return Conv(
            kernel=rng.standard_normal((3, 3, channels_in, channels), np.float32) / 5,
            bias=rng.standard_normal(channels, np.float32) / 5,
            pads=((1, 1), (1, 1)),
            activation=activation,
        )

    graph = chain(
        (4, 4, 2),
        conv(2, 6, RELU),
        conv(6, 4, None),
        Reshape(to=(64,)),
        Dense(kernel=rng.standard_normal((64, 3), np.float32) / 8, bias=np.zeros(3, np.float32)),
        Activate(activation=Activation.SIGMOID),
    )
    return graph, QuantizationPlan(integer=frozenset("abcd"))


@pytest.mark.parametrize("seed", range(3))
def test_searched_ranges_are_never_worse_and_never_wider(chain, seed):
    rng = np.random.default_rng(seed)
    graph, plan = network(rng, chain)
    rows = rng.standard_normal((64, 4, 4, 2), np.float32)
    shared, found, (before, after) = search(graph, plan, rows)
    assert after <= before
    assert found.keys() == graph.shapes.keys()
    for name, range_ in found.items():
        observed = shared.observed[shared.owner[name]]
        assert observed.low * (1 + 1e-6) <= range_.low <= observed.low / 100
        assert observed.high / 100 <= range_.high <= observed.high * (1 + 1e-6)
        assert found[name] == found[shared.owner[name]]


def saturated(chain, outlier: float) -> tuple[Graph, QuantizationPlan, np.ndarray]:
    """One value far out, behind which a sigmoid saturates."""
    graph = chain((4,), Reshape(to=(2, 2)), Activate(activation=Activation.SIGMOID))
    rows = np.random.default_rng(0).standard_normal((128, 4), np.float32)
    rows[0, 0] = outlier
    return graph, QuantizationPlan(integer=frozenset("a")), rows


def test_an_outlier_behind_which_nothing_changes_is_left_out(chain):
    graph, plan, rows = saturated(chain, 60.0)
    shared, found, (before, after) = search(graph, plan, rows)
    assert shared.observed[shared.owner["a"]].high == 60
    assert found["a"].high < 0.5 * 60
    # What is not saturated stays in: the others reach to about 3.
    assert found["a"].high > 2
    assert after < 0.2 * before


def test_an_outlier_below_is_left_out_too(chain):
    graph, plan, rows = saturated(chain, -60.0)
    shared, found, (before, after) = search(graph, plan, rows)
    assert shared.observed[shared.owner["a"]].low == -60
    assert -0.5 * 60 < found["a"].low < -2
    assert after < 0.2 * before


def test_an_outlier_that_counts_is_kept(chain):
    eye = np.eye(4, dtype=np.float32)
    graph = chain((4,), Dense(kernel=eye, bias=np.zeros(4, np.float32)))
    rows = np.random.default_rng(0).standard_normal((128, 4), np.float32)
    rows[0, 0] = 20
    _, found, _ = search(graph, QuantizationPlan(integer=frozenset("a")), rows)
    assert found["a"].high > 0.9 * 20


def test_fixed_groups_and_tensors_in_float_keep_their_ranges(chain):
    graph, plan, rows = saturated(chain, 60.0)
    shared, found, _ = search(graph, plan, rows, fixed=frozenset("xa"))
    assert found == shared.ranges(shared.observed)
    _, found, _ = search(graph, plan, rows)
    assert found["b"] == shared.observed["b"]


def test_inputs_that_are_read_as_integers_are_searched_too(chain):
    _, _, rows = saturated(chain, 60.0)
    eye = np.eye(4, dtype=np.float32)
    graph = chain(
        (4,),
        Dense(kernel=eye, bias=np.zeros(4, np.float32)),
        Activate(activation=Activation.SIGMOID),
    )
    plan = QuantizationPlan(integer_input=frozenset("a"))
    shared, found, _ = search(graph, plan, rows)
    assert found["x"].high < 0.5 * shared.observed["x"].high
    # What is made in float has no range to be searched.
    assert found["a"] == shared.observed["a"]


def test_the_search_looks_at_the_first_rows_alone():
    from exporters.quantization.ranges import search_rows

    def graph(values: int) -> Graph:
        dense = Dense(kernel=np.zeros((2, values), np.float32), bias=np.zeros(values, np.float32))
        nodes = (Node(name="a", op=dense, inputs=("x",), output="a"),)
        return Graph(input="x", input_shape=(2,), nodes=nodes, outputs={"y": "a"})

    rows = np.zeros((1000, 2), np.float32)
    assert len(search_rows(graph(3), rows)) == 256
    assert len(search_rows(graph(3), rows[:10])) == 10
