"""What a graph computes once it is quantized, by hand and step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporters.graph import Activate, Activation, Affine, Conv, Dense, Graph, Reshape
from exporters.quantization.plan import (
    FLOAT_PLAN,
    QuantizationPlan,
    QuantizedWeights,
    Range,
    WeightMode,
    quantize_weights,
)

pytestmark = pytest.mark.host


def simulate(graph: Graph, plan: QuantizationPlan, rows, ranges=None):
    from exporters.quantization.simulate import Simulation

    return Simulation(graph, plan).run(np.float32(rows), ranges or plan.ranges)


def identity(channels: int = 1, **changes) -> Dense:
    op = Dense(kernel=np.eye(channels, dtype=np.float32), bias=np.zeros(channels, np.float32))
    return replace(op, **changes)


def test_tensors_of_integer_nodes_are_rounded_to_their_steps(chain):
    # Steps of 0.5 from -1 on; of 1 from 0 on.
    ranges = {"x": Range(low=-1.0, high=126.5), "a": Range(low=0.0, high=255.0)}
    plan = QuantizationPlan(integer=frozenset("a"), ranges=ranges)
    op = identity(bias=np.float32([0.25]))
    rows = [[-5.0], [0.3], [0.8], [1.2], [1.3], [500.0]]
    # As steps of 0.5 within -1..126.5: -1, 0.5, 1, 1, 1.5, 126.5; then 0.25 more, as steps of 1.
    np.testing.assert_array_equal(
        simulate(chain((1,), op), plan, rows)["y"], [[0], [1], [1], [1], [2], [127]]
    )


def test_nodes_that_read_integers_and_make_floats_round_their_inputs_alone(chain):
    plan = QuantizationPlan(integer_input=frozenset("a"), ranges={"x": Range(low=0.0, high=127.5)})
    y = simulate(chain((1,), identity(bias=np.float32([0.3]))), plan, [[0.3], [0.8], [-1]])["y"]
    np.testing.assert_allclose(y, [[0.8], [1.3], [0.3]], rtol=1e-6)


def test_nodes_in_float_round_nothing(chain):
    rows = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    np.testing.assert_array_equal(simulate(chain((3,), identity(3)), FLOAT_PLAN, rows)["y"], rows)


@pytest.mark.parametrize("where", ["integer", "integer_input", "weights"])
def test_weights_are_those_that_are_stored(chain, where):
    rng = np.random.default_rng(1)
    op = identity(4, kernel=rng.standard_normal((4, 3), np.float32), bias=np.zeros(3, np.float32))
    settings = {"weights": {"a": WeightMode.INT8}} if where == "weights" else {where: {"a"}}
    # Steps so fine, over so wide a range, that rows of ones are exact.
    ranges = {"x": Range(low=0.0, high=255.0), "a": Range(low=-127.5, high=127.5)}
    plan = QuantizationPlan(**settings, ranges=ranges)
    y = simulate(chain((4,), op), plan, np.eye(4))["y"]
    wanted = quantize_weights(op.kernel).real()
    if where == "integer":
        # Steps of 1, rounded to even.
        wanted = np.rint(wanted)
    np.testing.assert_allclose(y, wanted, atol=1e-6)


def test_chosen_and_per_tensor_weights_are_used(chain):
    op = identity(2, kernel=np.float32([[1.27, 0.004], [0, 0]]))
    plan = QuantizationPlan(weights={"a": WeightMode.INT8}, per_tensor=frozenset("a"))
    y = simulate(chain((2,), op), plan, [[1, 0]])["y"]
    np.testing.assert_allclose(y, [[1.27, 0]], rtol=1e-6)
    chosen = QuantizedWeights(stored=np.int8([[3, 4], [0, 0]]), scales=np.float32([1, 2]))
    plan = replace(plan, stored={"a": chosen})
    np.testing.assert_array_equal(simulate(chain((2,), op), plan, [[1, 0]])["y"], [[3, 8]])


def test_one_simulation_takes_one_set_of_ranges_after_another(chain):
    from exporters.quantization.simulate import Simulation

    plan = QuantizationPlan(integer=frozenset("a"))
    simulation = Simulation(chain((1,), identity()), plan)
    for top, wanted in ((255.0, 100.0), (51.0, 51.0), (510.0, 100.0)):
        range_ = Range(low=0.0, high=top)
        y = simulation.run(np.float32([[100.3]]), {"x": range_, "a": range_})["y"]
        np.testing.assert_allclose(y, [[wanted]], rtol=1e-6)


def test_rows_are_computed_in_parts_and_put_together(chain):
    from exporters.quantization.simulate import run_graph

    rows = np.random.default_rng(2).standard_normal((150, 3), np.float32)
    scale, offset = np.float32([1, 2, 3]), np.float32([0, 1, 0])
    y = run_graph(chain((3,), Affine(scale=scale, offset=offset)), rows)["y"]
    np.testing.assert_allclose(y, rows * scale + offset, rtol=1e-6)


def test_a_part_of_a_graph_knows_from_the_whole_which_tensors_are_integers(chain):
    from exporters.quantization.simulate import Simulation

    graph = chain((1,), identity(), identity())
    plan = QuantizationPlan(integer=frozenset("b"))
    part = replace(graph, nodes=graph.nodes[:1], outputs={"y": "a"})
    ranges = dict.fromkeys("ab", Range(low=0.0, high=255.0))
    rows = np.float32([[3.4]])
    assert Simulation(part, plan).run(rows, ranges)["y"] == np.float32(3.4)
    assert Simulation(part, plan, also=graph).run(rows, ranges)["y"] == 3


def test_extremes_are_those_of_every_channel_over_all_rows(chain):
    from exporters.quantization.simulate import observe_ranges

    graph = chain((2, 1, 2), Activate(activation=Activation.RELU), Reshape(to=(4,)))
    # More rows than are computed at a time; the last part is smaller.
    rows = np.zeros((130, 2, 1, 2), np.float32)
    rows[3, 0, 0] = -5, 7
    rows[129, 1, 0] = 2, -9
    found = observe_ranges(graph, rows)
    assert found.keys() == {"x", "a", "b"}
    assert [v.tolist() for v in found["x"]] == [[-5, -9], [2, 7]]
    assert [v.tolist() for v in found["a"]] == [[0, 0], [2, 7]]
    assert [v.tolist() for v in found["b"]] == [[0, 0, 0, 0], [0, 7, 2, 0]]


def test_stored_weights_replace_those_of_layers_in_integers_alone(chain):
    from exporters.quantization.simulate import with_stored_weights

    rng = np.random.default_rng(3)
    conv = Conv(kernel=rng.standard_normal((1, 1, 2, 2), np.float32), bias=np.float32([1, 2]))
    graph = chain((1, 1, 2), conv, conv, Activate(activation=Activation.RELU))
    plan = QuantizationPlan(integer=frozenset("ac"))
    first, second, _ = with_stored_weights(graph, plan).nodes
    np.testing.assert_array_equal(first.op.kernel, quantize_weights(conv.kernel).real())
    np.testing.assert_array_equal(first.op.bias, conv.bias)
    assert second.op is conv
