"""A benchmark report as a picture: size and error against latency, and the Pareto fronts.

A run over several threads or batches has a third row: throughput over both.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.head_to_head_plot import COLOURS, LEAST_ERROR, MARKERS, pareto_front
from benchmarks.report import BenchmarkReport, CandidateReport, Part
from benchmarks.sweep_plot import OTHER_MARKER, draw_sweep
from vae_edge.errors import RuntimeMissingError
from vae_edge.files import replaced_file
from vae_edge.terms import Component

__all__ = ["Point", "points_of", "require_matplotlib", "write_plot"]

_DPI = 150
_ERROR_LABELS = {
    Component.ENCODER: "rmse of the latents, share of their span",
    Component.DECODER: "rmse of a pixel, grey levels from 0 to 1",
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """An artifact in the picture.

    Attributes:
        candidate: what was measured.
        latency_us: median per image or latent, microseconds.
        size_kb: of its file, in units of 1,000 bytes.
        error: largest rmse on the golden vectors; None where parity was not checked.
    """

    candidate: CandidateReport
    latency_us: float
    size_kb: float
    error: float | None


def require_matplotlib() -> None:
    """Refuse early what could not be drawn later.

    Raises:
        RuntimeMissingError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise RuntimeMissingError(
            "--plot needs matplotlib, which is not installed: pip install matplotlib. A device "
            "can do without: keep the figures with --out or --csv."
        ) from error


def points_of(report: BenchmarkReport, component: Component) -> tuple[Point, ...]:
    """Give the artifacts of one component that were measured, with the errors that are known."""
    errors: Mapping[str, float | None] = (
        {} if report.best is None else {c.file: c.rmse for c in report.best.candidates}
    )
    return tuple(
        Point(
            candidate=candidate,
            latency_us=candidate.latency.median_ms * 1000 / candidate.batch,
            size_kb=candidate.size_bytes / 1000,
            error=None if error is None else max(error, LEAST_ERROR),
        )
        for candidate in report.base
        if candidate.part is Part(component.value) and candidate.size_bytes is not None
        for error in (errors.get(candidate.files[0]),)
    )


def write_plot(report: BenchmarkReport, path: Path) -> None:
    """Draw the run: a column per component; size, error, and the throughput of a sweep.

    Args:
        report: the run; errors are those of its choice of the best.
        path: file to write; its suffix, e.g. `.png`, tells the format.

    Raises:
        RuntimeMissingError: matplotlib is not installed.
    """
    require_matplotlib()
    columns = [
        (component, points) for component in Component if (points := points_of(report, component))
    ]
    # A backend without a screen, and without touching the global state of pyplot.
    figure_module = importlib.import_module("matplotlib.figure")
    rows, wide = 3 if report.is_sweep else 2, max(len(columns), 1)
    figure = figure_module.Figure(figsize=(7 * wide, 5 * rows), layout="constrained")
    axes = figure.subplots(rows, wide, squeeze=False)
    for column, (component, points) in enumerate(columns):
        _draw(axes[0][column], [(p, p.size_kb) for p in points], "size, KB")
        judged = [(p, p.error) for p in points if p.error is not None]
        _draw(axes[1][column], judged, _ERROR_LABELS[component])
        axes[0][column].set_title(f"{component}: lower left is better", fontsize=11)
        if report.is_sweep:
            draw_sweep(axes[2][column], report, Part(component.value))
    threads = report.settings.threads
    figure.suptitle(
        f"{report.model.name}\n{report.machine}; {threads} thread{'' if threads == 1 else 's'}",
        fontsize=11,
    )
    with replaced_file(path) as part:
        figure.savefig(part, dpi=_DPI)


def _draw(axes: Any, shown: Sequence[tuple[Point, float]], label: str) -> None:
    axes.set_xlabel("latency per image, µs (median, log scale)")
    axes.set_ylabel(f"{label} (log scale)")
    if not shown:
        axes.text(0.5, 0.5, "not checked", ha="center", va="center", transform=axes.transAxes)
        return
    front = pareto_front([(point.latency_us, value) for point, value in shown])
    corners = [(shown[i][0].latency_us, shown[i][1]) for i in front]
    axes.step(
        *zip(*corners, strict=True),
        where="post",
        color="0.45",
        linewidth=1.2,
        zorder=1,
        label="Pareto front",
    )
    for index, (point, value) in enumerate(shown):
        candidate = point.candidate
        on_front = index in front
        colour = COLOURS[candidate.precision]
        axes.plot(
            point.latency_us,
            value,
            marker=MARKERS.get(candidate.format, OTHER_MARKER),
            markersize=9,
            markerfacecolor=colour if on_front else "none",
            markeredgecolor="black" if on_front else colour,
            linestyle="none",
            label=f"{candidate.precision} {candidate.format}{' *' if on_front else ''}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticker = importlib.import_module("matplotlib.ticker")
    for axis in (axes.xaxis, axes.yaxis) if label.startswith("size") else (axes.xaxis,):
        axis.set_major_formatter(ticker.FuncFormatter(_plain))
        axis.set_minor_formatter(ticker.FuncFormatter(_plain))
    axes.margins(0.15)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8, loc="best", title="filled, *: on the front", title_fontsize=8)


def _plain(value: float, _: int) -> str:
    """Write a tick as a plain number, and only where the first digit leaves room for it."""
    digits = f"{value:.12g}"
    return digits if digits.lstrip("0.")[:1] in ("1", "2", "3", "4", "6") else ""
