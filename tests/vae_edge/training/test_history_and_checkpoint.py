from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_edge.errors import TrainingError
from vae_edge.files import replaced_file
from vae_edge.training.checkpoint import Checkpoint, Progress, latest_epoch, load_latest, save
from vae_edge.training.history import EpochRecord, History


def record(epoch: int, validation_loss: float, seconds: float = 1.0) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        learning_rate=1e-3,
        loss=1.5,
        reconstruction=1.0,
        kl=0.5,
        validation_loss=validation_loss,
        validation_reconstruction=1.0,
        validation_kl=validation_loss - 1.0,
        seconds=seconds,
    )


def history(*losses: float) -> History:
    return History(epochs=tuple(record(i, loss) for i, loss in enumerate(losses, start=1)))


def checkpoint(*losses: float) -> Checkpoint:
    rng = np.random.default_rng(len(losses))
    return Checkpoint(
        progress=Progress(fingerprint="abc", history=history(*losses)),
        weights=tuple(rng.random((2, 3), np.float32) for _ in range(12)),
        optimizer=(np.array(7, np.int64), rng.random(4, np.float32)),
        noise=(np.array([1, 2], np.uint32),),
        best_weights=(rng.random(3, np.float32),),
    )


def assert_equal_arrays(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_the_best_epoch_is_the_first_of_the_lowest() -> None:
    best = history(3.0, 2.0, 2.0, 2.5).best
    assert best is not None
    assert best.epoch == 2
    assert History().best is None


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ((3.0, 2.0, 2.1), 2, False),
        ((3.0, 2.0, 2.1, 2.2), 2, True),
        ((3.0, 2.0, 2.1, 1.9), 2, False),
        ((1.0, 2.0, 3.0), 0, False),
        ((), 1, False),
    ],
)
def test_patience_counts_epochs_without_a_better_one(
    losses: tuple[float, ...], patience: int, expected: bool
) -> None:
    assert history(*losses).is_out_of_patience(patience) is expected


def test_histories_that_differ_in_time_only_are_equal() -> None:
    assert record(1, 2.0, seconds=3) == record(1, 2.0, seconds=4)
    assert record(1, 2.0) != record(1, 2.1)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = checkpoint(3.0, 2.0)
    save(tmp_path, saved)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.progress == saved.progress
    for group in ("weights", "optimizer", "noise", "best_weights"):
        assert_equal_arrays(getattr(loaded, group), getattr(saved, group))


def test_only_the_newest_checkpoint_is_kept(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(3.0))
    save(tmp_path, checkpoint(3.0, 2.0))
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["epoch-0002"]


def test_epochs_are_ordered_as_numbers(tmp_path: Path) -> None:
    for name in ("epoch-9999", "epoch-10000"):
        (tmp_path / "checkpoint" / name).mkdir(parents=True)
    assert latest_epoch(tmp_path) == 10000


def test_a_half_written_checkpoint_does_not_count(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(3.0))
    half = tmp_path / "checkpoint" / "epoch-0002.tmp"
    half.mkdir()
    (half / "state.npz").write_bytes(b"PK half")
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert len(loaded.progress.history) == 1
    save(tmp_path, checkpoint(3.0, 2.0))
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["epoch-0002"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "absent") is None
    assert latest_epoch(tmp_path) == 0


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("progress.json", b"{"),
        ("progress.json", b'{"fingerprint": "a", "history": {"epochs": []}, "more": 1}'),
        ("state.npz", b""),
        ("state.npz", b"PK\x03\x04 cut"),
        ("best.npz", b"not a zip"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, file: str, data: bytes) -> None:
    save(tmp_path, checkpoint(3.0))
    path = tmp_path / "checkpoint" / "epoch-0001"
    (path / file).write_bytes(data)
    with pytest.raises(TrainingError, match="epoch-0001: the checkpoint cannot be read"):
        load_latest(tmp_path)


def test_a_checkpoint_without_a_file_is_refused(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(3.0))
    (tmp_path / "checkpoint" / "epoch-0001" / "best.npz").unlink()
    with pytest.raises(TrainingError, match="the checkpoint cannot be read"):
        load_latest(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_text("old")

    def fail_half_way() -> None:
        with replaced_file(path) as part:
            assert part.suffix == ".keras"
            part.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
