"""Calibration data and golden vectors: what they hold, and that they never overlap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from exporters.representative import (
    Representative,
    calibration_latents,
    from_images,
    from_samples,
    make_golden,
    mix,
    scored_latents,
)
from vae_edge.errors import DataError
from vae_edge.preprocessing import PLAIN_PICTURES

pytestmark = pytest.mark.host


@dataclass(frozen=True)
class FakeSource:
    train_images: np.ndarray
    test_images: np.ndarray
    source: str = "fake"
    test_labels: np.ndarray | None = None


def noise(count: int, seed: int = 0) -> np.ndarray:
    levels = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1))
    return levels.astype(np.float32) / np.float32(255)


def as_rows(images: np.ndarray) -> set[bytes]:
    return {np.rint(image * 255).astype(np.uint8).tobytes() for image in images}


def test_calibration_comes_from_training_and_golden_from_test_images():
    source = FakeSource(noise(40, 1), noise(30, 2))
    result = from_images(source, (8, 8, 1), seed=0)
    assert as_rows(result.calibration) == as_rows(source.train_images)
    assert as_rows(result.golden) == as_rows(source.test_images)


def test_labels_of_the_held_out_images_come_along():
    labels = np.arange(30) % 7
    source = FakeSource(noise(40, 1), noise(30, 2), test_labels=labels)

    result = from_images(source, (8, 8, 1), seed=0)

    by_image = {row.tobytes(): label for row, label in zip(source.test_images, labels, strict=True)}
    assert result.golden_labels is not None
    assert [by_image[image.tobytes()] for image in result.golden] == list(result.golden_labels)
    assert from_images(FakeSource(noise(9, 1), noise(9, 2)), (8, 8, 1), 0).golden_labels is None


def test_images_to_calibrate_on_that_are_golden_too_are_refused():
    images = noise(6, 4)

    with pytest.raises(DataError, match="2 of the images to calibrate on are golden images too"):
        Representative(source="mine", seed=0, calibration=images[:4], golden=images[2:])


def test_image_in_both_parts_is_not_calibrated_on():
    shared = noise(5, 3)
    source = FakeSource(
        np.concatenate([noise(20, 1), shared]), np.concatenate([shared, noise(4, 2)])
    )
    result = from_images(source, (8, 8, 1), seed=0)
    assert len(result.calibration) == 20
    assert not as_rows(result.calibration) & as_rows(result.golden)


def test_drawing_is_seeded():
    source = FakeSource(noise(2000, 1), noise(600, 2))
    first, same, other = (from_images(source, (8, 8, 1), seed=s) for s in (4, 4, 5))
    assert (len(first.calibration), len(first.golden)) == (512, 256)
    np.testing.assert_array_equal(first.calibration, same.calibration)
    assert as_rows(first.calibration) != as_rows(other.calibration)


def test_images_of_another_shape_are_refused():
    source = FakeSource(noise(4), noise(4))
    with pytest.raises(DataError, match=r"images of \(8, 8, 1\); the model takes \(28, 28, 1\)"):
        from_images(source, (28, 28, 1), seed=0)


def test_empty_part_is_refused():
    with pytest.raises(DataError, match="0 held-out"):
        from_images(FakeSource(noise(4), noise(0)), (8, 8, 1), seed=0)


def test_samples_are_the_decoders_images_of_the_prior(tiny_vae):
    result = from_samples(tiny_vae, seed=11)
    z = np.random.default_rng(11).standard_normal((512, 3), np.float32)
    np.testing.assert_allclose(result.calibration, tiny_vae.decoder(z), atol=1e-6)
    assert not as_rows(result.calibration) & as_rows(result.golden)


def test_mix_takes_half_of_each():
    first = Representative(source="a", seed=1, calibration=noise(10, 1), golden=noise(6, 2))
    second = Representative(source="b", seed=1, calibration=noise(10, 3), golden=noise(6, 4))
    both = mix(first, second)
    assert both.source == "half a, half b"
    assert as_rows(both.calibration) == as_rows(first.calibration[:5]) | as_rows(
        second.calibration[:5]
    )
    assert len(both.golden) == 6


def test_latents_are_half_posterior_half_prior(tiny_vae, tiny_representative):
    # Far-off biases put every posterior near 50, where no sample of the prior can be.
    import keras

    encoder = keras.models.clone_model(tiny_vae.encoder)
    encoder.set_weights([np.zeros_like(w) for w in tiny_vae.encoder.get_weights()])
    encoder.get_layer("z_mean").bias.assign(np.full(3, 50.0))
    z = calibration_latents(replace(tiny_vae, encoder=encoder), tiny_representative)
    assert z.shape == (8 * 64, 3)
    assert z.dtype == np.float32
    assert int((z[:, 0] > 25).sum()) == 8 * 64 // 2


def test_scored_latents_are_samples_of_the_posterior_of_the_image_beside(
    tiny_vae, tiny_representative
):
    import keras

    encoder = keras.models.clone_model(tiny_vae.encoder)
    encoder.set_weights(tiny_vae.encoder.get_weights())
    # A standard deviation of exp(-10) leaves the mean.
    head = encoder.get_layer("z_log_var")
    head.set_weights([np.zeros_like(head.kernel), np.full(3, -20.0)])
    scored = scored_latents(replace(tiny_vae, encoder=encoder), tiny_representative)
    np.testing.assert_array_equal(scored.images, tiny_representative.calibration)
    means = tiny_vae.encoder(scored.images)["z_mean"]
    np.testing.assert_allclose(scored.latents, means, atol=1e-3)
    assert scored.latents.dtype == np.float32


def test_golden_vectors_are_the_keras_models_outputs(tiny_vae, tiny_representative):
    golden = make_golden(tiny_vae, tiny_representative)
    assert (len(golden.image), len(golden.z)) == (16, 16 + 8 + 128)
    np.testing.assert_array_equal(golden.images(PLAIN_PICTURES), tiny_representative.golden)
    np.testing.assert_array_equal(golden.z[:16], golden.z_mean)
    np.testing.assert_allclose(
        golden.z_log_var, tiny_vae.encoder(golden.images(PLAIN_PICTURES))["z_log_var"], atol=1e-5
    )
    np.testing.assert_allclose(golden.reconstruction, tiny_vae.decoder(golden.z), atol=1e-5)
