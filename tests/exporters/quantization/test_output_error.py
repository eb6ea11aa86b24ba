"""The error that recipes make small, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exporters.quantization.output_error import OutputError

WANTED = {"a": np.array([1.0, 2.0], np.float32), "b": np.array([5.0], np.float32)}


def test_squares_are_a_mean_per_output_and_a_sum_over_them():
    outputs = {"a": np.array([2.0, 4.0], np.float32), "b": np.array([8.0], np.float32)}

    assert OutputError().against(WANTED)(outputs) == pytest.approx((1 + 4) / 2 + 9)


def test_equal_outputs_have_no_error():
    assert OutputError(probabilities="a").against({"a": WANTED["a"] / 4})(
        {"a": WANTED["a"] / 4}
    ) == pytest.approx(0, abs=1e-7)


def test_probabilities_cost_their_divergence_too():
    wanted, given = np.array([0.5, 0.25], np.float32), np.array([0.25, 0.5], np.float32)
    divergence = (
        0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75) + 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    ) / 2

    error = OutputError(probabilities="p", squares_per_nat=3.0).against({"p": wanted})

    assert error({"p": given}) == pytest.approx(0.0625 + 3 * divergence, rel=1e-5)


def test_a_saturated_probability_costs_a_finite_amount():
    error = OutputError(probabilities="p").against({"p": np.array([0.5], np.float32)})

    # -0.5 log(1e-7 / 0.5) and as much for the other outcome, which is all but certain.
    expected = 0.25 + 0.5 * math.log(0.5 / 1e-7) + 0.5 * math.log(0.5)
    assert error({"p": np.array([0.0], np.float32)}) == pytest.approx(expected, rel=1e-3)
