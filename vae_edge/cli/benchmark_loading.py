"""`vae-edge benchmark`: what it costs to open an artifact, and the memory it then takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vae_edge.cli.tables import format_size, new_table
from vae_edge.terms import Component

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.report import BenchmarkReport, CandidateReport

__all__ = ["print_loading"]


def print_loading(out: Console, report: BenchmarkReport) -> None:
    """Print load time, first inference and peak memory of every candidate.

    Of the Keras model only the call that was fastest: it is loaded once for all of them.
    """
    table = new_table(
        "Opening it: each artifact in a process of its own",
        *("component", "format", "precision", "load ms", "first ms", "peak", "its own"),
        right_from=3,
    )
    shown = _shown(report)
    for candidate in shown:
        table.add_row(*_row(candidate))
    parts = [
        "load: from the file to ready, runtime imported and file cached",
        "first: the first inference",
        "peak: resident memory, Python, numpy and runtime included",
        "its own: what the process grew by from before it opened the artifact",
    ]
    if not all(candidate.alone for candidate in shown):
        parts.append("*: in a process that held other candidates too")
    table.caption, table.caption_justify = "; ".join(parts), "left"
    out.print()
    out.print(table)


def _shown(report: BenchmarkReport) -> list[CandidateReport]:
    fastest: dict[object, CandidateReport] = {}
    for candidate in report.base:
        if candidate.keras_call is not None:
            rival = fastest.get(candidate.part)
            if rival is None or candidate.latency.median_ms < rival.latency.median_ms:
                fastest[candidate.part] = candidate
    order = [str(part) for part in (*Component, "both")]
    chosen = [c for c in report.base if c.keras_call is None or fastest[c.part] is c]
    return sorted(chosen, key=lambda c: order.index(str(c.part)))


def _row(candidate: CandidateReport) -> tuple[str, ...]:
    mark = "" if candidate.alone else " *"
    return (
        str(candidate.part),
        str(candidate.format or "Keras"),
        str(candidate.keras_call or candidate.precisions),
        f"{candidate.load_ms:,.1f}{mark}",
        f"{candidate.first_inference_ms:,.2f}{mark}",
        _memory(candidate.peak_rss_bytes) + mark,
        _memory(candidate.own_rss_bytes),
    )


def _memory(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else format_size(size_bytes)
