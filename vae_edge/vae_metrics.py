"""What only a VAE has: its posterior, its prior and its ELBO, compared in their own units.

The posterior of an image is N(z_mean, exp(z_log_var)), one independent Gaussian per latent. All
functions take float arrays and compute in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vae_edge.metrics import Kind, Metric
from vae_edge.terms import FloatArray

__all__ = [
    "VAE_METRICS",
    "Posterior",
    "kl_between",
    "kl_to_prior",
    "mean_shift_sigmas",
    "neighbour_agreement",
    "reconstruction_loss",
]

Floats = npt.NDArray[np.float64]
# Keras clips probabilities here; a saturated sigmoid would make the cross-entropy infinite.
_EPSILON = 1e-7


_AGREEMENT = "neighbour_agreement"
VAE_METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                name="mean_shift_sigmas",
                meaning="how far z_mean moved, in the posterior's own sigmas, on average",
            ),
            Metric(
                name="max_shift_sigmas",
                meaning="the same, of the latent that moved most",
            ),
            Metric(
                name="mean_kl_nats",
                meaning="how different the posterior became: KL(Keras's to the artifact's), nats "
                "per image",
            ),
            Metric(name="max_kl_nats", meaning="the same, of the worst image"),
            Metric(
                name=_AGREEMENT,
                meaning="share of images whose nearest neighbour in latent space keeps its class",
                kind=Kind.SIMILARITY,
            ),
            Metric(
                name="kl_term_change_nats",
                meaning="change of the KL term of the ELBO, nats per image",
                kind=Kind.CHANGE,
            ),
            Metric(
                name="loss_change_nats",
                meaning="change of the reconstruction loss, nats per image; above 0 is worse",
                kind=Kind.CHANGE,
            ),
            Metric(
                name="elbo_change_nats",
                meaning="change of the ELBO, nats per image; below 0 is worse",
                kind=Kind.CHANGE,
            ),
        )
    }
)


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Diagonal Gaussians, one per image.

    Attributes:
        z_mean: (count, latent_dim).
        z_log_var: same shape, natural logarithm of the variance.
    """

    z_mean: FloatArray
    z_log_var: FloatArray

    @property
    def mean(self) -> Floats:
        """Give z_mean in float64."""
        return self.z_mean.astype(np.float64)

    @property
    def log_var(self) -> Floats:
        """Give z_log_var in float64."""
        return self.z_log_var.astype(np.float64)


def mean_shift_sigmas(reference: Posterior, candidate: Posterior) -> Floats:
    """Give |z_mean' - z_mean| / sigma, with sigma = exp(z_log_var / 2) of the reference.

    A shift well below 1 disappears in the sampling noise that the decoder was trained with.

    Returns:
        (count, latent_dim).
    """
    return np.abs(candidate.mean - reference.mean) * np.exp(-0.5 * reference.log_var)


def kl_between(reference: Posterior, candidate: Posterior) -> Floats:
    """Give KL(reference posterior to candidate posterior) of each image, in nats.

    0.5 * sum over latents of (exp(v - v') + (m' - m)^2 exp(-v') - 1 + v' - v), with means m and
    log-variances v, and the candidate's primed. S. Kullback, "Information Theory and Statistics",
    1959, chapter 9, for diagonal Gaussians.

    Returns:
        (count,), 0 where both are the same.
    """
    ratio = reference.log_var - candidate.log_var
    shift = np.square(candidate.mean - reference.mean) * np.exp(-candidate.log_var)
    return np.asarray(0.5 * (np.expm1(ratio) - ratio + shift).sum(axis=1), np.float64)


def kl_to_prior(posterior: Posterior) -> Floats:
    """Give KL(posterior to N(0, I)) of each image, in nats: the ELBO's second term.

    0.5 * sum of (exp(v) - 1 - v + m^2). Kingma and Welling, 2013 (arXiv:1312.6114), appendix B.
    """
    mean, log_var = posterior.mean, posterior.log_var
    return np.asarray(0.5 * (np.expm1(log_var) - log_var + mean**2).sum(axis=1), np.float64)


def reconstruction_loss(images: FloatArray, reconstruction: FloatArray, *, binary: bool) -> Floats:
    """Give the negative log-likelihood of each image, in nats, up to a constant.

    Bernoulli pixels: -x log p - (1 - x) log(1 - p), summed; Kingma and Welling, appendix C.1.
    Otherwise unit-variance Gaussians: (x - y)^2 / 2, summed.

    Args:
        images: (count, ...).
        reconstruction: same shape; probabilities where `binary`.
        binary: which likelihood.
    """
    x, y = images.astype(np.float64), reconstruction.astype(np.float64)
    if binary:
        p = np.clip(y, _EPSILON, 1 - _EPSILON)
        loss = -(x * np.log(p) + (1 - x) * np.log1p(-p))
    else:
        loss = 0.5 * np.square(x - y)
    return np.asarray(loss.reshape(len(x), -1).sum(axis=1), np.float64)


def neighbour_agreement(
    reference: FloatArray, candidate: FloatArray, labels: npt.NDArray[np.int16]
) -> float:
    """Give the share of images whose nearest neighbour in latent space keeps its class.

    For each image the nearest other image by Euclidean distance is found among the reference's
    z_mean and again among the candidate's; they agree where both have one label. That is what a
    search or a classifier on the latents would notice.

    Args:
        reference: z_mean, (count, latent_dim), count of 2 or more.
        candidate: same shape.
        labels: (count,).
    """

    def nearest(latents: FloatArray) -> npt.NDArray[np.int64]:
        z = latents.astype(np.float64)
        squares = np.square(z).sum(axis=1)
        distances = squares[:, np.newaxis] + squares - 2 * z @ z.T
        np.fill_diagonal(distances, np.inf)
        return np.asarray(distances.argmin(axis=1), np.int64)

    return float(np.mean(labels[nearest(reference)] == labels[nearest(candidate)]))
