"""Every figure here was worked out by hand, and each has a near miss."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vae_edge.errors import ParityError
from vae_edge.metrics import (
    METRICS,
    check_comparable,
    cosine_similarity,
    max_abs_error,
    mean_abs_error,
    psnr_db,
    rmse,
    sqnr_db,
    ssim,
)


def f32(*values):
    return np.array(values, np.float32)


def test_max_abs_error_is_the_largest_difference_of_either_sign():
    assert max_abs_error(f32(1, 2, 3), f32(1.25, 1.5, 3)) == 0.5
    assert max_abs_error(f32(1, 2, 3), f32(1.75, 1.5, 3)) == 0.75


def test_max_abs_error_is_in_units_of_the_peak():
    assert max_abs_error(f32(0, 4), f32(0, 5), 4.0) == 0.25


def test_rmse_is_the_root_of_the_mean_square():
    # differences 3, 4, 0, 0: sqrt(25 / 4)
    assert rmse(f32(0, 0, 0, 0), f32(3, -4, 0, 0)) == 2.5
    assert rmse(f32(0, 0, 0, 0), f32(3, -4, 1, 0)) != 2.5


def test_rmse_is_in_units_of_the_peak():
    assert rmse(f32(0, 0, 0, 0), f32(3, 4, 0, 0), 5.0) == 0.5


def test_rmse_sums_in_float64():
    reference = np.zeros(1 << 22, np.float32)

    assert rmse(reference, reference + np.float32(0.001)) == pytest.approx(0.001, rel=1e-6)


def test_difference_of_large_values_is_taken_in_float64():
    # In float32, 3e38 - -3e38 is infinite.
    assert max_abs_error(f32(-3e38), f32(3e38)) == pytest.approx(6e38)


def test_cosine_similarity_of_known_angles():
    assert cosine_similarity(f32(1, 0), f32(0, 1)) == 0
    assert cosine_similarity(f32(1, 1), f32(1, 0)) == pytest.approx(math.sqrt(0.5), abs=1e-15)
    assert cosine_similarity(f32(3, 4), f32(4, 3)) == pytest.approx(24 / 25, abs=1e-15)
    assert cosine_similarity(f32(3, 4), f32(-3, -4)) == -1


def test_cosine_similarity_ignores_length_and_shape():
    one = f32(1, 2, 3, 4).reshape(2, 2)

    assert cosine_similarity(one, 7 * one) == pytest.approx(1, abs=1e-15)


def test_cosine_similarity_never_exceeds_one():
    values = np.random.default_rng(0).normal(size=(100, 50)).astype(np.float32)

    assert all(abs(cosine_similarity(v, s * v)) <= 1 for v in values for s in (1, -1))


def test_cosine_similarity_of_zeros():
    assert cosine_similarity(f32(0, 0), f32(0, 0)) == 1
    assert cosine_similarity(f32(0, 0), f32(0, 1e-30)) == 0
    assert cosine_similarity(f32(1, 0), f32(0, 0)) == 0


def test_psnr_of_known_errors():
    # rmse 0.01 of a peak of 1: 40 dB; of a peak of 10: 60 dB
    assert psnr_db(f32(0, 0), f32(0.01, -0.01)) == pytest.approx(40, abs=1e-6)
    assert psnr_db(f32(0, 0), f32(0.01, -0.01), 10.0) == pytest.approx(60, abs=1e-6)
    assert psnr_db(f32(0, 0), f32(0.005, 0.005)) == pytest.approx(40 + 6.0206, abs=1e-4)


def test_psnr_of_identical_values_is_infinite():
    assert psnr_db(f32(1, 2), f32(1, 2)) == math.inf


def test_every_metric_is_registered_under_its_functions_name():
    assert {name: metric.function.__name__ for name, metric in METRICS.items()} == {
        name: name
        for name in (
            "max_abs_error",
            "mean_abs_error",
            "rmse",
            "cosine_similarity",
            "sqnr_db",
            "psnr_db",
        )
    }


@pytest.mark.parametrize(
    ("name", "inside", "limit", "outside"),
    [
        ("max_abs_error", 0.09, 0.1, 0.11),
        ("rmse", 0.09, 0.1, 0.11),
        ("cosine_similarity", 0.99, 0.98, 0.97),
        ("psnr_db", math.inf, 34.0, 33.9),
    ],
)
def test_metric_passes_up_to_its_limit_and_not_beyond(name, inside, limit, outside):
    metric = METRICS[name]

    assert metric.passes(inside, limit)
    assert metric.passes(limit, limit)
    assert not metric.passes(outside, limit)
    assert not metric.passes(math.nan, limit)


def test_comparable_arrays_pass():
    check_comparable(f32(1, 2), f32(3, 4), "x")


def test_shapes_must_agree():
    with pytest.raises(
        ParityError, match=r"dec: the candidate's shape is \(1, 3\); expected \(3,\)"
    ):
        check_comparable(f32(1, 2, 3), f32(1, 2, 3).reshape(1, 3), "dec")


def test_nothing_cannot_be_compared():
    with pytest.raises(ParityError, match="dec: there is nothing to compare"):
        check_comparable(f32(), f32(), "dec")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_counted_and_located(bad):
    sound = np.zeros((2, 3), np.float32)
    broken = sound.copy()
    broken[1, 2] = broken[1, 1] = bad

    with pytest.raises(
        ParityError, match=r"2 of 6 candidate values are not finite \(first at \[1, 1\]\)"
    ):
        check_comparable(sound, broken, "dec")
    with pytest.raises(ParityError, match="2 of 6 reference values are not finite"):
        check_comparable(broken, sound, "dec")


def test_mean_abs_error_is_the_average_in_units_of_the_peak():
    assert mean_abs_error(f32(0, 0, 0, 0), f32(3, -4, 1, 0), 2.0) == 1.0
    assert mean_abs_error(f32(0, 0, 0, 0), f32(3, -4, 1, 1), 2.0) != 1.0


def test_sqnr_of_known_noise():
    # Signal 3^2 + 4^2 = 25, noise 0.25: 100, which is 20 dB.
    assert sqnr_db(f32(3, 4), f32(3.5, 4)) == pytest.approx(20, abs=1e-12)
    assert sqnr_db(f32(3, 4), f32(4, 4)) == pytest.approx(20 - 10 * math.log10(4), abs=1e-12)
    assert sqnr_db(f32(3, 4), f32(3, 4)) == math.inf
    assert sqnr_db(f32(0, 0), f32(0, 1)) == -math.inf


@pytest.mark.parametrize(("shape", "peak"), [((2, 28, 28, 1), 1.0), ((2, 17, 23, 3), 2.5)])
def test_ssim_is_that_of_an_independent_library(shape, peak):
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(4)
    reference = (peak * rng.random(shape)).astype(np.float32)
    candidate = (reference + 0.1 * peak * rng.standard_normal(shape)).astype(np.float32)
    expected = np.mean(
        [
            structural_similarity(
                a.astype(np.float64),
                b.astype(np.float64),
                data_range=peak,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                channel_axis=-1,
            )
            for a, b in zip(reference, candidate, strict=True)
        ]
    )

    assert ssim(reference, candidate, peak) == pytest.approx(expected, abs=1e-9)
    assert ssim(reference, candidate + np.float32(0.02), peak) != pytest.approx(expected, abs=1e-5)


def test_ssim_of_an_image_with_itself_is_one_at_any_size():
    rng = np.random.default_rng(5)
    for shape in ((1, 28, 28, 1), (1, 4, 4, 1), (1, 1, 6, 2)):
        image = rng.random(shape).astype(np.float32)
        assert ssim(image, image) == pytest.approx(1, abs=1e-12)
        assert ssim(image, 1 - image) < 0.9


@pytest.mark.parametrize(
    ("name", "value", "limit", "margin", "tightest"),
    [
        ("rmse", 0.0123, 0.0246, 2.0, 0.013),
        ("rmse", 0.02, 0.01, 0.5, 0.02),
        ("rmse", 0.0, 0.01, None, 0.0),
        ("psnr_db", 46.07, 40.05, 1.99986, 46.0),
        ("psnr_db", 34.0, 40.0, 0.50119, 34.0),
        ("cosine_similarity", 0.99, 0.98, 2.0, 0.99),
        ("cosine_similarity", 0.9876, 0.98, 1.6129, 0.987),
    ],
)
def test_margins_and_the_tightest_limit(name, value, limit, margin, tightest):
    metric = METRICS[name]

    found = metric.margin(value, limit)
    assert found == (None if margin is None else pytest.approx(margin, rel=1e-3))
    assert metric.tightest(value) == pytest.approx(tightest, abs=1e-12)
    assert metric.passes(value, metric.tightest(value))
    assert metric.passes(value, limit) == (margin is None or margin >= 1)


def test_an_infinite_ratio_has_no_margin_to_speak_of():
    assert METRICS["psnr_db"].margin(math.inf, 40.0) is None
    assert METRICS["sqnr_db"].margin(-math.inf, 40.0) == 0
