"""The spread that parity limits rest on: `python -m benchmarks.parity_spread BUNDLE...`.

Checks every bundle, encoder and decoder alone and in a row, and gives for each precision, output
and metric the worst over all bundles and formats beside the limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vae_edge.bundle import Bundle
from vae_edge.comparison import ALL_METRICS, METRICS_OF
from vae_edge.errors import VaeEdgeError
from vae_edge.manifest import MetricRecord
from vae_edge.parity import ParityReport, check_parity, golden_reference
from vae_edge.terms import EXACTNESS, Precision

__all__ = ["main", "worst_figures"]

Key = tuple[Precision, str, str]


def worst_figures(reports: Iterable[ParityReport]) -> dict[Key, MetricRecord]:
    """Give the worst record by precision, output and metric; infinite values are never worst."""
    worst: dict[Key, MetricRecord] = {}
    for report in reports:
        for subject in report.subjects:
            precisions = (subject.precision, subject.encoder_precision or subject.precision)
            precision = max(precisions, key=EXACTNESS.index)
            for record in subject.metrics:
                key = (precision, record.output, record.metric)
                if record.value is not None and (
                    key not in worst or _badness(record) > _badness(worst[key])
                ):
                    worst[key] = record
    return worst


def _badness(record: MetricRecord) -> float:
    value = 0.0 if record.value is None else record.value
    return -value if ALL_METRICS[record.metric].higher_is_better else abs(value)


def _lines(worst: dict[Key, MetricRecord]) -> Iterator[str]:
    precisions = [p for p in Precision if any(key[0] is p for key in worst)]
    yield f"| output | metric | {' | '.join(map(str, precisions))} |"
    yield "| --- | --- |" + " --- |" * len(precisions)
    for output, metrics in METRICS_OF.items():
        for metric in metrics:
            records = [worst.get((precision, output, metric)) for precision in precisions]
            if any(records):
                yield f"| {output} | {metric} | {' | '.join(map(_cell, records))} |"


def _cell(record: MetricRecord | None) -> str:
    """Give the worst value, and behind a slash the limit where it is judged."""
    if record is None or record.value is None:
        return ""
    limit = "" if record.limit is None else f" / {record.limit:g}"
    return f"{record.value:.3g}{limit}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; a Markdown table on stdout."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity_spread")
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    reports = []
    try:
        for path in parser.parse_args(argv).bundles:
            bundle = Bundle.open(path)
            reports.append(check_parity(bundle, golden_reference(bundle)))
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write("\n".join(_lines(worst_figures(reports))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
