"""`vae-edge export`: from a Keras VAE to a bundle that was proven and measured."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace as with_changes
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.allocator import keep_little
from vae_edge.cli.console import interruptible, note, progress, quiet, results
from vae_edge.cli.data_sources import (
    AUTO,
    CALIBRATION_HELP,
    check_calibration,
    representative_for,
)
from vae_edge.cli.declared_options import (
    ColourOrderOption,
    LikelihoodOption,
    MeanOption,
    OutputRangeOption,
    StdOption,
    TrainedFitOption,
    ValueRangeOption,
    parse_declared,
)
from vae_edge.cli.export_options import (
    AUTO_PRECISION,
    Io,
    check_auto,
    check_integer_io,
    parse_batch,
    parse_budget,
    parse_precisions,
)
from vae_edge.cli.measured_export import MeasuredExport
from vae_edge.cli.options import (
    DataDir,
    ExportFormats,
    Json,
    MaxError,
    MinPsnr,
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
from vae_edge.errors import RuntimeMissingError
from vae_edge.split_options import SplitOptions
from vae_edge.terms import DEFAULT_PRECISIONS, Component, Format, Precision, Target

if TYPE_CHECKING:
    from exporters.interpretation import Declared
    from exporters.pipeline import ExportPlan, LeftOut
    from vae_edge.manifest import QualityBudget
    from vae_edge.verdict import Verdict

__all__ = ["default_precisions", "export", "need_host", "run_export"]

EXIT_LEFT_OUT = 1
_BUILT_IN = frozenset(Format)
_FOUND = SplitOptions()
_ALSO_IN_THE_RUNNING: Mapping[Format, tuple[Precision, ...]] = {Format.TFLITE: (Precision.DYNAMIC,)}


def default_precisions(
    formats: tuple[Format, ...], asked: tuple[Precision, ...] | None
) -> dict[Format, tuple[Precision, ...]]:
    """Give the precisions to make per format.

    Args:
        formats: to export.
        asked: those asked for; none for the defaults; None for all that one may be chosen from.
    """
    if asked is None:
        return {each: DEFAULT_PRECISIONS + _ALSO_IN_THE_RUNNING.get(each, ()) for each in formats}
    return {each: asked or _defaults_of(each) for each in formats}


def _defaults_of(format: Format) -> tuple[Precision, ...]:
    if format in _BUILT_IN:
        return DEFAULT_PRECISIONS
    from exporters.registry import exporter_of

    able = exporter_of(format).precisions
    return tuple(each for each in DEFAULT_PRECISIONS if each in able) or able


def export(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A .keras file. Default: the MNIST VAE that ships with vae-edge.",
            show_default=False,
        ),
    ] = None,
    format: ExportFormats = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            metavar="PRECISION",
            help="float32, float16, dynamic or int8; repeat for several. Default: all but "
            f"dynamic. {AUTO_PRECISION}: make them, measure them here, and publish the "
            "fastest of each component and format within the budget below, the smaller file on a "
            "tie.",
            show_default=False,
        ),
    ] = None,
    min_psnr: MinPsnr = None,
    max_error: MaxError = None,
    component: Annotated[
        list[Component] | None,
        typer.Option("--component", help="Repeat for both. Default: both.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Bundle directory. Default: build/NAME.", show_default=False),
    ] = None,
    target: Annotated[
        Target,
        typer.Option(
            "--target",
            help="Processors to choose the form of each layer for; every form runs everywhere.",
        ),
    ] = Target.ANY,
    lowering: Annotated[
        bool,
        typer.Option(
            "--lowering/--no-lowering",
            help="Rewrite graphs exactly into faster ones, or leave them to the standard "
            "converters.",
        ),
    ] = True,
    io: Annotated[
        Io,
        typer.Option(
            "--io",
            help="Type of inputs and outputs; int8 goes with --precision int8 only, for devices "
            "without floats.",
        ),
    ] = Io.FLOAT32,
    batch: Annotated[
        str, typer.Option("--batch", help="Rows per inference: a number, or dynamic for any.")
    ] = "1",
    calibration: Annotated[str, typer.Option("--calibration", help=CALIBRATION_HELP)] = AUTO,
    data_dir: DataDir = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of calibration data.")] = 0,
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
    value_range: ValueRangeOption = None,
    output_range: OutputRangeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    colour_order: ColourOrderOption = None,
    fit: TrainedFitOption = None,
    likelihood: LikelihoodOption = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="[PRECISION:]OUTPUT.METRIC=LIMIT",
            help="Replace a parity limit, e.g. int8:z_mean.max_abs_error=0.1. Repeatable.",
            show_default=False,
        ),
    ] = None,
    keep_failing: Annotated[
        bool, typer.Option("--keep-failing", help="Publish even where parity fails.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace a bundle at --out that holds other artifacts."),
    ] = False,
    benchmark: Annotated[
        bool, typer.Option(help="Measure latency against the Keras model, for the manifest.")
    ] = True,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Split a Keras VAE, convert it, prove it and measure it: a bundle to deploy.

    Exit 0 all of it, 1 a bundle without what could not be converted or proven, 2 no bundle.

    Examples:
    `vae-edge export --format tflite`

    `vae-edge export runs/mnist-vae/model.keras --format tflite --format onnx --precision int8`

    `vae-edge export --format tflite --precision auto --min-psnr 35`

    `vae-edge export --encoder encoder.keras --decoder decoder.keras --import my_layers.py`
    """
    from vae_edge.keras_vae import shipped_model_path
    from vae_edge.tolerances import parse_override

    formats = parse_formats(format) or tuple(Format)
    precisions = parse_precisions(precision or ())
    budget = parse_budget(precisions is None, min_psnr, max_error)
    if precisions is None:
        check_auto(benchmark=benchmark, keep_failing=keep_failing, integer_io=io is Io.INT8)
    elif io is Io.INT8:
        check_integer_io(precisions, lowering)
    plan_options = {
        "formats": formats,
        "precisions": default_precisions(formats, precisions),
        "components": tuple(dict.fromkeys(component or Component)),
        "batch": parse_batch(batch),
        "target": target,
        "lowering": lowering,
        "integer_io": io is Io.INT8,
        "replace": replace,
        "keep_failing": keep_failing,
        "overrides": tuple(parse_override(text) for text in tolerance or ()),
    }
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
    untouched = "No bundle was written; what was there is untouched."
    with quiet(verbose), interruptible(untouched) as check_interrupted:
        need_host()
        from exporters.pipeline import ExportPlan

        declared = parse_declared(
            value_range=value_range,
            output_range=output_range,
            mean=mean,
            std=std,
            colour_order=colour_order,
            fit=fit,
            likelihood=likelihood,
        )
        source = model
        if model is None and taken_apart.encoder is None:
            source = shipped_model_path()
            note("Exporting the MNIST VAE that ships with vae-edge (name a .keras file for yours).")
        destination = out or Path("build") / _default_name(source, taken_apart)
        plan = ExportPlan(destination=destination, **plan_options)  # type: ignore[arg-type]
        found, left_out = run_export(
            source,
            plan,
            split=taken_apart,
            declared=declared,
            calibration=calibration,
            data_dir=data_dir,
            seed=seed,
            benchmark=benchmark,
            budget=budget,
            check_interrupted=check_interrupted,
        )
    _print_result(destination, found, left_out, plan, as_json)
    if left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


