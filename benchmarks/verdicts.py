"""What a run says of a bundle's artifacts: did they pay here, and which is the best choice here?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.report import BenchmarkReport, CandidateReport
from benchmarks.statistics import speedup_interval
from vae_edge.errors import UsageError
from vae_edge.manifest import CandidateRecord, Manifest, QualityBudget
from vae_edge.selection import (
    Alike,
    Candidate,
    alike_by_median,
    by_component,
    by_component_and_format,
    choose,
)
from vae_edge.terms import Format
from vae_edge.verdict import Ratio, verdicts

__all__ = ["alike_by_samples", "best_in_one_format", "candidates_of", "ratios", "with_verdicts"]


def with_verdicts(
    report: BenchmarkReport, manifest: Manifest, budget: QualityBudget
) -> BenchmarkReport:
    """Give the report with a verdict on every artifact measured, and the best choice among them.

    Args:
        report: of a bundle's artifacts.
        manifest: of that bundle; sizes and parity are taken from it.
        budget: what the best choice has to keep.
    """
    base = report.base
    measured = {file for candidate in _single(base) for file in candidate.files}
    found = verdicts(manifest, ratios(base))
    return replace(
        report,
        verdicts=tuple(verdict for verdict in found if verdict.file in measured),
        best=choose(
            candidates_of(manifest, base, measured),
            budget,
            group=by_component,
            alike=alike_by_samples(base),
        ),
    )


def best_in_one_format(report: BenchmarkReport, manifest: Manifest) -> tuple[CandidateRecord, ...]:
    """Give the best choices of the one format in which they take the least time together.

    An application opens one format, and installs one runtime. Empty where the best choices are of
    one format anyway, or no format has one within the budget for every component measured.
    """
    best = report.best
    if best is None or len(set(_formats(manifest, best.chosen))) < 2:
        return ()
    files = {candidate.file for candidate in best.candidates}
    base = report.base
    candidates = candidates_of(manifest, base, files)
    selection = choose(
        candidates,
        best.budget,
        group=by_component_and_format,
        alike=alike_by_samples(base),
    )
    chosen: dict[Format, list[CandidateRecord]] = {}
    for candidate, record in zip(candidates, selection.candidates, strict=True):
        if record.chosen:
            chosen.setdefault(candidate.record.format, []).append(record)
    components = {candidate.record.component for candidate in candidates}
    whole = [tuple(pair) for pair in chosen.values() if len(pair) == len(components)]
    return min(whole, key=lambda pair: sum(c.median_ms or 0.0 for c in pair), default=())


def ratios(candidates: Sequence[CandidateReport]) -> Mapping[str, Ratio]:
    """Give how many times faster than float32 each artifact was, by file, where that is known."""
    return {
        candidate.files[0]: Ratio(value=interval.value, low=interval.low, high=interval.high)
        for candidate in _single(candidates)
        if candidate.times_faster_than_float32
        for interval in (candidate.times_faster_than_float32.interval,)
    }


def candidates_of(
    manifest: Manifest, candidates: Sequence[CandidateReport], files: set[str] | None = None
) -> tuple[Candidate, ...]:
    """Give a bundle's artifacts with their latencies, to choose among.

    Args:
        manifest: of the bundle.
        candidates: what was measured; an artifact that is not among them has no latency.
        files: only these; all by default.
    """
    medians = {c.files[0]: c.latency.median_ms for c in _single(candidates)}
    return tuple(
        Candidate(record=record, median_ms=medians.get(record.file))
        for record in manifest.artifacts
        if files is None or record.file in files
    )


def alike_by_samples(candidates: Sequence[CandidateReport], *, seed: int = 0) -> Alike:
    """Tell ties by the run's samples: the confidence interval of the ratio holds 1.

    Medians within 3 % are a tie too: what differs less is worth less than a smaller file.
    """
    samples = {c.files[0]: c.samples_ns for c in _single(candidates)}

    def alike(one: Candidate, other: Candidate) -> bool:
        if alike_by_median(one, other):
            return True
        try:
            interval = speedup_interval(
                samples[one.record.file], samples[other.record.file], seed=seed
            )
        except (KeyError, UsageError):  # not measured, or never in the same round
            return False
        return interval.low <= 1 <= interval.high

    return alike


def _formats(manifest: Manifest, files: Sequence[str]) -> list[Format]:
    return [record.format for record in manifest.artifacts if record.file in files]


def _single(candidates: Sequence[CandidateReport]) -> tuple[CandidateReport, ...]:
    """Leave out Keras, and encoder and decoder in a row."""
    return tuple(candidate for candidate in candidates if len(candidate.files) == 1)
