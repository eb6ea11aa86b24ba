from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from vae_edge.errors import BundleError
from vae_edge.golden import GoldenVectors, edge_images, edge_latents, make_vectors


@pytest.fixture
def golden(tiny):
    return tiny.golden()


def test_bytes_keep_every_value_and_type(golden):
    again = GoldenVectors.from_bytes(golden.to_bytes(), "golden.npz")

    assert again.model_sha256 == golden.model_sha256
    names = [field.name for field in fields(golden) if field.name != "model_sha256"]
    assert len(names) == 12
    for name in names:
        before, after = getattr(golden, name), getattr(again, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def test_images_are_levels_over_255():
    levels = np.array([0, 51, 255, 1], np.uint8).reshape(1, 2, 2, 1)

    def encode(images):
        zeros = np.zeros((len(images), 2), np.float32)
        return {"z_mean": zeros, "z_log_var": zeros}

    images = make_vectors(
        encode,
        lambda z: {"reconstruction": np.zeros((len(z), 2, 2, 1), np.float32)},
        levels,
        None,
        latent_dim=2,
        prior=1,
        model_sha256="0" * 64,
        rng=np.random.default_rng(0),
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
        lambda g: {"z": g.z[:8], "reconstruction": g.reconstruction[:8]},  # no prior latents
        lambda g: {"model_sha256": "ab"},
        lambda g: {"labels": g.labels[:-1]},
        lambda g: {"labels": g.labels.astype(np.int64)},
        lambda g: {"epsilon": poke(g.epsilon, 9.0)},  # z holds the samples that it gives
        lambda g: {"epsilon": g.epsilon[:0]},
        lambda g: {"edge_image_u8": g.edge_image_u8[:-1]},
        lambda g: {"edge_z_mean": poke(g.edge_z_mean, np.nan)},
        lambda g: {"edge_z": g.edge_z[:-1]},
        lambda g: {"edge_reconstruction": g.edge_reconstruction[:, :2]},
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


def test_latents_are_the_means_then_posterior_samples_then_the_prior(golden, tiny):
    z_mean, z_log_var = tiny.encode(golden.images)
    sampled = z_mean[:3] + np.sqrt(np.exp(z_log_var[:3].astype(np.float64))) * golden.epsilon

    assert (golden.z.shape, golden.epsilon.shape) == ((5 + 3 + 3, 2), (3, 2))
    np.testing.assert_array_equal(golden.z[:5], z_mean)
    np.testing.assert_allclose(golden.z[5:8], sampled, atol=1e-6)
    np.testing.assert_array_equal(golden.reconstruction, tiny.decode(golden.z))


def test_edge_cases_are_what_the_model_makes_of_them(golden, tiny):
    np.testing.assert_array_equal(golden.edge_z_mean, tiny.encode(golden.edge_images)[0])
    np.testing.assert_array_equal(golden.edge_z_log_var, tiny.encode(golden.edge_images)[1])
    np.testing.assert_array_equal(golden.edge_reconstruction, tiny.decode(golden.edge_z))


def test_edge_images_are_what_no_data_set_holds():
    zero, one, grey, dot, hole, noise, board, extremes = edge_images((4, 5, 3)).astype(int)

    assert (zero.max(), one.min(), set(grey.ravel())) == (0, 255, {127})
    assert (dot.sum(), (255 - hole).sum()) == (3 * 255, 3 * 255)
    assert len(set(noise.ravel())) > 40
    assert [board[0, 0, 0], board[0, 1, 0], board[1, 0, 2], board[1, 1, 1]] == [0, 255, 255, 0]
    assert set(extremes.ravel()) == {0, 255}


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_edge_latents_reach_from_the_origin_to_far_outside(latent_dim):
    z = edge_latents(latent_dim)

    assert z.shape == (8, latent_dim)
    assert z.dtype == np.float32
    np.testing.assert_array_equal(z[0], 0)
    np.testing.assert_array_equal(np.abs(z[1:3]), 3)
    assert np.abs(z).max() == 30


def test_samples_may_differ_in_their_last_bits(golden):
    """As they do between processors, whose exponentials round differently."""
    z = golden.z.copy()
    z[5:8] = np.nextafter(z[5:8], np.float32(9))

    assert replace(golden, z=z).z is z
