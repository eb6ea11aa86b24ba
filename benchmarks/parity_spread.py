"""The spread that parity limits rest on: `python -m benchmarks.parity_spread BUNDLE...`.

Reads the parity figures that exports wrote into their manifests, and gives for each precision,
output and metric the worst over all bundles and formats beside the limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from vae_edge.bundle import Bundle
from vae_edge.errors import VaeEdgeError
from vae_edge.metrics import METRICS
from vae_edge.terms import Precision
from vae_edge.tolerances import OUTPUTS, limits_for

__all__ = ["main", "worst_figures"]

Key = tuple[Precision, str, str]


def worst_figures(bundles: Iterable[Bundle]) -> dict[Key, float]:
    """Give the worst value by precision, output and metric; infinite ones are never the worst."""
    worst: dict[Key, float] = {}
    for bundle in bundles:
        for record in bundle.manifest.artifacts:
            for metric in record.parity.metrics if record.parity else ():
                if metric.value is None:
                    continue
                key = (record.precision, metric.output, metric.metric)
                pick = min if METRICS[metric.metric].higher_is_better else max
                worst[key] = pick(worst.get(key, metric.value), metric.value)
    return worst


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; a Markdown table on stdout."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity_spread")
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    try:
        worst = worst_figures(Bundle.open(path) for path in parser.parse_args(argv).bundles)
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    lines = [
        f"| precision | output | {' | '.join(METRICS)} |",
        "| --- | --- |" + " --- |" * len(METRICS),
    ]
    for precision in Precision:
        for output in OUTPUTS:
            limits = limits_for(precision, output)
            cells = [
                f"{worst[precision, output, name]:.5g} / {limits[name]:g}"
                for name in METRICS
                if (precision, output, name) in worst
            ]
            if cells:
                lines.append(f"| {precision} | {output} | {' | '.join(cells)} |")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
