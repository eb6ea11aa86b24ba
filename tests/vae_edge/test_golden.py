from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vae_edge.errors import BundleError
from vae_edge.golden import GoldenVectors


@pytest.fixture
def golden(tiny):
    return tiny.golden()


def test_bytes_keep_every_value_and_type(golden):
    again = GoldenVectors.from_bytes(golden.to_bytes(), "golden.npz")

    for name in ("image_u8", "z_mean", "z_log_var", "z", "reconstruction"):
        before, after = getattr(golden, name), getattr(again, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def test_images_are_levels_over_255():
    images = GoldenVectors(
        image_u8=np.array([0, 51, 255, 1], np.uint8).reshape(1, 2, 2, 1),
        z_mean=np.zeros((1, 2), np.float32),
        z_log_var=np.zeros((1, 2), np.float32),
        z=np.zeros((2, 2), np.float32),
        reconstruction=np.zeros((2, 2, 2, 1), np.float32),
    ).images

    assert images.dtype == np.float32
    np.testing.assert_array_equal(images.ravel(), np.float32([0, 0.2, 1, 1 / 255]))


def poke(array, value):
    array = array.copy()
    array.flat[0] = value
    return array


@pytest.mark.parametrize(
    "damage",
    [
        lambda g: {"image_u8": g.image_u8.astype(np.float32)},
        lambda g: {"z_mean": g.z_mean.astype(np.float64)},
        lambda g: {"z_log_var": poke(g.z_log_var, np.nan)},
        lambda g: {"reconstruction": poke(g.reconstruction, np.inf)},
        lambda g: {"z_mean": g.z_mean.ravel()},
        lambda g: {"z_log_var": g.z_log_var[:, :1]},
        lambda g: {"image_u8": g.image_u8[:-1]},
        lambda g: {"z": g.z[:5], "reconstruction": g.reconstruction[:5]},  # no prior latents
        lambda g: {"z": g.z[:, :1]},
        lambda g: {"reconstruction": g.reconstruction[:-1]},
        lambda g: {"reconstruction": g.reconstruction[:, :2]},
        lambda g: {"z": poke(g.z, 0.125)},  # the first latents are z_mean
        lambda g: {
            "image_u8": g.image_u8[:0],
            "z_mean": g.z_mean[:0],
            "z_log_var": g.z_log_var[:0],
        },
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(golden, damage):
    with pytest.raises(BundleError, match="golden vectors do not fit together"):
        replace(golden, **damage(golden))


def test_from_bytes_passes_on_that_arrays_do_not_fit(golden):
    object.__setattr__(golden, "z", golden.z[::-1].copy())

    with pytest.raises(BundleError, match="golden vectors do not fit together"):
        GoldenVectors.from_bytes(golden.to_bytes(), "golden.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 40])
def test_from_bytes_refuses_what_is_no_archive(content):
    with pytest.raises(BundleError, match=r"dir/golden\.npz: not a file of golden vectors"):
        GoldenVectors.from_bytes(content, "dir/golden.npz")
