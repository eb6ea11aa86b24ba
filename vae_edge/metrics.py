"""How far a candidate is from its reference. One function and one line in METRICS per metric.

Every function takes float arrays of one shape, (count, ...), and computes in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ParityError
from vae_edge.terms import FloatArray

__all__ = [
    "IMAGE_METRICS",
    "METRICS",
    "Kind",
    "Metric",
    "check_comparable",
    "cosine_similarity",
    "max_abs_error",
    "mean_abs_error",
    "psnr_db",
    "rmse",
    "sqnr_db",
    "ssim",
]

Function = Callable[[FloatArray, FloatArray, float], float]


class Kind(Enum):
    """What a metric's limit is, and how near a value is to it.

    ERROR: a ceiling. CHANGE: a ceiling on either side of 0. DECIBELS: a floor. SIMILARITY: a floor
    below 1, which is best.
    """

    ERROR = "error"
    CHANGE = "change"
    DECIBELS = "decibels"
    SIMILARITY = "similarity"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric, which way is better, and how far a value is from a limit.

    Attributes:
        name: as in reports and tolerances.
        meaning: one line for a reader who has never met it.
        function: of reference, candidate and peak (the span of the reference's values); None where
            it is not computed from two arrays, see `vae_edge.vae_metrics`.
        kind: what a limit is.
    """

    name: str
    meaning: str
    function: Function | None = None
    kind: Kind = Kind.ERROR

    @property
    def higher_is_better(self) -> bool:
        """Whether a limit is a floor (else a ceiling)."""
        return self.kind in (Kind.DECIBELS, Kind.SIMILARITY)

    def passes(self, value: float, limit: float) -> bool:
        """Tell whether the value is within the limit; NaN never is."""
        if self.higher_is_better:
            return value >= limit
        return (abs(value) if self.kind is Kind.CHANGE else value) <= limit

    def margin(self, value: float, limit: float) -> float | None:
        """Give how many times the error fits into what the limit allows; below 1 it failed.

        Errors are compared as they are, similarities by what they lack to 1, and decibels as the
        ratio that they stand for. None where there is no error at all.
        """
        if self.kind is Kind.DECIBELS:
            times = 10 ** (min(value - limit, 1e3) / 20) if np.isfinite(value) else math.inf
            return None if value == math.inf else float(times if value != -math.inf else 0.0)
        error, allowed = (
            (1 - value, 1 - limit) if self.kind is Kind.SIMILARITY else (abs(value), limit)
        )
        return float(allowed / error) if error else None

    def tightest(self, value: float) -> float:
        """Give the tightest limit of two digits that the value would have passed."""
        if self.kind is Kind.DECIBELS:
            return math.floor(value * 10) / 10
        if self.kind is Kind.SIMILARITY:
            return min(1 - _rounded_up(1 - value), value)
        return _rounded_up(abs(value))


def _rounded_up(value: float) -> float:
    """Round up to two significant digits."""
    if value <= 0:
        return 0.0
    digits = 1 - math.floor(math.log10(value))
    rounded = round(value, digits)
    # 1 - 0.99 is a little more than 0.01.
    return rounded if rounded >= value * (1 - 1e-12) else round(rounded + 10.0**-digits, digits)


def check_comparable(reference: FloatArray, candidate: FloatArray, where: str) -> None:
    """Refuse what cannot be compared.

    Raises:
        ParityError: nothing to compare, shapes differ, or a value is not finite.
    """
    if reference.shape != candidate.shape:
        raise ParityError(
            f"{where}: the candidate's shape is {candidate.shape}; expected {reference.shape}."
        )
    if not reference.size:
        raise ParityError(f"{where}: there is nothing to compare.")
    for side, values in (("reference", reference), ("candidate", candidate)):
        bad = ~np.isfinite(values)
        if bad.any():
            first = [int(i) for i in np.argwhere(bad)[0]]
            raise ParityError(
                f"{where}: {int(bad.sum())} of {values.size} {side} values are not finite "
                f"(first at {first})."
            )


def _difference(reference: FloatArray, candidate: FloatArray) -> npt.NDArray[np.float64]:
    return candidate.astype(np.float64) - reference.astype(np.float64)


def max_abs_error(reference: FloatArray, candidate: FloatArray, peak: float = 1.0) -> float:
    """Largest absolute difference of any value, in units of `peak`.

    Images have a peak of 1, so theirs is in grey levels from 0 to 1. Latents are divided by the
    span of the reference's values, so that one limit fits models with narrow and wide latents.
    """
    return float(np.abs(_difference(reference, candidate)).max() / peak)


def rmse(reference: FloatArray, candidate: FloatArray, peak: float = 1.0) -> float:
    """Root of the mean squared difference, in units of `peak` (see `max_abs_error`)."""
    return float(np.sqrt(np.square(_difference(reference, candidate)).mean()) / peak)


