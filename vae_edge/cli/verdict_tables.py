"""Did it pay, and what is the best choice: how `export` and `benchmark` end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from vae_edge.cli.tables import format_latency, format_size, new_table
from vae_edge.verdict import Speed, Verdict, size_words, times

if TYPE_CHECKING:
    from rich.console import Console

    from vae_edge.manifest import CandidateRecord, QualityBudget, SelectionRecord

__all__ = ["budget_words", "print_best", "print_selection", "print_verdicts"]

# What a terminal has at least; a pipe has more, but is read in one as well.
_WIDTH = 80


def print_verdicts(out: Console, verdicts: Sequence[Verdict]) -> None:
    """Print one line per artifact, and below them why some are not faster."""
    if not verdicts:
        return
    table = new_table(
        "Did it pay? Beside float32 of the same format, on this machine",
        *("pays", "artifact", "speed", "size", "PSNR"),
        right_from=4,
    )
    for verdict in verdicts:
        table.add_row(
            _pays(verdict),
            verdict.file,
            _speed(verdict),
            "-" if verdict.times_smaller is None else size_words(verdict.times_smaller),
            _quality(verdict.psnr_db, verdict.max_abs_error),
        )
    out.print(table)
    reasons = [(verdict.file, "; ".join(verdict.reasons)) for verdict in verdicts]
    _print_list(out, "Not faster, because", [row for row in reasons if row[1]])


def print_selection(out: Console, selection: SelectionRecord, title: str) -> None:
    """Print what was chosen and what was not, with the reasons."""
    _print_candidates(out, selection.candidates, title, selection.budget)


def print_best(
    out: Console, best: SelectionRecord, one_format: Sequence[CandidateRecord] = ()
) -> None:
    """Print the best choice of each component, and what was not good enough to be one.

    Args:
        out: where to.
        best: among all formats.
        one_format: the best choices of a single format, where those of `best` differ in it.
    """
    chosen = [candidate for candidate in best.candidates if candidate.chosen]
    if chosen:
        _print_candidates(out, chosen, "Best choice for this device", best.budget)
    else:
        out.print(f"Best choice for this device: none. Budget: {budget_words(best.budget)}.\n")
    if one_format:
        both = sum(candidate.median_ms or 0.0 for candidate in one_format)
        files = " and ".join(candidate.file for candidate in one_format)
        out.print(f"In one format, for one runtime: {files}, {format_latency(both)} together.\n")
    unfit = [(c.file, c.reason) for c in best.candidates if not c.eligible]
    _print_list(out, "Not good enough", unfit)


def budget_words(budget: QualityBudget) -> str:
    """Say what a budget asks for."""
    return (
        f"images of at least {budget.min_psnr_db:g} dB, latents within {budget.max_error:g} of "
        "their span (rmse)"
    )


def _print_candidates(
    out: Console, candidates: Sequence[CandidateRecord], title: str, budget: QualityBudget
) -> None:
    columns = ("", "artifact", "size", "latency", "PSNR", "why")
    table = new_table(title, *columns, right_from=2)
    table.columns[-1].justify = "left"
    for candidate in candidates:
        table.add_row(*_candidate(candidate))
    out.print(table)
    out.print(f"Budget: {budget_words(budget)}.\n", soft_wrap=True)


def _pays(verdict: Verdict) -> str:
    if verdict.paid is None:
        return "?"
    if not verdict.paid:
        return "no"
    return "yes" if verdict.speed is Speed.FASTER else "in size"


def _speed(verdict: Verdict) -> str:
    if verdict.speed is None or verdict.times_faster is None:
        return "no float32" if verdict.times_smaller is None else "not measured"
    if verdict.speed is Speed.AS_FAST:
        return "as fast"
    ratio = times(verdict.times_faster)
    return f"{ratio} faster" if verdict.speed is Speed.FASTER else f"slower ({ratio})"


def _quality(psnr_db: float | None, error: float | None) -> str:
    if psnr_db is not None:
        return f"{psnr_db:.1f} dB"
    return "exact" if error is not None else "-"


def _candidate(candidate: CandidateRecord) -> tuple[str, ...]:
    return (
        ">" if candidate.chosen else "",
        candidate.file,
        format_size(candidate.size_bytes),
        format_latency(candidate.median_ms),
        _quality(candidate.psnr_db, candidate.rmse),
        candidate.reason if candidate.eligible else f"out: {candidate.reason}",
    )


def _print_list(out: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    if not rows:
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(f"  {name}", text)
    out.print(f"{title}:")
    out.print(table, width=min(_WIDTH, out.width))
    out.print()
