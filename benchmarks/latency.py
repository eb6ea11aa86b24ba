"""The latency suite: every candidate in turn, round after round, each group in its own process.

Interleaving makes whatever the machine does meanwhile (clock, heat, other programs) hit all
candidates alike, so that their ratios hold even where their absolute times do not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from benchmarks.environment import read_environment, read_state
from benchmarks.fitness import find_warnings
from benchmarks.neighbours import neighbours_between, read_cpu_times
from benchmarks.plan import Selection, plan, probes
from benchmarks.probe import Probed, Probes, probe, probe_key
from benchmarks.process import Worker, WorkerProcess
from benchmarks.protocol import GroupTask, LoadedWorkload
from benchmarks.reference import name_of_reference, recorded_latencies, reference_record
from benchmarks.report import SCHEMA_VERSION, BenchmarkReport, Settings, SkippedGroup
from benchmarks.statistics import relative_spread, summarize, taken
from benchmarks.summary import Measured, candidate_reports
from benchmarks.timer import Calibration, Pace, pace
from benchmarks.verdicts import with_verdicts
from vae_edge._version import __version__
from vae_edge.bundle import Bundle
from vae_edge.errors import RuntimeMissingError, UsageError
from vae_edge.manifest import QualityBudget
from vae_edge.selection import DEFAULT_BUDGET
from vae_edge.split_options import SplitOptions

__all__ = ["measure", "run_benchmark", "start_worker"]

WARMUP_ROUNDS = 2
_FOUND = SplitOptions()
# Importing TensorFlow on a busy machine with little memory takes minutes; an inference does not.
_TIMEOUT_S = 300.0

Progress = Callable[[int, int], None]


def run_benchmark(
    bundle_path: Path,
    *,
    reference: Path | None,
    threads: Sequence[int] = (1,),
    batches: Sequence[int] = (),
    rounds: int = 30,
    min_sample_ms: float = 2.0,
    seed: int = 0,
    only: Selection | None = None,
    reference_note: str | None = None,
    verbose: bool = False,
    alone: bool = True,
    split: SplitOptions = _FOUND,
    budget: QualityBudget = DEFAULT_BUDGET,
    on_progress: Progress | None = None,
) -> BenchmarkReport:
    """Measure a bundle's artifacts, and the Keras model where one is given.

    Args:
        bundle_path: directory that an export wrote.
        reference: Keras model to measure beside them; None to measure artifacts alone, or where
            `split` names its halves.
        threads: threads for each runtime, TensorFlow included; of several, verdicts go by the
            first.
        batches: rows per inference; empty for the batch that each artifact was made for. One whose
            batch is fixed is measured at that one only.
        rounds: samples per candidate, at least 2.
        min_sample_ms: shortest sample, milliseconds.
        seed: of inputs, order and bootstrap.
        only: what to measure; everything by default.
        reference_note: which model the reference is, or why there is none, for the report.
        verbose: let what workers print through to stderr.
        alone: open every artifact in a process of its own too, for its load time, first inference
            and memory; without it, a second or so per artifact is saved, and these figures are of
            processes that hold several.
        split: how the Keras model is taken apart.
        budget: what the best choice has to keep.
        on_progress: called with steps done and steps in all.

    Raises:
        BundleError: the bundle is damaged.
        UsageError: settings out of range, or nothing selected.
        ModelError: the reference cannot be loaded.
        RuntimeMissingError: no runtime for any of the artifacts, or no TensorFlow for the
            reference, is installed.
        ArtifactError: an artifact does not load or run, crashed, or hung; names it.
    """
    _check_counts(threads, batches)
    settings = _settings(threads[0], rounds, min_sample_ms, seed)
    bundle = Bundle.open(bundle_path)
    planned = plan(
        bundle,
        reference,
        only or Selection(),
        threads=threads,
        batches=batches,
        seed=seed,
        split=split,
    )
    note = reference_note or name_of_reference(reference, split)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    before, times_before = read_state(), read_cpu_times()

    def start(task: GroupTask) -> Worker:
        return start_worker(task, verbose=verbose)

    measured, skipped = measure(planned.tasks, settings, start, on_progress, alone=alone)
    environment = replace(
        read_environment(before, read_state()),
        neighbours=neighbours_between(times_before, read_cpu_times()),
    )
    candidates = candidate_reports(measured, bundle, seed=seed)
    spreads = {c.name: relative_spread(summarize(taken(c.samples_ns))) for c in candidates}
    report = BenchmarkReport(
        schema_version=SCHEMA_VERSION,
        vae_edge_version=__version__,
        started_utc=started,
        machine=environment.machine,
        model=bundle.manifest.model,
        settings=settings,
        environment=environment,
        reference=reference_record(bundle, reference, note, split),
        candidates=candidates,
        skipped=(*skipped, *planned.skipped),
        warnings=find_warnings(environment, threads=max(threads), spreads=spreads),
        recorded=() if reference or split.encoder else recorded_latencies(bundle.manifest),
    )
    return with_verdicts(report, bundle.manifest, budget)


def start_worker(task: GroupTask, *, verbose: bool) -> Worker:
    """Start a worker process for a task; it begins to prepare at once.

    Args:
        task: what it shall measure.
        verbose: let what it prints through to stderr.
    """
    return WorkerProcess(task, verbose=verbose, timeout_s=_TIMEOUT_S)


def _check_counts(threads: Sequence[int], batches: Sequence[int]) -> None:
    if not threads:
        raise UsageError("threads must name at least one number of threads; received none.")
    for name, values in (("threads", threads), ("batches", batches)):
        for value in values:
            if value < 1:
                raise UsageError(f"{name} must be 1 or more; received {value}.")
        if len(set(values)) < len(values):
            listed = ", ".join(map(str, values))
            raise UsageError(f"{name} must differ from each other; received {listed}.")


def _settings(threads: int, rounds: int, min_sample_ms: float, seed: int) -> Settings:
    for name, value, least in (("rounds", rounds, 2), ("seed", seed, 0)):
        if value < least:
            raise UsageError(f"{name} must be {least} or more; received {value}.")
    if not 0 < min_sample_ms <= 10_000:
        raise UsageError(
            f"min_sample_ms must be more than 0 and at most 10000; received {min_sample_ms}."
        )
    return Settings(
        threads=threads,
        rounds=rounds,
        warmup_rounds=WARMUP_ROUNDS,
        min_sample_ms=min_sample_ms,
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A workload of a live worker."""

    worker: Worker
    index: int
    loaded: LoadedWorkload
    calibration: Calibration
    pace: Pace

    def sample_ns(self, turn: int) -> float | None:
        """Measure in this round, or not: slow candidates leave rounds out."""
        if turn % self.pace.every:
            return None
        ns = self.worker.sample(self.index, self.calibration.loops, self.pace.settle)
        return round(ns, 1)


