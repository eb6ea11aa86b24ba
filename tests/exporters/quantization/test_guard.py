"""Layers that go back to float where a quantized component would no longer be the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporters.graph import Activate, Activation, Dense, Graph, Node, Reshape, Transpose
from exporters.quantization.guard import excess, keep_within
from exporters.quantization.plan import QuantizationPlan, Range, WeightMode
from exporters.quantization.scored import Scored
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.terms import Likelihood, Precision

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
    _, kept = keep_within(graph, plan, rows, Precision.INT8)
    assert kept.integer == {"even"}
    # Small weights are not worth storing narrow.
    assert kept.weight_mode("uneven") is WeightMode.FLOAT32


def test_a_plan_that_is_good_enough_stays():
    graph, plan, rows = case()
    good = replace(plan, integer=frozenset({"even"}))
    assert keep_within(graph, good, rows, Precision.INT8) == (graph, good)


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
    _, kept = keep_within(graph, plan, rows, Precision.FLOAT16)
    assert kept.weight_mode("a") is WeightMode.FLOAT32
    assert kept.weight_mode("b") is WeightMode.FLOAT16


def test_excess_is_counted_in_limits():
    image = np.float32([[0.0, 0.5, 1.0, 0.5]])
    same = {"reconstruction": image}
    assert excess(same, same, Precision.INT8) == 0
    # An rmse of 0.012 is the limit, 0.6 of it what is aimed at; the largest error counts less.
    off = {"reconstruction": image + np.float32(0.012)}
    assert excess(same, off, Precision.INT8) == pytest.approx(1 / 0.6, rel=1e-4)


def test_the_one_row_that_is_beyond_is_found_wherever_it_stands():
    # Identity weights on rows of noise; a single row, the last of 512, has a narrow posterior.
    graph = Graph(
        input="x",
        input_shape=(2,),
        nodes=(
            dense("hidden", "x", np.eye(2, dtype=np.float32)),
            dense("z_mean", "hidden", np.float32([[1.0], [0.0]])),
            dense("z_log_var", "hidden", np.float32([[0.0], [1.0]])),
        ),
        outputs={"z_mean": "z_mean", "z_log_var": "z_log_var"},
    )
    rows = np.zeros((512, 2), np.float32)
    rows[:, 0] = np.linspace(-4, 4, 512)
    # A quarter of a step of 0.08 is beyond a sigma of exp(-5), and well below one of 1.
    rows[-1] = (4.02, -10.0)
    ranges = {name: Range(low=-10.2, high=10.2) for name in ("x", "hidden")}
    plan = QuantizationPlan(integer=frozenset({"hidden"}), ranges=ranges)
    assert keep_within(graph, plan, rows[:-1], Precision.INT8)[1].integer == {"hidden"}
    assert keep_within(graph, plan, rows, Precision.INT8)[1].integer == frozenset()


def test_values_that_are_quantized_as_they_come_count():
    # The second value is lost in a row's 256 steps beside the first, and is all of z_mean.
    graph = Graph(
        input="x",
        input_shape=(2,),
        nodes=(dense("z_mean", "x", np.float32([[0.0], [1.0]])),),
        outputs={"z_mean": "z_mean"},
    )
    rows = np.tile(np.float32([255.0, 0.0]), (64, 1))
    rows[:, 1] = np.linspace(-0.4, 0.4, 64)
    plan = QuantizationPlan(weights={"z_mean": WeightMode.INT8})
    assert keep_within(graph, plan, rows, Precision.INT8) == (graph, plan)
    _, kept = keep_within(graph, plan, rows, Precision.INT8, on_the_fly=True)
    assert kept.weight_mode("z_mean") is WeightMode.FLOAT32


def test_latents_that_point_elsewhere_are_beyond_where_their_error_is_small_beside_the_span():
    # The rmse is 0.025 in a span of 3, which is a quarter of what z_log_var may have.
    wanted = np.full((1000, 4), 0.0, np.float32)
    wanted[0, 0], wanted[1:, 1] = 3.0, 0.05
    given = np.array(wanted)
    given[1:, 2] = 0.05
    # cos = (9 + 999 * 0.0025) / sqrt((9 + 999 * 0.0025) * (9 + 999 * 0.005))
    cosine = (11.4975 / 13.995) ** 0.5
    found = excess({"z_log_var": wanted}, {"z_log_var": given}, Precision.INT8)
    assert found == pytest.approx((1 - cosine) / 0.001 / 0.6, rel=1e-3)


def test_images_of_another_structure_are_beyond_where_every_pixel_is_close():
    wanted = np.zeros((2, 11, 11, 1), np.float32)
    wanted[1] = 1
    given = np.array(wanted)
    given[0] = 0.01
    # Of flat images SSIM compares the means alone: (2ab + c1) / (a^2 + b^2 + c1), c1 = 0.01^2.
    ssim = (0.0001 / (0.01**2 + 0.0001) + 1) / 2
    found = excess({"reconstruction": wanted}, {"reconstruction": given}, Precision.INT8)
    assert found == pytest.approx((1 - ssim) / 0.005 / 0.6, rel=1e-3)


def scored(latents: np.ndarray, images: np.ndarray, likelihood: Likelihood) -> Scored:
    preprocessing = replace(PLAIN_PICTURES, likelihood=likelihood)
    return Scored(latents=latents, images=images, preprocessing=preprocessing)


def test_a_shade_in_all_pixels_is_beyond_where_every_pixel_is_close():
    wanted = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(1, 100, 100, 1)
    beside = scored(np.zeros((1, 2), np.float32), wanted - np.float32(0.2), Likelihood.GAUSSIAN)
    outputs = {"reconstruction": wanted}, {"reconstruction": wanted + np.float32(1e-4)}
    # A loss of 200 nats grows by 10,000 * (0.2 * 1e-4 + 1e-8 / 2); the limit is 0.015.
    found = excess(*outputs, Precision.FLOAT16, scored=beside)
    assert found == pytest.approx(0.20005 / 0.015 / 0.6, rel=0.01)
    assert excess(*outputs, Precision.FLOAT16) < 1


def test_nats_of_probabilities_are_counted_in_shares_of_the_loss():
    even = np.full((1, 1000), 0.5, np.float32)
    beside = scored(np.zeros((1, 2), np.float32), np.ones_like(even), Likelihood.BERNOULLI)
    # Each pixel costs log 2 nats and then 0.001 more; what 230 nats may lose is 0.015.
    given = {"reconstruction": even * np.float32(np.exp(-0.001))}
    found = excess({"reconstruction": even}, given, Precision.FLOAT16, scored=beside)
    assert found == pytest.approx(1.0 / (0.015 * 1000 * np.log(2) / 230) / 0.6, rel=0.01)


def test_a_layer_that_costs_nats_goes_back():
    # float16 has no 1 + 2^-12; half of the values are 0.1 too bright, and become less so.
    kernel = np.zeros((1, 4096), np.float32)
    kernel[:, 2048:] = 1 + 2**-12
    graph = Graph(
        input="z",
        input_shape=(1,),
        nodes=(dense("image", "z", kernel),),
        outputs={"reconstruction": "image"},
    )
    rows = np.ones((64, 1), np.float32)
    beside = scored(
        rows[:16], kernel - np.float32(0.1) * np.ones((16, 1), np.float32), Likelihood.GAUSSIAN
    )
    plan = QuantizationPlan(weights={"image": WeightMode.FLOAT16})
    assert keep_within(graph, plan, rows, Precision.FLOAT16) == (graph, plan)
    _, kept = keep_within(graph, plan, rows, Precision.FLOAT16, scored=beside)
    assert kept.weight_mode("image") is WeightMode.FLOAT32


def test_the_model_is_what_counts_and_not_what_was_tuned_to_fit_the_plan():
    graph, plan, rows = case()
    off = {
        node.output: replace(node, op=replace(node.op, bias=np.full(40, 0.5, np.float32)))
        for node in graph.nodes
        if node.output == "last"
    }
    tuned = graph.with_nodes(off.get(node.output, node) for node in graph.nodes)
    plan = replace(plan, integer=frozenset({"even"}), weights={"last": WeightMode.INT8})
    assert keep_within(graph, plan, rows, Precision.INT8) == (graph, plan)
    found, kept = keep_within(graph, plan, rows, Precision.INT8, tuned=tuned)
    # Its bias goes back with it.
    assert found == graph
    assert kept.weight_mode("last") is WeightMode.FLOAT32
    assert kept.integer == {"even"}


def test_a_layer_that_went_back_for_nothing_is_narrow_again():
    # Shares of the limit, of weights that float16 rounds to 1: 0.81 of a; 0.77 each of b and c,
    # which add up. Of them all a costs most by itself, and by itself it is within.
    a, b = np.float32([[1 + 2**-11]]), np.float32([[1 + 0.95 * 2**-11]])
    graph = Graph(
        input="x",
        input_shape=(1,),
        nodes=(dense("a", "x", a), dense("b", "x", b), dense("c", "b", b)),
        outputs={"z_mean": "a", "reconstruction": "c"},
    )
    rows = np.tile(np.float32([[1.0], [-1.0]]), (32, 1))
    plan = QuantizationPlan(weights=dict.fromkeys("abc", WeightMode.FLOAT16))
    _, kept = keep_within(graph, plan, rows, Precision.FLOAT16)
    assert [kept.weight_mode(name) for name in "abc"] == [
        WeightMode.FLOAT16,
        WeightMode.FLOAT32,
        WeightMode.FLOAT16,
    ]


def test_parts_that_are_not_stored_narrow_are_one_again():
    # Beside a weight of 1000, on a value that is always 0, the others are nothing in 8 bits.
    kernel = RNG.uniform(1, 2, (3, 4)).astype(np.float32)
    kernel[0] = 1000
    parts = dense("parts", "x", kernel)
    total = dense("z_mean", "parts", np.float32([[1, 0], [0, 1], [1, 0], [0, 1]]))
    graph = Graph(input="x", input_shape=(3,), nodes=(parts, total), outputs={"z_mean": "z_mean"})
    rows = RNG.standard_normal((64, 3)).astype(np.float32)
    rows[:, 0] = 0
    plan = QuantizationPlan(weights={"parts": WeightMode.INT8})
    found, kept = keep_within(graph, plan, rows, Precision.INT8)
    (node,) = found.nodes
    assert (node.name, node.inputs, node.output) == ("z_mean", ("x",), "z_mean")
    np.testing.assert_allclose(node.op.kernel, kernel[:, :2] + kernel[:, 2:])
    assert kept.weight_mode("z_mean") is WeightMode.FLOAT32
    assert kept.notes == ("in one part again: z_mean",)


def test_what_only_moves_floats_is_float_again():
    # The layer that reads the moved values does not do in 8 bits; nothing else is an integer.
    kernel = RNG.uniform(1, 2, (6, 2)).astype(np.float32)
    nodes = (
        Node(name="square", op=Reshape(to=(2, 3)), inputs=("x",), output="square"),
        Node(name="turned", op=Transpose(order=(1, 0)), inputs=("square",), output="turned"),
        Node(name="flat", op=Reshape(to=(6,)), inputs=("turned",), output="flat"),
        dense("z_mean", "flat", kernel),
    )
    graph = Graph(input="x", input_shape=(6,), nodes=nodes, outputs={"z_mean": "z_mean"})
    rows = RNG.uniform(-1, 1, (64, 6)).astype(np.float32)
    names = ("x", "square", "turned", "flat", "z_mean")
    plan = QuantizationPlan(
        integer=frozenset(names[1:]),
        # Steps of 4 for values within 1.
        ranges={name: Range(low=-512.0, high=508.0) for name in names},
    )
    found, kept = keep_within(graph, plan, rows, Precision.INT8)
    assert found == graph
    assert kept.integer == frozenset()


def test_inputs_that_no_data_set_holds_are_judged_by_limits_of_their_own():
    # Within 1 all is well; 100 saturates at 1.27, an error of 0.99 in shares of the whole span.
    graph = Graph(
        input="x",
        input_shape=(2,),
        nodes=(
            dense("hidden", "x", np.eye(2, dtype=np.float32)),
            dense("z_mean", "hidden", np.eye(2, dtype=np.float32)),
        ),
        outputs={"z_mean": "z_mean"},
    )
    rows = RNG.uniform(-1, 1, (64, 2)).astype(np.float32)
    ranges = {name: Range(low=-1.28, high=1.27) for name in ("x", "hidden")}
    plan = QuantizationPlan(integer=frozenset({"hidden"}), ranges=ranges)
    near, far = np.float32([[1.2, -1.2]]), np.float32([[100.0, 100.0]])
    assert keep_within(graph, plan, rows, Precision.INT8, edges=near) == (graph, plan)
    assert keep_within(graph, plan, rows, Precision.INT8, edges=far)[1].integer == frozenset()