def run_export(
    model: Path | None,
    plan: ExportPlan,
    *,
    split: SplitOptions = _FOUND,
    declared: Declared | None = None,
    calibration: str,
    data_dir: Path | None,
    seed: int,
    benchmark: bool,
    budget: QualityBudget | None = None,
    report: Path | None = None,
    check_interrupted: Callable[[], None] = lambda: None,
) -> tuple[tuple[Verdict, ...], tuple[LeftOut, ...]]:
    """Load, export, prove and measure, with one progress display on stderr.

    Gives the verdicts on what was published, and what was left out.

    `split` says how to take the model apart, and names its files where `model` is None. With
    `declared`, what its author says of the model's values counts, and else what its layers show.
    With `budget`, only the best choice within it is published. With `report`, the whole benchmark
    report is written there too. `check_interrupted` is called before every step.
    """
    from exporters.interpretation import Declared, interpret
    from exporters.pipeline import export_bundle
    from vae_edge.bundle_writer import check_reselection
    from vae_edge.keras_vae import load_keras_vae

    # Everything that can be refused without work is refused before TensorFlow is even loaded.
    plan.check()
    if budget is not None:
        check_reselection(plan.destination, plan.replace)
    check_calibration(calibration)
    keep_little()
    with progress() as display:
        total, count = len(list(plan.files())) + 3 + benchmark, itertools.count(1)
        task = display.add_task("loading the model", total=total)

        def log(step: str) -> None:
            if display.disable:  # a file or a pipe gets lines instead of a bar
                note(f"{next(count)}/{total} {step}")

        def on_step(step: str) -> None:
            check_interrupted()
            display.update(task, advance=1, description=step)
            log(step)

        def on_detail(detail: str) -> None:
            check_interrupted()
            display.update(task, description=detail)

        def on_latency(done: int, total: int) -> None:
            display.update(task, description=f"latency {100 * done // total} %")

        log("loading the model")
        vae = load_keras_vae(model, split)
        print_notes(vae.notes)
        found = interpret(vae, declared or Declared())
        for sentence in found.notes:
            note(f"note: {sentence}")
        vae = with_changes(vae, preprocessing=found.preprocessing)
        on_step("calibration data")
        source = model or Path(str(split.encoder))
        representative = representative_for(vae, source, calibration, data_dir, seed)
        hooks = MeasuredExport(
            model, budget, split=split, overrides=plan.overrides, on_progress=on_latency
        )
        result = export_bundle(
            vae,
            plan,
            representative,
            measure=hooks.measure if benchmark else None,
            select=hooks.select if budget is not None else None,
            on_step=on_step,
            on_detail=on_detail,
        )
        if report is not None:
            hooks.write_report(report, result.bundle.manifest)
        display.update(task, advance=1, description="done")
    return hooks.verdicts(result.bundle.manifest), result.left_out


