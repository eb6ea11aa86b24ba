"""Layers that go back to float where a quantized component would no longer be the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporters.graph import Activate, Activation, Dense, Graph, Node
from exporters.quantization.guard import excess, keep_within
from exporters.quantization.plan import QuantizationPlan, Range, WeightMode
from vae_edge.terms import Precision

pytestmark = pytest.mark.host

RNG = np.random.default_rng(8)


def dense(name: str, source: str, kernel: np.ndarray) -> Node:
    op = Dense(kernel=kernel, bias=np.zeros(kernel.shape[1], np.float32))
    return Node(name=name, op=op, inputs=(source,), output=name)


def case() -> tuple[Graph, QuantizationPlan, np.ndarray]:
    """Two layers; the second's input has one value that is a thousand times the others."""
    even = RNG.standard_normal((6, 6)).astype(np.float32)
    uneven = np.array(even)
    uneven[:, 0] *= 1000
    last = 0.02 * RNG.standard_normal((6, 40)).astype(np.float32)
    last[0] /= 1e4
    nodes = (
        dense("even", "x", even),
        dense("uneven", "even", uneven),
        dense("last", "uneven", last),
        Node(
            name="image",
            op=Activate(activation=Activation.SIGMOID),
            inputs=("last",),
            output="image",
        ),
    )
    graph = Graph(input="x", input_shape=(6,), nodes=nodes, outputs={"reconstruction": "image"})
    rows = RNG.standard_normal((64, 6)).astype(np.float32)
    wide = {"x": 4.0, "even": 12.0, "uneven": 30_000.0}
    ranges = {name: Range(low=-reach, high=reach) for name, reach in wide.items()}
    plan = QuantizationPlan(integer=frozenset({"even", "uneven"}), ranges=ranges)
    return graph, plan, rows


def test_only_the_layer_that_8_bits_do_not_do_goes_back():
    graph, plan, rows = case()
    kept = keep_within(graph, plan, rows, Precision.INT8)
    assert kept.integer == {"even"}
    # Small weights are not worth storing narrow.
    assert kept.weight_mode("uneven") is WeightMode.FLOAT32


def test_a_plan_that_is_good_enough_stays():
    graph, plan, rows = case()
    good = replace(plan, integer=frozenset({"even"}))
    assert keep_within(graph, good, rows, Precision.INT8) == good


def test_float16_is_given_up_where_it_does_not_do():
    weights = np.float32([[1.0, 2049.0], [-1.0, -2049.0]])
    graph = Graph(
        input="x",
        input_shape=(2,),
        nodes=(dense("a", "x", weights), dense("b", "x", np.float32([[0.5], [0.25]]))),
        outputs={"z_mean": "a", "z_log_var": "b"},
    )
    rows = RNG.uniform(-1, 1, (32, 2)).astype(np.float32)
    # float16 has no 2049; the posterior is narrow, so that it shows.
    plan = QuantizationPlan(weights=dict.fromkeys("ab", WeightMode.FLOAT16))
    kept = keep_within(graph, plan, rows, Precision.FLOAT16)
    assert kept.weight_mode("a") is WeightMode.FLOAT32
    assert kept.weight_mode("b") is WeightMode.FLOAT16


def test_excess_is_counted_in_limits():
    image = np.float32([[0.0, 0.5, 1.0, 0.5]])
    same = {"reconstruction": image}
    assert excess(same, same, Precision.INT8) == 0
    # An rmse of 0.012 is the limit, 0.6 of it what is aimed at; the largest error counts less.
    off = {"reconstruction": image + np.float32(0.012)}
    assert excess(same, off, Precision.INT8) == pytest.approx(1 / 0.6, rel=1e-4)
