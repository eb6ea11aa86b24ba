"""The directory of a training run: what is in it, and whether a run may start or go on there.

    RUN/settings.json     what was asked
        checkpoint/       state after the last finished epoch
        history.json      every epoch
        model.keras       weights of the best epoch, without the optimizer
        *.png             pictures
        evaluation.json   the best model on the test images; written last, so that it marks the end

Nothing here needs TensorFlow, so that a command can refuse before it loads it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vae_edge.codec import DecodeError, decode, loads
from vae_edge.errors import TrainingError
from vae_edge.training import checkpoint as checkpoints
from vae_edge.training.history import History
from vae_edge.training.settings import TrainSettings

__all__ = [
    "Evaluation",
    "finished_evaluation",
    "is_complete",
    "load_settings",
    "refuse_existing_run",
    "resume_from",
]

T = TypeVar("T")

_OUTPUTS = ("model.keras", "history.json", "evaluation.json")


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


def refuse_existing_run(run_dir: Path) -> None:
    """Make sure that a new run in `run_dir` would overwrite no other.

    Raises:
        TrainingError: it holds a checkpoint or results, or is a file.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise TrainingError(f"{run_dir}: is a file; expected a directory. Choose another --out.")
    held = [name for name in _OUTPUTS if (run_dir / name).exists()]
    epoch = checkpoints.latest_epoch(run_dir)
    if epoch:
        held.insert(0, f"checkpoint of epoch {epoch}")
    if held:
        raise TrainingError(
            f"{run_dir}: already holds a run ({', '.join(held)}); nothing was changed. Go on with "
            "it by --resume, or choose another --out."
        )


def resume_from(run_dir: Path, settings: TrainSettings) -> checkpoints.Checkpoint:
    """Give the checkpoint from which a run with these settings goes on.

    Raises:
        TrainingError: there is no run or no checkpoint, it is damaged, or the run was started with
            other settings. Only `epochs` may differ, if it is more.
    """
    saved = load_settings(run_dir)
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
    checkpoint = checkpoints.load_latest(run_dir)
    if checkpoint is None:
        raise TrainingError(
            f"{run_dir}: has no checkpoint, as no epoch of this run was finished. Start it again "
            "without --resume."
        )
    return checkpoint


def is_complete(history: History, settings: TrainSettings) -> bool:
    """Whether there is no epoch left to train."""
    return len(history) >= settings.epochs or history.is_out_of_patience(settings.patience)


def finished_evaluation(
    run_dir: Path, history: History, settings: TrainSettings
) -> Evaluation | None:
    """Give the evaluation of a run with nothing left to do; None when epochs or outputs are.

    Raises:
        TrainingError: evaluation.json is damaged.
    """
    path = run_dir / "evaluation.json"
    # Any of them may have been deleted since; it is written anew then.
    if not (
        all((run_dir / name).is_file() for name in _OUTPUTS) and is_complete(history, settings)
    ):
        return None
    evaluation = _load(Evaluation, path)
    # An evaluation of fewer epochs is from before the run was given more.
    return evaluation if evaluation.epochs == len(history) else None


def _load(kind: type[T], path: Path) -> T:
    try:
        return decode(kind, loads(path.read_text(encoding="utf-8")))
    except (DecodeError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path}: {error}. The file was changed or damaged after it was written: train anew "
            "with another --out."
        ) from error