def _default_name(model: Path | None, split: SplitOptions) -> str:
    from vae_edge.splitting import name_of

    return name_of(model, split)


def need_host() -> None:
    """Refuse to start where a package that exporting needs is not installed.

    Raises:
        RuntimeMissingError: which, and how to install them.
    """
    missing = [name for name in ("tensorflow", "keras", "onnx", "tf2onnx") if not _installed(name)]
    if missing:
        raise RuntimeMissingError(
            f"Exporting needs the host packages, and {', '.join(missing)} cannot be found: "
            "pip install 'vae-edge[host]'. A device only needs the bundle: export on a desktop "
            "and copy the directory over."
        )


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _print_result(
    destination: Path,
    verdicts: tuple[Verdict, ...],
    left_out: tuple[LeftOut, ...],
    plan: ExportPlan,
    as_json: bool,
) -> None:
    from rich.text import Text

    from vae_edge.bundle import Bundle
    from vae_edge.cli.tables import bundle_table
    from vae_edge.cli.verdict_tables import print_selection, print_verdicts
    from vae_edge.codec import encode

    manifest = Bundle.open(destination).manifest
    if as_json:
        document = {
            "bundle": str(destination),
            "manifest": encode(manifest),
            "verdicts": encode(verdicts),
            "left_out": encode(left_out),
        }
        typer.echo(json.dumps(document))
        return
    out = results()
    out.print(bundle_table(manifest), "")
    if manifest.selection is not None:
        print_selection(
            out, manifest.selection, "Chosen (>) by what was measured here, and from what"
        )
    print_verdicts(out, verdicts)
    for each in left_out:
        out.print(Text(f"Left out: {each.file}: {each.reason}", style="red"), soft_wrap=True)
    if left_out:
        out.print(
            "The bundle holds the rest. --keep-failing publishes what fails parity too, "
            "--tolerance sets a limit of your own, --calibration takes ranges from other images.",
            "",
            soft_wrap=True,
        )
    out.print(f"Bundle: {destination}", soft_wrap=True)
    out.print(f"Next:   vae-edge parity {destination}", soft_wrap=True)
    if not plan.batch:
        note("note: latency was measured at the batch that each runtime was given.")
