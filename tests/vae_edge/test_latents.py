from __future__ import annotations

import math

import numpy as np
import pytest

from vae_edge.errors import ArtifactError
from vae_edge.latents import interpolate_latents, manifold_latents


def test_linear_way_has_equal_steps_and_both_ends():
    z = interpolate_latents([0, 4], [2, -4], 5)

    assert z.dtype == np.float32
    np.testing.assert_allclose(z, [[0, 4], [0.5, 2], [1, 0], [1.5, -2], [2, -4]])


def test_slerp_turns_by_equal_angles():
    """From 0 to 90 degrees in thirds: 30 and 60 degrees, on the unit circle."""
    z = interpolate_latents([1, 0], [0, 1], 4, method="slerp")

    half = math.sqrt(3) / 2
    np.testing.assert_allclose(z, [[1, 0], [half, 0.5], [0.5, half], [0, 1]], atol=1e-7)


def test_slerp_weighs_latents_of_different_lengths_as_white_does():
    """Halfway over 60 degrees both weights are sin(30) / sin(60) = 1 / sqrt(3)."""
    a, b = np.array([2.0, 0]), np.array([0.5, math.sqrt(3) / 2])

    z = interpolate_latents(a, b, 3, method="slerp")

    np.testing.assert_allclose(z[1], (a + b) / math.sqrt(3), rtol=1e-6)
    assert not np.allclose(z[1], (a + b) / 2, atol=0.05)


def test_slerp_of_one_direction_is_linear():
    z = interpolate_latents([1, 1], [3, 3], 3, method="slerp")

    np.testing.assert_allclose(z, [[1, 1], [2, 2], [3, 3]], rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ([0, 0], [1, 0], "one is 0"),
        ([1, 2], [-2, -4], "opposite directions"),
    ],
)
def test_slerp_without_one_way_is_refused(start, end, message):
    with pytest.raises(ArtifactError, match=rf"{message}.*Choose linear"):
        interpolate_latents(start, end, 3, method="slerp")


@pytest.mark.parametrize(
    ("start", "end", "steps", "method", "message"),
    [
        ([0], [1], 1, "linear", "steps must be 2 or more"),
        ([0], [1], 3, "cubic", "unknown interpolation 'cubic'"),
        ([0], [1, 2], 3, "linear", r"received \(1,\) and \(2,\)"),
        ([[0]], [[1]], 3, "linear", r"received \(1, 1\)"),
        ([0], [math.nan], 3, "linear", "not finite"),
    ],
)
def test_what_cannot_be_interpolated_is_refused(start, end, steps, method, message):
    with pytest.raises(ArtifactError, match=message):
        interpolate_latents(start, end, steps, method=method)


def test_grid_stands_at_the_quantiles_of_the_prior_and_runs_upwards():
    z = manifold_latents(3, 2)

    q = 0.967422  # Phi^-1(5/6), from a table
    expected = [(-q, q), (0, q), (q, q), (-q, 0), (0, 0), (q, 0), (-q, -q), (0, -q), (q, -q)]
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, expected, atol=1e-5)


def test_span_is_the_outermost_line_and_those_between_are_of_equal_probability():
    lines = manifold_latents(5, 2, span=2)[:5, 0]

    np.testing.assert_allclose(lines, -lines[::-1], atol=1e-7)
    np.testing.assert_allclose(lines[[0, 2, 4]], [-2, 0, 2])
    cdf = [0.5 * (1 + math.erf(line / math.sqrt(2))) for line in lines.astype(float)]
    np.testing.assert_allclose(np.diff(cdf), (cdf[-1] - cdf[0]) / 4, rtol=1e-6)


def test_widest_span_and_even_counts_work():
    lines = manifold_latents(4, 2, span=6)[:4, 0]

    np.testing.assert_allclose(lines[[0, -1]], [-6, 6])
    np.testing.assert_allclose(lines[[1, 2]], [-0.430727, 0.430727], atol=1e-5)  # Phi^-1(1/3)
    np.testing.assert_array_equal(manifold_latents(1, 2), [[0, 0]])


def test_chosen_axes_move_and_the_others_are_zero():
    z = manifold_latents(2, 4, axes=(3, 1))

    q = 0.6744898  # Phi^-1(3/4)
    np.testing.assert_allclose(z[:, [3, 1]], [(-q, q), (q, q), (-q, -q), (q, -q)], atol=1e-6)
    assert not z[:, [0, 2]].any()


@pytest.mark.parametrize(
    ("steps", "latent_dim", "options", "message"),
    [
        (3, 4, {}, r"has 4 latents, and a manifold shows two.*--axes 0,1"),
        (3, 1, {}, "needs two latents; this model has 1"),
        (3, 4, {"axes": (0, 4)}, "two different latents of 0 to 3; received 0,4"),
        (3, 4, {"axes": (-1, 0)}, "received -1,0"),
        (3, 4, {"axes": (2, 2)}, "received 2,2"),
        (0, 2, {}, "steps must be 1 or more; received 0"),
        (1, 2, {"span": 2}, "steps must be 2 or more; received 1"),
        (3, 2, {"span": 0}, "span must be over 0 and at most 6; received 0"),
        (3, 2, {"span": 6.5}, "received 6.5"),
        (3, 2, {"span": math.nan}, "received nan"),
    ],
)
def test_grid_that_cannot_be_is_refused(steps, latent_dim, options, message):
    with pytest.raises(ArtifactError, match=message):
        manifold_latents(steps, latent_dim, **options)
