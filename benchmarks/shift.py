"""How two runs differ as a whole, and how each candidate differs beside that.

A run that was disturbed all along, by a slower clock or by a busy neighbour, makes everything in it
slower. What cannot have changed between the runs tells by how much: the Keras model, and artifacts
whose files and runtime are the same. Every ratio is judged beside theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import CandidateReport
from benchmarks.statistics import Interval, median_draws
from vae_edge.verdict import ALIKE

__all__ = ["Pair", "RunRatios", "Shift", "run_ratios"]

_CONFIDENCE = 0.95

Draws = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A candidate in both reports.

    Attributes:
        before: in the first.
        after: in the second.
        unchanged: whether it is the same thing in both: same files or model, same runtime.
    """

    before: CandidateReport
    after: CandidateReport
    unchanged: bool


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How much slower what cannot have changed is in the second run.

    Attributes:
        ratio: second over first, median over all of it; above 1 is slower.
        rests_on: names of what cannot have changed.
    """

    ratio: Interval
    rests_on: tuple[str, ...]

    @property
    def moved(self) -> bool:
        """Whether the runs differ as a whole: by more than 3 %, and 1 is outside the interval."""
        apart = not self.ratio.low <= 1 <= self.ratio.high
        return apart and abs(self.ratio.value - 1) > ALIKE


@dataclass(frozen=True, kw_only=True)
class RunRatios:
    """Ratios of one pair.

    Attributes:
        plain: second median over first.
        beside: that over the shift of the whole run; None where nothing tells that.
        sure: the same as `beside`, else `plain`, with an interval so wide that with 95 % confidence
            not one of all pairs' intervals misses its true ratio (Bonferroni).
    """

    plain: Interval
    beside: Interval | None
    sure: Interval


def run_ratios(pairs: Sequence[Pair], *, seed: int) -> tuple[Shift | None, tuple[RunRatios, ...]]:
    """Give the shift of the whole run, and the ratios of every pair.

    The intervals are a percentile bootstrap (Efron 1979). Rounds of a run are drawn together for
    all candidates, since what disturbed a round disturbed all of them; those of the two runs are
    drawn apart. What cannot have changed is drawn too: where it does not agree, the shift is as
    unsure as that.

    Args:
        pairs: what both runs measured.
        seed: of the resampling.

    Raises:
        UsageError: no samples, or a duration is not positive.
    """
    if not pairs:
        return None, ()
    first, second = (
        median_draws([getattr(pair, side).samples_ns for pair in pairs], seed=seed + offset)
        for offset, side in enumerate(("before", "after"))
    )
    values = np.log(second.values / first.values)
    draws = np.log(second.draws / first.draws)
    anchors = [index for index, pair in enumerate(pairs) if pair.unchanged]
    shift, shift_value, shift_draws = None, 0.0, np.zeros(draws.shape[1])
    if anchors:
        rng = np.random.default_rng(seed)
        picks = rng.integers(0, len(anchors), size=(len(anchors), draws.shape[1]))
        drawn = np.take_along_axis(draws[anchors], picks, axis=0)
        shift_value, shift_draws = float(np.median(values[anchors])), np.median(drawn, axis=0)
        shift = Shift(
            ratio=_interval(shift_value, shift_draws, _CONFIDENCE),
            rests_on=tuple(pairs[index].before.name for index in anchors),
        )
    family = 1 - (1 - _CONFIDENCE) / len(pairs)
    ratios = []
    for value, drawn in zip(values, draws, strict=True):
        beside, beside_draws = float(value) - shift_value, drawn - shift_draws
        ratios.append(
            RunRatios(
                plain=_interval(float(value), drawn, _CONFIDENCE),
                beside=_interval(beside, beside_draws, _CONFIDENCE) if shift else None,
                sure=_interval(beside, beside_draws, family),
            )
        )
    return shift, tuple(ratios)


def _interval(value: float, draws: Draws, confidence: float) -> Interval:
    tail = (1 - confidence) / 2 * 100
    low, high = np.exp(np.percentile(draws, (tail, 100 - tail)))
    return Interval(
        value=float(np.exp(value)), low=float(low), high=float(high), confidence=confidence
    )
