"""A head to head as Markdown: one table per component, ours in bold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from benchmarks.contestants import Engine
from benchmarks.head_to_head_report import HeadToHead, Quality, Row
from benchmarks.report import Speedup
from vae_edge.terms import Component, Format, Precision

__all__ = ["case_table", "markdown"]

_COLUMNS = ("format", "precision", "made by", "size", "median", "x stock", "x our float32")
_ERRORS = {
    Component.ENCODER: "mean error z_mean / z_log_var",
    Component.DECODER: "PSNR / max error",
}
_FORMATS = (*Format, None)
_FALLBACK = "†"


def markdown(report: HeadToHead) -> str:
    """Give the run's tables, the runner's overhead, and what could not be made or trusted."""
    return "\n\n".join(_blocks(report)) + "\n"


def _blocks(report: HeadToHead) -> Iterator[str]:
    settings = report.settings
    yield (
        f"{report.model} on {report.machine}: batch {report.batch}, one thread, bare runtime "
        f"calls, medians ± MAD of {settings.rounds} interleaved rounds. "
        + ", ".join(f"{name} {version}" for name, version in report.tools.items())
        + "."
    )
    for component in Component:
        rows = [row for row in report.rows if row.component is component]
        if rows:
            yield _table(component, rows)
    yield _legend(report)
    overhead = "; ".join(_overheads(report))
    if overhead:
        yield f"Runner.run over the bare call, median over our artifacts: {overhead}."
    if report.failures:
        yield "Left out:\n" + "\n".join(f"- {f.name}: {f.reason}" for f in report.failures)
    if report.warnings:
        yield "Reasons for doubt:\n" + "\n".join(f"- {w.text}" for w in report.warnings)


def _table(component: Component, rows: list[Row]) -> str:
    columns = (*_COLUMNS, _ERRORS[component], "ELBO, nats")
    lines = [
        f"### {str(component).capitalize()}\n",
        f"| {' | '.join(columns)} |",
        "|" + " --- |" * len(columns),
    ]
    lines += [f"| {' | '.join(_cells(row))} |" for row in sorted(rows, key=_place)]
    return "\n".join(lines)


def case_table(component: Component, rows: list[Row]) -> str:
    """Give a table of exports of one component, format and precision, the first as the baseline."""
    columns = ("form", "size", "median", "x chosen", _ERRORS[component], "ELBO, nats")
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = (
            f"**{row.tool}**" if row.baseline else row.tool,
            f"{row.size_bytes / 1000:,.1f} KB",
            f"{_microseconds(row.median_us)} ± {_microseconds(row.mad_us)} µs",
            _times(row.times_stock, row.precision),
            *_quality(row.quality),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _place(row: Row) -> tuple[int, int, int]:
    """Order by format and precision; of those the stock export first, and ours last."""
    return (
        _FORMATS.index(row.format),
        list(Precision).index(row.precision),
        0 if row.baseline else 2 if row.ours else 1,
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row.format or "SavedModel"),
        str(row.precision),
        f"**{row.tool}**" if row.ours else row.tool,
        f"{row.size_bytes / 1000:,.1f} KB",
        f"{_microseconds(row.median_us)} ± {_microseconds(row.mad_us)} µs",
        "stock" if row.baseline else _times(row.times_stock, row.precision),
        _times(row.times_float32, row.precision),
        *_quality(row.quality),
    )


def _microseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def _times(speedup: Speedup | None, precision: Precision) -> str:
    if speedup is None:
        return ""
    value = speedup.interval.value
    text = f"{value:,.0f}x" if value >= 100 else f"{value:.2f}x"
    fallback = precision is Precision.FLOAT16 and " float32 " in speedup.against
    is_stock = "vae-edge" not in speedup.against
    return text + (_FALLBACK if fallback and is_stock else "")


def _quality(quality: Quality | None) -> tuple[str, str]:
    if quality is None:
        return "", ""
    elbo = f"{quality.elbo_change:+.3f}"
    if quality.encoder is not None:
        errors = quality.encoder
        return f"{_error(errors.z_mean_mean)} / {_error(errors.z_log_var_mean)}", elbo
    if quality.decoder is not None:
        errors_of = quality.decoder
        if math.isinf(errors_of.psnr_db):
            return "identical", elbo
        return f"{errors_of.psnr_db:.1f} dB / {_error(errors_of.max_error)}", elbo
    return "", elbo


def _error(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 or value == 0 else f"{value:.0e}"


def _legend(report: HeadToHead) -> str:
    counts = [row.quality.images for row in report.rows if row.quality]
    images = max(counts, default=0)
    few = min(counts, default=0)
    slow = f" (of what is slow, on the first {few:,})" if few < images else ""
    fallback = any(
        _FALLBACK in _times(row.times_stock, row.precision) for row in report.rows if row.ours
    )
    no_stock = f" {_FALLBACK} No standard tool writes it: against the stock float32."
    return (
        f"Errors, PSNR (the lower of decoded z_mean and of prior samples) and change of ELBO "
        f"against Keras, each half alone, on {images:,} test images of {report.dataset}{slow}."
        f"{no_stock if fallback else ''}"
    )


def _overheads(report: HeadToHead) -> Iterator[str]:
    for engine in Engine:
        values = [
            row.runner_overhead_us
            for row in report.rows
            if row.engine is engine and row.runner_overhead_us is not None
        ]
        if values:
            yield f"{engine} {median(values):.2f} µs"
