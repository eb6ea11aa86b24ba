"""`vae-edge benchmark`: how long do the artifacts take here, beside the Keras model?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.cli.benchmark_counts import parse_counts
from vae_edge.cli.benchmark_files import Files
from vae_edge.cli.benchmark_sustained import parse_duration, print_sustained
from vae_edge.cli.console import interruptible, note, progress
from vae_edge.cli.options import (
    BundlePath,
    Json,
    MaxError,
    MinPsnr,
    OnlyFormats,
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
    split_options,
)
from vae_edge.errors import UsageError
from vae_edge.terms import Component, Format, Precision

if TYPE_CHECKING:
    from benchmarks.plan import Selection
    from benchmarks.report import BenchmarkReport

__all__ = ["benchmark"]

EXIT_NOT_QUIET = 1
_MOST_THREADS = 256
_MOST_ROWS = 65536


def benchmark(
    bundle: BundlePath,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            metavar="MODEL",
            help="Measure this .keras model too. Default: the one that ships with vae-edge, where "
            "the bundle came from it and TensorFlow is installed.",
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
    threads: Annotated[
        list[str] | None,
        typer.Option(
            "--threads",
            metavar="N[,N...]",
            help="Threads each runtime may use; several (1,2,4) are measured in one run. "
            "Repeatable. Default: 1.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            "--batch",
            metavar="N[,N...]",
            help="Rows per inference; several (1,8,32) are measured in one run. Repeatable. "
            "Default: what each artifact was exported for, 1 where it takes any.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=2, help="Samples per artifact; more are steadier.")
    ] = 30,
    format: OnlyFormats = None,
    precision: Annotated[
        list[Precision] | None,
        typer.Option("--precision", help="Only this one. Repeatable.", show_default=False),
    ] = None,
    component: Annotated[
        list[Component] | None,
        typer.Option(
            "--component",
            help="Only this component, and not the two in a row. Repeatable.",
            show_default=False,
        ),
    ] = None,
    min_psnr: MinPsnr = None,
    max_error: MaxError = None,
    as_json: Json = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the whole result, raw samples included, to this JSON file.",
            show_default=False,
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write a row per artifact to this CSV file.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw latency against size and error, with the Pareto front, to this .png file "
            "(or .svg, .pdf); needs matplotlib.",
            show_default=False,
        ),
    ] = None,
    sustained: Annotated[
        str | None,
        typer.Option(
            "--sustained",
            metavar="TIME",
            help="Then run the best choice of each component this long (90s, 10m, 1h) without a "
            "pause, and hold its last minute against its first: does heat slow it down?",
            show_default=False,
        ),
    ] = None,
    require_quiet: Annotated[
        bool,
        typer.Option(
            "--require-quiet",
            help="Exit 1, after printing the result, if the machine was not fit to measure on.",
        ),
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Measure the latency of every artifact of a bundle, beside the Keras model where it can run.

    Ends with what paid here, and with the artifact that is the best choice for this device: the
    fastest one within the quality budget, the smaller file where two are as fast.

    Examples:
    `vae-edge benchmark build/mnist-vae --threads 2 --out before.json`

    `vae-edge benchmark build/mnist-vae --threads 1,2,4 --batch 1,8,32 --csv sweep.csv`

    `vae-edge benchmark build/mnist-vae --reference runs/mnist-vae/model.keras --precision int8`

    `vae-edge benchmark build/mine --reference my_vae.keras --import my_layers.py`
    """
    from benchmarks.latency import run_benchmark
    from benchmarks.reference import choose_reference
    from benchmarks.report import write_report
    from benchmarks.verdicts import best_in_one_format
    from vae_edge.bundle import Bundle
    from vae_edge.cli.benchmark_tables import print_benchmark
    from vae_edge.cli.tables import plural
    from vae_edge.selection import budget_of

    budget = budget_of(min_psnr, max_error)
    thread_counts = parse_counts("--threads", threads, most=_MOST_THREADS) or (1,)
    batches = parse_counts("--batch", batch, most=_MOST_ROWS)
    files = Files(out=out, csv=csv, plot=plot)
    files.check()
    seconds = None if sustained is None else parse_duration(sustained)
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
    opened = Bundle.open(bundle)
    choice = choose_reference(opened, reference, split=taken_apart)
    if choice.warning:
        note(f"warning: {choice.warning}")
    with interruptible("Nothing was kept of this run."), progress() as display:
        task = display.add_task("importing the runtimes", total=1)
        report = run_benchmark(
            bundle,
            reference=choice.path,
            split=taken_apart,
            threads=thread_counts,
            batches=batches,
            rounds=rounds,
            only=_selection(parse_formats(format), precision, component),
            reference_note=choice.note,
            verbose=verbose,
            budget=budget,
            on_progress=lambda done, total: display.update(
                task, description="measuring", completed=done, total=total
            ),
        )
    if not as_json:
        print_benchmark(report, best_in_one_format(report, opened.manifest))
    if seconds is not None:
        _keep_so_far(files, report)
        report = _sustain(report, bundle, seconds, verbose=verbose)
    # Printed before it is written: a full disk must not cost the run.
    if as_json:
        typer.echo(write_report(report), nl=False)
    else:
        print_sustained(report.sustained, emulated=report.environment.emulated)
    for skipped in report.skipped:
        note(f"note: {skipped.name} was not measured. {skipped.reason}")
    for warning in report.warnings:
        note(f"warning: {warning.text}")
    files.write(report)
    if require_quiet and report.warnings:
        note(f"failed: --require-quiet, and the run has {plural(len(report.warnings), 'warning')}.")
        raise typer.Exit(EXIT_NOT_QUIET)


def _keep_so_far(files: Files, report: BenchmarkReport) -> None:
    """Write what was measured before a long run that may be interrupted."""
    try:
        files.write(report)
    except UsageError as error:
        note(f"warning: {error}")


def _sustain(
    report: BenchmarkReport, bundle: Path, seconds: float, *, verbose: bool
) -> BenchmarkReport:
    from benchmarks.latency import start_worker
    from benchmarks.sustained import with_sustained

    lost = "The sustained run is lost; what came before it is in the files that were asked for."
    with interruptible(lost), progress() as display:
        task = display.add_task("loading", total=seconds)
        return with_sustained(
            report,
            bundle,
            seconds,
            lambda group: start_worker(group, verbose=verbose),
            on_progress=lambda file, passed: display.update(
                task, description=f"sustained: {file}", completed=passed
            ),
        )


def _selection(
    formats: tuple[Format, ...],
    precisions: list[Precision] | None,
    components: list[Component] | None,
) -> Selection:
    from benchmarks.plan import Selection
    from benchmarks.report import Part

    wanted = {Part(component.value) for component in components or ()} or set(Part)
    return Selection(
        formats=formats or None,
        precisions=tuple(precisions or Precision),
        parts=tuple(part for part in Part if part in wanted),
    )
