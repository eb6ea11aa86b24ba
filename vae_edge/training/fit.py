"""A training run from beginning to end, or from where it was interrupted to the end."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_edge._version import __version__
from vae_edge.files import replaced_file, write_json
from vae_edge.training import checkpoint as checkpoints
from vae_edge.training.dataset import Dataset
from vae_edge.training.evaluation import evaluate_elbo
from vae_edge.training.history import EpochRecord, History
from vae_edge.training.pictures import PICTURES, draw_pictures, require_matplotlib
from vae_edge.training.run_dir import (
    Evaluation,
    finished_evaluation,
    is_complete,
    load_settings,
    refuse_existing_run,
    resume_from,
)
from vae_edge.training.settings import TrainSettings
from vae_edge.training.trainer import BatchProgress, Trainer

__all__ = ["Evaluation", "TrainResult", "fit", "load_settings"]

# Of the test's noise: the same for every run, so that runs with different seeds can be compared.
_TEST_SEED = 0


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
        run_dir: created if need be; `vae_edge.training.run_dir` says what is in it.
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
    if resume:
        checkpoint = resume_from(run_dir, settings)
        trainer = Trainer(settings, dataset)
        trainer.restore(checkpoint)
        evaluation = finished_evaluation(run_dir, trainer.history, settings)
        if evaluation:
            return _result(run_dir, trainer.history, evaluation, was_finished=True)
    else:
        refuse_existing_run(run_dir)
        trainer = Trainer(settings, dataset)
        run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "settings.json", settings)
    while not is_complete(trainer.history, settings):
        record = trainer.run_epoch(on_batch)
        checkpoints.save(run_dir, trainer.checkpoint())
        if on_epoch:
            on_epoch(record)
    return _finish(trainer, settings, dataset, run_dir)


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
