"""Throughput of a run over threads and batches, as a picture."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.head_to_head_plot import COLOURS, MARKERS
from benchmarks.report import BenchmarkReport, CandidateReport, Part

__all__ = ["OTHER_MARKER", "draw_sweep", "sweep_lines"]

_KERAS_COLOUR = "0.5"
# Of a format that another package adds.
OTHER_MARKER = "D"
_STYLES = ("-", "--", ":", "-.")


def sweep_lines(
    report: BenchmarkReport, part: Part
) -> dict[tuple[str, int], dict[int, CandidateReport]]:
    """Give what was measured of a part as lines over the batch, or over threads at one batch.

    Of the Keras model, each point has the call that was fastest there.

    Returns:
        By what it is and its threads (or its only batch), the points by batch (or threads).
    """
    over_batch = _is_over_batch(report)
    lines: dict[tuple[str, int], dict[int, CandidateReport]] = {}
    for candidate in report.candidates:
        if candidate.part is part:
            what = "Keras" if candidate.keras_call else f"{candidate.precisions} {candidate.format}"
            kept, along = candidate.threads, candidate.batch
            if not over_batch:
                kept, along = along, kept
            line = lines.setdefault((what, kept), {})
            rival = line.get(along)
            if rival is None or candidate.throughput_per_s > rival.throughput_per_s:
                line[along] = candidate
    return {key: dict(sorted(line.items())) for key, line in lines.items()}


def draw_sweep(axes: Any, report: BenchmarkReport, part: Part) -> None:
    """Draw rows per second over the batch (or threads), a line per candidate and setting.

    Args:
        axes: matplotlib's, empty.
        report: of several threads or batches.
        part: what of the VAE.
    """
    over_batch = _is_over_batch(report)
    lines = sweep_lines(report, part)
    kept = list(dict.fromkeys(setting for _, setting in lines))
    for (what, setting), line in lines.items():
        first = next(iter(line.values()))
        named = f"{setting} thread{'' if setting == 1 else 's'}" if over_batch else ""
        colour = _KERAS_COLOUR if first.keras_call else COLOURS[first.precision]
        axes.plot(
            list(line),
            [candidate.throughput_per_s for candidate in line.values()],
            linestyle=_STYLES[kept.index(setting) % len(_STYLES)],
            marker=MARKERS.get(first.format, OTHER_MARKER),
            markerfacecolor=colour if setting == kept[0] else "none",
            color=colour,
            label=f"{what}, {named}" if named else what,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({value for line in lines.values() for value in line})
    axes.set_xticks(ticks, [str(value) for value in ticks])
    ticker = importlib.import_module("matplotlib.ticker")
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel("batch: rows per inference" if over_batch else "threads")
    axes.set_ylabel("rows per second (log scale): higher is better")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=7, loc="best", ncols=2)


def _is_over_batch(report: BenchmarkReport) -> bool:
    return len({candidate.batch for candidate in report.candidates}) > 1
