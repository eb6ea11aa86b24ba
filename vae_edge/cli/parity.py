"""`vae-edge parity`: is every artifact still the Keras model?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.cli.console import interruptible, note, progress, quiet, results
from vae_edge.cli.options import (
    BundlePath,
    FitChoice,
    Json,
    OnlyFormats,
    Threads,
    Verbose,
    parse_formats,
)
from vae_edge.cli.split_options import (
    DecoderFile,
    DecoderInput,
    EncoderFile,
    ImageShapeOption,
    Imports,
    LogitsOption,
    ReconstructionOption,
    ScaleOption,
    ZLogVar,
    ZMean,
    print_notes,
    split_options,
)
from vae_edge.errors import ParityError, RuntimeMissingError, UsageError, VaeEdgeError
from vae_edge.terms import EXACTNESS, Component, Fit, Format, Precision

if TYPE_CHECKING:
    from vae_edge.bundle import Bundle
    from vae_edge.comparison import Reference
    from vae_edge.parity import ParityReport
    from vae_edge.runners.base import Runner
    from vae_edge.split_options import SplitOptions

__all__ = ["parity"]

EXIT_FAILED = 1
# Share of the subjects that fail where the reference is another model altogether.
_NEARLY_ALL = 0.8
MOST_REASONS = 5


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
    reconstruction: ReconstructionOption = None,
    logits: LogitsOption = False,
    image_shape: ImageShapeOption = None,
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
    fit: FitChoice = None,
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
        bool,
        typer.Option("--all", help="Show every figure, its limit, what it means, every reason."),
    ] = False,
    threads: Threads = 1,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Is every artifact of a bundle still the Keras model?

    Exit 0: all passed; 1: one failed; 2: something was not run, for want of a runtime say, and
    nothing that was failed.

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
        reconstruction=reconstruction,
        logits=logits,
        image_shape=image_shape,
    )
    overrides = (
        *(read_overrides(tolerances) if tolerances else ()),
        *(parse_override(text) for text in tolerance or ()),
    )
    if fit is not None and data is None:
        raise UsageError("--fit says how images are fitted; give those with --data PATH.")
    formats, opened = parse_formats(format), Bundle.open(bundle)
    with quiet(verbose), interruptible("Nothing was decided."), progress() as display:
        task = display.add_task(
            "loading the reference", total=_count_subjects(opened, formats, precision)
        )
        compared_with, other = _reference(opened, reference, taken_apart, data, fit)
        report = check_parity(
            opened,
            compared_with,
            formats=formats or None,
            precisions=tuple(precision or Precision),
            overrides=overrides,
            threads=threads,
            partial=True,
            on_subject=lambda subject: display.update(task, advance=1, description=subject),
        )
        display.update(task, total=len(report.subjects))
    if as_json:
        typer.echo(json.dumps(encode(report), allow_nan=False))
    else:
        _print_report(report, show_all=show_all, of_another_model=_is_another(report, other))
    if other is not None:
        _note_other_model(report, other)
    unwritten = None if junit is None else _write_junit(report, junit)
    if explain and not as_json:
        _explain(report, bundle, reference, taken_apart, verbose=verbose)
    _leave(report, unwritten)


def _leave(report: ParityReport, unwritten: str | None) -> None:
    """End with the exit code that the verdict has, and with what is left to say."""
    failed, missing = bool(report.failed), _not_run_words(report) if report.not_run else None
    for text in (unwritten, missing):
        if text is not None and (failed or (text is unwritten and missing is not None)):
            note(f"warning: {text}")
    if failed:
        raise typer.Exit(EXIT_FAILED)
    if missing is not None:
        raise RuntimeMissingError(missing)
    if unwritten is not None:
        raise UsageError(unwritten)


def _not_run_words(report: ParityReport) -> str:
    from vae_edge.cli.tables import plural

    reasons = dict.fromkeys(each.reason for each in report.not_run)
    ran = dict.fromkeys(f"--format {subject.format}" for subject in report.subjects)
    one = len(report.not_run) == 1
    return (
        f"{plural(len(report.not_run), 'artifact')} {'was' if one else 'were'} not run, so nothing "
        f"is known of {'it' if one else 'them'}. {' '.join(reasons)} To ask for the others alone: "
        f"{' '.join(ran)}."
    )


def _is_another(report: ParityReport, other: str | None) -> bool:
    """Tell whether the reference is, by its file and by the verdict, no model of this bundle."""
    return other is not None and len(report.failed) >= _NEARLY_ALL * len(report.subjects)


def _note_other_model(report: ParityReport, source: str) -> None:
    differs = f"{source} is not the file that the bundle was exported from (their SHA-256 differ)"
    if _is_another(report, source):
        note(
            f"note: {differs}, and nearly everything fails: it is another model, and this verdict "
            "says nothing of the export. Give --reference the bundle's own model, or leave it out "
            "to compare with the golden vectors."
        )
    else:
        note(f"note: {differs}, so differences may be the model's and not the export's.")


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
    bundle: Bundle,
    model: Path | None,
    split: SplitOptions,
    data: Path | None,
    fit: Fit | None,
) -> tuple[Reference, str | None]:
    """Give the reference, and the model's name where it is not the file of the bundle."""
    from vae_edge.parity import golden_reference, live_reference
    from vae_edge.split_options import SplitOptions

    is_live = model is not None or split.encoder is not None
    if not is_live and split != SplitOptions():
        raise UsageError(
            "options that say how a model is taken apart go with --reference MODEL, or with "
            "--encoder and --decoder; received neither."
        )
    if not is_live and data is None:
        return golden_reference(bundle), None
    if not is_live:
        return _on_data(bundle, *_most_exact(bundle), data, fit), None
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
    other = None if vae.source_sha256 == expected.source_sha256 else str(source)
    halves = [open_keras_runner(vae, component) for component in Component]
    if data is not None:
        return _on_data(bundle, halves[0], halves[1], data, fit), other
    return live_reference(bundle, halves[0], halves[1]), other


