"""`vae-edge parity`: is every artifact still the Keras model?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from vae_edge.cli.console import interruptible, note, progress, quiet, results
from vae_edge.cli.options import BundlePath, Json, Threads, Verbose
from vae_edge.errors import ParityError
from vae_edge.metrics import METRICS
from vae_edge.terms import Component, Format, Precision
from vae_edge.tolerances import parse_override

if TYPE_CHECKING:
    from rich.table import Table

    from vae_edge.bundle import Bundle
    from vae_edge.manifest import MetricRecord
    from vae_edge.parity import ParityReport, Reference, SubjectParity

__all__ = ["parity"]

EXIT_FAILED = 1
_NARROW_METRICS = ("max_abs_error", "psnr_db")
# Columns that the table with all metrics and their limits takes.
_WIDE = 125


def parity(
    bundle: BundlePath,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            metavar="MODEL",
            help="Compare with this .keras model, run now, instead of the golden vectors.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        list[Format] | None, typer.Option("--format", help="Only this format. Repeatable.")
    ] = None,
    precision: Annotated[
        list[Precision] | None, typer.Option("--precision", help="Only this one. Repeatable.")
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="[PRECISION:]OUTPUT.METRIC=LIMIT",
            help="Replace a limit, e.g. int8:z_mean.max_abs_error=0.1. Repeatable.",
            show_default=False,
        ),
    ] = None,
    threads: Threads = 1,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Compare every artifact of a bundle with the Keras model. Exit 0 passed, 1 failed, 2 no run.

    Example: `vae-edge parity build/mnist-vae`
    """
    from vae_edge.bundle import Bundle
    from vae_edge.codec import encode
    from vae_edge.parity import check_parity

    overrides = tuple(parse_override(text) for text in tolerance or ())
    opened = Bundle.open(bundle)
    with quiet(verbose), interruptible("Nothing was decided."), progress() as display:
        task = display.add_task(
            "loading the reference", total=_count_subjects(opened, format, precision)
        )
        compared_with = _reference(opened, reference)
        report = check_parity(
            opened,
            compared_with,
            formats=tuple(format or Format),
            precisions=tuple(precision or Precision),
            overrides=overrides,
            threads=threads,
            on_subject=lambda subject: display.update(task, advance=1, description=subject),
        )
    if as_json:
        typer.echo(json.dumps(encode(report), allow_nan=False))
    else:
        _print_report(report)
    if not report.passed:
        raise typer.Exit(EXIT_FAILED)


def _count_subjects(
    bundle: Bundle, formats: list[Format] | None, precisions: list[Precision] | None
) -> int:
    """Artifacts, and the pairs that are checked in a row as well."""
    from vae_edge.parity import pairs

    count = 0
    for each in set(formats or Format):
        chosen = tuple(bundle.select(formats=(each,), precisions=tuple(precisions or Precision)))
        count += len(chosen) + len(pairs(chosen))
    return count


def _reference(bundle: Bundle, model: Path | None) -> Reference:
    from vae_edge.parity import golden_reference, live_reference

    if model is None:
        return golden_reference(bundle)
    from vae_edge.keras_vae import load_keras_vae, open_keras_runner

    vae = load_keras_vae(model)
    expected = bundle.manifest.model
    if (vae.image_shape, vae.latent_dim) != (expected.image_shape, expected.latent_dim):
        raise ParityError(
            f"{model}: takes images of {vae.image_shape} and has latent_dim {vae.latent_dim}; the "
            f"bundle was exported from a model with {expected.image_shape} and "
            f"{expected.latent_dim}. Give the model that the bundle was exported from."
        )
    if vae.source_sha256 != expected.source_sha256:
        note(
            f"note: {model} is not the file that the bundle was exported from (their SHA-256 "
            "differ), so differences may be the model's and not the export's."
        )
    return live_reference(
        bundle,
        open_keras_runner(vae, Component.ENCODER),
        open_keras_runner(vae, Component.DECODER),
    )


def _print_report(report: ParityReport) -> None:
    out = results()
    out.print(_table(report, wide=out.width >= _WIDE))
    for subject in report.subjects:
        for reason in _reasons(subject):
            out.print(
                f"{subject.subject} {subject.precisions} {subject.format}: {reason}", soft_wrap=True
            )
    failed = sum(not subject.passed for subject in report.subjects)
    total = len(report.subjects)
    out.print(f"{total - failed} of {total} passed." if failed else f"All {total} passed.")


def _table(report: ParityReport, *, wide: bool) -> Table:
    from vae_edge.cli.tables import new_table

    shown = tuple(METRICS) if wide else _NARROW_METRICS
    title = f"Parity of {report.model} with {report.reference}"
    columns = ("subject", "format", "precision", "verdict", "output")
    table = new_table(title, *columns, *shown, right_from=len(columns))
    for subject in report.subjects:
        verdict = Text("passed") if subject.passed else Text("FAILED", style="red")
        outputs = list(dict.fromkeys(metric.output for metric in subject.metrics)) or ["-"]
        for index, output in enumerate(outputs):
            figures = [
                _figure(m, with_limit=wide)
                for m in subject.metrics
                if m.output == output and m.metric in shown
            ]
            who = (subject.subject, str(subject.format), subject.precisions, verdict)
            table.add_row(*(who if index == 0 else ("", "", "", "")), output, *figures)
    table.caption = (
        (
            "value / limit. "
            if wide
            else "A wider terminal, or --json, shows all metrics and limits. "
        )
        + "Errors are in grey levels 0 to 1 for images, and in shares of the span of the "
        "reference's values for latents"
    )
    table.caption_justify = "left"
    return table


def _reasons(subject: SubjectParity) -> list[str]:
    """What failed, in words: a table may be too narrow, or its colours lost."""
    beyond = [
        f"{m.output} {m.metric} is {_number(m.value)}, the limit {m.limit:g}"
        for m in subject.metrics
        if not m.passed
    ]
    return ([subject.failure] if subject.failure else []) + beyond


def _figure(metric: MetricRecord, *, with_limit: bool) -> Text:
    limit = f" / {metric.limit:g}" if with_limit else ""
    return Text(_number(metric.value) + limit, style="" if metric.passed else "red")


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.2g}" if value < 0.1 else f"{value:.4g}"
