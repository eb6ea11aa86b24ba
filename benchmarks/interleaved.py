"""Several calls timed in turn, round after round, in one process.

One process is fair at one thread only: with more, each runtime's pool of waiting threads takes the
cores from the others. `benchmarks.latency` gives every group a process of its own instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.statistics import taken
from benchmarks.timer import Calibration, Clock, Pace, calibrate, elapsed_ns, pace
from vae_edge.errors import UsageError

__all__ = ["Timed", "check_threads", "difference_us", "time_in_turns"]

_NS_PER_MS = 1e6
_NS_PER_US = 1e3


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What one call took.

    Attributes:
        loops: calls per sample.
        warmup_ns: samples of the warm-up rounds, nanoseconds per call.
        samples_ns: one sample per round, nanoseconds per call; None in rounds it left out.
    """

    loops: int
    warmup_ns: tuple[float | None, ...]
    samples_ns: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class _Runner:
    call: Callable[[], object]
    calibration: Calibration
    pace: Pace
    clock: Clock

    def sample_ns(self, turn: int) -> float | None:
        if turn % self.pace.every:
            return None
        for _ in range(self.pace.settle):
            self.call()
        loops = self.calibration.loops
        return round(elapsed_ns(self.call, loops, self.clock) / loops, 1)


def check_threads(threads: int) -> None:
    """Refuse what cannot be measured fairly in one process.

    Args:
        threads: threads for each runtime.

    Raises:
        UsageError: not exactly one thread.
    """
    if threads != 1:
        raise UsageError(
            f"--threads {threads}: a head to head runs all runtimes in one process, where their "
            "thread pools slow each other down, so it measures with 1. For more, each in a process "
            f"of its own: vae-edge benchmark BUNDLE --threads {threads}."
        )


def time_in_turns(
    calls: Sequence[Callable[[], object]],
    *,
    rounds: int,
    warmup_rounds: int,
    min_sample_ms: float,
    seed: int,
    clock: Clock = time.perf_counter_ns,
    on_round: Callable[[], None] = lambda: None,
) -> tuple[Timed, ...]:
    """Measure all calls in every round, in an order that differs from round to round.

    Whatever the machine does meanwhile hits all of them alike, so that ratios hold.

    Args:
        calls: what to time.
        rounds: samples per call; a slow call (ten shortest samples or more) gives every third.
        warmup_rounds: rounds before them, stored apart.
        min_sample_ms: shortest sample, milliseconds; its inner loops are doubled until it is.
        seed: of the order.
        clock: nanoseconds; replaced in tests.
        on_round: called after every round.

    Raises:
        ArtifactError: the clock stands still.
    """
    min_sample_ns = round(min_sample_ms * _NS_PER_MS)
    runners = []
    for call in calls:
        call()  # the first one allocates, traces or compiles
        calibration = calibrate(call, min_sample_ns, clock)
        chosen = pace(calibration, min_sample_ns)
        runners.append(_Runner(call=call, calibration=calibration, pace=chosen, clock=clock))
    rng = np.random.default_rng(seed)

    def run(count: int) -> list[tuple[float | None, ...]]:
        samples: list[list[float | None]] = [[] for _ in runners]
        for turn in range(count):
            for position in rng.permutation(len(runners)):
                samples[position].append(runners[position].sample_ns(turn))
            on_round()
        return [tuple(row) for row in samples]

    warmup, samples = run(warmup_rounds), run(rounds)
    return tuple(
        Timed(loops=r.calibration.loops, warmup_ns=w, samples_ns=s)
        for r, w, s in zip(runners, warmup, samples, strict=True)
    )


def difference_us(longer: Timed, shorter: Timed) -> float:
    """Give the median over rounds of how much longer one took, in microseconds.

    Rounds are paired, because what slowed a round down slowed both.
    """
    pairs = zip(longer.samples_ns, shorter.samples_ns, strict=True)
    differences = taken([None if a is None or b is None else a - b for a, b in pairs])
    return float(np.median(differences)) / _NS_PER_US
