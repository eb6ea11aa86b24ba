"""Scales, zero points and stored weights, worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.quantization.plan import (
    FLOAT_PLAN,
    QuantizationPlan,
    QuantizedWeights,
    Range,
    WeightMode,
    fit_pairs,
    quantize_weights,
)
from vae_edge.errors import ExportError


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 255.0, 1.0, 0),
        (-255.0, 0.0, 1.0, 255),
        (-1.0, 1.55, 0.01, 100),
        (-128.0, 127.0, 1.0, 128),
        (0.0, 1.0, 1 / 255, 0),
        # 0.4 steps below 0 are nearest to step 0, half of one to the even step.
        (-0.4, 254.6, 1.0, 0),
        (-0.5, 254.5, 1.0, 0),
        (-1.5, 253.5, 1.0, 2),
    ],
)
def test_scale_and_zero_point_of_a_range(low, high, scale, zero_point):
    range_ = Range(low=low, high=high)
    assert range_.scale == np.float32(scale)
    assert range_.zero_point == zero_point


def test_an_empty_range_has_steps_of_one():
    assert (Range(low=0.0, high=0.0).scale, Range(low=0.0, high=0.0).zero_point) == (1.0, 0)


@given(low=st.floats(-1e6, 0, allow_subnormal=False), high=st.floats(0, 1e6, allow_subnormal=False))
def test_the_steps_reach_both_ends_and_hold_zero(low, high):
    range_ = Range(low=low, high=high)
    assert 0 <= range_.zero_point <= 255
    if range_.scale == 1.0:
        return
    steps = (np.arange(256) - range_.zero_point) * range_.scale
    assert 0.0 in steps
    # Where 0 is rounded to a step, the ends move by half a step at most.
    half = range_.scale * 0.5001
    assert abs(steps[0] - low) <= half
    assert abs(steps[-1] - high) <= half


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.1, 1.0), (-1.0, -0.1), (1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))],
)
def test_a_range_that_is_not_finite_or_does_not_hold_zero_is_refused(low, high):
    with pytest.raises(ExportError, match="a range must be finite and hold 0; received Range"):
        Range(low=low, high=high)


def test_ranges_are_scaled_and_joined():
    range_ = Range(low=-1.0, high=2.0)
    assert range_.scaled(0.5) == Range(low=-0.5, high=1.0)
    assert range_.joined(Range(low=-3.0, high=1.0)) == Range(low=-3.0, high=2.0)


def test_weights_have_a_scale_per_output_channel():
    kernel = np.float32([[1.27, -5.0, 0.0], [-0.635, 12.7, 0.0]])
    weights = quantize_weights(kernel)
    np.testing.assert_allclose(weights.scales, [0.01, 0.1, 1 / 127], rtol=1e-6)
    # -0.635 / 0.01 = -63.5, a tie in real numbers.
    assert weights.stored.tolist() in (
        [[127, -50, 0], [-64, 127, 0]],
        [[127, -50, 0], [-63, 127, 0]],
    )
    assert weights.stored.dtype == np.int8
    assert weights.scales.dtype == np.float32


def test_a_channel_of_zeros_is_stored_as_zeros():
    weights = quantize_weights(np.zeros((2, 2, 3, 4), np.float32))
    assert not weights.stored.any()
    assert np.all(weights.scales > 0)
    np.testing.assert_array_equal(weights.real(), 0)


def test_one_scale_for_all_is_that_of_the_largest():
    weights = quantize_weights(np.float32([[1.27, -2.54], [0.02, 0.04]]), per_channel=False)
    np.testing.assert_allclose(weights.scales, [0.02], rtol=1e-6)
    assert weights.stored.tolist() == [[64, -127], [1, 2]]


def test_weights_by_hand_are_given_back_in_real_numbers():
    weights = QuantizedWeights(stored=np.int8([[1, -2], [3, 127]]), scales=np.float32([0.5, 2]))
    np.testing.assert_array_equal(weights.real(), [[0.5, -4], [1.5, 254]])
    assert weights.real().dtype == np.float32


@given(seed=st.integers(0, 999), per_channel=st.booleans())
def test_weights_err_by_half_a_step_and_never_saturate(seed, per_channel):
    kernel = np.random.default_rng(seed).standard_normal((3, 2, 4, 5), np.float32)
    weights = quantize_weights(kernel, per_channel=per_channel)
    assert np.all(np.abs(weights.real() - kernel) <= weights.scales * 0.50001)
    assert np.abs(weights.stored.astype(int)).max() == 127


def test_a_plan_says_how_weights_are_stored():
    plan = QuantizationPlan(weights={"a": WeightMode.FLOAT16})
    assert plan.weight_mode("a") is WeightMode.FLOAT16
    assert plan.weight_mode("b") is WeightMode.FLOAT32
    assert QuantizationPlan() == FLOAT_PLAN


def test_a_plan_gives_chosen_weights_or_rounds_them():
    kernel = np.float32([[1, 2], [3, 4]])
    chosen = QuantizedWeights(stored=np.int8([[1, 2], [3, 4]]), scales=np.float32([1, 1]))
    plan = QuantizationPlan(stored={"a": chosen}, per_tensor=frozenset("b"))
    assert plan.int8_weights("a", kernel) is chosen
    assert len(plan.int8_weights("b", kernel).scales) == 1
    assert len(plan.int8_weights("c", kernel).scales) == 2


def neighbours(stored):
    """Every two weights that a runtime may multiply and add in 16 bits."""
    for order in ((0, 1, 2, 3), (2, 0, 1, 3)):
        matrix = stored.astype(int).transpose(order).reshape(-1, stored.shape[-1])
        yield from itertools.pairwise(matrix)


def fits_16_bits(stored):
    """Whether no two products of any unsigned bytes can overflow: 255 or 0 times each."""
    return all(
        np.abs(x * a + y * b).max() <= np.iinfo(np.int16).max
        for a, b in neighbours(stored)
        for x in (0, 255)
        for y in (0, 255)
    )


def kernels(seed, spread):
    drawn = np.random.default_rng(seed).standard_t(spread, (3, 2, 4, 5))
    return drawn.astype(np.float32)


@given(seed=st.integers(0, 999), per_channel=st.booleans(), spread=st.sampled_from([1, 3, 30]))
def test_weights_beside_unsigned_integers_cannot_overflow_16_bits(seed, per_channel, spread):
    kernel = kernels(seed, spread)
    weights = quantize_weights(kernel, per_channel=per_channel, paired=True)
    plain = quantize_weights(kernel, per_channel=per_channel)
    assert fits_16_bits(weights.stored)
    # A step is at most twice what it was, and a weight off by half of one, or by one where it gave
    # way.
    assert np.all(weights.scales <= plain.scales * 2 * 127 / 128 * 1.0001)
    assert np.all(np.abs(weights.real() - kernel) <= weights.scales * 1.00001)


def test_equal_weights_take_half_of_the_steps():
    weights = quantize_weights(np.ones((6, 2), np.float32), paired=True)
    np.testing.assert_array_equal(weights.stored, np.full((6, 2), 64))


def test_a_lone_weight_keeps_them_all():
    kernel = np.float32([[1], [0.001], [-0.5], [-0.25]])
    weights = quantize_weights(kernel, paired=True)
    np.testing.assert_array_equal(weights.stored.ravel(), [127, 0, -64, -32])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([100, 29], [99, 29]),
        ([29, 100], [29, 99]),
        ([-70, -63], [-67, -61]),
        ([127, 127], [64, 64]),
        ([127, -127], [127, -127]),
        ([127, 1, 127], [127, 1, 127]),
        ([127, 2, 127], [126, 2, 126]),
    ],
)
def test_neighbours_give_way(before, after):
    given = np.int8(before)[:, np.newaxis]
    np.testing.assert_array_equal(fit_pairs(given).ravel(), after)


@given(seed=st.integers(0, 999), spread=st.sampled_from([1, 3, 30]))
def test_weights_that_were_rounded_twice_stay_as_they_are(seed, spread):
    once = quantize_weights(kernels(seed, spread), paired=True).real()
    twice = quantize_weights(once, paired=True)
    again = quantize_weights(twice.real(), paired=True)
    np.testing.assert_array_equal(again.stored, twice.stored)
    np.testing.assert_allclose(again.scales, twice.scales, rtol=1e-6)


@pytest.mark.parametrize("paired", [True, False])
def test_only_what_multiplies_integers_is_held_back(paired):
    kernel = np.ones((6, 2), np.float32)
    plan = QuantizationPlan(integer=frozenset({"a"}), paired=paired)
    assert plan.int8_weights("a", kernel).stored.max() == (64 if paired else 127)
    assert plan.int8_weights("b", kernel).stored.max() == 127


@pytest.mark.host
def test_onnx_runtime_computes_such_weights_exactly_on_this_processor():
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    kernel = np.abs(rng.standard_normal((512, 16))).astype(np.float32)
    stored = quantize_weights(kernel, paired=True).stored
    rows = np.concatenate([np.full((1, 512), 255), rng.integers(0, 256, (8, 512))]).astype(np.uint8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, rows.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (9, 16))],
        [numpy_helper.from_array(stored, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    (made,) = session.run(None, {"x": rows})

    np.testing.assert_array_equal(made, rows.astype(np.int64) @ stored.astype(np.int64))
