"""The tables of `vae-edge benchmark`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.measure import Measurement

from vae_edge.cli.console import results
from vae_edge.cli.tables import format_size, format_times, new_table
from vae_edge.cli.verdict_tables import print_best, print_verdicts
from vae_edge.terms import Component

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.report import BenchmarkReport, CandidateReport, Speedup
    from vae_edge.manifest import ArtifactRecord, CandidateRecord, Manifest

__all__ = ["print_benchmark"]

# Below this, three decimals of a millisecond are too few.
_SMALL_MS = 0.1
_ANY_WIDTH = 1000


def print_benchmark(
    report: BenchmarkReport, manifest: Manifest, one_format: Sequence[CandidateRecord] = ()
) -> None:
    """Print what was measured, what paid, and the best choice.

    Args:
        report: what was measured.
        manifest: of the bundle; without the Keras model, what it recorded is printed too.
        one_format: the best choices in one format, where the best of all are of several.
    """
    out = results()
    out.print(f"{report.machine}; {report.settings.threads} thread(s)", soft_wrap=True)
    _print_table(out, _table(report, wide=True), _table(report, wide=False))
    _print_reference(out, report, manifest)
    out.print()
    if report.environment.emulated:
        out.print("No verdicts and no best choice: this machine is emulated.")
        return
    print_verdicts(out, report.verdicts)
    if report.best is not None:
        print_best(out, report.best, one_format)


def _print_reference(out: Console, report: BenchmarkReport, manifest: Manifest) -> None:
    if report.reference.measured:
        out.print(f"Original Keras model: {report.reference.note}.", markup=False, soft_wrap=True)
        return
    out.print(
        f"Original Keras model: not measured here ({report.reference.note}).",
        markup=False,
        soft_wrap=True,
    )
    recorded = [record for record in manifest.artifacts if record.latency is not None]
    if recorded:
        table = _recorded_table(recorded)
        _print_table(out, table, table)


def _print_table(out: Console, wide: Table, narrow: Table) -> None:
    """Print the wide table where it fits."""
    unlimited = out.options.update(max_width=_ANY_WIDTH)
    fits = Measurement.get(out, unlimited, wide).maximum <= out.width
    out.print(wide if fits else narrow)


def _table(report: BenchmarkReport, *, wide: bool) -> Table:
    unit, per_ms = "ms", 1.0
    if min(candidate.latency.median_ms for candidate in report.candidates) < _SMALL_MS:
        unit, per_ms = "us", 1000.0
    emulated = report.environment.emulated
    # A word in the column's own head goes with the figures wherever they are pasted.
    columns = ["component", "format", "precision", f"{'emulated' if emulated else 'median'} {unit}"]
    columns += [f"p95 {unit}", f"p99 {unit}", "per s", "size"] if wide else []
    columns += ["vs Keras", "vs float32"]
    where = "under emulation: NOT the latency on a device" if emulated else "measured here"
    table = new_table(f"Latency of {report.model.name}, {where}", *columns, right_from=3)
    order = [str(part) for part in (*Component, "both")]
    for candidate in sorted(report.candidates, key=lambda c: order.index(str(c.part))):
        table.add_row(*_row(candidate, per_ms, wide))
    table.caption = _caption(report, unit, wide=wide)
    table.caption_justify = "left"
    return table


def _row(candidate: CandidateReport, per_ms: float, wide: bool) -> tuple[str, ...]:
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
        str(candidate.keras_call or candidate.precision),
        _figure(latency.median_ms * per_ms),
        *(details if wide else ()),
        _with_interval(candidate.times_faster_than_keras),
        _with_interval(candidate.times_faster_than_float32, interval=False),
    )


def _figure(value: float) -> str:
    """Give a number with as many decimals as anyone reads."""
    digits = 0 if value >= 1000 else 1 if value >= 10 else 3
    return f"{value:,.{digits}f}"


def _with_interval(speedup: Speedup | None, *, interval: bool = True) -> str:
    if speedup is None:
        return "-"
    low, high = speedup.interval.low, speedup.interval.high
    digits = 2 if high < 10 else 1 if high < 100 else 0
    suffix = f" ({low:,.{digits}f}-{high:,.{digits}f})" if interval else ""
    return format_times(speedup.interval.value) + suffix


def _caption(report: BenchmarkReport, unit: str, *, wide: bool) -> str:
    parts = [f"{unit}: per inference, over {report.settings.rounds} rounds"]
    if any(len(candidate.files) > 1 for candidate in report.candidates):
        parts.append("both: the encoder, then the decoder on z_mean")
    ratios = [c.times_faster_than_keras for c in report.candidates if c.times_faster_than_keras]
    if ratios:
        names = {ratio.against for ratio in ratios}
        calls = {str(c.keras_call) for c in report.candidates if c.name in names}
        against = calls if len(calls) == 1 else names
        parts.append(
            f"vs Keras: times faster than its fastest call ({', '.join(sorted(against))}), with "
            f"the {ratios[0].interval.confidence:.0%} confidence interval"
        )
    if not wide:
        parts.append("p95, p99, throughput and size: in a wider window, or with --json")
    return "; ".join(parts)


def _recorded_table(records: list[ArtifactRecord]) -> Table:
    table = new_table(
        "Recorded at export, on the machine named; not measured in this run",
        "component",
        "format",
        "precision",
        "machine",
        "threads",
        "median ms",
        "p95 ms",
        "vs Keras",
        right_from=4,
    )
    for record in records:
        latency = record.latency
        if latency is not None:
            table.add_row(
                str(record.component),
                str(record.format),
                str(record.precision),
                latency.machine,
                str(latency.threads),
                f"{latency.median_ms:,.3f}",
                f"{latency.p95_ms:,.3f}",
                format_times(latency.times_faster_than_keras),
            )
    return table
