"""The tables of `vae-edge benchmark`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.measure import Measurement

from vae_edge.cli.benchmark_conditions import conditions
from vae_edge.cli.benchmark_loading import print_loading
from vae_edge.cli.benchmark_sweep import print_sweep
from vae_edge.cli.console import results
from vae_edge.cli.tables import format_size, format_times, new_table, plural
from vae_edge.cli.verdict_tables import print_best, print_verdicts
from vae_edge.terms import Component

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.report import BenchmarkReport, CandidateReport, RecordedLatency, Speedup
    from vae_edge.manifest import CandidateRecord

__all__ = ["print_benchmark", "with_interval"]

# Below this, three decimals of a millisecond are too few.
_SMALL_MS = 0.1
_ANY_WIDTH = 1000
# How much of the table is shown: from what every window holds to everything.
_NARROW, _WIDE, _WIDEST = range(3)


def print_benchmark(report: BenchmarkReport, one_format: Sequence[CandidateRecord] = ()) -> None:
    """Print what was measured, what paid, and the best choice.

    Args:
        report: what was measured.
        one_format: the best choices in one format, where the best of all are of several.
    """
    out = results()
    out.print(f"{report.machine}; {plural(report.settings.threads, 'thread')}", soft_wrap=True)
    out.print(conditions(report), soft_wrap=True)
    _print_fitting(out, [_table(report, width) for width in (_WIDEST, _WIDE, _NARROW)])
    if report.is_sweep:
        print_sweep(out, report)
    print_loading(out, report)
    _print_reference(out, report)
    out.print()
    if report.environment.emulated:
        out.print("No verdicts and no best choice: this machine is emulated.")
        return
    print_verdicts(out, report.verdicts)
    if report.best is not None:
        print_best(out, report.best, one_format)


def with_interval(value: float, low: float, high: float) -> str:
    """Give a ratio and its interval, all with the decimals that the interval has a use for."""
    digits = 2 if high < 10 else 1 if high < 100 else 0
    return f"{value:,.{digits}f}x ({low:,.{digits}f}-{high:,.{digits}f})"


def _print_reference(out: Console, report: BenchmarkReport) -> None:
    if report.reference.measured:
        out.print(f"Original Keras model: {report.reference.note}.", markup=False, soft_wrap=True)
        return
    out.print(
        f"Original Keras model: not measured here ({report.reference.note}).",
        markup=False,
        soft_wrap=True,
    )
    by_machine: dict[str, list[RecordedLatency]] = {}
    for record in report.recorded:
        by_machine.setdefault(record.latency.machine, []).append(record)
    for machine, records in by_machine.items():
        out.print()
        out.print(
            f"Recorded at export on another occasion, NOT measured in this run: {machine}",
            markup=False,
            soft_wrap=True,
        )
        out.print(_recorded_table(records))


def _print_fitting(out: Console, tables: Sequence[Table]) -> None:
    """Print the first table that fits, else the last."""
    unlimited = out.options.update(max_width=_ANY_WIDTH)
    fitting = (t for t in tables if Measurement.get(out, unlimited, t).maximum <= out.width)
    out.print(next(fitting, tables[-1]))


def _table(report: BenchmarkReport, width: int) -> Table:
    unit, per_ms = "ms", 1.0
    if min(candidate.latency.median_ms for candidate in report.base) < _SMALL_MS:
        unit, per_ms = "us", 1000.0
    emulated = report.environment.emulated
    # A word in the column's own head goes with the figures wherever they are pasted.
    columns = ["component", "format", "precision", f"{'emulated' if emulated else 'median'} {unit}"]
    columns += [f"p95 {unit}", f"p99 {unit}", "per s", "size"] if width > _NARROW else []
    columns += ["vs Keras", "vs float32"]
    where = "under emulation: NOT the latency on a device" if emulated else "measured here"
    if report.warnings and not emulated:
        where += f"; not to be quoted: {plural(len(report.warnings), 'warning')} below"
    table = new_table(f"Latency of {report.model.name}, {where}", *columns, right_from=3)
    order = [str(part) for part in (*Component, "both")]
    for candidate in sorted(report.base, key=lambda c: order.index(str(c.part))):
        table.add_row(*_row(candidate, per_ms, width))
    table.caption = _caption(report, unit, width)
    table.caption_justify = "left"
    return table


def _row(candidate: CandidateReport, per_ms: float, width: int) -> tuple[str, ...]:
    latency, size_bytes = candidate.latency, candidate.size_bytes
    details = (
        _figure(latency.p95_ms * per_ms),
        _figure(latency.p99_ms * per_ms),
        _figure(candidate.throughput_per_s),
        "-" if size_bytes is None else format_size(size_bytes),
    )
    return (
        str(candidate.part),
        str(candidate.format or "Keras"),
        str(candidate.keras_call or candidate.precisions),
        _figure(latency.median_ms * per_ms),
        *(details if width > _NARROW else ()),
        _ratio(candidate.times_faster_than_keras),
        _ratio(candidate.times_faster_than_float32, interval=width == _WIDEST),
    )


def _figure(value: float) -> str:
    """Give a number with as many decimals as anyone reads."""
    digits = 0 if value >= 1000 else 1 if value >= 10 else 3
    return f"{value:,.{digits}f}"


def _ratio(speedup: Speedup | None, *, interval: bool = True) -> str:
    if speedup is None:
        return "-"
    found = speedup.interval
    if not interval:
        return format_times(found.value)
    return with_interval(found.value, found.low, found.high)


def _caption(report: BenchmarkReport, unit: str, width: int) -> str:
    parts = [f"{unit}: per inference, over {report.settings.rounds} rounds"]
    batches = {candidate.batch for candidate in report.base}
    if batches != {1}:
        parts.append(f"batch {' or '.join(map(str, sorted(batches)))}")
    if any(len(candidate.files) > 1 for candidate in report.base):
        parts.append("both: the encoder, then the decoder on z_mean")
    ratios = [c.times_faster_than_keras for c in report.base if c.times_faster_than_keras]
    if ratios:
        names = {ratio.against for ratio in ratios}
        calls = {str(c.keras_call) for c in report.base if c.name in names}
        against = calls if len(calls) == 1 else names
        parts.append(
            f"vs Keras: times faster than its fastest call ({', '.join(sorted(against))}), with "
            f"the {ratios[0].interval.confidence:.0%} confidence interval"
        )
    if width == _NARROW:
        parts.append("p95, p99, throughput and size: in a wider window, or with --json")
    return "; ".join(parts)


def _recorded_table(records: Sequence[RecordedLatency]) -> Table:
    table = new_table(
        "",
        *("component", "format", "precision", "threads", "median ms", "p95 ms"),
        *("Keras ms", "vs Keras"),
        right_from=3,
    )
    table.title = None
    for record in records:
        latency = record.latency
        table.add_row(
            str(record.component),
            str(record.format),
            str(record.precision),
            str(latency.threads),
            f"{latency.median_ms:,.3f}",
            f"{latency.p95_ms:,.3f}",
            "-" if record.keras_ms is None else f"{record.keras_ms:,.3f}",
            format_times(latency.times_faster_than_keras),
        )
    return table
