"""Which artifact is the best choice: the fastest one that is good enough, the smaller one on a tie.

What is fastest is a question about a device, so it is answered from what was measured there; what
is good enough is a question about the application, so it is a budget that the user sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from vae_edge.errors import UsageError
from vae_edge.manifest import ArtifactRecord, CandidateRecord, QualityBudget, SelectionRecord
from vae_edge.terms import Component
from vae_edge.verdict import ALIKE, finite, times

__all__ = [
    "DEFAULT_BUDGET",
    "Alike",
    "Candidate",
    "alike_by_median",
    "budget_of",
    "by_component",
    "by_component_and_format",
    "choose",
]

# 40 dB is an rmse of 0.01 (2.6 of 255 grey levels), which is not seen beside the original. Latents
# are allowed the same hundredth, of their span.
DEFAULT_BUDGET = QualityBudget(min_psnr_db=40.0, max_error=0.01)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An artifact, and how long it takes where the choice is made.

    Attributes:
        record: what its manifest says of it.
        median_ms: milliseconds per inference; None where it was not measured.
    """

    record: ArtifactRecord
    median_ms: float | None


Alike = Callable[[Candidate, Candidate], bool]
Group = Callable[[Candidate], Hashable]


def budget_of(min_psnr_db: float | None, max_error: float | None) -> QualityBudget:
    """Give the default budget, with what the user set in its place.

    Raises:
        UsageError: a figure that is not finite, or an error below 0.
    """
    psnr = DEFAULT_BUDGET.min_psnr_db if min_psnr_db is None else min_psnr_db
    error = DEFAULT_BUDGET.max_error if max_error is None else max_error
    if not math.isfinite(psnr):
        raise UsageError(f"--min-psnr {psnr}: expected a number of decibels, e.g. 40.")
    if not math.isfinite(error) or error < 0:
        raise UsageError(f"--max-error {error}: expected a share of the span, e.g. 0.01.")
    return QualityBudget(min_psnr_db=psnr, max_error=error)


def by_component(candidate: Candidate) -> Hashable:
    """One choice per component, of whatever format: what runs best on a device."""
    return candidate.record.component


def by_component_and_format(candidate: Candidate) -> Hashable:
    """One choice per component and format: what to publish for devices with either runtime."""
    return candidate.record.component, candidate.record.format


def alike_by_median(one: Candidate, other: Candidate) -> bool:
    """Whether two take the same time, by their medians alone: within 3 %."""
    if not one.median_ms or not other.median_ms:
        return False
    return abs(one.median_ms / other.median_ms - 1) <= ALIKE


def choose(
    candidates: Iterable[Candidate],
    budget: QualityBudget,
    *,
    group: Group,
    alike: Alike = alike_by_median,
) -> SelectionRecord:
    """Choose the best candidate of every group.

    Of those that passed parity, keep the budget and were measured, the fastest is the best; among
    those that are as fast as it the smallest file, and the faster of two of one size.

    Args:
        candidates: artifacts with their latencies, of one machine and one run.
        budget: what is good enough.
        group: candidates for which this gives the same compete with each other.
        alike: tells whether two take the same time as far as the measurement can tell.

    Returns:
        Every candidate in the order given, with the reason for its fate. A group of which none
        keeps the budget has none chosen.
    """
    listed = tuple(candidates)
    groups: dict[Hashable, list[Candidate]] = {}
    for candidate in listed:
        groups.setdefault(group(candidate), []).append(candidate)
    records: dict[str, CandidateRecord] = {}
    for rivals in groups.values():
        for record in _choose_one(rivals, budget, alike):
            records[record.file] = record
    return SelectionRecord(budget=budget, candidates=tuple(records[c.record.file] for c in listed))


def _choose_one(
    rivals: Sequence[Candidate], budget: QualityBudget, alike: Alike
) -> Iterable[CandidateRecord]:
    faults = {c.record.file: _fault(c, budget) for c in rivals}
    sound = [c for c in rivals if not faults[c.record.file]]
    fastest = min(sound, key=_duration, default=None)
    tied = [c for c in sound if fastest is c or (fastest and alike(c, fastest))]
    best = min(tied, key=lambda c: (c.record.size_bytes, _duration(c)), default=None)
    for candidate in rivals:
        fault = faults[candidate.record.file]
        reason = fault
        if not fault and best is not None and fastest is not None:
            reason = _reason(candidate, best, fastest, tied)
        yield _record(candidate, not fault, candidate is best, reason)


def _fault(candidate: Candidate, budget: QualityBudget) -> str:
    """Why a candidate is out of the question; empty where it is not."""
    parity = candidate.record.parity
    psnr = parity.worst("psnr_db") if parity else None
    rmse = parity.worst("rmse") if parity else None
    if parity is None or psnr is None or rmse is None:
        return "parity not checked"
    if not parity.passed:
        return "fails parity"
    if candidate.record.component is Component.DECODER and psnr < budget.min_psnr_db:
        return f"below {budget.min_psnr_db:g} dB"
    if candidate.record.component is Component.ENCODER and rmse > budget.max_error:
        return f"latents off by {rmse:.3g}"
    if candidate.median_ms is None:
        return "not measured"
    return ""


def _reason(
    candidate: Candidate, best: Candidate, fastest: Candidate, tied: Sequence[Candidate]
) -> str:
    if candidate is best:
        return "fastest" if best is fastest else "as fast as any, and smaller"
    if candidate in tied:
        return "as fast, but no smaller"
    return f"{times(_duration(candidate) / _duration(best))} the time"


def _duration(candidate: Candidate) -> float:
    return math.inf if candidate.median_ms is None else candidate.median_ms


def _record(candidate: Candidate, eligible: bool, chosen: bool, reason: str) -> CandidateRecord:
    artifact = candidate.record
    parity = artifact.parity
    return CandidateRecord(
        file=artifact.file,
        size_bytes=artifact.size_bytes,
        median_ms=candidate.median_ms,
        psnr_db=finite(parity.worst("psnr_db") if parity else None),
        rmse=finite(parity.worst("rmse") if parity else None),
        eligible=eligible,
        chosen=chosen,
        reason=reason,
    )
