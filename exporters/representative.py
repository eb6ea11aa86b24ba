"""Where calibration data and golden inputs come from, and that the two never overlap.

Activation ranges decide what an int8 model can represent, so calibration has to cover what the
model will meet: for the encoder images like the user's, for the decoder latents of such images and
of the prior. docs/calibration.md has the measurements behind these choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from exporters.quantization.scored import Scored
from vae_edge.errors import DataError
from vae_edge.golden import NO_LABEL, GoldenVectors, make_vectors, sample_posterior
from vae_edge.keras_vae import KerasVAE, open_keras_runner
from vae_edge.preprocessing import PLAIN_PICTURES, Preprocessing
from vae_edge.runners.batching import run_batched
from vae_edge.terms import Component, DataKind, FloatArray

__all__ = [
    "CALIBRATION_IMAGES",
    "GOLDEN_IMAGES",
    "ImageSource",
    "Representative",
    "apart",
    "from_images",
    "from_samples",
    "make_golden",
    "mix",
    "scored_latents",
]

CALIBRATION_IMAGES = 512
_LATENTS_PER_IMAGE = 8
GOLDEN_IMAGES = 256
GOLDEN_PRIOR_LATENTS = 128
_GOLDEN_SEED_OFFSET = 1_000_003


class ImageSource(Protocol):
    """A data set, as far as this module needs one."""

    @property
    def source(self) -> str:
        """Where the images were found."""

    @property
    def train_images(self) -> FloatArray:
        """Images to calibrate on, (count, height, width, channels), in [0, 1]."""

    @property
    def test_images(self) -> FloatArray:
        """Held-out images, for golden vectors."""

    @property
    def test_labels(self) -> npt.NDArray[np.int64] | None:
        """Their classes, where they are known."""


@dataclass(frozen=True, kw_only=True)
class Representative:
    """Images for calibration, and others for golden vectors.

    Attributes:
        source: what they are, for the manifest.
        seed: that they were drawn with.
        preprocessing: what their values mean.
        calibration: float32 (count, ...) as the encoder takes them.
        golden: same form; no image stands in both. Pictures of 8-bit levels.
        golden_labels: int16 (count,), classes of the golden images, -1 where not known; None where
            none is.

    Raises:
        DataError: no images, or one that stands in both.
    """

    source: str
    seed: int
    preprocessing: Preprocessing = PLAIN_PICTURES
    calibration: FloatArray
    golden: FloatArray
    golden_labels: npt.NDArray[np.int16] | None = None

    def __post_init__(self) -> None:
        apart = _without(self.calibration, self.golden, self.preprocessing)
        both = len(self.calibration) - len(apart)
        if both:
            raise DataError(
                f"{self.source}: {both} of the images to calibrate on are golden images too, so "
                "that parity would judge an export on what it was fitted to. Keep them apart."
            )
        if not len(self.calibration) and len(self.golden):
            raise DataError(
                f"{self.source}: none of its rows is left to calibrate on: all are equal to those "
                "that are held out to judge by. Give data of which more differ."
            )
        if not len(self.golden):
            raise DataError(
                f"{self.source}: holds {len(self.calibration)} images to calibrate on and "
                f"{len(self.golden)} held-out ones; at least one of each is needed."
            )


def _pick(rng: np.random.Generator, images: FloatArray, count: int) -> npt.NDArray[np.int64]:
    """Draw indices, in order."""
    return np.sort(rng.permutation(len(images))[:count])


def _rows(images: FloatArray, chosen: npt.NDArray[np.int64]) -> FloatArray:
    return np.ascontiguousarray(images[chosen], np.float32)


def _as_stored(images: FloatArray, preprocessing: Preprocessing) -> FloatArray:
    """Round pictures to the 8-bit levels that a golden file keeps."""
    if preprocessing.kind is DataKind.ARRAY:
        return images
    return preprocessing.from_levels(preprocessing.input_levels(images))


def _without(images: FloatArray, others: FloatArray, preprocessing: Preprocessing) -> FloatArray:
    """Drop the images that also stand in `others`, compared as a golden file stores them."""
    seen = {row.tobytes() for row in _as_stored(others, preprocessing)}
    keep = [row.tobytes() not in seen for row in _as_stored(images, preprocessing)]
    return np.asarray(images[np.array(keep, bool)], np.float32)


def from_images(
    data: ImageSource,
    image_shape: tuple[int, ...],
    seed: int,
    preprocessing: Preprocessing = PLAIN_PICTURES,
) -> Representative:
    """Draw from a data set: calibration from its training part, golden from its test part.

    Args:
        data: pictures in [0, 1].
        image_shape: that the model takes.
        seed: of what is drawn.
        preprocessing: that makes of them what the model takes.

    Raises:
        DataError: its images have another shape than the model's, the model takes no pictures, or
            too few remain.
    """
    if data.train_images.shape[1:] != image_shape:
        raise DataError(
            f"{data.source}: has images of {data.train_images.shape[1:]}; the model takes "
            f"{image_shape}. Choose another --calibration, e.g. samples."
        )
    rng = np.random.default_rng(seed)
    held_out = _pick(rng, data.test_images, GOLDEN_IMAGES)
    held_out_images = preprocessing.from_picture(_rows(data.test_images, held_out))
    golden = _as_stored(held_out_images, preprocessing)
    drawn = preprocessing.from_picture(
        _rows(data.train_images, _pick(rng, data.train_images, CALIBRATION_IMAGES))
    )
    labels = None if data.test_labels is None else data.test_labels[held_out].astype(np.int16)
    return Representative(
        source=data.source,
        seed=seed,
        preprocessing=preprocessing,
        calibration=_without(drawn, golden, preprocessing),
        golden=golden,
        golden_labels=labels,
    )


def apart(
    *,
    source: str,
    seed: int,
    preprocessing: Preprocessing,
    calibration: FloatArray,
    golden: FloatArray,
    golden_labels: npt.NDArray[np.int16] | None = None,
) -> Representative:
    """Give rows to calibrate on and to judge by, without those that are in both.

    Raises:
        DataError: none remain.
    """
    stored = _as_stored(golden, preprocessing)
    return Representative(
        source=source,
        seed=seed,
        preprocessing=preprocessing,
        calibration=_without(calibration, stored, preprocessing),
        golden=stored,
        golden_labels=golden_labels,
    )


def from_samples(vae: KerasVAE, seed: int) -> Representative:
    """Draw from the model itself: its decoder's images of latents from N(0, I)."""
    preprocessing = vae.preprocessing

    def draw(count: int, seed: int) -> FloatArray:
        z = np.random.default_rng(seed).standard_normal((count, vae.latent_dim), np.float32)
        with open_keras_runner(vae, Component.DECODER) as decoder:
            made = run_batched(decoder, z)["reconstruction"]
        if preprocessing.kind is DataKind.PICTURE:
            # A bounded output lies in its range already; a linear decoder's need not.
            return preprocessing.from_picture(preprocessing.to_picture(made))
        return preprocessing.as_input(made)

    return apart(
        source="the model's own samples (its decoder on z from N(0, I))",
        seed=seed,
        preprocessing=preprocessing,
        calibration=draw(CALIBRATION_IMAGES, seed),
        golden=draw(GOLDEN_IMAGES, seed + _GOLDEN_SEED_OFFSET),
    )


