"""`vae-edge benchmark --threads 1,2,4 --batch 1,8,32`: throughput over both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vae_edge.cli.tables import new_table
from vae_edge.terms import Component

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.report import BenchmarkReport, CandidateReport

__all__ = ["print_sweep"]


def print_sweep(out: Console, report: BenchmarkReport) -> None:
    """Print a row per candidate and number of threads, and a column per batch.

    Of the Keras model, every cell is that of its fastest call.
    """
    batches = sorted({candidate.batch for candidate in report.candidates})
    table = new_table(
        "Throughput: rows per second (ms per inference)",
        *("component", "format", "precision", "threads"),
        *(f"batch {batch}" for batch in batches),
        right_from=3,
    )
    cells = _cells(report)
    order = [str(part) for part in (*Component, "both")]
    first_seen = list(dict.fromkeys(key[:3] for key in cells))
    for key in sorted(cells, key=lambda k: (order.index(k[0]), first_seen.index(k[:3]), k[3])):
        by_batch = cells[key]
        table.add_row(*key[:3], str(key[3]), *(_cell(by_batch, batch) for batch in batches))
    notes = []
    if any(candidate.keras_call is not None for candidate in report.candidates):
        notes.append("Keras: its fastest call")
    if any("at a time" in _cell(row, batch) for row in cells.values() for batch in batches):
        notes.append(
            "n at a time: the batch of the file is fixed, so that more rows go through it one "
            "after the other, at the throughput that stands before"
        )
    if notes:
        table.caption, table.caption_justify = "; ".join(notes), "left"
    out.print()
    out.print(table)


_Key = tuple[str, str, str, int]


def _cells(report: BenchmarkReport) -> dict[_Key, dict[int, CandidateReport]]:
    """Give what was measured by row and batch; of several Keras calls the fastest."""
    cells: dict[_Key, dict[int, CandidateReport]] = {}
    for candidate in report.candidates:
        key = (
            str(candidate.part),
            str(candidate.format or "Keras"),
            "float32" if candidate.keras_call else candidate.precisions,
            candidate.threads,
        )
        row = cells.setdefault(key, {})
        rival = row.get(candidate.batch)
        if rival is None or candidate.latency.median_ms < rival.latency.median_ms:
            row[candidate.batch] = candidate
    return cells


def _cell(by_batch: dict[int, CandidateReport], batch: int) -> str:
    found = by_batch.get(batch)
    if found is None:
        (fixed, *others) = by_batch
        whole = not others and batch > fixed and batch % fixed == 0
        return f"{fixed} at a time" if whole else "-"
    ms = found.latency.median_ms
    digits = 3 if ms < 10 else 1
    return f"{found.throughput_per_s:,.0f} ({ms:,.{digits}f})"
