"""How far one half of a VAE is from the Keras model: errors, PSNR, and what it costs in ELBO.

Each half is judged alone, the other being the Keras model, so that a difference has one owner. The
pair's ELBO, encoder and decoder in a row, is `pair_elbo`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from vae_edge.metrics import check_comparable, psnr_db
from vae_edge.terms import COMPONENT_OUTPUTS, Component, FloatArray

__all__ = [
    "DecoderErrors",
    "Elbo",
    "EncoderErrors",
    "Reference",
    "Run",
    "decoder_errors",
    "elbo_of",
    "encoder_errors",
    "make_reference",
    "pair_elbo",
]

Run = Callable[[FloatArray], Mapping[str, FloatArray]]
"""Rows of a component's input, shape (count, ...), to its outputs by name, same count."""

_PRIOR_LATENTS = 2000
# Keras clips probabilities here; a saturated sigmoid would make the cross-entropy infinite.
_EPSILON = 1e-7


@dataclass(frozen=True, kw_only=True)
class Elbo:
    """Mean per image, in nats; the ELBO is minus their sum."""

    reconstruction: float
    kl: float

    @property
    def elbo(self) -> float:
        """Evidence lower bound, in nats per image."""
        return -self.reconstruction - self.kl


@dataclass(frozen=True, kw_only=True)
class EncoderErrors:
    """Differences of an encoder's outputs from Keras's, over all images.

    Attributes:
        z_mean_max, z_mean_mean: largest and mean absolute error, in units of z.
        z_log_var_max, z_log_var_mean: the same, in nats.
    """

    z_mean_max: float
    z_mean_mean: float
    z_log_var_max: float
    z_log_var_mean: float


@dataclass(frozen=True, kw_only=True)
class DecoderErrors:
    """Differences of a decoder's images from Keras's.

    Attributes:
        posterior_psnr_db: of decoded z_mean of every image; None where they are identical.
        prior_psnr_db: of decoded samples of N(0, I); None where they are identical.
        max_error: largest error of any pixel on both, in grey levels from 0 to 1.
    """

    posterior_psnr_db: float | None
    prior_psnr_db: float | None
    max_error: float

    @property
    def psnr_db(self) -> float:
        """The lower of the two, in decibels; infinite where both are identical."""
        known = [x for x in (self.posterior_psnr_db, self.prior_psnr_db) if x is not None]
        return min(known, default=math.inf)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Images, and everything that the Keras model makes of them.

    Attributes:
        images: float32 (count, height, width, channels) in [0, 1].
        posterior: `z_mean` and `z_log_var` of the images, float32 (count, latent_dim) each.
        epsilon: noise that their posteriors are sampled with, float32 (count, latent_dim).
        prior: samples of N(0, I), float32 (2000, latent_dim).
        decoded_posterior: z_mean decoded, shape of the images.
        decoded_prior: the prior's samples decoded.
        decoded_sample: z_mean + exp(z_log_var / 2) * epsilon decoded, shape of the images.
    """

    images: FloatArray
    posterior: Mapping[str, FloatArray]
    epsilon: FloatArray
    prior: FloatArray
    decoded_posterior: FloatArray
    decoded_prior: FloatArray
    decoded_sample: FloatArray

    @property
    def elbo(self) -> Elbo:
        """The Keras model's own ELBO on the images."""
        return elbo_of(self.images, self.decoded_sample, **self.posterior)

    def first(self, count: int) -> Reference:
        """Give the same for the first images and prior samples, for what is too slow for all."""
        return replace(
            self,
            images=self.images[:count],
            posterior={name: values[:count] for name, values in self.posterior.items()},
            epsilon=self.epsilon[:count],
            prior=self.prior[:count],
            decoded_prior=self.decoded_prior[:count],
            decoded_posterior=self.decoded_posterior[:count],
            decoded_sample=self.decoded_sample[:count],
        )


