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
    from benchmarks.shift import Shift

__all__ = ["compare", "parse_share"]

EXIT_SLOWER = 1
EXIT_NOT_SURE = 3
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
            "confidence interval counted, and 3 if a machine was not fit to tell.",
            show_default=False,
        ),
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="Compare although device, runtime, threads or batch differ, or a machine was not "
            "fit.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two benchmark reports of one device: faster, slower, or no difference.

    Artifacts are matched by component, format, precision, batch and threads. What cannot have
    changed (the Keras model, files of the same SHA-256) tells how much slower the whole machine
    was; artifacts are judged beside that, with 95% bootstrap intervals from the raw samples.

    Exit 0: done, and nothing is slower than `--fail-if-slower` allows. 1: something is. 2: these
    reports cannot be compared. 3: with `--fail-if-slower`, a machine was not fit to measure on, so
    neither can be said; measure again (`benchmark --require-quiet`), or take it `--anyway`.

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
    for doubt in comparison.doubts:
        note(f"warning: not comparable with confidence: {doubt}.")
    if allowed is not None:
        _fail_if_slower(comparison, allowed, anyway=anyway)


def _fail_if_slower(comparison: Comparison, allowed: float, *, anyway: bool) -> None:
    slower = [d for d in comparison.differences if d.slower_than(allowed)]
    sure = anyway or not comparison.doubts
    for difference in slower:
        judged = difference.judged
        beside = " beside the rest of the run" if difference.beside_shift else ""
        note(
            f"{'slower' if sure else 'perhaps slower'} than allowed: {difference.name}, "
            f"{judged.value:.3f} times the latency{beside} ({judged.low:.3f}-{judged.high:.3f}); "
            f"at most {1 + allowed:.3f} is allowed."
        )
    if not sure:
        note(
            "undecided: --fail-if-slower needs two runs on a fit machine. Measure again with "
            "vae-edge benchmark --require-quiet, or pass --anyway to take these as they are."
        )
        raise typer.Exit(EXIT_NOT_SURE)
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
        "beside the run",
        "file",
        "verdict",
        right_from=1,
    )
    for difference in comparison.differences:
        table.add_row(*_row(difference, sure=not comparison.doubts))
    confidence = comparison.differences[0].ratio.confidence
    table.caption = (
        "us: median of one inference; beside the run: B/A over that of what cannot have changed, "
        f"with its {confidence:.0%} bootstrap interval, which the verdict goes by; a difference is "
        "more than 3% and sure although so many were looked at"
    )
    if comparison.doubts:
        table.caption += "; ?: not comparable with confidence"
    table.caption_justify = "left"
    out = results()
    out.print(table)
    if comparison.shift is not None and comparison.shift.moved:
        out.print(_shift(comparison.shift), soft_wrap=True)
    for which, names in (("A", comparison.only_before), ("B", comparison.only_after)):
        if names:
            out.print(f"Only in {which}: {', '.join(names)}.", soft_wrap=True)


def _shift(shift: Shift) -> str:
    ratio = shift.ratio
    slower = ratio.value > 1
    value, low, high = ratio.value, ratio.low, ratio.high
    if not slower:
        value, low, high = 1 / value, 1 / high, 1 / low
    count = len(shift.rests_on)
    kept = f"{', '.join(shift.rests_on[:2])}{f' and {count - 2} more' if count > 2 else ''}"
    return (
        f"Everything is {value:.2f}x {'slower' if slower else 'faster'} in B "
        f"({low:.2f}-{high:.2f}), what cannot have changed too ({kept}): the machine, not the "
        "artifacts. They are judged beside that."
    )


def _row(difference: Difference, *, sure: bool) -> tuple[str, ...]:
    threads = dict.fromkeys((difference.before_threads, difference.after_threads))
    judged = difference.judged
    verdict = str(difference.change)
    return (
        difference.name,
        "/".join(map(str, threads)),
        f"{difference.before_ms * 1000:,.1f}",
        f"{difference.after_ms * 1000:,.1f}",
        f"{difference.ratio.value:.3f}",
        f"{judged.value:.3f} ({judged.low:.3f}-{judged.high:.3f})",
        _file(difference),
        verdict if sure else f"{verdict}?",
    )


def _file(difference: Difference) -> str:
    """Say whether it is the same file, and what became of its size."""
    from vae_edge.cli.tables import format_size

    if difference.same_files:
        return "same"
    before, after = difference.before_bytes, difference.after_bytes
    if before is None or after is None or before == after:
        return "changed"
    share = f" ({after / before - 1:+.1%})" if before else ""
    return f"{format_size(before)} > {format_size(after)}{share}"
