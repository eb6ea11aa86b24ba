"""The ELBO by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.quality import elbo_of


def test_elbo_of_two_pixels_worked_out_by_hand():
    image = np.array([[[[1.0], [0.0]]]], np.float32)
    probability = np.array([[[[0.8], [0.4]]]], np.float32)
    z_mean = np.array([[1.0, -2.0]], np.float32)
    z_log_var = np.array([[0.0, math.log(0.25)]], np.float32)
    result = elbo_of(image, probability, z_mean, z_log_var)
    assert result.reconstruction == pytest.approx(-math.log(0.8) - math.log(0.6), abs=1e-6)
    # 0.5 (1 + 1 - 1 - 0) + 0.5 (0.25 + 4 - 1 + ln 4)
    assert result.kl == pytest.approx(0.5 + 0.5 * (3.25 + math.log(4)), abs=1e-6)
    assert result.elbo == pytest.approx(-result.reconstruction - result.kl)


def test_saturated_pixel_stays_finite():
    ones, zeros = np.ones((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.float32)
    z = np.zeros((1, 2), np.float32)
    assert elbo_of(ones, zeros, z, z).reconstruction == pytest.approx(-math.log(1e-7), rel=1e-6)
    assert elbo_of(ones, ones, z, z).elbo == pytest.approx(0, abs=1e-6)


def test_figures_are_means_over_images():
    images = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1, 1)
    half = np.full((2, 1, 1, 1), 0.5, np.float32)
    z = np.array([[2.0], [0.0]], np.float32)
    result = elbo_of(images, half, z, np.zeros_like(z))
    assert result.reconstruction == pytest.approx(math.log(2))
    assert result.kl == pytest.approx(1.0)
