"""`vae-edge inspect`: what is in a bundle or an artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.cli.console import quiet, results
from vae_edge.cli.options import Json
from vae_edge.cli.tables import bundle_table, format_size, new_table

if TYPE_CHECKING:
    from rich.table import Table

    from vae_edge.manifest import ArtifactRecord, Manifest
    from vae_edge.preprocessing import Preprocessing, Scaling
    from vae_edge.terms import TensorSpec

__all__ = ["inspect"]


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A bundle directory, a .tflite or an .onnx file.")
    ],
    as_json: Json = False,
) -> None:
    """Show what a bundle or an artifact holds: tensors, operators, precision, requirements.

    Examples: `vae-edge inspect build/mnist-vae`,
    `vae-edge inspect build/mnist-vae/decoder.int8.tflite`
    """
    if path.is_dir():
        _inspect_bundle(path, as_json)
    else:
        _inspect_artifact(path, as_json)


def _inspect_bundle(path: Path, as_json: bool) -> None:
    from vae_edge.bundle import Bundle
    from vae_edge.cli.verdict_tables import print_selection
    from vae_edge.codec import encode

    manifest = Bundle.open(path).manifest
    if as_json:
        typer.echo(json.dumps(encode(manifest)))
        return
    out = results()
    model, golden, calibration = manifest.model, manifest.golden, manifest.calibration
    out.print(
        f"Model {model.name}: images {model.image_shape}, latent_dim {model.latent_dim}, "
        f"SHA-256 {model.source_sha256[:16]}...",
        soft_wrap=True,
    )
    out.print(_values(model.preprocessing), soft_wrap=True)
    out.print(
        f"Golden vectors: {golden.images} images and {golden.latents} latents from {golden.source}",
        soft_wrap=True,
    )
    if calibration is not None:
        out.print(
            f"Calibration: {calibration.count} images (seed {calibration.seed}) from "
            f"{calibration.source}",
            soft_wrap=True,
        )
    out.print("Made with " + ", ".join(f"{k} {v}" for k, v in manifest.tools.items()), "\n")
    out.print(bundle_table(manifest), "")
    if manifest.selection is not None:
        title = "Chosen (>) by what was measured at export, and from what"
        print_selection(out, manifest.selection, title)
    out.print(_types_table(manifest))
    for record in manifest.artifacts:
        out.print(record.file)
        out.print(_details(record))


def _values(meaning: Preprocessing) -> str:
    """Say in a line what the numbers of the model's input and output mean."""
    given, got = _range(meaning.input), _range(meaning.output)
    from vae_edge.terms import DataKind

    colours = {"rgb": "red first", "bgr": "blue first"}
    words = (
        f"{meaning.kind}s, input and output {got}"
        if given == got
        else f"{meaning.kind}s, input {given}, output {got}",
        f"{meaning.likelihood} likelihood",
        colours.get(str(meaning.colour_order), ""),
        f"other sizes: {meaning.fit or 'refused'}" if meaning.kind is DataKind.PICTURE else "",
    )
    return f"Values: {', '.join(filter(None, words))}"


def _range(scaling: Scaling | None) -> str:
    if scaling is None:
        return "of no stated range"
    by_channel = " (a scale for each channel)" if scaling.channels > 1 else ""
    return f"in [{scaling.low:.4g}, {scaling.high:.4g}]{by_channel}"


def _profile(note: str) -> str:
    """Name the profile and who wrote the file; what the profile is for is said of all its files."""
    name, _, why = note.partition(": ")
    _, written, how = why.partition("; written by ")
    return f"{name}{written}{how}"


def _types_table(manifest: Manifest) -> object:
    table = new_table("Types", "artifact", "weights", "activations", "oldest runtime", right_from=9)
    for record in manifest.artifacts:
        quantization, runtime = record.quantization, record.oldest_runtime
        granularity = quantization.weight_granularity
        weights = quantization.weights + ("" if granularity == "none" else f" {granularity}")
        table.add_row(
            record.file,
            weights,
            quantization.activations,
            f"{runtime.name} {runtime.version}",
        )
    return table


def _details(record: ArtifactRecord) -> Table:
    """One artifact in words: what goes in and out, what computes, what was rewritten."""
    from rich.table import Table

    from vae_edge.verdict import counted

    lowering = record.lowering
    passes = [f"{step.name} ({', '.join(step.layers)})" for step in lowering.applied]
    refused = [f"{step.name} ({step.layer}): {step.reason}" for step in lowering.refused]
    rows = {
        "boundary": [_boundary(record.inputs, record.outputs)],
        "operators": [counted(record.operators) or "none"],
        "in float": [counted(record.float_operators) or "none"],
        "precision": [record.quantization.note],
        "target": [str(lowering.target or "none: the graph is as the converter made it")],
        "rewritten": passes or ["nothing"],
        "left alone": refused,
        "profile": [_profile(lowering.note)],
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, lines in rows.items():
        for index, line in enumerate(filter(None, lines)):
            table.add_row("" if index else f"  {name}", line)
    table.add_row("", "")
    return table


def _inspect_artifact(path: Path, as_json: bool) -> None:
    from vae_edge.codec import encode
    from vae_edge.runners.registry import open_artifact

    with quiet(), open_artifact(path) as runner:
        inputs, outputs, runtime = runner.inputs, runner.outputs, runner.runtime
    size_bytes = path.stat().st_size
    if as_json:
        document = {
            "file": path.name,
            "size_bytes": size_bytes,
            "runtime": runtime,
            "inputs": [encode(spec) for spec in inputs],
            "outputs": [encode(spec) for spec in outputs],
        }
        typer.echo(json.dumps(document))
        return
    table = new_table(
        f"{path.name}: {format_size(size_bytes)}, loaded by {runtime}",
        "tensor",
        "role",
        "dtype",
        "shape",
        "scale",
        "zero point",
        right_from=4,
    )
    for role, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            shape = ", ".join("any" if n is None else str(n) for n in spec.shape)
            scale = "-" if spec.scale is None else f"{spec.scale:.6g}"
            zero = "-" if spec.zero_point is None else str(spec.zero_point)
            table.add_row(spec.name, role, spec.dtype, f"({shape})", scale, zero)
    out = results()
    out.print(table)
    out.print("Operators, precision and parity stand in the bundle's manifest: inspect the bundle.")


def _boundary(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> str:
    return f"{', '.join(map(str, inputs))} -> {', '.join(map(str, outputs))}"
