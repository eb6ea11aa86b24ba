"""Timing a call that may be far shorter than the clock can resolve."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat

from vae_edge.errors import ArtifactError

__all__ = ["Calibration", "Clock", "Pace", "calibrate", "elapsed_ns", "pace"]

Clock = Callable[[], int]

_MAX_LOOPS = 1 << 24
# Calls before a sample that bring code and weights back into the caches after another process ran.
_MAX_SETTLE_CALLS = 10
# One call of a slow candidate lasts this many shortest samples (e.g. Keras's predict: 50 ms). Cold
# caches do not distort it, and it is measured in every third round only.
_SLOW = 10
_SLOW_EVERY = 3


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Inner loops that make one sample long enough, and how long it then was."""

    loops: int
    sample_ns: int


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a candidate is measured in a round.

    Attributes:
        settle: untimed calls before a sample.
        every: it is measured in every round (1), or in every third (3), and so on.
    """

    settle: int
    every: int


def elapsed_ns(call: Callable[[], object], loops: int, clock: Clock = time.perf_counter_ns) -> int:
    """Call `loops` times and give the nanoseconds that took in all.

    The garbage collector is off meanwhile, as in `timeit`: its pauses belong to the program that
    makes garbage, not to the inference.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = clock()
        for _ in repeat(None, loops):
            call()
        return clock() - start
    finally:
        if collecting:
            gc.enable()


def calibrate(
    call: Callable[[], object], min_sample_ns: int, clock: Clock = time.perf_counter_ns
) -> Calibration:
    """Double the loops, from one, until a sample lasts at least `min_sample_ns`.

    Raises:
        ArtifactError: millions of calls take no measurable time, so the clock stands still.
    """
    loops = 1
    while (sample := elapsed_ns(call, loops, clock)) < min_sample_ns:
        loops *= 2
        if loops > _MAX_LOOPS:
            raise ArtifactError(
                f"{_MAX_LOOPS:,} inferences took {sample:,} ns; expected at least "
                f"{min_sample_ns:,} ns. The clock of this machine cannot be used to measure."
            )
    return Calibration(loops=loops, sample_ns=sample)


def pace(calibration: Calibration, min_sample_ns: int) -> Pace:
    """Choose how a candidate is measured, so that slow ones do not take most of a run's time."""
    if calibration.sample_ns >= _SLOW * min_sample_ns:
        return Pace(settle=0, every=_SLOW_EVERY)
    return Pace(settle=min(max(calibration.loops // 4, 1), _MAX_SETTLE_CALLS), every=1)
