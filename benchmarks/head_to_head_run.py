"""One run of a head to head: load, time in turns, judge, and put it all on record."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial

import numpy as np

from benchmarks.bare import Bare
from benchmarks.component_quality import Reference
from benchmarks.contestants import Contestant, size_of
from benchmarks.engines import open_bare
from benchmarks.environment import read_environment, read_state
from benchmarks.fitness import find_warnings
from benchmarks.head_to_head_quality import Subject, judge
from benchmarks.head_to_head_report import SCHEMA_VERSION, HeadToHead, Row, with_ratios
from benchmarks.interleaved import Timed, difference_us, time_in_turns
from benchmarks.report import Settings
from benchmarks.statistics import relative_spread, summarize, taken
from benchmarks.stock_job import Failure, one_line
from vae_edge._version import __version__
from vae_edge.errors import UsageError, VaeEdgeError
from vae_edge.runners.registry import open_artifact
from vae_edge.terms import COMPONENT_INPUT, Component, FloatArray

__all__ = ["run_head_to_head"]

_NS_PER_US = 1e3
_PACKAGES = (
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnxruntime",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "openvino",
    "mnn",
)

Step = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Opened:
    contestant: Contestant
    bare: Bare
    rows: FloatArray


def run_head_to_head(
    subject: Subject,
    contestants: Sequence[Contestant],
    failures: Sequence[Failure],
    *,
    settings: Settings,
    batch: int = 1,
    on_step: Step = lambda _: None,
) -> HeadToHead:
    """Measure and judge all contestants.

    Args:
        subject: the Keras model, and images.
        contestants: stock exports and ours.
        failures: what could not be exported; what cannot be opened or judged joins it.
        settings: how to measure, with one thread.
        batch: rows per call.
        on_step: called with what is done next.

    Raises:
        UsageError: nothing can be measured.
        ArtifactError: the clock stands still, or one of ours does not load.
    """
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    before = read_state()
    left_out = list(failures)
    on_step("loading")
    opened = list(_open_all(subject, contestants, batch, left_out))
    if not opened:
        raise UsageError("nothing could be exported and loaded, so there is nothing to measure.")
    on_step(f"latency of {len(opened)} exports")
    calls = [item.bare.prepare(item.rows) for item in opened]
    timed = _time(calls, settings)
    on_step("runner overhead")
    overheads = _overheads(opened, settings)
    # Before the quality figures, which keep the machine busy by themselves.
    environment = read_environment(before, read_state())
    rows = []
    for item, figures in zip(opened, timed, strict=True):
        row = _row(item, figures, overheads.get(item.contestant.name))
        on_step(f"quality of {row.name}")
        try:
            quality = judge(item.bare, row.component, subject, batch=batch, median_us=row.median_us)
            rows.append(replace(row, quality=quality))
        except VaeEdgeError as error:
            left_out.append(Failure(name=row.name, reason=f"not judged: {one_line(error)}"))
            rows.append(row)
    spreads = {row.name: relative_spread(summarize(taken(row.samples_ns))) for row in rows}
    return HeadToHead(
        schema_version=SCHEMA_VERSION,
        vae_edge_version=__version__,
        started_utc=started,
        machine=environment.machine,
        model=subject.vae.name,
        source_sha256=subject.vae.source_sha256,
        dataset=subject.dataset,
        settings=settings,
        batch=batch,
        environment=environment,
        tools=_versions(),
        rows=with_ratios(rows, seed=settings.seed),
        failures=tuple(left_out),
        warnings=find_warnings(environment, threads=settings.threads, spreads=spreads),
    )


def _open_all(
    subject: Subject, contestants: Sequence[Contestant], batch: int, failures: list[Failure]
) -> Iterator[_Opened]:
    ordered = sorted(contestants, key=lambda c: list(Component).index(c.component))
    for contestant in ordered:
        component = contestant.component
        try:
            bare = open_bare(contestant, subject.vae.row_shape(component), batch=batch)
            rows = _first_rows(subject.reference, component, batch)
            bare.prepare(rows)()
        except Exception as error:  # a stock file may fail in any way
            if contestant.ours:
                raise
            failures.append(Failure(name=contestant.name, reason=one_line(error)))
        else:
            yield _Opened(contestant=contestant, bare=bare, rows=rows)


def _first_rows(reference: Reference, component: Component, batch: int) -> FloatArray:
    """Give real inputs to time on: integer kernels and sparse activations do not mind, but may."""
    encoder = component is Component.ENCODER
    rows = reference.images if encoder else reference.posterior["z_mean"]
    return np.ascontiguousarray(np.resize(rows[:batch], (batch, *rows.shape[1:])))


def _time(calls: Sequence[Callable[[], object]], settings: Settings) -> tuple[Timed, ...]:
    return time_in_turns(
        calls,
        rounds=settings.rounds,
        warmup_rounds=settings.warmup_rounds,
        min_sample_ms=settings.min_sample_ms,
        seed=settings.seed,
    )


def _overheads(opened: Sequence[_Opened], settings: Settings) -> Mapping[str, float]:
    """Time the runner and the bare call of each of our artifacts in turns, microseconds."""
    overheads = {}
    for item in opened:
        if not item.contestant.ours:
            continue
        with open_artifact(item.contestant.path) as runner:
            feeds = {COMPONENT_INPUT[item.contestant.component]: item.rows}
            calls = (partial(runner.run, feeds), item.bare.prepare(item.rows))
            through_runner, bare = _time(calls, settings)
        overheads[item.contestant.name] = difference_us(through_runner, bare)
    return overheads


def _row(item: _Opened, timed: Timed, overhead_us: float | None) -> Row:
    contestant = item.contestant
    summary = summarize(taken(timed.samples_ns))
    return Row(
        name=contestant.name,
        tool=contestant.tool,
        component=contestant.component,
        format=contestant.format,
        precision=contestant.precision,
        engine=contestant.engine,
        runtime=item.bare.runtime,
        ours=contestant.ours,
        baseline=contestant.baseline,
        file=contestant.path.name,
        size_bytes=size_of(contestant.path),
        loops=timed.loops,
        warmup_ns=timed.warmup_ns,
        samples_ns=timed.samples_ns,
        median_us=summary.median / _NS_PER_US,
        mad_us=summary.mad / _NS_PER_US,
        times_stock=None,
        times_float32=None,
        quality=None,
        runner_overhead_us=overhead_us,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
