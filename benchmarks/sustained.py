"""One artifact for minutes on end: does heat or a power limit slow the device down?

A benchmark's rounds are short, with pauses. Here the chosen artifact of each component runs without
a pause, and its first minute is held against its last.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.environment import MachineState, read_state
from benchmarks.fitness import neighbour_warnings
from benchmarks.neighbours import neighbours_between, read_cpu_times
from benchmarks.process import Worker
from benchmarks.protocol import GroupTask
from benchmarks.report import BenchmarkReport, CandidateReport, SustainedRecord
from benchmarks.statistics import median_ratio_interval
from vae_edge.errors import UsageError
from vae_edge.terms import Component

__all__ = ["sustain", "targets", "with_sustained"]

_WINDOW_S = 60.0
# Long enough that what passes between parent and worker is no rest for the processor.
_SAMPLE_S = 0.1
# Least samples that a short run is to give.
_SAMPLES = 50
_NS_PER_MS = 1e6

Progress = Callable[[str, float], None]


def targets(report: BenchmarkReport) -> tuple[CandidateReport, ...]:
    """Give one artifact per component that was measured: the best choice, else the fastest."""
    chosen = set() if report.best is None else set(report.best.chosen)
    found = []
    for component in Component:
        rivals = [c for c in report.base if c.files and str(c.part) == str(component)]
        if rivals:
            found.append(min(rivals, key=lambda c: (c.files[0] not in chosen, c.latency.median_ms)))
    return tuple(found)


def with_sustained(
    report: BenchmarkReport,
    bundle_path: Path,
    seconds: float,
    start: Callable[[GroupTask], Worker],
    *,
    on_progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
    state: Callable[[], MachineState] = read_state,
) -> BenchmarkReport:
    """Run the target of every component, one after the other, and give the report with that.

    It has a warning more for each that other programs disturbed.

    Args:
        report: of the bundle, measured on this machine.
        bundle_path: the bundle.
        seconds: how long each target runs.
        start: starts a worker.
        on_progress: called with a file's name and the seconds it has been running.
        clock: seconds since any moment, for tests.
        state: reads the machine's state, for tests.

    Raises:
        UsageError: no artifact was measured, or `seconds` is not positive.
        VaeEdgeError: whatever a worker failed with; it is ended first.
    """
    chosen = targets(report)
    if not chosen:
        raise UsageError("the run has no encoder or decoder artifact that could go on running.")
    records, warnings = [], list(report.warnings)
    for target in chosen:
        times_before = read_cpu_times()
        worker = start(_task(report, target, bundle_path))
        try:
            record = sustain(
                target, worker, seconds, on_progress=on_progress, clock=clock, state=state
            )
        finally:
            worker.close()
        # Only now is the worker's time ours, and not another program's.
        neighbours = neighbours_between(times_before, read_cpu_times())
        records.append(replace(record, neighbours=neighbours))
        during = f"the sustained run of {target.files[0]}"
        warnings += neighbour_warnings(neighbours, report.environment.cores, during)
    return replace(report, sustained=tuple(records), warnings=tuple(warnings))


def _task(report: BenchmarkReport, target: CandidateReport, bundle_path: Path) -> GroupTask:
    return GroupTask(
        name=f"{target.precision} {target.format}",
        source=str(bundle_path),
        format=target.format,
        precision=target.precision,
        parts=(target.part,),
        threads=target.threads,
        batches=(target.batch,),
        alone=True,
        seed=report.settings.seed,
    )


def sustain(
    target: CandidateReport,
    worker: Worker,
    seconds: float,
    *,
    on_progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
    state: Callable[[], MachineState] = read_state,
) -> SustainedRecord:
    """Run one artifact for so long, and hold its first minute against its last.

    Args:
        target: which; the only workload of the worker.
        worker: started, and not yet loaded.
        seconds: how long.
        on_progress: called with the file's name and the seconds it has been running.
        clock: seconds since any moment.
        state: reads the machine's state.

    Raises:
        UsageError: `seconds` is not positive.
    """
    if not seconds > 0:
        raise UsageError(f"a sustained run must take more than 0 s; received {seconds}.")
    worker.wait_prepared()
    worker.load()
    loops = worker.calibrate(0, round(min(_SAMPLE_S, seconds / _SAMPLES) * 1e9)).loops
    begun, ns = array("d"), array("d")
    before = state()
    origin = clock()
    while (passed := clock() - origin) < seconds or not ns:
        begun.append(passed)
        ns.append(worker.sample(0, loops, 0))
        if on_progress is not None:
            on_progress(target.files[0], min(clock() - origin, seconds))
    return _record(target, seconds, np.array(begun), np.array(ns), (before, state()))


def _record(
    target: CandidateReport,
    seconds: float,
    begun_s: NDArray[np.float64],
    ns: NDArray[np.float64],
    states: tuple[MachineState, MachineState],
) -> SustainedRecord:
    # a run of less than two minutes is halved
    window_s = min(_WINDOW_S, seconds / 2)
    first = ns[begun_s < window_s]
    last = ns[begun_s >= seconds - window_s]
    if not len(last):  # one sample took longer than a window
        last = ns[-1:]
    starts = np.arange(0, seconds, window_s)
    windows = [ns[(begun_s >= start) & (begun_s < start + window_s)] for start in starts]
    return SustainedRecord(
        file=target.files[0],
        duration_s=seconds,
        window_s=window_s,
        samples=len(ns),
        first_ms=float(np.median(first)) / _NS_PER_MS,
        last_ms=float(np.median(last)) / _NS_PER_MS,
        last_over_first=median_ratio_interval(last.tolist(), first.tolist(), seed=0),
        windows_ms=tuple(
            float(np.median(window)) / _NS_PER_MS if len(window) else None for window in windows
        ),
        before=states[0],
        after=states[1],
    )
