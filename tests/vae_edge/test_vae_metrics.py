"""The model's own units, against scipy's distributions and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vae_edge.vae_metrics import (
    VAE_METRICS,
    Posterior,
    kl_between,
    kl_to_prior,
    mean_shift_sigmas,
    neighbour_agreement,
    reconstruction_loss,
)


def posterior(mean, log_var):
    return Posterior(z_mean=np.float32(mean), z_log_var=np.float32(log_var))


def test_a_shift_is_counted_in_the_references_sigmas():
    reference = posterior([[1.0, 2.0]], np.log([[4.0, 0.25]]))
    candidate = posterior([[2.0, 1.75]], [[9.0, 9.0]])

    # 1 / 2 and 0.25 / 0.5; the candidate's own variance takes no part.
    np.testing.assert_allclose(mean_shift_sigmas(reference, candidate), [[0.5, 0.5]], rtol=1e-6)


def numeric_kl(m1, v1, m2, v2) -> float:
    """The integral of p log(p / q), from scipy's densities."""
    from scipy.integrate import quad
    from scipy.stats import norm

    p, q = norm(m1, np.sqrt(v1)), norm(m2, np.sqrt(v2))
    reach = 12 * np.sqrt(v1)
    return quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), m1 - reach, m1 + reach)[0]


@pytest.mark.parametrize(
    ("m1", "v1", "m2", "v2"), [(0, 1, 1, 1), (0.5, 0.3, 0.4, 0.5), (2, 4, -1, 0.7)]
)
def test_kl_between_posteriors_is_the_integral(m1, v1, m2, v2):
    reference, candidate = posterior([[m1]], [[np.log(v1)]]), posterior([[m2]], [[np.log(v2)]])

    found = kl_between(reference, candidate)

    assert found.shape == (1,)
    assert found[0] == pytest.approx(numeric_kl(m1, v1, m2, v2), rel=1e-5)
    # The other way round is another number, unless the variances are equal.
    if v1 != v2:
        assert kl_between(candidate, reference)[0] != pytest.approx(found[0], rel=0.01)


def test_kl_adds_over_latents_and_stands_apart_for_images():
    reference = posterior([[0.0, 0.5], [2.0, 2.0]], np.log([[1.0, 0.3], [1.0, 1.0]]))
    candidate = posterior([[1.0, 0.4], [2.0, 2.0]], np.log([[1.0, 0.5], [1.0, 1.0]]))

    expected = numeric_kl(0, 1, 1, 1) + numeric_kl(0.5, 0.3, 0.4, 0.5)
    np.testing.assert_allclose(kl_between(reference, candidate), [expected, 0], atol=1e-6)


def test_kl_of_nearly_equal_posteriors_keeps_its_digits():
    """0.5 * (1e-5)^2 / v, which a difference of exponentials would lose in rounding."""
    reference = Posterior(z_mean=np.zeros((1, 1)), z_log_var=np.full((1, 1), -3.0))
    candidate = Posterior(z_mean=np.full((1, 1), 1e-5), z_log_var=np.full((1, 1), -3.0))

    assert kl_between(reference, candidate)[0] == pytest.approx(0.5e-10 * np.exp(3), rel=1e-9)


def test_kl_to_the_prior_is_that_to_a_standard_normal():
    found = kl_to_prior(posterior([[0.5, -1.0]], np.log([[0.3, 2.0]])))

    assert found[0] == pytest.approx(numeric_kl(0.5, 0.3, 0, 1) + numeric_kl(-1, 2, 0, 1), rel=1e-5)


def test_binary_loss_is_the_bernoulli_log_likelihood():
    from scipy.stats import bernoulli

    images = np.float32([[[[1], [0]]], [[[1], [1]]]])
    given = np.float32([[[[0.9], [0.2]]], [[[0.5], [0.25]]]])

    expected = -bernoulli.logpmf(images[..., 0].astype(int), given[..., 0].astype(float))
    np.testing.assert_allclose(
        reconstruction_loss(images, given, binary=True),
        expected.reshape(2, -1).sum(axis=1),
        rtol=1e-6,
    )


def test_a_saturated_pixel_costs_a_finite_amount():
    one, zero = np.ones((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.float32)

    assert reconstruction_loss(one, zero, binary=True)[0] == pytest.approx(-np.log(1e-7))
    assert reconstruction_loss(one, one, binary=True)[0] == pytest.approx(0, abs=1e-6)


def test_other_images_are_judged_by_unit_gaussians():
    images, given = np.float32([[[[1], [-3]]]]), np.float32([[[[2], [1]]]])

    assert reconstruction_loss(images, given, binary=False)[0] == pytest.approx((1 + 16) / 2)


def test_neighbours_agree_where_the_nearest_keeps_its_class():
    latents = np.float32([[0, 0], [1, 0], [5, 0], [6.5, 0]])
    labels = np.int16([0, 0, 1, 0])
    # The second moves from beside the first to beside the third.
    moved = latents.copy()
    moved[1] = 5.5, 0

    # Nearest before: 1, 0, 3, 2. After: 2 (class 1, was 0), 2 (class 1, was 0), 1 (0, was 0),
    # 1 (class 0, was 1).
    assert neighbour_agreement(latents, latents, labels) == 1.0
    assert neighbour_agreement(latents, moved, labels) == 0.25


def test_every_figure_is_explained():
    assert len(VAE_METRICS) == 8
    assert all(metric.meaning and metric.function is None for metric in VAE_METRICS.values())
