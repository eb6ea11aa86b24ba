"""From what workers measured to the report's candidates: statistics, names and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.protocol import GroupTask, LoadedWorkload, Memory
from benchmarks.report_parts import CandidateReport, LatencyStatistics, Part, Speedup
from benchmarks.statistics import speedup_interval, summarize, taken
from vae_edge.bundle import Bundle
from vae_edge.manifest import ArtifactRecord
from vae_edge.terms import Component, Precision

__all__ = ["Measured", "candidate_reports"]

_NS_PER_MS = 1e6
_NS_PER_S = 1e9


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One workload's figures, as its worker gave them.

    Attributes:
        task: what its worker was told.
        loaded: what it is, and how long it took to load and to run first.
        alone: whether that, and the memory, is of a process that held nothing else.
        loops: inferences per sample.
        warmup_ns: samples of the warm-up rounds, nanoseconds per inference.
        samples_ns: one sample per round, nanoseconds per inference; None in rounds it left out.
        memory: of its process.
    """

    task: GroupTask
    loaded: LoadedWorkload
    alone: bool
    loops: int
    warmup_ns: tuple[float | None, ...]
    samples_ns: tuple[float | None, ...]
    memory: Memory


def candidate_reports(
    measured: Sequence[Measured], bundle: Bundle, *, seed: int
) -> tuple[CandidateReport, ...]:
    """Give one record per workload, with its ratios to Keras and to float32."""
    bare = [_candidate(item, bundle) for item in measured]
    return tuple(
        replace(
            candidate,
            times_faster_than_keras=_speedup(_fastest_keras(candidate, bare), candidate, seed),
            times_faster_than_float32=_speedup(_float32(candidate, bare), candidate, seed),
        )
        for candidate in bare
    )


def _candidate(measured: Measured, bundle: Bundle) -> CandidateReport:
    task, loaded = measured.task, measured.loaded
    records = _records(task, loaded.part, bundle)
    summary = summarize(taken(measured.samples_ns))
    return CandidateReport(
        name=_name(task, loaded),
        part=loaded.part,
        format=task.format,
        precision=task.precision,
        encoder_precision=task.encoder_precision,
        keras_call=loaded.keras_call,
        files=tuple(record.file for record in records),
        sha256=tuple(record.sha256 for record in records),
        size_bytes=sum(record.size_bytes for record in records) if records else None,
        runtime=loaded.runtime,
        threads=task.threads,
        batch=loaded.batch,
        loops=measured.loops,
        alone=measured.alone,
        load_ms=loaded.load_ms,
        first_inference_ms=loaded.first_inference_ms,
        warmup_ns=measured.warmup_ns,
        samples_ns=measured.samples_ns,
        latency=LatencyStatistics(
            median_ms=summary.median / _NS_PER_MS,
            p95_ms=summary.p95 / _NS_PER_MS,
            p99_ms=summary.p99 / _NS_PER_MS,
            mad_ms=summary.mad / _NS_PER_MS,
        ),
        throughput_per_s=loaded.batch * _NS_PER_S / summary.median,
        peak_rss_bytes=measured.memory.peak_rss_bytes,
        base_rss_bytes=measured.memory.base_rss_bytes,
        times_faster_than_keras=None,
        times_faster_than_float32=None,
    )


def _records(task: GroupTask, part: Part, bundle: Bundle) -> tuple[ArtifactRecord, ...]:
    if task.format is None:
        return ()
    components = tuple(Component) if part is Part.BOTH else (Component(part.value),)
    return tuple(bundle.find(c, task.format, task.precision_of(c)) for c in components)


def _name(task: GroupTask, loaded: LoadedWorkload) -> str:
    what = f"keras {loaded.keras_call}" if loaded.keras_call is not None else task.name
    batch = f" batch {loaded.batch}" if loaded.batch != 1 else ""
    threads = f" {task.threads} threads" if task.threads != 1 else ""
    return f"{loaded.part} {what}{batch}{threads}"


def _fastest_keras(
    candidate: CandidateReport, others: Sequence[CandidateReport]
) -> CandidateReport | None:
    """Give the fastest of Keras's calls for the same part, threads and batch."""
    if candidate.keras_call is not None:
        return None
    calls = [
        other
        for other in others
        if other.keras_call is not None
        and (other.part, *_setting(other)) == (candidate.part, *_setting(candidate))
    ]
    return min(calls, key=lambda other: other.latency.median_ms, default=None)


def _float32(
    candidate: CandidateReport, others: Sequence[CandidateReport]
) -> CandidateReport | None:
    float32 = str(Precision.FLOAT32)
    if candidate.keras_call is not None or candidate.precisions == float32:
        return None
    wanted = (candidate.part, candidate.format, float32, *_setting(candidate))
    return next(
        (o for o in others if (o.part, o.format, o.precisions, *_setting(o)) == wanted), None
    )


def _setting(candidate: CandidateReport) -> tuple[int, int]:
    return candidate.threads, candidate.batch


def _speedup(
    reference: CandidateReport | None, candidate: CandidateReport, seed: int
) -> Speedup | None:
    if reference is None:
        return None
    interval = speedup_interval(reference.samples_ns, candidate.samples_ns, seed=seed)
    return Speedup(against=reference.name, interval=interval)
