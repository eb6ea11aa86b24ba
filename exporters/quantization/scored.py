"""Latents with the images that they stand for, to count on them what a decoder costs the ELBO.

How far a reconstruction is from the float model's says little of that: an error that is the same in
all images, such as a shade in one colour, adds up over the pixels of an image, and noise does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from vae_edge.model_scale import ModelScale
from vae_edge.preprocessing import Preprocessing
from vae_edge.terms import FloatArray, Likelihood
from vae_edge.vae_metrics import reconstruction_loss

__all__ = ["Scored"]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Samples of the posteriors of images.

    Attributes:
        latents: float32 (count, latent_dim).
        images: float32 (count, ...), as the encoder takes them.
        preprocessing: what the values of images and reconstructions mean.
    """

    latents: FloatArray
    images: FloatArray
    preprocessing: Preprocessing

    def first(self, count: int) -> Scored:
        """Give the first of them, or as many as there are."""
        return replace(self, latents=self.latents[:count], images=self.images[:count])

    def loss(self, reconstructions: FloatArray) -> float:
        """Give the mean reconstruction loss, nats per image.

        Args:
            reconstructions: float32 (count, ...), one for each of the latents.
        """
        target = self.preprocessing.target(self.images)
        loss = reconstruction_loss(target, reconstructions, binary=self._is_binary)
        return float(loss.mean())

    def scale(self, reconstructions: FloatArray) -> ModelScale:
        """Give what limits on the loss grow with.

        Args:
            reconstructions: the reference's, float32, of the latents and then of any others.
        """
        output = self.preprocessing.output
        span = float(np.ptp(reconstructions)) if output is None else output.high - output.low
        values = math.prod(reconstructions.shape[1:]) * span**2
        return ModelScale(
            loss_nats=self.loss(reconstructions[: len(self.latents)]),
            gaussian_values=0.0 if self._is_binary else values,
        )

    @property
    def _is_binary(self) -> bool:
        return self.preprocessing.likelihood is Likelihood.BERNOULLI
