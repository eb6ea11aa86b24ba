"""`vae-edge quickstart`: the whole road in a minute or two."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.cli.console import interruptible, note, quiet, results
from vae_edge.cli.export import default_precisions, need_host, run_export
from vae_edge.cli.options import DataDir, Json, Verbose
from vae_edge.terms import Format, Precision

if TYPE_CHECKING:
    from vae_edge.manifest import Manifest
    from vae_edge.training.dataset import Dataset
    from vae_edge.training.settings import TrainSettings

__all__ = ["quickstart"]

DEFAULT_OUT = Path("vae-edge-quickstart")
# Enough to see digits, in well under a minute on two cores: images and epochs by data set.
_EFFORT: Mapping[str, tuple[int | None, int]] = {"mnist": (20_000, 4), "digits": (None, 40)}
# Small steps and many of them get furthest in that time.
_BATCH_SIZE = 64
_LEARNING_RATE = 3e-3


class _Choice(str, Enum):
    AUTO = "auto"
    MNIST = "mnist"
    DIGITS = "digits"


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where quickstart keeps what; one name per data set, so that none overwrites another."""

    run: Path
    bundle: Path
    pictures: Path
    benchmark: Path

    @classmethod
    def under(cls, out: Path, dataset: str) -> _Places:
        name = f"{dataset}-vae"
        return cls(
            run=out / "train" / name,
            bundle=out / "bundle" / name,
            pictures=out / "pictures" / name,
            benchmark=out / "benchmark" / f"{name}.json",
        )

    @property
    def model(self) -> Path:
        return self.run / "model.keras"


