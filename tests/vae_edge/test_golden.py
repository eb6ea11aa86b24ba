from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from vae_edge.errors import BundleError
from vae_edge.golden import GoldenVectors, edge_latents, edge_levels, make_vectors
from vae_edge.preprocessing import PLAIN_PICTURES, Preprocessing, Scaling
from vae_edge.terms import DataKind, Likelihood


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


def vectors_of(images, preprocessing, seen=None):
    def encode(rows):
        zeros = np.zeros((len(rows), 2), np.float32)
        if seen is not None:
            seen.append(rows)
        return {"z_mean": zeros, "z_log_var": zeros}

    return make_vectors(
        encode,
        lambda z: {"reconstruction": np.zeros((len(z), *images.shape[1:]), np.float32)},
        images,
        None,
        preprocessing=preprocessing,
        latent_dim=2,
        prior=1,
        model_sha256="0" * 64,
        rng=np.random.default_rng(0),
    )


def test_pictures_are_kept_as_levels_and_given_as_the_model_takes_them():
    given = np.float32([0, 0.2, 1, 0.7 / 255]).reshape(1, 2, 2, 1)

    golden = vectors_of(given, PLAIN_PICTURES)
    images = golden.images(PLAIN_PICTURES)

    np.testing.assert_array_equal(golden.image.ravel(), np.uint8([0, 51, 255, 1]))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images.ravel(), np.float32([0, 0.2, 1, 1 / 255]))


def test_pictures_of_another_range_are_levels_too():
    range_ = Scaling.between(-1, 1)
    centred = replace(PLAIN_PICTURES, input=range_, output=range_, likelihood=Likelihood.GAUSSIAN)
    seen = []

    golden = vectors_of(np.float32([-1, 1, 0.6, -0.6]).reshape(1, 2, 2, 1), centred, seen)

    np.testing.assert_array_equal(golden.image.ravel(), np.uint8([0, 255, 204, 51]))
    np.testing.assert_allclose(seen[0].ravel(), [-1, 1, 0.6, -0.6], atol=1e-6)
    np.testing.assert_array_equal(golden.images(centred), seen[0])
    # Edge cases are black, white, ... in that range.
    assert (seen[1].min(), seen[1].max()) == (-1, 1)


def test_arrays_are_kept_as_they_are():
    windows = np.linspace(-3, 5, 24, dtype=np.float32).reshape(2, 6, 2)
    arrays = Preprocessing(
        kind=DataKind.ARRAY, input=None, output=None, likelihood=Likelihood.GAUSSIAN
    )

    golden = GoldenVectors.from_bytes(vectors_of(windows, arrays).to_bytes(), "golden.npz")

    np.testing.assert_array_equal(golden.images(arrays), windows)
    edges = golden.edge_images(arrays)
    assert (edges.shape[1:], edges.min(), edges.max()) == ((6, 2), -3, 5)


def poke(array, value):
    array = array.copy()
    array.flat[0] = value
    return array


@pytest.mark.parametrize(
    "damage",
    [
        lambda g: {"image": g.image.astype(np.float64)},
        lambda g: {"z_mean": g.z_mean.astype(np.float64)},
        lambda g: {"z_log_var": poke(g.z_log_var, np.nan)},
        lambda g: {"reconstruction": poke(g.reconstruction, np.inf)},
        lambda g: {"z_mean": g.z_mean.ravel()},
        lambda g: {"z_log_var": g.z_log_var[:, :1]},
        lambda g: {"image": g.image[:-1]},
        lambda g: {"z": g.z[:8], "reconstruction": g.reconstruction[:8]},  # no prior latents
        lambda g: {"model_sha256": "ab"},
        lambda g: {"labels": g.labels[:-1]},
        lambda g: {"labels": g.labels.astype(np.int64)},
        lambda g: {"epsilon": poke(g.epsilon, 9.0)},  # z holds the samples that it gives
        lambda g: {"epsilon": g.epsilon[:0]},
        lambda g: {"edge_image": g.edge_image[:-1]},
        lambda g: {"edge_z_mean": poke(g.edge_z_mean, np.nan)},
        lambda g: {"edge_z": g.edge_z[:-1]},
        lambda g: {"edge_reconstruction": g.edge_reconstruction[:, :2]},
        lambda g: {"z": g.z[:, :1]},
        lambda g: {"reconstruction": g.reconstruction[:-1]},
        lambda g: {"reconstruction": g.reconstruction[:, :2]},
        lambda g: {"z": poke(g.z, 0.125)},  # the first latents are z_mean
        lambda g: {
            "image": g.image[:0],
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
    z_mean, z_log_var = tiny.encode(golden.images(PLAIN_PICTURES))
    sampled = z_mean[:3] + np.sqrt(np.exp(z_log_var[:3].astype(np.float64))) * golden.epsilon

    assert (golden.z.shape, golden.epsilon.shape) == ((5 + 3 + 3, 2), (3, 2))
    np.testing.assert_array_equal(golden.z[:5], z_mean)
    np.testing.assert_allclose(golden.z[5:8], sampled, atol=1e-6)
    np.testing.assert_array_equal(golden.reconstruction, tiny.decode(golden.z))


def test_edge_cases_are_what_the_model_makes_of_them(golden, tiny):
    np.testing.assert_array_equal(
        golden.edge_z_mean, tiny.encode(golden.edge_images(PLAIN_PICTURES))[0]
    )
    np.testing.assert_array_equal(
        golden.edge_z_log_var, tiny.encode(golden.edge_images(PLAIN_PICTURES))[1]
    )
    np.testing.assert_array_equal(golden.edge_reconstruction, tiny.decode(golden.edge_z))


def test_edge_images_are_what_no_data_set_holds():
    zero, one, grey, dot, hole, noise, board, extremes = edge_levels((4, 5, 3)).astype(int)

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
