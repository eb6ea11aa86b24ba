"""`vae-edge train`: train a VAE, see how it goes, stop it and go on."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vae_edge.cli.console import interruptible, note, quiet
from vae_edge.cli.options import DataDir, Json, Verbose
from vae_edge.cli.train_display import fit_with_progress
from vae_edge.codec import encode
from vae_edge.errors import RuntimeMissingError, UsageError

if TYPE_CHECKING:
    from vae_edge.training.fit import TrainResult
    from vae_edge.training.history import EpochRecord
    from vae_edge.training.settings import TrainSettings

__all__ = ["fit_with_progress", "train"]


def train(
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="`mnist`, `fashion-mnist`, `digits`, or an .npz, .npy or IDX file or a folder of "
            "images. [default: mnist]",
        ),
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Directory of the run. [default: runs/NAME-vae]"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images. [default: 30]")
    ] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Size of z. [default: 2]")] = None,
    beta: Annotated[
        float | None, typer.Option(help="Weight of the KL term in the loss. [default: 1]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step. [default: 128]")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Adam's, before its cosine decay. [default: 0.001]")
    ] = None,
    encoder_filters: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="[default: 32,64]")
    ] = None,
    decoder_filters: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="[default: 64,32]")
    ] = None,
    hidden_units: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Extra dense layers. [default: none]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random. [default: 0]")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Use at most this many training images. [default: all]")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after this many epochs without a better one; 0: never. [default: 0]"
        ),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="split|test",
            help="Judge epochs on a tenth of the training images, held out, or on the test images. "
            "[default: split]",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its settings.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a convolutional VAE; interrupt it with Ctrl-C and go on with --resume.

    Writes model.keras, settings, history, evaluation on the test images and pictures into RUN.

    **Examples**

    vae-edge train --epochs 30 --out runs/mnist-vae

    vae-edge train --resume --out runs/mnist-vae

    vae-edge train --dataset digits --epochs 60

    vae-edge train --dataset photos/ --latent-dim 16
    """
    given = {
        "dataset": _anchored(dataset),
        "epochs": epochs,
        "latent_dim": latent_dim,
        "beta": beta,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "encoder_filters": _sizes("--encoder-filters", encoder_filters),
        "decoder_filters": _sizes("--decoder-filters", decoder_filters),
        "hidden_units": _sizes("--hidden-units", hidden_units),
        "seed": seed,
        "limit": limit,
        "patience": patience,
        "validation": validation,
    }
    given = {name: value for name, value in given.items() if value is not None}
    run_dir = out or Path("runs") / f"{Path(dataset or 'mnist').resolve().stem}-vae"
    kept = _Kept(run_dir=run_dir, data_dir=data_dir)
    with quiet(verbose), _interruptible(kept):
        result = _run(given, run_dir, data_dir, resume=resume, kept=kept)
    _report(result, as_json=as_json)


@dataclasses.dataclass
class _Kept:
    """What an interruption leaves behind; changes as the run goes on."""

    run_dir: Path
    data_dir: Path | None
    epochs: int = 0

    def message(self) -> str:
        if not self.epochs:
            return "No epoch was finished, so nothing is kept. Start again with the same command."
        command = ["vae-edge", "train", "--resume", "--out", str(self.run_dir)]
        if self.data_dir:
            command += ["--data-dir", str(self.data_dir)]
        return (
            f"All of epoch {self.epochs} is kept in {self.run_dir}; the epoch under way is lost. "
            f"Go on with:\n{shlex.join(command)}"
        )


@contextlib.contextmanager
def _interruptible(kept: _Kept) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        with interruptible(kept.message()):
            raise


def _run(
    given: dict[str, Any], run_dir: Path, data_dir: Path | None, *, resume: bool, kept: _Kept
) -> TrainResult:
    from vae_edge.training.checkpoint import latest_epoch
    from vae_edge.training.data import load_dataset
    from vae_edge.training.run_dir import load_settings, refuse_existing_run
    from vae_edge.training.settings import Validation

    _need_packages()
    if "validation" in given:
        if given["validation"] not in set(Validation):
            raise UsageError(
                f"--validation must be split or test; received '{given['validation']}'."
            )
        given["validation"] = Validation(given["validation"])
    if resume:
        settings = dataclasses.replace(load_settings(run_dir), **given)
        kept.epochs = latest_epoch(run_dir)
    else:
        refuse_existing_run(run_dir)
        settings = _before_data(given)
    data = load_dataset(settings.dataset, data_dir)
    note(
        f"{data.name}: {len(data.train_images)} training and {len(data.test_images)} test images "
        f"from {data.source}"
    )
    if not resume:
        settings = dataclasses.replace(settings, image_shape=data.image_shape)

    def keep(record: EpochRecord) -> None:
        kept.epochs = record.epoch

    return fit_with_progress(settings, data, run_dir, resume=resume, on_epoch=keep)


def _need_packages() -> None:
    """Refuse before anything is loaded where a package that training needs is not installed."""
    needed = ("tensorflow", "keras", "matplotlib")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeMissingError(
            f"Training needs the host packages, and {', '.join(missing)} cannot be found: pip "
            "install 'vae-edge[host]'. A device does not train: train on a desktop, export, and "
            "copy the bundle over."
        )


def _before_data(given: dict[str, Any]) -> TrainSettings:
    """Check the options before data is loaded, with an image that any number of filters fits."""
    from vae_edge.training.settings import TrainSettings

    depth = max(len(given.get(name, (0, 0))) for name in ("encoder_filters", "decoder_filters"))
    return TrainSettings(image_shape=(2**depth, 2**depth, 1), **given)


def _report(result: TrainResult, *, as_json: bool) -> None:
    evaluation = result.evaluation
    export = shlex.join(["vae-edge", "export", str(result.model_path), "--format", "tflite"])
    if result.was_finished:
        note("This run was finished already; raise --epochs to train it further.")
    if as_json:
        document = {
            "model": str(result.model_path),
            "evaluation": encode(evaluation),
            "pictures": [str(path) for path in result.pictures],
            "next": export,
        }
        typer.echo(json.dumps(document, indent=2))
        return
    megabytes = result.model_path.stat().st_size / 1e6
    for name, value in (
        ("ELBO", f"{evaluation.elbo:.2f} nats per image on {evaluation.images} test images"),
        ("reconstruction", f"{evaluation.reconstruction:.2f} nats per image"),
        ("KL", f"{evaluation.kl:.2f} nats per image"),
        ("best epoch", f"{evaluation.best_epoch} of {evaluation.epochs}"),
        ("model", f"{result.model_path} ({megabytes:.2f} MB)"),
        *(("picture", str(path)) for path in result.pictures),
        ("next", export),
    ):
        typer.echo(f"{name:<15} {value}")


def _anchored(dataset: str | None) -> str | None:
    """Make a path absolute, so that the run can be resumed from any directory."""
    from vae_edge.training.data import DATASET_NAMES

    if dataset is None or dataset in DATASET_NAMES or not Path(dataset).exists():
        return dataset
    return str(Path(dataset).resolve())


def _sizes(option: str, text: str | None) -> tuple[int, ...] | None:
    """Read `32,64`; an empty text is an empty tuple."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(
            f"{option} must be whole numbers separated by commas, e.g. 32,64; received '{text}'."
        ) from None
