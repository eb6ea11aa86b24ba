"""`vae-edge explain`: in which layer does an artifact leave the Keras model?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.cli.console import interruptible, note, progress, quiet, results
from vae_edge.cli.options import Json, Verbose
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
from vae_edge.errors import ArtifactError, UsageError
from vae_edge.split_options import SplitOptions
from vae_edge.terms import COMPONENT_INPUT, Component, Format

if TYPE_CHECKING:
    from rich.table import Table

    from vae_edge.bundle import Bundle
    from vae_edge.explain import Explanation, LayerReport
    from vae_edge.keras_vae import KerasVAE
    from vae_edge.terms import FloatArray

__all__ = ["explain", "explain_files", "explanation_table", "print_explanations"]

EXPLAIN_SCHEMA_VERSION = 1
_FOUND = SplitOptions()
# Columns that the table with tensors and types takes.
_WIDE = 125
_WIDE_COLUMNS = ("tensor", "type", "layout")
_SEED = 0
_TENSOR_WIDTH = 28


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """An artifact to explain."""

    name: str
    content: bytes
    format: Format
    component: Component


def explain(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE_OR_ARTIFACT",
            help="A bundle directory, or a .tflite or .onnx file that stands alone.",
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            metavar="MODEL",
            help="The .keras model that it was exported from. May be left out for a bundle of the "
            "model that ships with vae-edge.",
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
    artifact: Annotated[
        list[str] | None,
        typer.Option(
            "--artifact",
            metavar="FILE",
            help="Only this file of the bundle. Repeatable.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE.png",
            help="Also draw the layers to this file.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Compare artifacts with the Keras model layer by layer, and name the first that diverges.

    A bundle's artifacts run on its golden vectors; one that stands alone on random latents and the
    model's own images of them. Needs the host packages.

    Example: `vae-edge explain build/mnist-vae --artifact decoder.int8.tflite`
    """
    if picture is not None and picture.suffix != ".png":
        raise UsageError(f"--picture {picture}: a PNG is written; give a name ending in .png.")
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
    with quiet(verbose), interruptible("Nothing was decided."):
        found, vae = explain_files(path, reference, artifact or [], taken_apart)
        if picture is not None:
            from vae_edge.explain_plot import write_picture

            write_picture(found, picture)
    _print(found, vae, picture, as_json)


def explain_files(
    path: Path,
    reference: Path | None,
    wanted: Sequence[str],
    split: SplitOptions = _FOUND,
) -> tuple[list[Explanation], KerasVAE]:
    """Explain artifacts, with a progress bar.

    Args:
        path: a bundle, or one artifact.
        reference: the Keras model; None for the one that ships, where the bundle is of that.
        wanted: files of the bundle; none for all.
        split: how the model is taken apart, and its files where they are two.

    Raises:
        VaeEdgeError: the model is not known, something cannot be loaded, or a host package is
            missing.
    """
    from vae_edge.explain import explain_artifact
    from vae_edge.keras_vae import load_keras_vae

    bundle, subjects = _subjects(path, wanted)
    with progress() as display:
        task = display.add_task("loading the model", total=len(subjects))
        vae = load_keras_vae(_model(reference, bundle, path, split), split)
        print_notes(vae.notes)
        rows = _golden_rows(bundle, vae) if bundle else _own_rows(vae)
        found = []
        for subject in subjects:
            display.update(task, description=subject.name)
            found.append(
                explain_artifact(
                    subject.content,
                    subject.format,
                    subject.component,
                    vae,
                    rows[subject.component],
                    subject.name,
                )
            )
            display.update(task, advance=1)
    return found, vae


def _subjects(path: Path, wanted: Sequence[str]) -> tuple[Bundle | None, list[_Subject]]:
    if path.is_dir():
        from vae_edge.bundle import Bundle

        bundle = Bundle.open(path)
        return bundle, list(_of_bundle(bundle, wanted))
    if wanted:
        raise UsageError(
            f"--artifact chooses from a bundle; {path} is not a directory. Leave --artifact out, "
            "or give the bundle."
        )
    return None, [_alone(path)]


def _of_bundle(bundle: Bundle, wanted: Sequence[str]) -> Iterator[_Subject]:
    records = {record.file: record for record in bundle.manifest.artifacts}
    unknown = [name for name in wanted if name not in records]
    if unknown:
        raise UsageError(
            f"--artifact {unknown[0]}: {bundle.path} has no such file. It holds: "
            f"{', '.join(records)}."
        )
    for file in dict.fromkeys(wanted or records):
        record = records[file]
        yield _Subject(
            name=file,
            content=bundle.read(record),
            format=record.format,
            component=record.component,
        )


def _alone(path: Path) -> _Subject:
    from vae_edge.runners.registry import open_artifact

    with open_artifact(path) as runner:
        names = [spec.name for spec in runner.inputs]
    for component, name in COMPONENT_INPUT.items():
        if names == [name]:
            return _Subject(
                name=path.name,
                content=path.read_bytes(),
                format=Format(path.suffix.removeprefix(".")),
                component=component,
            )
    raise ArtifactError(
        f"{path}: takes {', '.join(names)}; an encoder takes image, a decoder z. Export it again "
        "with vae-edge."
    )


