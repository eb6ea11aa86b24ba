"""A training run in a directory: started, interrupted, resumed, finished.

RUN/settings.json     what was asked
    checkpoint/       state after the last finished epoch
    history.json      every epoch
    model.keras       weights of the best epoch, without the optimizer
    *.png             pictures
    evaluation.json   the best model on the test images; written last, so that it marks the end
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from vae_edge._version import __version__
from vae_edge.codec import DecodeError, decode, loads
from vae_edge.errors import TrainingError
from vae_edge.training import checkpoint as checkpoints
from vae_edge.training.dataset import Dataset
from vae_edge.training.evaluation import evaluate_elbo
from vae_edge.training.files import replaced_file, write_json
from vae_edge.training.history import EpochRecord, History
from vae_edge.training.pictures import PICTURES, draw_pictures, require_matplotlib
from vae_edge.training.settings import TrainSettings
from vae_edge.training.trainer import BatchProgress, Trainer

__all__ = ["Evaluation", "TrainResult", "fit", "load_settings"]

T = TypeVar("T")

_OUTPUTS = ("model.keras", "history.json", "evaluation.json")
# Of the test's noise: the same for every run, so that runs with different seeds can be compared.
_TEST_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`evaluation.json`: the best model on all test images, one sample of `z` each.

    Attributes:
        elbo, reconstruction, kl: nats per image, with beta = 1.
        images: number of test images.
        dataset, source: what the images are and where they were found.
        epochs: epochs trained.
        best_epoch: the one whose weights the model has, by validation loss.
        parameters: of the whole model.
        versions: of vae-edge, tensorflow, keras and numpy.
    """

    elbo: float
    reconstruction: float
    kl: float
    images: int
    dataset: str
    source: str
    epochs: int
    best_epoch: int
    parameters: int
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished run.

    Attributes:
        run_dir: its directory.
        model_path: the trained model.
        history: of every epoch.
        evaluation: on the test images.
        pictures: files drawn.
        was_finished: whether there was nothing left to do.
    """

    run_dir: Path
    model_path: Path
    history: History
    evaluation: Evaluation
    pictures: tuple[Path, ...]
    was_finished: bool


def fit(
    settings: TrainSettings,
    dataset: Dataset,
    run_dir: Path,
    *,
    resume: bool = False,
    on_batch: Callable[[BatchProgress], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainResult:
    """Train a VAE, or go on with an interrupted run, and write everything into `run_dir`.

    An interrupted and resumed run ends with the same history and the same weights, bit for bit, as
    one that was never interrupted; at most the epoch under way is lost. A run may be resumed with
    more epochs than it was started with; its learning rate then follows the longer cosine from
    there, so it is not the run that was longer from the start.

    Args:
        settings: what to train; when resuming, as saved, or with more epochs.
        dataset: what to train on.
        run_dir: created if need be.
        resume: go on with the run in `run_dir`.
        on_batch: called after each batch.
        on_epoch: called when an epoch is finished and its checkpoint is on the disk.

    Raises:
        TrainingError: `run_dir` already holds a run, or none to resume, or one with other
            settings or data; or the loss is no longer finite.
        UsageError: the data set's images do not have the settings' shape.
        RuntimeMissingError: matplotlib is not installed.
    """
    require_matplotlib()  # now, not after an hour of training
    saved = _find(run_dir, settings, resume=resume)
    trainer = Trainer(settings, dataset)
    if saved:
        trainer.restore(saved)
        evaluation = _finished(run_dir, trainer.history, settings)
        if evaluation:
            return _result(run_dir, trainer.history, evaluation, was_finished=True)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "settings.json", settings)
    while not _is_complete(trainer.history, settings):
        record = trainer.run_epoch(on_batch)
        checkpoints.save(run_dir, trainer.checkpoint())
        if on_epoch:
            on_epoch(record)
    return _finish(trainer, settings, dataset, run_dir)


def load_settings(run_dir: Path) -> TrainSettings:
    """Read the settings of the run in `run_dir`.

    Raises:
        TrainingError: there is no run, or its settings.json is damaged.
        UsageError: the settings cannot be trained with.
    """
    path = run_dir / "settings.json"
    if not path.is_file():
        raise TrainingError(
            f"{run_dir}: holds no training run to resume: expected settings.json. Check --out, or "
            "leave out --resume to start a run there."
        )
    return _load(TrainSettings, path)


def _find(run_dir: Path, settings: TrainSettings, *, resume: bool) -> checkpoints.Checkpoint | None:
    """Give the checkpoint to go on from; None for a new run that would overwrite nothing."""
    if run_dir.exists() and not run_dir.is_dir():
        raise TrainingError(f"{run_dir}: is a file; expected a directory. Choose another --out.")
    saved = checkpoints.load_latest(run_dir)
    if not resume:
        held = [name for name in _OUTPUTS if (run_dir / name).exists()]
        if saved or held:
            held = [*(["checkpoint/"] if saved else []), *held]
            raise TrainingError(
                f"{run_dir}: already holds a run ({', '.join(held)}); nothing was changed. Go on "
                "with it by --resume, or choose another --out."
            )
        return None
    _check_same(load_settings(run_dir), settings, run_dir)
    if saved is None:
        raise TrainingError(
            f"{run_dir}: has no checkpoint, as no epoch of this run was finished. Start it again "
            "without --resume."
        )
    return saved


def _check_same(saved: TrainSettings, settings: TrainSettings, run_dir: Path) -> None:
    different = [
        f"{field.name} was {getattr(saved, field.name)}, now {getattr(settings, field.name)}"
        for field in dataclasses.fields(settings)
        if getattr(saved, field.name) != getattr(settings, field.name)
        and not (field.name == "epochs" and settings.epochs > saved.epochs)
    ]
    if different:
        raise TrainingError(
            f"{run_dir}: was started with other settings: {'; '.join(different)}. Resume without "
            "these options (only the epochs may be changed, to more), or train anew with another "
            "--out."
        )


def _is_complete(history: History, settings: TrainSettings) -> bool:
    return len(history) >= settings.epochs or history.is_out_of_patience(settings.patience)


def _finish(
    trainer: Trainer, settings: TrainSettings, dataset: Dataset, run_dir: Path
) -> TrainResult:
    model, history = trainer.best_model(), trainer.history
    with replaced_file(run_dir / "model.keras") as part:
        model.save(part)
    write_json(run_dir / "history.json", history)
    draw_pictures(
        run_dir,
        encode=lambda images: np.array(model.encoder(images, training=False)["z_mean"]),
        decode=lambda z: np.array(model.decoder(z, training=False)),
        images=dataset.test_images,
        labels=dataset.test_labels,
        latent_dim=settings.latent_dim,
        seed=settings.seed,
    )
    elbo = evaluate_elbo(model, dataset.test_images, seed=_TEST_SEED)
    evaluation = Evaluation(
        elbo=elbo.elbo,
        reconstruction=elbo.reconstruction,
        kl=elbo.kl,
        images=elbo.images,
        dataset=dataset.name,
        source=dataset.source,
        epochs=len(history),
        best_epoch=history.best.epoch if history.best else 0,
        parameters=model.count_params(),
        versions={
            "vae-edge": __version__,
            **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")},
        },
    )
    write_json(run_dir / "evaluation.json", evaluation)
    return _result(run_dir, history, evaluation, was_finished=False)


def _finished(run_dir: Path, history: History, settings: TrainSettings) -> Evaluation | None:
    """Give the evaluation of a run with nothing left to do; None when epochs or outputs are."""
    path = run_dir / "evaluation.json"
    if not (path.is_file() and _is_complete(history, settings)):
        return None
    evaluation = _load(Evaluation, path)
    # An evaluation of fewer epochs is from before the run was given more.
    return evaluation if evaluation.epochs == len(history) else None


def _result(
    run_dir: Path, history: History, evaluation: Evaluation, *, was_finished: bool
) -> TrainResult:
    return TrainResult(
        run_dir=run_dir,
        model_path=run_dir / "model.keras",
        history=history,
        evaluation=evaluation,
        pictures=tuple(run_dir / name for name in PICTURES if (run_dir / name).is_file()),
        was_finished=was_finished,
    )


def _load(kind: type[T], path: Path) -> T:
    try:
        return decode(kind, loads(path.read_text(encoding="utf-8")))
    except (DecodeError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path}: {error}. The file was changed or damaged after it was written: train anew "
            "with another --out."
        ) from error