def _on_data(
    bundle: Bundle, encoder: Runner, decoder: Runner, data: Path | None, fit: Fit | None
) -> Reference:
    from vae_edge.images import read_images
    from vae_edge.parity import data_reference

    assert data is not None  # noqa: S101  asked for only then
    model = bundle.manifest.model
    images = read_images(data, model.image_shape, fit=fit, preprocessing=model.preprocessing)
    return data_reference(bundle, images, encoder, decoder, str(data))


def _most_exact(bundle: Bundle) -> tuple[Runner, Runner]:
    """Open what stands in for the Keras model where that is not at hand."""
    encoder, decoder = (_most_exact_that_runs(bundle, component) for component in Component)
    note(
        f"note: compared with {encoder.name} and {decoder.name}, which stand in for the Keras "
        "model; with that itself: --reference MODEL."
    )
    return encoder, decoder


def _most_exact_that_runs(bundle: Bundle, component: Component) -> Runner:
    records = [r for r in bundle.manifest.artifacts if r.component is component]
    missing: RuntimeMissingError | None = None
    for record in sorted(records, key=lambda each: EXACTNESS.index(each.precision)):
        try:
            return bundle.open_runner(record)
        except RuntimeMissingError as error:
            missing = missing or error
    if missing is not None:
        raise missing
    raise ParityError(
        f"{bundle.path}: holds no {component}, so there is nothing to compare with on "
        "--data. Give the Keras model: --reference MODEL."
    )


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


def _write_junit(report: ParityReport, path: Path) -> str | None:
    """Write the file; give what to say where it cannot be, for the verdict stands all the same."""
    from vae_edge.files import replaced_file
    from vae_edge.junit import write_junit

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as part:
            part.write_text(write_junit(report), encoding="utf-8")
    except OSError as error:
        return (
            f"--junit {path}: cannot be written: {error.strerror or error}. The verdict above "
            "stands. Make space or the directory writable, or name a file elsewhere, and run it "
            "again."
        )
    return None


def _print_report(report: ParityReport, *, show_all: bool, of_another_model: bool) -> None:
    from rich.text import Text

    from vae_edge.cli.parity_tables import all_figures, glossary, reasons, summary, totals

    out = results()
    out.print(summary(report))
    if show_all:
        out.print(all_figures(report))
        out.print(glossary())
    most = None if show_all else 1 if of_another_model else MOST_REASONS
    for subject in report.subjects:
        for reason in reasons(subject, most):
            out.print(
                Text(f"{subject.subject} {subject.precisions} {subject.format}: {reason}"),
                soft_wrap=True,
            )
    out.print(totals(report))