def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Where to put everything.")] = DEFAULT_OUT,
    dataset: Annotated[
        _Choice,
        typer.Option("--dataset", help="auto: MNIST where it can be had, else digits."),
    ] = _Choice.AUTO,
    data_dir: DataDir = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a VAE, export it, prove it, benchmark it, draw pictures. About a minute or two.

    Uses MNIST where it can be had (`--data-dir`, VAE_EDGE_DATA_DIR, Keras's cache, or a download
    of 11 MB), else the small handwritten set that ships with scikit-learn. Run again, it redoes
    only what is missing.

    Example: `vae-edge quickstart --data-dir ~/mnist`
    """
    again = ["vae-edge", "quickstart", "--out", str(out)]
    again += ["--data-dir", str(data_dir)] if data_dir else []
    go_on = f"Go on from here with:\n{shlex.join(again)}"
    with quiet(verbose), interruptible(go_on) as check_interrupted:
        need_host()
        data = _load(dataset, data_dir)
        note(_which(data))
        places = _Places.under(out, data.name)
        _train(data, places)
        _export(places, data_dir, check_interrupted)
        _draw(data, places)
    _print_result(places, as_json)


def _load(choice: _Choice, data_dir: Path | None) -> Dataset:
    from vae_edge.training.data import load_dataset, quickstart_dataset

    if choice is _Choice.DIGITS:
        return load_dataset("digits")
    if choice is _Choice.MNIST:
        return load_dataset("mnist", data_dir)
    return quickstart_dataset(data_dir, allow_download=True)


def _which(dataset: Dataset) -> str:
    if dataset.name == "mnist":
        return f"Data: MNIST, found in {dataset.source}."
    return (
        f"Data: {dataset.source}, not MNIST. To use MNIST, give the folder with its four IDX "
        "files: --data-dir DIR or VAE_EDGE_DATA_DIR=DIR; where there is a network it is downloaded."
    )


def _settings(dataset: Dataset) -> TrainSettings:
    from vae_edge.training.settings import TrainSettings

    limit, epochs = _EFFORT[dataset.name]
    return TrainSettings(
        dataset=dataset.name,
        epochs=epochs,
        limit=limit,
        batch_size=_BATCH_SIZE,
        learning_rate=_LEARNING_RATE,
    )


def _train(dataset: Dataset, places: _Places) -> None:
    settings = _settings(dataset)
    if (places.run / "evaluation.json").is_file() and places.model.is_file():
        from vae_edge.training.run_dir import load_settings

        if load_settings(places.run) == settings:
            note(f"Trained already: {places.model}")
            return
    from vae_edge.cli.train import fit_with_progress
    from vae_edge.training.checkpoint import latest_epoch

    resume = latest_epoch(places.run) > 0
    fit_with_progress(settings, dataset, places.run, resume=resume)
    note(f"Trained: {places.model}")


def _export(places: _Places, data_dir: Path | None, check_interrupted: Callable[[], None]) -> None:
    from exporters.pipeline import ExportPlan

    if _is_current(places):
        note(f"Exported, proven and measured already: {places.bundle}")
        return
    formats = tuple(Format)
    plan = ExportPlan(
        destination=places.bundle,
        formats=formats,
        precisions=default_precisions(formats, ()),
        replace=True,
    )
    _, left_out = run_export(
        places.model,
        plan,
        calibration="auto",
        data_dir=data_dir,
        seed=0,
        benchmark=True,
        report=places.benchmark,
        check_interrupted=check_interrupted,
    )
    for each in left_out:
        note(f"note: not in the bundle: {each.file}: {each.reason}")
    note(f"Exported, proven and measured: {places.bundle}")


def _is_current(places: _Places) -> bool:
    """A bundle of this very model, made by these very tools, with its benchmark beside it."""
    from exporters.pipeline import tool_versions
    from vae_edge.bundle import Bundle, sha256_of
    from vae_edge.errors import BundleError

    if not places.benchmark.is_file():
        return False
    try:
        manifest = Bundle.open(places.bundle).manifest
    except BundleError:
        return False
    same_model = manifest.model.source_sha256 == sha256_of(places.model)
    return same_model and dict(manifest.tools) == tool_versions(tuple(Format))


def _draw(dataset: Dataset, places: _Places) -> None:
    """Pictures drawn by an int8 artifact: what the device will show, not what Keras shows."""
    from vae_edge.edge_vae import EdgeVAE
    from vae_edge.training.pictures import PICTURES, draw_pictures

    if all(_newer(places.pictures / name, places.bundle) for name in PICTURES):
        note(f"Pictures drawn already: {places.pictures}")
        return

    places.pictures.mkdir(parents=True, exist_ok=True)
    with EdgeVAE.open(places.bundle, format=Format.TFLITE, precision=Precision.INT8) as vae:
        draw_pictures(
            places.pictures,
            encode=lambda images: vae.encode(images).z_mean,
            decode=vae.decode,
            images=dataset.test_images,
            labels=dataset.test_labels,
            latent_dim=vae.latent_dim,
        )


def _newer(path: Path, other: Path) -> bool:
    return path.is_file() and path.stat().st_mtime >= (other / "manifest.json").stat().st_mtime


def _print_result(places: _Places, as_json: bool) -> None:
    from vae_edge.bundle import Bundle
    from vae_edge.cli.tables import bundle_table
    from vae_edge.cli.verdict_tables import print_verdicts
    from vae_edge.codec import encode
    from vae_edge.verdict import verdicts

    manifest: Manifest = Bundle.open(places.bundle).manifest
    if as_json:
        document = {
            "bundle": str(places.bundle),
            "model": str(places.model),
            "pictures": str(places.pictures),
            "benchmark": str(places.benchmark),
            "manifest": encode(manifest),
            "verdicts": encode(verdicts(manifest)),
        }
        typer.echo(json.dumps(document))
        return
    out = results()
    out.print(bundle_table(manifest), "")
    print_verdicts(out, verdicts(manifest))
    out.print(f"Model:    {places.model}", soft_wrap=True)
    out.print(f"Pictures: {places.pictures}", soft_wrap=True)
    out.print(f"Bundle:   {places.bundle}", soft_wrap=True)
