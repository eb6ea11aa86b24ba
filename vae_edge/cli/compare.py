"""`vae-edge compare`: did anything become slower from one benchmark report to the next?"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.cli.console import note, results
from vae_edge.cli.options import Json
from vae_edge.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.compare import Comparison, Difference

__all__ = ["compare", "parse_share"]

EXIT_SLOWER = 1
_BIGGEST_SHARE = 100.0


def compare(
    before: Annotated[
        Path, typer.Argument(metavar="A.json", help="Report that `benchmark --out` wrote.")
    ],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Report to hold against it.")],
    fail_if_slower: Annotated[
        str | None,
        typer.Option(
            "--fail-if-slower",
            metavar="SHARE",
            help="Exit 1 if any artifact is slower by more than this (10% or 0.1), its whole "
            "confidence interval counted.",
            show_default=False,
        ),
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Compare although device, runtime, threads or batch differ."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two benchmark reports of one device: faster, slower, or no difference.

    Every ratio B/A of medians has a 95% bootstrap interval from the raw samples; it is no
    difference where the interval contains 1. Exit 0 done, 1 slower than allowed, 2 no comparison.

    Examples:
    `vae-edge compare before.json after.json`

    `vae-edge compare before.json after.json --fail-if-slower 10%`
    """
    from benchmarks.compare import compare as compare_reports
    from benchmarks.compare import load_report
    from vae_edge.codec import encode

    allowed = None if fail_if_slower is None else parse_share(fail_if_slower)
    comparison = compare_reports(load_report(before), load_report(after))
    if comparison.obstacles and not anyway:
        raise UsageError(
            f"{before} and {after} cannot be compared: {'; '.join(comparison.obstacles)}. Measure "
            "both on one device in one way, or pass --anyway."
        )
    if not comparison.differences:
        raise UsageError(f"{before} and {after} have no artifact of the same batch in common.")
    if as_json:
        typer.echo(json.dumps(encode(comparison), indent=2, allow_nan=False))
    else:
        _print(comparison)
    for obstacle in comparison.obstacles:
        note(f"warning: compared although they differ in {obstacle}")
    for text in comparison.notes:
        note(f"note: {text}")
    slower = [d for d in comparison.differences if allowed is not None and d.slower_than(allowed)]
    for difference in slower:
        note(
            f"slower than allowed: {difference.name}, {difference.ratio.value:.3f} times the "
            f"latency ({difference.ratio.low:.3f}-{difference.ratio.high:.3f}); "
            f"at most {1 + (allowed or 0):.3f} is allowed."
        )
    if slower:
        raise typer.Exit(EXIT_SLOWER)


def parse_share(text: str) -> float:
    """Read `10%` or `0.1` as 0.1.

    Raises:
        UsageError: neither, negative, or above 100 times.
    """
    number = text.strip()
    percent = number.endswith("%")
    try:
        share = float(number.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= _BIGGEST_SHARE:
        raise UsageError(f"--fail-if-slower {text}: expected a share such as 10% or 0.1.")
    return share


def _print(comparison: Comparison) -> None:
    from vae_edge.cli.tables import new_table

    table = new_table(
        "Latency, B against A",
        "artifact",
        "threads",
        "A us",
        "B us",
        "B/A",
        "interval",
        "size",
        "verdict",
        right_from=1,
    )
    for difference in comparison.differences:
        table.add_row(*_row(difference))
    confidence = comparison.differences[0].ratio.confidence
    table.caption = (
        f"us: median of one inference; interval: {confidence:.0%} bootstrap of B/A; it does not "
        "hold what disturbed a whole run"
    )
    table.caption_justify = "left"
    out = results()
    out.print(table)
    for which, names in (("A", comparison.only_before), ("B", comparison.only_after)):
        if names:
            out.print(f"Only in {which}: {', '.join(names)}.", soft_wrap=True)


def _row(difference: Difference) -> tuple[str, ...]:
    threads = dict.fromkeys((difference.before_threads, difference.after_threads))
    return (
        difference.name,
        "/".join(map(str, threads)),
        f"{difference.before_ms * 1000:,.1f}",
        f"{difference.after_ms * 1000:,.1f}",
        f"{difference.ratio.value:.3f}",
        f"{difference.ratio.low:.3f}-{difference.ratio.high:.3f}",
        _size(difference.before_bytes, difference.after_bytes),
        str(difference.change),
    )


def _size(before: int | None, after: int | None) -> str:
    from vae_edge.cli.tables import format_size

    if before is None or after is None:
        return "-"
    if before == after:
        return "same"
    share = f" ({after / before - 1:+.1%})" if before else ""
    return f"{format_size(before)} > {format_size(after)}{share}"
