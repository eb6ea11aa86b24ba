from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

from vae_edge import EdgeVAE
from vae_edge.errors import ArtifactError, BundleError
from vae_edge.latents import manifold_latents
from vae_edge.runners.batching import regroup


@pytest.fixture
def make_vae(fake_runner):
    """`make(batch)` gives a VAE on runners that remember what they were fed."""

    def make(batch=None):
        halves = {half: fake_runner(half, batch=batch) for half in ("encoder", "decoder")}
        return EdgeVAE(latent_dim=2, image_shape=(4, 4, 1), **halves)

    return make


def latents(count):
    return np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)


@pytest.mark.parametrize("batch", [None, 1, 5, 48])
def test_stream_gives_what_one_call_gives(make_vae, tiny, batch):
    vae, z = make_vae(batch), latents(75)

    images = np.concatenate(list(vae.decode_stream(z)))
    posteriors = list(vae.encode_stream(images))

    np.testing.assert_allclose(images, tiny.decode(z), atol=1e-6)
    z_mean, z_log_var = (np.concatenate(parts) for parts in zip(*posteriors, strict=True))
    np.testing.assert_allclose(z_mean, tiny.encode(images)[0], atol=1e-5)
    np.testing.assert_allclose(z_log_var, tiny.encode(images)[1], atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [(None, [32, 32, 11]), (1, [32, 32, 11]), (5, [30, 30, 15]), (48, [48, 27])],
)
def test_chunks_are_of_32_rows_or_of_whole_batches(make_vae, batch, sizes):
    vae = make_vae(batch)

    assert [len(chunk) for chunk in vae.decode_stream(latents(75))] == sizes


def test_single_rows_and_arrays_of_several_can_be_mixed(make_vae):
    vae, z = make_vae(), latents(80)
    pieces = [z[0], z[1:40], z[40:40], *z[40:50], z[50:]]

    chunks = list(vae.decode_stream(iter(pieces)))

    assert [len(chunk) for chunk in chunks] == [32, 32, 16]
    np.testing.assert_array_equal(np.concatenate(chunks), vae.decode(z))


def test_stream_takes_no_more_than_it_gives(make_vae):
    vae, taken = make_vae(), []

    def endless():
        for index in itertools.count():
            taken.append(index)
            yield np.zeros((4, 4, 1), np.float32)

    stream = vae.encode_stream(endless())
    assert taken == []
    next(stream)
    assert len(taken) == 32
    next(stream)
    assert len(taken) == 64


def test_generated_stream_is_that_of_generate(make_vae):
    vae = make_vae()

    chunks = list(vae.generate_stream(70, seed=3))

    assert [len(chunk) for chunk in chunks] == [32, 32, 6]
    np.testing.assert_array_equal(np.concatenate(chunks), vae.generate(70, seed=3))
    assert list(vae.generate_stream(0)) == []


def test_memory_of_a_stream_does_not_grow_with_its_length(make_vae):
    """20,000 images of 64 bytes are 1.3 MB; one chunk of them is 2 kB."""
    vae = make_vae()
    vae.decoder.fed = _Forgetful()
    for _ in vae.generate_stream(64, seed=0):
        pass
    tracemalloc.start()
    try:
        for _ in vae.generate_stream(20_000, seed=0):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 100_000


class _Forgetful(list):
    def append(self, _):
        pass


def test_bad_image_is_refused_when_it_is_reached(make_vae):
    images = np.zeros((40, 4, 4, 1), np.float32)
    images[35] = 2
    stream = make_vae().encode_stream(images)

    assert len(next(stream).z_mean) == 32
    with pytest.raises(ArtifactError, match=r"must lie in \[0, 1\]"):
        next(stream)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([np.zeros((4, 4))], r"rows of 3 axes, or arrays of several; received \(4, 4\)"),
        ([np.zeros((4, 4, 1)), np.zeros((4, 5, 1))], r"\(4, 5, 1\) after float64 \(4, 4, 1\)"),
        ([np.zeros((4, 4, 1)), np.zeros((4, 4, 1), np.uint8)], r"received uint8"),
    ],
)
def test_rows_that_do_not_go_together_are_refused(items, message):
    with pytest.raises(ArtifactError, match=message):
        list(regroup(items, 3, 32))


def test_missing_half_and_negative_count_are_refused_at_once(make_tiny_bundle):
    with EdgeVAE.open(make_tiny_bundle(("encoder.float32.onnx",))) as vae:
        with pytest.raises(BundleError, match="without its decoder"):
            vae.decode_stream([])
        with pytest.raises(ArtifactError, match="count must be 0 or more; received -1"):
            vae.generate_stream(-1)


def test_interpolate_decodes_the_way(make_vae, tiny):
    images = make_vae().interpolate([-1, 0], [1, 2], 3)

    z = np.float32([[-1, 0], [0, 1], [1, 2]])
    np.testing.assert_allclose(images, tiny.decode(z), atol=1e-6)


def test_interpolate_refuses_latents_of_another_size(make_vae):
    with pytest.raises(ArtifactError, match=r"z must have the shape \(count, 2\)"):
        make_vae().interpolate([0, 0, 0], [1, 1, 1], 3)


def test_manifold_decodes_the_grid(make_vae, tiny):
    images = make_vae().manifold(4, span=2, axes=(1, 0))

    z = manifold_latents(4, 2, span=2, axes=(1, 0))
    np.testing.assert_allclose(images, tiny.decode(z), atol=1e-6)
