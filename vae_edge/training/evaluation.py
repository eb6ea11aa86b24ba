"""The ELBO of a model on given images, in nats per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from vae_edge.errors import TrainingError
from vae_edge.terms import FloatArray
from vae_edge.training.model import kl_divergence, reconstruction_loss

if TYPE_CHECKING:
    from vae_edge.training.model import VAE

__all__ = ["Elbo", "evaluate_elbo"]

# Larger is slower on a two-core CPU, where the activations leave the cache.
_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Elbo:
    """Evidence lower bound and its two terms, means over the images, with beta = 1.

    Attributes:
        reconstruction: binary cross-entropy, nats per image; lower is better.
        kl: KL(posterior to prior), nats per image.
        images: number of images in the means.
    """

    reconstruction: float
    kl: float
    images: int

    @property
    def elbo(self) -> float:
        """Lower bound on log p(image), nats per image; higher is better, at most 0."""
        return -(self.reconstruction + self.kl)


def evaluate_elbo(model: VAE, images: FloatArray, *, seed: int = 0) -> Elbo:
    """Estimate the ELBO with one sample of `z` per image, drawn from `seed`.

    The noise depends on `seed` and the position of the image only, so that models and epochs are
    compared under the same noise. On 10000 images one sample each is enough: the noise of the mean
    is about 0.02 nats.

    Args:
        model: the VAE; its own noise generator is left as it is.
        images: float32 (count, height, width, channels) in [0, 1].
        seed: of the noise.

    Raises:
        TrainingError: there are no images.
    """
    if len(images) == 0:
        raise TrainingError("cannot evaluate on 0 images. Give a data set with held-out images.")
    noise = np.random.default_rng(seed).standard_normal(
        (len(images), model.architecture.latent_dim), dtype=np.float32
    )
    reconstruction = kl = 0.0
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        posterior = model.encoder.predict_on_batch(batch)
        z_mean, z_log_var = posterior["z_mean"], posterior["z_log_var"]
        z = z_mean + np.exp(z_log_var / 2) * noise[start : start + _BATCH]
        logits = model.logits.predict_on_batch(z)
        reconstruction += _sum(reconstruction_loss(logits, batch))
        kl += _sum(kl_divergence(z_mean, z_log_var))
    count = len(images)
    return Elbo(reconstruction=reconstruction / count, kl=kl / count, images=count)


def _sum(values: Any) -> float:
    """Sum in float64, as float32 loses digits over ten thousand images."""
    return float(np.sum(ops.convert_to_numpy(values), dtype=np.float64))