def cosine_similarity(reference: FloatArray, candidate: FloatArray, peak: float = 1.0) -> float:
    """Cosine of the angle between the two, flattened: 1 when they point the same way.

    Two all-zero arrays are alike (1); one all-zero array is like nothing else (0).
    """
    del peak  # an angle has no scale
    a, b = (values.astype(np.float64).ravel() for values in (reference, candidate))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return 1.0 if not a.any() and not b.any() else 0.0
    # Rounding can carry the quotient a hair beyond 1.
    return min(1.0, max(-1.0, float(a @ b) / norms))


def psnr_db(reference: FloatArray, candidate: FloatArray, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in decibels: 20 log10(peak / RMSE); infinite when identical."""
    error = rmse(reference, candidate, peak)
    return float("inf") if error == 0 else float(-20 * np.log10(error))


def mean_abs_error(reference: FloatArray, candidate: FloatArray, peak: float = 1.0) -> float:
    """Mean absolute difference, in units of `peak` (see `max_abs_error`)."""
    return float(np.abs(_difference(reference, candidate)).mean() / peak)


def sqnr_db(reference: FloatArray, candidate: FloatArray, peak: float = 1.0) -> float:
    """Signal-to-quantization-noise ratio in decibels; infinite when identical.

    10 log10(sum of reference^2 / sum of difference^2). B. Widrow and I. Kollar, "Quantization
    Noise", 2008, chapter 1. Of a reference that is all zero it is minus infinity.
    """
    del peak  # the signal itself is what the noise is compared with
    noise = float(np.square(_difference(reference, candidate)).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


_WINDOW, _SIGMA = 11, 1.5
# Images at a time: a dozen arrays in float64 are there at once.
_AT_ONCE = 32
_K1, _K2 = 0.01, 0.03


def ssim(reference: FloatArray, candidate: FloatArray, peak: float = 1.0) -> float:
    """Structural similarity of images, averaged over windows, channels and images; 1 if identical.

    Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity",
    IEEE Transactions on Image Processing 13 (2004): Gaussian windows of 11 pixels with sigma 1.5,
    K1 = 0.01, K2 = 0.03, population variances, and windows that lie wholly inside the image. An
    axis shorter than 11 gets a window of the largest odd size that fits.

    Args:
        reference: (count, height, width, channels).
        candidate: same shape.
        peak: span of the values.
    """
    starts = range(0, len(reference), _AT_ONCE)
    parts = [(reference[i : i + _AT_ONCE], candidate[i : i + _AT_ONCE]) for i in starts]
    means = [_ssim(x.astype(np.float64), y.astype(np.float64), peak) for x, y in parts]
    return float(np.average(means, weights=[len(x) for x, _ in parts]))


def _ssim(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], peak: float) -> float:
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x = _windowed(x * x) - mean_x**2
    var_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return float(similarity.mean())


def _windowed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Average over Gaussian windows along height and width, the second and third axis."""
    for axis in (1, 2):
        size = min(_WINDOW, values.shape[axis] - (values.shape[axis] + 1) % 2)
        distance = np.arange(size) - size // 2
        weights = np.exp(-0.5 * (distance / _SIGMA) ** 2)
        weights /= weights.sum()
        length = values.shape[axis] - size + 1
        along = np.moveaxis(values, axis, 0)
        values = np.moveaxis(
            sum(weight * along[start : start + length] for start, weight in enumerate(weights)),
            0,
            axis,
        )
    return values


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                name="max_abs_error",
                function=max_abs_error,
                meaning="largest difference of any value (images: grey levels 0 to 1; latents: "
                "share of their span)",
            ),
            Metric(
                name="mean_abs_error",
                function=mean_abs_error,
                meaning="average difference of a value, same units",
            ),
            Metric(
                name="rmse",
                function=rmse,
                meaning="typical difference of a value, same units; large ones count more",
            ),
            Metric(
                name="cosine_similarity",
                function=cosine_similarity,
                kind=Kind.SIMILARITY,
                meaning="1 when both point the same way",
            ),
            Metric(
                name="sqnr_db",
                function=sqnr_db,
                kind=Kind.DECIBELS,
                meaning="signal over difference in decibels; +6 dB halves the difference",
            ),
            Metric(
                name="psnr_db",
                function=psnr_db,
                kind=Kind.DECIBELS,
                meaning="peak over difference in decibels; +6 dB halves the difference",
            ),
        )
    }
)

IMAGE_METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        **METRICS,
        "ssim": Metric(
            name="ssim",
            function=ssim,
            kind=Kind.SIMILARITY,
            meaning="1 when an image's structure is the same to the eye",
        ),
    }
)
