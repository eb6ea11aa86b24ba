"""The state of a run after an epoch: written whole or not at all, and read back bit for bit.

RUN/checkpoint/epoch-0007/progress.json   history, and fingerprint of the data
                          state.npz       weights, optimizer, noise generator
                          best.npz        weights of the best epoch so far
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.codec import DecodeError, decode, loads
from vae_edge.errors import TrainingError
from vae_edge.files import replaced_directory, write_json
from vae_edge.training.history import History

__all__ = ["Arrays", "Checkpoint", "Progress", "latest_epoch", "load_latest", "save"]

Arrays = tuple[npt.NDArray[Any], ...]

_FOLDER = "checkpoint"
_NAME = re.compile(r"epoch-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The readable part of a checkpoint.

    Attributes:
        fingerprint: `Dataset.fingerprint()` of the data it trains on.
        history: of the finished epochs.
    """

    fingerprint: str
    history: History


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """All that the next epoch depends on.

    Attributes:
        progress: history and data.
        weights: of the model, in its order.
        optimizer: the optimizer's variables, in its order.
        noise: state of the model's sampling noise.
        best_weights: of the best epoch, in the model's order.
    """

    progress: Progress
    weights: Arrays
    optimizer: Arrays
    noise: Arrays
    best_weights: Arrays


def save(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint, and only then remove older ones."""
    folder = run_dir / _FOLDER
    path = _path(run_dir, len(checkpoint.progress.history))
    with replaced_directory(path) as part:
        write_json(part / "progress.json", checkpoint.progress)
        state: dict[str, Any] = {
            f"{group}_{i:03d}": array
            for group in ("weights", "optimizer", "noise")
            for i, array in enumerate(getattr(checkpoint, group))
        }
        np.savez(part / "state.npz", **state)
        best: dict[str, Any] = {
            f"weights_{i:03d}": array for i, array in enumerate(checkpoint.best_weights)
        }
        np.savez(part / "best.npz", **best)
    for other in folder.iterdir():
        if other != path:
            shutil.rmtree(other)


def latest_epoch(run_dir: Path) -> int:
    """Number of the last finished epoch; 0 when there is none."""
    folder = run_dir / _FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(match[1]) for name in names if (match := _NAME.fullmatch(name))), default=0)


def load_latest(run_dir: Path) -> Checkpoint | None:
    """Read the checkpoint of the last finished epoch; None when there is none.

    Raises:
        TrainingError: it is damaged.
    """
    epoch = latest_epoch(run_dir)
    if epoch == 0:
        return None
    path = _path(run_dir, epoch)
    try:
        document = loads((path / "progress.json").read_text(encoding="utf-8"))
        state = _read_arrays(path / "state.npz")
        return Checkpoint(
            progress=decode(Progress, document),
            weights=_group(state, "weights"),
            optimizer=_group(state, "optimizer"),
            noise=_group(state, "noise"),
            best_weights=_group(_read_arrays(path / "best.npz"), "weights"),
        )
    except (DecodeError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"{path}: the checkpoint cannot be read ({error}). It was damaged after it was "
            "written: train anew with another --out."
        ) from error


def _path(run_dir: Path, epoch: int) -> Path:
    return run_dir / _FOLDER / f"epoch-{epoch:04d}"


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    # Opened here, because numpy leaves a file open that turns out to be no archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _group(arrays: dict[str, npt.NDArray[Any]], prefix: str) -> Arrays:
    keys: Sequence[str] = sorted(key for key in arrays if key.startswith(f"{prefix}_"))
    return tuple(arrays[key] for key in keys)
