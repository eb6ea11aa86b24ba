"""A head to head as a picture: size and error against latency, and the Pareto fronts."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.head_to_head_report import HeadToHead, Row
from vae_edge.files import replaced_file
from vae_edge.terms import Component, Format, Precision

__all__ = ["COLOURS", "LEAST_ERROR", "MARKERS", "error_of", "pareto_front", "write_plot"]

_DPI = 150
# Identical outputs have no place on a logarithmic axis; float32 rounds to about this.
LEAST_ERROR = 1e-8
COLOURS = {
    Precision.FLOAT32: "#1f77b4",
    Precision.FLOAT16: "#17a2a2",
    Precision.DYNAMIC: "#2ca02c",
    Precision.INT8: "#d62728",
    Precision.INT16X8: "#9467bd",
    Precision.INT4: "#8c564b",
}
MARKERS = {Format.TFLITE: "o", Format.ONNX: "s", None: "^"}


@dataclass(frozen=True, kw_only=True)
class _Panel:
    label: str
    value: Callable[[Row], float | None]


def pareto_front(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Find the points that no other beats: none is as low in both and lower in one.

    Args:
        points: pairs of figures of which less is better.

    Returns:
        Indices of the front, by the first figure; of equal points the first.
    """
    front: list[int] = []
    lowest = math.inf
    for index in sorted(range(len(points)), key=lambda i: (*points[i], i)):
        if points[index][1] < lowest:
            front.append(index)
            lowest = points[index][1]
    return tuple(front)


def error_of(row: Row) -> float | None:
    """Give one figure for a component's error; less is better, None where it was not judged.

    Encoder: mean absolute error over z_mean and z_log_var. Decoder: root mean square error of a
    pixel in grey levels from 0 to 1, 10^(-PSNR/20).
    """
    if row.quality is None:
        return None
    encoder, decoder = row.quality.encoder, row.quality.decoder
    if encoder is not None:
        return max((encoder.z_mean_mean + encoder.z_log_var_mean) / 2, LEAST_ERROR)
    if decoder is not None:
        return max(float(10 ** (-decoder.psnr_db / 20)), LEAST_ERROR)
    return None


def write_plot(report: HeadToHead, path: Path) -> None:
    """Draw the run to a PNG: a column per component, size above and error below.

    Args:
        report: the run.
        path: file to write.
    """
    # A backend without a screen, and without touching the global state of pyplot.
    figure_module = importlib.import_module("matplotlib.figure")
    figure = figure_module.Figure(figsize=(14, 10.5), layout="constrained")
    axes = figure.subplots(2, len(Component), squeeze=False)
    for column, component in enumerate(Component):
        rows = [row for row in report.rows if row.component is component]
        what = (
            "mean error of z_mean and z_log_var"
            if component is Component.ENCODER
            else "RMS error of a pixel"
        )
        size = _Panel(label="size, KB", value=lambda row: row.size_bytes / 1000)
        for line, panel in enumerate((size, _Panel(label=what, value=error_of))):
            _draw(axes[line][column], rows, panel)
        axes[0][column].set_title(f"{component}: lower left is better", fontsize=11)
    figure.suptitle(
        f"{report.model}: vae-edge (filled) and stock exports (hollow)\n{report.machine}, batch "
        f"{report.batch}, one thread",
        fontsize=11,
    )
    figure.legend(handles=_legend_handles(), loc="outside lower center", ncols=9, fontsize=9)
    with replaced_file(path) as part:
        figure.savefig(part, dpi=_DPI)


def _draw(axes: Any, rows: Sequence[Row], panel: _Panel) -> None:
    shown = [(row, value) for row in rows if (value := panel.value(row)) is not None]
    for row, value in shown:
        colour = COLOURS[row.precision]
        axes.plot(
            row.median_us,
            value,
            marker=MARKERS[row.format],
            markersize=10 if row.ours else 8,
            markerfacecolor=colour if row.ours else "none",
            markeredgecolor="black" if row.ours else colour,
            markeredgewidth=0.8 if row.ours else 1.6,
            linestyle="none",
            zorder=3 if row.ours else 2,
        )
    if shown:
        _draw_front(axes, shown)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(0.12)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.set_xlabel("latency, µs (median, log scale)")
    axes.set_ylabel(f"{panel.label} (log scale)")
    ticker = importlib.import_module("matplotlib.ticker")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:,.0f}"))
    if panel.label.startswith("size"):
        for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            which(ticker.FuncFormatter(lambda y, _: f"{y:,.0f}"))


def _draw_front(axes: Any, shown: Sequence[tuple[Row, float]]) -> None:
    """Join the points that no other beats, number them, and say which they are."""
    front = pareto_front([(row.median_us, value) for row, value in shown])
    points = [(shown[i][0].median_us, shown[i][1]) for i in front]
    axes.step(*zip(*points, strict=True), where="post", color="0.45", linewidth=1.2, zorder=1)
    for number, i in enumerate(front, start=1):
        row, value = shown[i]
        axes.annotate(
            str(number),
            (row.median_us, value),
            # Neighbours on a front lie close together.
            xytext=(-9, 7) if number % 2 else (-9, -15),
            textcoords="offset points",
            fontsize=9,
        )
    names = [f"{number}  {_short(shown[i][0])}" for number, i in enumerate(front, start=1)]
    lines = importlib.import_module("matplotlib.lines")
    handles = [lines.Line2D([], [], linestyle="none", label=name) for name in names]
    axes.legend(handles=handles, handlelength=0, handletextpad=0, fontsize=8, loc="best")


def _short(row: Row) -> str:
    return f"{row.tool}: {row.precision} {row.format or 'SavedModel'}"


def _legend_handles() -> list[Any]:
    lines = importlib.import_module("matplotlib.lines")

    def handle(label: str, **style: Any) -> Any:
        return lines.Line2D([], [], label=label, **{"linestyle": "none", **style})

    return [
        *(handle(str(p), marker="o", color=colour, markersize=8) for p, colour in COLOURS.items()),
        *(
            handle(str(f or "SavedModel"), marker=marker, color="0.4", markersize=8)
            for f, marker in MARKERS.items()
        ),
        handle("Pareto front", linestyle="-", color="0.45"),
    ]
