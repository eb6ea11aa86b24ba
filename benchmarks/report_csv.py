"""A benchmark report as a table for a spreadsheet: one row per candidate."""

from __future__ import annotations

import csv
import io

from benchmarks.report import BenchmarkReport, CandidateReport, Speedup

__all__ = ["COLUMNS", "report_csv"]

COLUMNS = (
    "component",
    "format",
    "precision",
    "keras_call",
    "files",
    "batch",
    "threads",
    "median_ms",
    "p95_ms",
    "p99_ms",
    "mad_ms",
    "throughput_per_s",
    "times_faster_than_keras",
    "times_faster_than_keras_low",
    "times_faster_than_keras_high",
    "times_faster_than_float32",
    "times_faster_than_float32_low",
    "times_faster_than_float32_high",
    "size_bytes",
    "alone",
    "load_ms",
    "first_inference_ms",
    "peak_rss_bytes",
    "base_rss_bytes",
    "runtime",
    "machine",
)


def report_csv(report: BenchmarkReport) -> str:
    """Give the report's candidates as CSV (RFC 4180), the names of the columns first.

    Columns and units are those of `CandidateReport`; a field is empty where it holds None. The
    files of encoder and decoder in a row are joined by `+`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for candidate in report.candidates:
        writer.writerow(_row(candidate, report))
    return text.getvalue()


def _row(candidate: CandidateReport, report: BenchmarkReport) -> tuple[object, ...]:
    latency = candidate.latency
    # csv writes None as an empty field, and a float with all its digits
    return (
        candidate.part,
        candidate.format,
        candidate.precisions,
        candidate.keras_call,
        "+".join(candidate.files),
        candidate.batch,
        candidate.threads,
        latency.median_ms,
        latency.p95_ms,
        latency.p99_ms,
        latency.mad_ms,
        candidate.throughput_per_s,
        *_ratio(candidate.times_faster_than_keras),
        *_ratio(candidate.times_faster_than_float32),
        candidate.size_bytes,
        str(candidate.alone).lower(),
        candidate.load_ms,
        candidate.first_inference_ms,
        candidate.peak_rss_bytes,
        candidate.base_rss_bytes,
        candidate.runtime,
        report.machine,
    )


def _ratio(speedup: Speedup | None) -> tuple[float | None, float | None, float | None]:
    if speedup is None:
        return None, None, None
    return speedup.interval.value, speedup.interval.low, speedup.interval.high
