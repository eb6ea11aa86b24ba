"""`vae-edge parity`: is every artifact still the Keras model?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.cli.console import interruptible, note, progress, quiet, results
from vae_edge.cli.options import BundlePath, Json, OnlyFormats, Threads, Verbose, parse_formats
from vae_edge.cli.split_options import (
    DecoderFile,
    DecoderInput,
    EncoderFile,
    Imports,
    ScaleOption,
    ZLogVar,
    ZMean,
    print_notes,
    split_options,
)
from vae_edge.errors import ParityError, UsageError, VaeEdgeError
from vae_edge.terms import EXACTNESS, Component, Format, Precision

if TYPE_CHECKING:
    from vae_edge.bundle import Bundle
    from vae_edge.comparison import Reference
    from vae_edge.parity import ParityReport
    from vae_edge.runners.base import Runner
    from vae_edge.split_options import SplitOptions

__all__ = ["parity"]

EXIT_FAILED = 1


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
    imports: Imports = None,
    encoder: EncoderFile = None,
    decoder: DecoderFile = None,
    z_mean: ZMean = None,
    z_log_var: ZLogVar = None,
    decoder_input: DecoderInput = None,
    scale: ScaleOption = None,
    format: OnlyFormats = None,
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
    tolerances: Annotated[
        Path | None,
        typer.Option(
            "--tolerances",
            metavar="FILE",
            help="TOML file of limits, kept with your project; --tolerance wins over it.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Judge on your own images (picture, folder or .npy), beside --reference, or "
            "beside the bundle's most exact artifacts.",
            show_default=False,
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Also write JUnit XML.", show_default=False),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Also show layer by layer where the artifacts that failed leave the Keras model "
            "(all of them, where none did); needs the host packages.",
        ),
    ] = False,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show every figure, its limit, and what it means.")
    ] = False,
    threads: Threads = 1,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Is every artifact of a bundle still the Keras model? Exit 0 passed, 1 failed, 2 no run.

    Examples:
    `vae-edge parity build/mnist-vae`

    `vae-edge parity build/mnist-vae --tolerances limits.toml --junit parity.xml`
    """
    from vae_edge.bundle import Bundle
    from vae_edge.codec import encode
    from vae_edge.parity import check_parity
    from vae_edge.tolerances import parse_override, read_overrides

    taken_apart = split_options(
        imports=imports,
        encoder=encoder,
        decoder=decoder,
        z_mean=z_mean,
        z_log_var=z_log_var,
        decoder_input=decoder_input,
        scale=scale,
    )
    overrides = (
        *(read_overrides(tolerances) if tolerances else ()),
        *(parse_override(text) for text in tolerance or ()),
    )
    formats, opened = parse_formats(format), Bundle.open(bundle)
    with quiet(verbose), interruptible("Nothing was decided."), progress() as display:
        task = display.add_task(
            "loading the reference", total=_count_subjects(opened, formats, precision)
        )
        compared_with = _reference(opened, reference, taken_apart, data)
        report = check_parity(
            opened,
            compared_with,
            formats=formats or None,
            precisions=tuple(precision or Precision),
            overrides=overrides,
            threads=threads,
            on_subject=lambda subject: display.update(task, advance=1, description=subject),
        )
    if as_json:
        typer.echo(json.dumps(encode(report), allow_nan=False))
    else:
        _print_report(report, show_all=show_all)
    if junit is not None:
        _write_junit(report, junit)
    if explain and not as_json:
        _explain(report, bundle, reference, taken_apart, verbose=verbose)
    if not report.passed:
        raise typer.Exit(EXIT_FAILED)


def _count_subjects(
    bundle: Bundle, formats: tuple[Format, ...], precisions: list[Precision] | None
) -> int:
    """Artifacts, and the pairs that are checked in a row as well."""
    from vae_edge.parity import pairs

    count = 0
    for each in set(formats or Format):
        chosen = tuple(bundle.select(formats=(each,), precisions=tuple(precisions or Precision)))
        count += len(chosen) + len(pairs(chosen))
    return count


