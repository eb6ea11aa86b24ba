"""Rows of latents worth decoding: from one to another, and over a plane of the prior."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ArtifactError
from vae_edge.terms import FloatArray, Interpolation

__all__ = ["MAX_SPAN", "interpolate_latents", "manifold_latents"]

# Beyond it the share of the prior that is left out is no longer told from 0 with enough digits.
MAX_SPAN = 6.0
# sin(angle) below which two directions count as the same line.
_COLLINEAR = 1e-6


def interpolate_latents(
    start: npt.ArrayLike,
    end: npt.ArrayLike,
    steps: int,
    *,
    method: Interpolation | str = Interpolation.LINEAR,
) -> FloatArray:
    """Give `steps` latents from `start` to `end`, both included, at t = 0, 1/(steps-1), ..., 1.

    linear: (1 - t) * start + t * end.
    slerp: sin((1 - t) * w) / sin(w) * start + sin(t * w) / sin(w) * end, where w is the angle
    between them. It keeps to lengths that are likely under N(0, I) in many dimensions, where the
    straight line passes nearer to 0. T. White, "Sampling Generative Networks",
    arXiv:1609.04468 (2016), section 2.1. Latents of one direction are interpolated linearly, which
    is its limit for w to 0.

    Args:
        start: (latent_dim,), finite.
        end: the same shape.
        steps: 2 or more.
        method: `linear` or `slerp`.

    Returns:
        float32, (steps, latent_dim); computed in float64.

    Raises:
        ArtifactError: fewer than 2 steps, shapes that differ, values that are not finite, an
            unknown method, or for slerp a latent of 0 or two that point in opposite directions.
    """
    try:
        method = Interpolation(method)
    except ValueError:
        raise ArtifactError(
            f"unknown interpolation '{method}'. Choose one of: linear, slerp."
        ) from None
    if steps < 2:
        raise ArtifactError(f"steps must be 2 or more, the two ends included; received {steps}.")
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ArtifactError(
            f"both latents must have the shape (latent_dim,); received {a.shape} and {b.shape}."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ArtifactError("the latents hold values that are not finite (NaN or infinity).")
    t = np.linspace(0, 1, steps)
    angle = _angle(a, b) if method is Interpolation.SLERP else 0.0
    if math.sin(angle) < _COLLINEAR:
        weights = np.stack([1 - t, t], axis=1)
    else:
        weights = np.sin(np.stack([(1 - t) * angle, t * angle], axis=1)) / math.sin(angle)
    return np.asarray(weights @ np.stack([a, b]), np.float32)


def manifold_latents(
    steps: int,
    latent_dim: int,
    *,
    span: float | None = None,
    axes: tuple[int, int] | None = None,
) -> FloatArray:
    """Give the latents of a square grid of equal probability under the prior N(0, I).

    Grid lines stand at the inverse Gaussian CDF of evenly spaced probabilities p. Without a span,
    p = (i + 0.5) / steps: each point stands for an equal part of the prior. With one, p runs evenly
    from CDF(-span) to CDF(span), ends included. (The grid of Kingma and Welling, "Auto-Encoding
    Variational Bayes" (2013), appendix A.)

    Args:
        steps: grid lines each way: 1 or more, 2 or more with a span.
        latent_dim: of the model.
        span: outermost grid line, in standard deviations of the prior; over 0, at most 6.
        axes: the two latents that run to the right and upwards; all others are 0. May be left out
            when there are only two.

    Returns:
        float32, (steps * steps, latent_dim), by rows of the picture from the top left.

    Raises:
        ArtifactError: steps or span out of range, axes that the model does not have, or none where
            it has more than two latents.
    """
    across, up = _axes(latent_dim, axes)
    lines = _lines(steps, span)
    z = np.zeros((steps, steps, latent_dim), np.float32)
    z[..., across] = lines
    z[..., up] = lines[::-1, np.newaxis]
    return z.reshape(steps * steps, latent_dim)


def _angle(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """The angle in radians, exact near 0 and pi too, where an arc cosine loses half its digits."""
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not all(lengths):
        raise ArtifactError("slerp needs latents with a direction; one is 0. Choose linear.")
    u, v = a / lengths[0], b / lengths[1]
    angle = 2 * math.atan2(float(np.linalg.norm(u - v)), float(np.linalg.norm(u + v)))
    if math.pi - angle < _COLLINEAR:
        raise ArtifactError(
            "slerp has no one way between latents of opposite directions. Choose linear."
        )
    return angle


def _axes(latent_dim: int, axes: tuple[int, int] | None) -> tuple[int, int]:
    if latent_dim < 2:
        raise ArtifactError(f"a manifold needs two latents; this model has {latent_dim}.")
    if axes is None:
        if latent_dim > 2:
            raise ArtifactError(
                f"this model has {latent_dim} latents, and a manifold shows two. Choose them with "
                "axes, e.g. --axes 0,1; all others are 0."
            )
        return 0, 1
    across, up = axes
    if across == up or not (0 <= across < latent_dim and 0 <= up < latent_dim):
        raise ArtifactError(
            f"axes must be two different latents of 0 to {latent_dim - 1}; received {across},{up}."
        )
    return across, up


def _lines(steps: int, span: float | None) -> FloatArray:
    fewest = 1 if span is None else 2
    if steps < fewest:
        raise ArtifactError(f"steps must be {fewest} or more; received {steps}.")
    if span is not None and not 0 < span <= MAX_SPAN:
        raise ArtifactError(f"span must be over 0 and at most {MAX_SPAN:g}; received {span:g}.")
    prior = NormalDist()
    if span is None:
        below = [prior.inv_cdf((i + 0.5) / steps) for i in range(steps // 2)]
    else:
        tail = prior.cdf(-span)
        width = (1 - 2 * tail) / (steps - 1)
        below = [-span, *(prior.inv_cdf(tail + i * width) for i in range(1, steps // 2))]
    # The upper half is the lower one mirrored: near 1 a probability has fewer digits than near 0.
    middle = [0.0] if steps % 2 else []
    return np.array([*below, *middle, *(-line for line in reversed(below))], np.float32)
