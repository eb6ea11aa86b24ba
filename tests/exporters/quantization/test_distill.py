"""Distillation: closer to the float model on rows that it has not seen, and else the same graph."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.graph import Activate, Activation, Conv, Dense, Reshape
from exporters.quantization.plan import QuantizationPlan, Range

pytestmark = pytest.mark.host

PADS = ((1, 1), (1, 1))


@pytest.fixture(scope="module")
def case():
    """A decoder whose ranges are too wide, so that there is noise to take away."""
    from exporters.graph import Graph, Node
    from exporters.quantization.simulate import observe_ranges

    rng = np.random.default_rng(3)

    def draw(*shape: int) -> np.ndarray:
        return np.float32(rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1])))

    first = 2 * draw(3, 3, 8, 8)
    first[0] = 0
    ops = {
        "a": Dense(kernel=draw(2, 128), bias=draw(128) * 9, activation=Activation.RELU),
        "b": Reshape(to=(4, 4, 8)),
        "c": Conv(
            kernel=first, bias=np.zeros(8, np.float32), pads=PADS, activation=Activation.RELU
        ),
        "d": Conv(kernel=4 * draw(3, 3, 8, 1), bias=draw(1), pads=PADS),
        "e": Activate(activation=Activation.SIGMOID),
    }
    inputs = ("z", *ops)
    nodes = tuple(
        Node(name=name, op=op, inputs=(source,), output=name)
        for (name, op), source in zip(ops.items(), inputs, strict=False)
    )
    graph = Graph(input="z", input_shape=(2,), nodes=nodes, outputs={"image": "e"})
    rows = rng.standard_normal((4096, 2), np.float32)
    ranges = {
        name: Range(low=8 * min(float(low.min()), 0), high=8 * max(float(high.max()), 0))
        for name, (low, high) in observe_ranges(graph, rows).items()
    }
    plan = QuantizationPlan(integer=frozenset("bcd"), ranges=ranges)
    return graph, plan, rows


def distilled(case, *, rows=None, seed=0):
    from exporters.quantization.distill import distill
    from exporters.quantization.output_error import OutputError

    graph, plan, own = case
    rows = own if rows is None else rows
    return distill(graph, plan, rows, OutputError(probabilities="image"), seed=seed)


def error(graph, plan, case) -> float:
    """Mean squared error on rows that distillation was not given."""
    from exporters.quantization.simulate import Simulation, run_graph

    rows = np.random.default_rng(99).standard_normal((512, 2), np.float32)
    given = Simulation(graph, plan).run(rows, plan.ranges)["image"]
    return float(np.mean((given - run_graph(case[0], rows)["image"]) ** 2))


def test_unseen_rows_come_closer(case):
    before = error(case[0], case[1], case)

    assert error(*distilled(case), case) < 0.9 * before


def test_scales_ranges_zeros_and_float_layers_stay(case):
    graph, plan, _ = case
    new_graph, new_plan = distilled(case)

    assert new_plan.ranges == plan.ranges
    assert set(new_plan.stored) == {"c", "d"}
    for name in "cd":
        kernel = next(n.op.kernel for n in graph.nodes if n.output == name)
        was, now = plan.int8_weights(name, kernel), new_plan.stored[name]
        np.testing.assert_array_equal(now.scales, was.scales)
        np.testing.assert_array_equal(now.stored[was.stored == 0], 0)
        assert (now.stored != was.stored).any()
    bias_of = {n.output: n.op.bias for n in new_graph.nodes if n.output in "cd"}
    assert (bias_of["d"] != graph.nodes[3].op.bias).any()
    np.testing.assert_array_equal(bias_of["c"], 0)
    dense = [n.op for n in (*graph.nodes, *new_graph.nodes) if n.output == "a"]
    assert dense[0] is dense[1]


def test_a_seed_gives_the_same_weights_again(case):
    once, again = distilled(case, seed=5)[1], distilled(case, seed=5)[1]

    for name in "cd":
        np.testing.assert_array_equal(once.stored[name].stored, again.stored[name].stored)


def test_few_rows_would_be_learned_by_heart_so_nothing_changes(case):
    graph, plan, rows = case

    assert distilled(case, rows=rows[:255]) == (graph, plan)


def test_a_float_plan_has_nothing_to_tune(case):
    graph, _, rows = case
    floats = QuantizationPlan()

    assert distilled((graph, floats, rows)) == (graph, floats)


def test_what_held_out_rows_do_not_gain_from_is_not_kept(case):
    """Rows to train on that are nothing like those held out: the state before stays."""
    graph, plan, rows = case
    elsewhere = np.concatenate([rows[:-256] * 0 + 50, rows[-256:]])

    new_graph, new_plan = distilled(case, rows=elsewhere)

    before, after = error(graph, plan, case), error(new_graph, new_plan, case)
    assert after <= before * 1.05


def test_a_model_that_would_take_minutes_is_left_alone(case, monkeypatch):
    graph, plan, _ = case
    # One row takes 2 * 128 + 16 * 72 * 8 + 16 * 72 products, and 3 * 128 + 2 * 16 values that cost
    # 64 each; forty steps are the least.
    cost = 10_624 + 64 * 416
    monkeypatch.setattr("exporters.quantization.distill._BUDGET", 40 * cost - 1)
    assert distilled(case) == (graph, plan)

    monkeypatch.setattr("exporters.quantization.distill._BUDGET", 40 * cost)
    assert distilled(case) != (graph, plan)