def _reference(
    bundle: Bundle, model: Path | None, split: SplitOptions, data: Path | None
) -> Reference:
    from vae_edge.parity import golden_reference, live_reference

    is_live = model is not None or split.encoder is not None
    if not is_live and data is None:
        return golden_reference(bundle)
    if not is_live:
        return _on_data(bundle, *_most_exact(bundle), data)
    from vae_edge.keras_vae import load_keras_vae, open_keras_runner

    vae = load_keras_vae(model, split)
    print_notes(vae.notes)
    source = model if model is not None else f"{split.encoder} and {split.decoder}"
    expected = bundle.manifest.model
    if (vae.image_shape, vae.latent_dim) != (expected.image_shape, expected.latent_dim):
        raise ParityError(
            f"{source}: takes images of {vae.image_shape} and has latent_dim {vae.latent_dim}; the "
            f"bundle was exported from a model with {expected.image_shape} and "
            f"{expected.latent_dim}. Give the model that the bundle was exported from."
        )
    if vae.source_sha256 != expected.source_sha256:
        note(
            f"note: {source} is not the file that the bundle was exported from (their SHA-256 "
            "differ), so differences may be the model's and not the export's."
        )
    halves = [open_keras_runner(vae, component) for component in Component]
    if data is not None:
        return _on_data(bundle, halves[0], halves[1], data)
    return live_reference(bundle, halves[0], halves[1])


def _on_data(bundle: Bundle, encoder: Runner, decoder: Runner, data: Path | None) -> Reference:
    from vae_edge.images import read_images
    from vae_edge.parity import data_reference

    assert data is not None  # noqa: S101  asked for only then
    model = bundle.manifest.model
    images = read_images(data, model.image_shape, preprocessing=model.preprocessing)
    return data_reference(bundle, images, encoder, decoder, str(data))


def _most_exact(bundle: Bundle) -> tuple[Runner, Runner]:
    """Open what stands in for the Keras model where that is not at hand."""
    found = []
    for component in Component:
        records = [r for r in bundle.manifest.artifacts if r.component is component]
        if not records:
            raise ParityError(
                f"{bundle.path}: holds no {component}, so there is nothing to compare with on "
                "--data. Give the Keras model: --reference MODEL."
            )
        found.append(min(records, key=lambda record: EXACTNESS.index(record.precision)))
    note(
        f"note: compared with {found[0].file} and {found[1].file}, which stand in for the Keras "
        "model; with that itself: --reference MODEL."
    )
    return bundle.open_runner(found[0]), bundle.open_runner(found[1])


def _explain(
    report: ParityReport,
    bundle: Path,
    reference: Path | None,
    split: SplitOptions,
    *,
    verbose: bool,
) -> None:
    from vae_edge.cli.explain import explain_files, print_explanations

    files = [s.file for s in report.subjects if s.file is not None]
    failed = [s.file for s in report.subjects if s.file is not None and not s.passed]
    try:
        with quiet(verbose), interruptible("The verdict above stands."):
            found, _ = explain_files(bundle, reference, failed or files, split)
    except VaeEdgeError as error:
        # The verdict decides the exit code, whether or not it can be explained.
        note(f"note: --explain: {error}")
        return
    print_explanations(found)


def _write_junit(report: ParityReport, path: Path) -> None:
    from vae_edge.files import replaced_file
    from vae_edge.junit import write_junit

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as part:
            part.write_text(write_junit(report), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--junit {path}: cannot be written: {error.strerror}.") from error


def _print_report(report: ParityReport, *, show_all: bool) -> None:
    from rich.text import Text

    from vae_edge.cli.parity_tables import all_figures, glossary, reasons, summary

    out = results()
    out.print(summary(report))
    if show_all:
        out.print(all_figures(report))
        out.print(glossary())
    for subject in report.subjects:
        for reason in reasons(subject):
            out.print(
                Text(f"{subject.subject} {subject.precisions} {subject.format}: {reason}"),
                soft_wrap=True,
            )
    failed = sum(not subject.passed for subject in report.subjects)
    total = len(report.subjects)
    out.print(f"{total - failed} of {total} passed." if failed else f"All {total} passed.")
