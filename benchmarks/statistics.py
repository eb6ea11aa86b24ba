"""What a row of samples says, and how sure that is.

A sample is the mean of one round's inner loops, so the percentiles are those of rounds, not of
single inferences. Percentiles interpolate linearly between the two nearest samples (Hyndman and
Fan 1996, type 7; numpy's default): of sorted samples x[0..n-1], the p-th is x at (n - 1) * p / 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_edge.errors import UsageError

__all__ = [
    "Interval",
    "MedianDraws",
    "Summary",
    "median_draws",
    "median_ratio_interval",
    "relative_spread",
    "speedup_interval",
    "summarize",
    "taken",
]

_RESAMPLES = 2000
# Makes the MAD of normally distributed samples an estimate of their standard deviation.
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Location and spread of samples, in the samples' unit."""

    median: float
    p95: float
    p99: float
    mad: float


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A ratio and its confidence interval.

    Attributes:
        value: ratio of the two medians.
        low: lower end of the interval.
        high: upper end of the interval.
        confidence: probability that the procedure's interval covers the true ratio, e.g. 0.95.
    """

    value: float
    low: float
    high: float
    confidence: float


def taken(samples: Sequence[float | None]) -> list[float]:
    """Leave out the rounds that gave no sample."""
    return [sample for sample in samples if sample is not None]


def summarize(samples: Sequence[float]) -> Summary:
    """Give median, 95th and 99th percentile, and the median absolute deviation (not scaled).

    Raises:
        UsageError: there are no samples.
    """
    if not samples:
        raise UsageError("there are no samples to summarize; measure at least one round.")
    values = np.asarray(samples, np.float64)
    median, p95, p99 = np.percentile(values, (50, 95, 99))
    return Summary(
        median=float(median),
        p95=float(p95),
        p99=float(p99),
        mad=float(np.median(np.abs(values - median))),
    )


def relative_spread(summary: Summary) -> float:
    """Give the robust standard deviation, 1.4826 * MAD, as a fraction of the median."""
    return _MAD_TO_SIGMA * summary.mad / summary.median


def speedup_interval(
    reference: Sequence[float | None],
    candidate: Sequence[float | None],
    *,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """How many times faster the candidate is: median(reference) / median(candidate).

    Only rounds that measured both count. The interval is a percentile bootstrap over them (Efron
    1979): rounds are drawn with replacement, the same ones for both, since what disturbed a round
    disturbed both.

    Args:
        reference: one duration per round, positive; None where the round gave none.
        candidate: durations of the same rounds.
        seed: of the resampling.
        confidence: between 0 and 1.

    Raises:
        UsageError: the rows differ in length, share no round, or a duration is not positive.
    """
    same = len(reference) == len(candidate)
    pairs = zip(reference, candidate, strict=True) if same else ()
    rounds = np.array([(r, c) for r, c in pairs if r is not None and c is not None], np.float64)
    if not len(rounds) or not (rounds > 0).all():
        raise UsageError(
            "a ratio needs the same rounds of both, at least one that measured both, all longer "
            f"than 0; received {len(reference)} and {len(candidate)} rounds."
        )
    picks = np.random.default_rng(seed).integers(0, len(rounds), size=(_RESAMPLES, len(rounds)))
    medians = np.median(rounds[picks], axis=1)
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(medians[:, 0] / medians[:, 1], (tail, 100 - tail))
    value = np.median(rounds, axis=0)
    return Interval(
        value=float(value[0] / value[1]), low=float(low), high=float(high), confidence=confidence
    )


def median_ratio_interval(
    numerator: Sequence[float | None],
    denominator: Sequence[float | None],
    *,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """Give median(numerator) / median(denominator) of samples that were taken at different times.

    The interval is a percentile bootstrap (Efron 1979) that resamples the two apart: unlike the
    rounds of one run, they shared no disturbance. What disturbed the whole of either is not in it.

    Args:
        numerator: durations, positive; None is left out.
        denominator: durations in the same unit, as many or not.
        seed: of the resampling.
        confidence: between 0 and 1.

    Raises:
        UsageError: no samples on either side, or a duration is not positive.
    """
    sides = [np.asarray(taken(samples), np.float64) for samples in (numerator, denominator)]
    if not all(len(side) and (side > 0).all() for side in sides):
        raise UsageError(
            "a ratio needs at least one sample on each side, all longer than 0; received "
            f"{len(sides[0])} and {len(sides[1])} samples."
        )
    rng = np.random.default_rng(seed)
    above, below = (
        np.median(side[rng.integers(0, len(side), size=(_RESAMPLES, len(side)))], axis=1)
        for side in sides
    )
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(above / below, (tail, 100 - tail))
    return Interval(
        value=float(np.median(sides[0]) / np.median(sides[1])),
        low=float(low),
        high=float(high),
        confidence=confidence,
    )


@dataclass(frozen=True, kw_only=True)
class MedianDraws:
    """Medians of several rows of one run, and of their bootstrap.

    Attributes:
        values: (rows,) the medians.
        draws: (rows, resamples) medians of rounds drawn with replacement.
    """

    values: NDArray[np.float64]
    draws: NDArray[np.float64]


def median_draws(rows: Sequence[Sequence[float | None]], *, seed: int) -> MedianDraws:
    """Resample the rounds of a run for all its rows together.

    Args:
        rows: one duration per round, positive; None where a round gave none.
        seed: of the resampling.

    Raises:
        UsageError: a row without a sample, or a duration is not positive.
    """
    values, draws = [], []
    for row in rows:
        samples = np.array([np.nan if s is None else s for s in row], np.float64)
        kept = samples[~np.isnan(samples)]
        if not len(kept) or not (kept > 0).all():
            raise UsageError(
                "a ratio needs at least one sample on each side, all longer than 0; received "
                f"{len(kept)} samples."
            )
        # The same seed for rows of the same length: the same rounds for all of them.
        rng = np.random.default_rng(seed)
        drawn = samples[rng.integers(0, len(samples), size=(_RESAMPLES, len(samples)))]
        # A draw of rounds that a slow candidate left out says nothing new of it.
        drawn[np.isnan(drawn).all(axis=1)] = np.median(kept)
        values.append(np.median(kept))
        draws.append(np.nanmedian(drawn, axis=1))
    return MedianDraws(values=np.array(values), draws=np.array(draws))
