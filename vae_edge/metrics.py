"""How far a candidate is from its reference. One function and one line in METRICS per metric.

Every function takes float arrays of one shape, (count, ...), and computes in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ParityError
from vae_edge.terms import FloatArray

__all__ = [
    "METRICS",
    "Metric",
    "check_comparable",
    "cosine_similarity",
    "max_abs_error",
    "psnr_db",
    "rmse",
]

Function = Callable[[FloatArray, FloatArray, float], float]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric and which way is better.

    Attributes:
        name: as in reports and tolerances.
        function: of reference, candidate and peak (the span of the reference's values).
        higher_is_better: whether a limit is a floor (else a ceiling).
        meaning: one line for a reader who has never met it.
    """

    name: str
    function: Function
    higher_is_better: bool
    meaning: str

    def passes(self, value: float, limit: float) -> bool:
        """Tell whether the value is within the limit; NaN never is."""
        return value >= limit if self.higher_is_better else value <= limit


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


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                name="max_abs_error",
                function=max_abs_error,
                higher_is_better=False,
                meaning="largest difference of any value (images: grey levels 0 to 1; latents: "
                "share of their span)",
            ),
            Metric(
                name="rmse",
                function=rmse,
                higher_is_better=False,
                meaning="typical difference of a value, same units",
            ),
            Metric(
                name="cosine_similarity",
                function=cosine_similarity,
                higher_is_better=True,
                meaning="1 when both point the same way",
            ),
            Metric(
                name="psnr_db",
                function=psnr_db,
                higher_is_better=True,
                meaning="signal over difference in decibels; +6 dB halves the difference",
            ),
        )
    }
)