def elbo_of(
    images: FloatArray, reconstruction: FloatArray, z_mean: FloatArray, z_log_var: FloatArray
) -> Elbo:
    """Binary cross-entropy summed over pixels, and KL to N(0, I), averaged over the images.

    Kingma and Welling, "Auto-Encoding Variational Bayes" (2013), appendix B and C.1; in float64.
    """
    x = images.astype(np.float64)
    p = np.clip(reconstruction.astype(np.float64), _EPSILON, 1 - _EPSILON)
    cross_entropy = -(x * np.log(p) + (1 - x) * np.log1p(-p)).reshape(len(x), -1).sum(axis=1)
    mean, log_var = z_mean.astype(np.float64), z_log_var.astype(np.float64)
    kl = 0.5 * (np.exp(log_var) + mean**2 - 1 - log_var).sum(axis=1)
    return Elbo(reconstruction=float(cross_entropy.mean()), kl=float(kl.mean()))


def make_reference(
    encode: Run, decode: Run, images: FloatArray, *, latent_dim: int, seed: int
) -> Reference:
    """Run the Keras model on the images, on their latents and on samples of the prior.

    Args:
        encode: the Keras encoder.
        decode: the Keras decoder.
        images: float32 (count, height, width, channels) in [0, 1].
        latent_dim: size of z.
        seed: of the prior's samples and the posteriors' noise.
    """
    rng = np.random.default_rng(seed)
    prior = rng.standard_normal((_PRIOR_LATENTS, latent_dim), np.float32)
    epsilon = rng.standard_normal((len(images), latent_dim), np.float32)
    posterior = dict(encode(images))
    return Reference(
        images=images,
        posterior=posterior,
        epsilon=epsilon,
        prior=prior,
        decoded_posterior=decode(posterior["z_mean"])["reconstruction"],
        decoded_prior=decode(prior)["reconstruction"],
        decoded_sample=decode(_sample(posterior, epsilon))["reconstruction"],
    )


def pair_elbo(reference: Reference, posterior: Mapping[str, FloatArray], decode: Run) -> Elbo:
    """Give the ELBO of some encoder's outputs for the reference's images, and some decoder.

    With Keras's posterior it judges the decoder alone; with Keras's decoder, the encoder alone.

    Args:
        reference: images and noise; every candidate gets the same.
        posterior: `z_mean` and `z_log_var`, float32 (count, latent_dim) each.
        decode: a decoder.
    """
    decoded = decode(_sample(posterior, reference.epsilon))["reconstruction"]
    return elbo_of(reference.images, decoded, posterior["z_mean"], posterior["z_log_var"])


def encoder_errors(reference: Reference, posterior: Mapping[str, FloatArray]) -> EncoderErrors:
    """Compare an encoder's outputs for the reference's images with Keras's.

    Raises:
        ParityError: shapes differ, or a value is not finite.
    """
    errors = {}
    for name in COMPONENT_OUTPUTS[Component.ENCODER]:
        check_comparable(reference.posterior[name], posterior[name], name)
        errors[name] = np.abs(posterior[name] - reference.posterior[name])
    return EncoderErrors(
        z_mean_max=float(errors["z_mean"].max()),
        z_mean_mean=float(errors["z_mean"].mean(dtype=np.float64)),
        z_log_var_max=float(errors["z_log_var"].max()),
        z_log_var_mean=float(errors["z_log_var"].mean(dtype=np.float64)),
    )


def decoder_errors(reference: Reference, decode: Run) -> DecoderErrors:
    """Compare a decoder's images of Keras's z_mean and of the prior's samples with Keras's.

    Raises:
        ParityError: shapes differ, or a value is not finite.
    """
    on_posterior = decode(reference.posterior["z_mean"])["reconstruction"]
    on_prior = decode(reference.prior)["reconstruction"]
    check_comparable(reference.decoded_posterior, on_posterior, "reconstruction of z_mean")
    check_comparable(reference.decoded_prior, on_prior, "reconstruction of prior samples")
    largest = max(
        float(np.abs(on_posterior - reference.decoded_posterior).max()),
        float(np.abs(on_prior - reference.decoded_prior).max()),
    )
    return DecoderErrors(
        posterior_psnr_db=_finite(psnr_db(reference.decoded_posterior, on_posterior)),
        prior_psnr_db=_finite(psnr_db(reference.decoded_prior, on_prior)),
        max_error=largest,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sample(posterior: Mapping[str, FloatArray], epsilon: FloatArray) -> FloatArray:
    z = posterior["z_mean"] + np.exp(posterior["z_log_var"] / 2) * epsilon
    return np.asarray(z, np.float32)