def mix(first: Representative, second: Representative) -> Representative:
    """Take half of the images of each, so that the size stays what it was."""

    def halves(a: FloatArray, b: FloatArray) -> FloatArray:
        return np.concatenate([a[: (len(a) + 1) // 2], b[: len(b) // 2]])

    def labels(of: Representative) -> npt.NDArray[np.int16]:
        unknown = np.full(len(of.golden), NO_LABEL, np.int16)
        return unknown if of.golden_labels is None else of.golden_labels

    a, b = labels(first), labels(second)
    golden = halves(first.golden, second.golden)
    return Representative(
        source=f"half {first.source}, half {second.source}",
        seed=first.seed,
        preprocessing=first.preprocessing,
        calibration=_without(
            halves(first.calibration, second.calibration), golden, first.preprocessing
        ),
        golden=golden,
        golden_labels=np.concatenate([a[: (len(a) + 1) // 2], b[: len(b) // 2]]),
    )


def calibration_latents(vae: KerasVAE, representative: Representative) -> FloatArray:
    """Give z to calibrate the decoder on: half from posteriors, half from the prior.

    Neither alone is safe: the aggregated posterior of a VAE reaches beyond the prior in places, and
    generation draws from the prior where no image lies.

    Returns:
        float32 (count, latent_dim), eight for each calibration image, in no order: any of them are
        half of the one kind and half of the other, but for chance.
    """
    rng = np.random.default_rng(representative.seed)
    with open_keras_runner(vae, Component.ENCODER) as encoder:
        posterior = run_batched(encoder, representative.calibration)
    shape = (_LATENTS_PER_IMAGE // 2, *posterior["z_mean"].shape)
    epsilon = rng.standard_normal(shape, np.float32)
    z = posterior["z_mean"] + np.exp(posterior["z_log_var"] / 2) * epsilon
    prior = rng.standard_normal(shape, np.float32)
    mixed = np.concatenate([z, prior]).reshape(-1, vae.latent_dim)
    return np.asarray(rng.permutation(mixed), np.float32)


def scored_latents(vae: KerasVAE, representative: Representative) -> Scored:
    """Give a sample of the posterior of each calibration image, beside the image."""
    rng = np.random.default_rng(representative.seed)
    with open_keras_runner(vae, Component.ENCODER) as encoder:
        posterior = run_batched(encoder, representative.calibration)
    epsilon = rng.standard_normal(posterior["z_mean"].shape, np.float32)
    return Scored(
        latents=sample_posterior(posterior["z_mean"], posterior["z_log_var"], epsilon),
        images=representative.calibration,
        preprocessing=vae.preprocessing,
    )


def make_golden(vae: KerasVAE, representative: Representative) -> GoldenVectors:
    """Run the Keras model on the golden images, their latents, prior samples and edge cases."""
    with (
        open_keras_runner(vae, Component.ENCODER) as encoder,
        open_keras_runner(vae, Component.DECODER) as decoder,
    ):
        return make_vectors(
            partial(run_batched, encoder),
            partial(run_batched, decoder),
            representative.golden,
            representative.golden_labels,
            preprocessing=vae.preprocessing,
            latent_dim=vae.latent_dim,
            prior=GOLDEN_PRIOR_LATENTS,
            model_sha256=vae.source_sha256,
            rng=np.random.default_rng(representative.seed + _GOLDEN_SEED_OFFSET),
        )
