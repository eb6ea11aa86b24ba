"""Throughput of a run over threads and batches, as a picture."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.head_to_head_plot import COLOURS, MARKERS
from benchmarks.report import BenchmarkReport, CandidateReport, Part

__all__ = ["draw_sweep", "sweep_lines"]

_KERAS_COLOUR = "0.5"
_STYLES = ("-", "--", ":", "-.")


def sweep_lines(
    report: BenchmarkReport, part: Part
) -> dict[tuple[str, int], tuple[CandidateReport, ...]]:
    """Give what was measured of a part, by what it is and by threads, in the order of batches.

    Of the Keras model, each batch has the call that was fastest there.
    """
    lines: dict[tuple[str, int], dict[int, CandidateReport]] = {}
    for candidate in report.candidates:
        if candidate.part is part:
            what = "Keras" if candidate.keras_call else f"{candidate.precisions} {candidate.format}"
            line = lines.setdefault((what, candidate.threads), {})
            rival = line.get(candidate.batch)
            if rival is None or candidate.throughput_per_s > rival.throughput_per_s:
                line[candidate.batch] = candidate
    return {key: tuple(line[batch] for batch in sorted(line)) for key, line in lines.items()}


def draw_sweep(axes: Any, report: BenchmarkReport, part: Part) -> None:
    """Draw rows per second over the batch, a line per candidate and number of threads.

    Args:
        axes: matplotlib's, empty.
        report: of several threads or batches.
        part: what of the VAE.
    """
    lines = sweep_lines(report, part)
    counts = list(dict.fromkeys(threads for _, threads in lines))
    for (what, threads), line in lines.items():
        first = line[0]
        keras = first.keras_call is not None
        axes.plot(
            [candidate.batch for candidate in line],
            [candidate.throughput_per_s for candidate in line],
            linestyle=_STYLES[counts.index(threads) % len(_STYLES)],
            marker=MARKERS[first.format],
            color=_KERAS_COLOUR if keras else COLOURS[first.precision],
            label=f"{what}, {threads} thread{'' if threads == 1 else 's'}",
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    batches = sorted({candidate.batch for line in lines.values() for candidate in line})
    axes.set_xticks(batches, [str(batch) for batch in batches])
    ticker = importlib.import_module("matplotlib.ticker")
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel("batch: rows per inference")
    axes.set_ylabel("rows per second (log scale): higher is better")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=7, loc="best", ncols=2)
