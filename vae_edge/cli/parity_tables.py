"""A parity report for people: a verdict a line, in words, and every figure where that is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from vae_edge.cli.tables import new_table, plural
from vae_edge.comparison import ALL_METRICS, METRICS_OF
from vae_edge.manifest import MetricRecord
from vae_edge.parity_report import ParityReport, SubjectParity

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["all_figures", "glossary", "number", "reasons", "summary", "totals"]

_GREY_LEVELS = 255
# An error that fits this often into its limit is no news.
_MANY = 1000


def summary(report: ParityReport) -> Table:
    """Give one line per artifact and pair: verdict, what the drift means, and the nearest limit."""
    table = new_table(
        f"Parity of {report.model} with {report.reference}",
        "subject",
        "format",
        "precision",
        "verdict",
        "what it means",
        "fits",
        right_from=5,
    )
    # A narrow terminal folds the words, and cuts nothing off.
    table.columns[4].no_wrap = False
    for subject in report.subjects:
        passed = Text("passed") if subject.passed else Text("FAILED", style="red")
        table.add_row(
            subject.subject,
            str(subject.format),
            subject.precisions,
            passed,
            Text(_in_words(subject)),
            _fits(subject),
        )
    for each in report.not_run:
        verdict = Text("not run", style="yellow")
        runtime = Text("its runtime is missing")
        table.add_row(each.subject, str(each.format), str(each.precision), verdict, runtime, "-")
    table.caption = Text(
        "sigma: the posterior's own spread, the noise that the decoder was trained with. level: "
        "one of 255 grey levels. nats: of the ELBO, per image. fits: how many times the nearest "
        "figure fits into its limit; below 1 it failed. --all shows every figure and limit."
    )
    table.caption_justify = "left"
    return table


def _in_words(subject: SubjectParity) -> str:
    values = {(m.output, m.metric): m.value for m in subject.metrics}

    def value(output: str, metric: str, factor: float = 1.0) -> str | None:
        found = values.get((output, metric))
        return None if found is None else f"{_short(found * factor)}"

    words = (
        ("z_mean moves", value("posterior", "mean_shift_sigmas"), "sigma"),
        ("KL", value("posterior", "mean_kl_nats"), "nats"),
        ("pixels", value("reconstruction", "rmse", _GREY_LEVELS), "levels"),
        ("samples", value("generation", "rmse", _GREY_LEVELS), "levels"),
        ("loss", value("elbo", "loss_change_nats") if subject.file else None, "nats"),
        ("ELBO", value("elbo", "elbo_change_nats"), "nats"),
    )
    said = [f"{what} {number} {unit}" for what, number, unit in words if number is not None]
    return ", ".join(said) or "could not be compared"


def _short(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.0e}" if abs(value) < 0.001 else f"{value:.2g}"


def _fits(subject: SubjectParity) -> str:
    nearest = min((m.margin for m in subject.metrics if m.margin is not None), default=None)
    if nearest is None:
        return "-"
    return (
        f">{_MANY}x"
        if nearest > _MANY
        else f"{nearest:.2g}x"
        if nearest < 10
        else f"{nearest:.0f}x"
    )


def all_figures(report: ParityReport) -> Table:
    """Give every figure: value, limit, margin, and the tightest limit that would have passed."""
    table = new_table(
        "Every figure",
        *("subject", "output", "metric", "value", "limit", "fits", "tightest"),
        right_from=3,
    )
    # A narrow terminal folds, and cuts no figure off.
    for column in table.columns:
        column.no_wrap, column.overflow = False, "fold"
    for subject in report.subjects:
        name = f"{subject.subject} {subject.precisions} {subject.format}"
        for index, metric in enumerate(subject.metrics):
            table.add_row(
                name if index == 0 else "",
                metric.output,
                metric.metric,
                Text(number(metric.value), style="" if metric.passed else "red"),
                "" if metric.limit is None else f"{metric.limit:g}",
                "" if metric.margin is None else f"{metric.margin:.2g}x",
                "" if metric.tightest is None else f"{metric.tightest:g}",
            )
    table.caption = Text(
        "Errors are in grey levels 0 to 1 for images, and in shares of the span of the reference's "
        "values for latents. A figure without a limit is reported and not judged. tightest: the "
        "tightest limit of two digits that would have passed."
    )
    table.caption_justify = "left"
    return table


def glossary() -> Table:
    """Give every metric in a sentence, and the outputs that it is taken of."""
    table = new_table("What the figures say", "metric", "of", "meaning", right_from=3)
    for name, metric in ALL_METRICS.items():
        outputs = [output for output, metrics in METRICS_OF.items() if name in metrics]
        table.add_row(
            name, ", ".join(outputs[:2]) + (" ..." if len(outputs) > 2 else ""), metric.meaning
        )
    return table


def totals(report: ParityReport) -> str:
    """Give the line that the report ends with."""
    failed, total = len(report.failed), len(report.subjects)
    count = f"{total - failed} of {total}" if failed else f"All {total}"
    if not report.not_run:
        return f"{count} passed."
    verb = "was" if len(report.not_run) == 1 else "were"
    return f"{count} that ran passed; {plural(len(report.not_run), 'artifact')} {verb} not run."


def reasons(subject: SubjectParity, most: int | None = None) -> list[str]:
    """Give what failed, in words: a table may be too narrow, or its colours lost.

    Args:
        subject: whose.
        most: how many figures beyond their limit to name, those furthest beyond; the last line
            says how many more there are. None for all, in the order of the report.
    """
    found = [subject.failure] if subject.failure else []
    beyond = [metric for metric in subject.metrics if not metric.passed]
    left = 0 if most is None else len(beyond) - most
    if left > 0:
        beyond = sorted(beyond, key=lambda m: 0.0 if m.margin is None else m.margin)[:most]
    found += [_beyond(metric) for metric in beyond]
    if left > 0:
        found[-1] += f"; ... and {left} more (--all)"
    if found and most != 1:
        for share in subject.shares:
            found.append(
                f"of the error of {share.output} (rmse {number(share.total_rmse)}), conversion to "
                f"float32 made {number(share.conversion_rmse)} and {subject.precision} "
                f"{number(share.precision_rmse)}"
            )
    return found


def _beyond(metric: MetricRecord) -> str:
    tightest = "" if metric.tightest is None else f"; {metric.tightest:g} would have passed"
    return (
        f"{metric.output} {metric.metric} is {number(metric.value)}, the limit {metric.limit:g}"
        f"{tightest}"
    )


def number(value: float | None) -> str:
    """Write a figure for people; None stands for infinity."""
    return "inf" if value is None else f"{value:.2g}" if abs(value) < 0.1 else f"{value:.4g}"