def _model(
    reference: Path | None, bundle: Bundle | None, path: Path, split: SplitOptions
) -> Path | None:
    from vae_edge.bundle import sha256_of
    from vae_edge.keras_vae import shipped_model_path

    expected = bundle.manifest.model.source_sha256 if bundle else None
    if reference is None and split.encoder is not None:
        return None
    if reference is None:
        if expected is not None and sha256_of(shipped_model_path()) == expected:
            return shipped_model_path()
        raise UsageError(
            f"{path}: was not exported from the model that ships with vae-edge, as far as is "
            "known. Give the .keras model that it was exported from with --reference."
        )
    if expected is not None and reference.is_file() and sha256_of(reference) != expected:
        note(
            f"note: {reference} is not the file that the bundle was exported from (their SHA-256 "
            "differ), so differences may be the model's and not the export's."
        )
    return reference


def _golden_rows(bundle: Bundle, vae: KerasVAE) -> dict[Component, FloatArray]:
    from vae_edge.parity import golden_reference

    expected = bundle.manifest.model
    if (vae.image_shape, vae.latent_dim) != (expected.image_shape, expected.latent_dim):
        raise ArtifactError(
            f"{bundle.path}: was exported from a model with images of {expected.image_shape} and "
            f"latent_dim {expected.latent_dim}; {vae.name} has {vae.image_shape} and "
            f"{vae.latent_dim}. Give the model that it was exported from with --reference."
        )
    golden = golden_reference(bundle)
    return {Component.ENCODER: golden.images, Component.DECODER: golden.z}


def _own_rows(vae: KerasVAE) -> dict[Component, FloatArray]:
    """Latents of the prior, and the images that the model itself makes of them."""
    import numpy as np

    from vae_edge.explain import MAX_ROWS

    rng = np.random.default_rng(_SEED)
    z = rng.standard_normal((MAX_ROWS, vae.latent_dim), np.float32)
    images = vae.function(Component.DECODER)(z)["reconstruction"]
    return {Component.ENCODER: np.asarray(images, np.float32), Component.DECODER: z}


def _print(found: Sequence[Explanation], vae: KerasVAE, picture: Path | None, raw: bool) -> None:
    from vae_edge.codec import encode

    if raw:
        document = {
            "schema_version": EXPLAIN_SCHEMA_VERSION,
            "model": vae.name,
            "source_sha256": vae.source_sha256,
            "explanations": encode(tuple(found)),
        }
        typer.echo(json.dumps(document, allow_nan=False))
    else:
        print_explanations(found)
    if picture is not None:
        note(f"Drawn to {picture}.")


def print_explanations(found: Sequence[Explanation]) -> None:
    """Print a table per artifact, and below it what was found."""
    out = results()
    for explanation in found:
        out.print(explanation_table(explanation, wide=out.width >= _WIDE))
        out.print(explanation.finding, "", soft_wrap=True)


def explanation_table(explanation: Explanation, *, wide: bool) -> Table:
    """Give an artifact's layers as a table; a narrow one says which columns it lacks."""
    from rich.text import Text

    from vae_edge.cli.tables import new_table

    wide_columns = _WIDE_COLUMNS if wide else ()
    figures = ("SQNR", "max error", "range used", "at low", "at high")
    columns = ("layer", *wide_columns)
    title = (
        f"{explanation.artifact}: {explanation.rows} rows against Keras "
        f"(by its types {explanation.precision}; floor {explanation.floor_db:g} dB)"
    )
    table = new_table(title, *columns, *figures, "note", right_from=len(columns))
    table.columns[-1].justify = "left"
    # A narrow terminal folds, and cuts nothing off.
    for column in (table.columns[0], table.columns[-1]):
        column.no_wrap, column.overflow = False, "fold"
    for layer in explanation.layers:
        style = "red" if layer.layer == explanation.first else ""
        names = (_shortened(layer.tensor), layer.dtype or "-", layer.layout or "-")
        cells = (layer.layer, *(names if wide else ()), *_figures(layer), f" {_remark(layer)}")
        table.add_row(*(Text(cell, style=style) for cell in cells))
    table.caption = (
        "SQNR: energy of the layer's output over that of the error. range used: share of the "
        "integer steps between the lowest and the highest value; at low, at high: values at the "
        "type's ends (0: the low end stands for zero, as after a rectifier)"
    )
    if not wide:
        table.caption += (
            f". Left out here: {', '.join(_WIDE_COLUMNS)}. A terminal of {_WIDE} columns "
            f"(COLUMNS={_WIDE}) shows them, and so does --json"
        )
    table.caption_justify = "left"
    return table


def _figures(layer: LayerReport) -> tuple[str, ...]:
    if layer.tensor is None:
        return ("-",) * 5
    use = layer.range_use
    error = "-" if layer.max_abs_error is None else f"{layer.max_abs_error:.2g}"
    level = "exact" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f} dB"
    if use is None:
        return level, error, "-", "-", "-"
    low = f"{use.at_low:.1%}" + (" (0)" if use.low_is_zero else "")
    return level, error, f"{use.used:.0%}", low, f"{use.at_high:.1%}"


def _remark(layer: LayerReport) -> str:
    return "; ".join(filter(None, ("DIVERGES" if layer.diverges else "", layer.note)))


def _shortened(name: str | None) -> str:
    """Converters' names hold the whole path of a layer; its end says most."""
    if name is None:
        return "-"
    return name if len(name) <= _TENSOR_WIDTH else f"...{name[-(_TENSOR_WIDTH - 3) :]}"