def measure(
    tasks: Sequence[GroupTask],
    settings: Settings,
    start: Callable[[GroupTask], Worker],
    on_progress: Progress | None = None,
    *,
    alone: bool = False,
) -> tuple[tuple[Measured, ...], tuple[SkippedGroup, ...]]:
    """Run all tasks to the end and give what each workload took.

    Workers import their runtimes side by side; after that one is active at a time.

    Args:
        tasks: one per worker.
        settings: how to measure.
        start: starts a worker.
        on_progress: called with steps done and steps in all.
        alone: before that, open each part in a process of its own.

    Raises:
        VaeEdgeError: whatever a worker failed with; all workers are ended first.
    """
    done, total = 0, 2 * len(tasks) + settings.warmup_rounds + settings.rounds
    if alone:
        total += sum(len(probes(task)) for task in tasks)

    def step() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    probed = probe(tasks, start, step) if alone else {}
    with contextlib.ExitStack() as stack:
        workers = []
        for task in tasks:
            workers.append(start(task))
            stack.callback(workers[-1].close)
        ready, skipped = _prepare(workers, step)
        done += len(skipped)  # nothing will be loaded for them
        candidates = []
        for worker in ready:
            candidates.extend(_load(worker, settings))
            step()
        rng = np.random.default_rng(settings.seed)
        warmup = _run_rounds(candidates, settings.warmup_rounds, rng, step)
        samples = _run_rounds(candidates, settings.rounds, rng, step)
        memories = {id(worker): worker.memory() for worker in ready}
    measured = []
    for position, candidate in enumerate(candidates):
        task = candidate.worker.task
        own = _own(probed, task, candidate.loaded)
        measured.append(
            Measured(
                task=task,
                loaded=own.loaded if own else candidate.loaded,
                alone=own is not None or task.alone,
                loops=candidate.calibration.loops,
                warmup_ns=warmup[position],
                samples_ns=samples[position],
                memory=own.memory if own else memories[id(candidate.worker)],
            )
        )
    return tuple(measured), skipped


def _own(probed: Probes, task: GroupTask, loaded: LoadedWorkload) -> Probed | None:
    return probed.get(probe_key(task, loaded.part, loaded.batch))


def _prepare(
    workers: Sequence[Worker], step: Callable[[], None]
) -> tuple[list[Worker], tuple[SkippedGroup, ...]]:
    """Wait for all; a runtime that is not installed is no error while another one is."""
    ready, skipped = [], []
    missing: dict[str, None] = {}
    for worker in workers:
        try:
            worker.wait_prepared()
            ready.append(worker)
        except RuntimeMissingError as error:
            if worker.task.format is None:
                raise
            missing[str(error)] = None
            skipped.append(SkippedGroup(name=worker.task.name, reason=str(error)))
        step()
    if missing and all(worker.task.format is None for worker in ready):
        raise RuntimeMissingError(" ".join(missing))
    return ready, tuple(skipped)


def _load(worker: Worker, settings: Settings) -> list[_Candidate]:
    min_sample_ns = round(settings.min_sample_ms * 1e6)
    candidates = []
    for index, loaded in enumerate(worker.load().workloads):
        calibration = worker.calibrate(index, min_sample_ns)
        candidates.append(
            _Candidate(
                worker=worker,
                index=index,
                loaded=loaded,
                calibration=calibration,
                pace=pace(calibration, min_sample_ns),
            )
        )
    return candidates


def _run_rounds(
    candidates: Sequence[_Candidate],
    rounds: int,
    rng: np.random.Generator,
    step: Callable[[], None],
) -> list[tuple[float | None, ...]]:
    """Give each candidate's samples, one per round; the order differs in every round."""
    samples: list[list[float | None]] = [[] for _ in candidates]
    for turn in range(rounds):
        for position in rng.permutation(len(candidates)):
            samples[position].append(candidates[position].sample_ns(turn))
        step()
    return [tuple(row) for row in samples]
