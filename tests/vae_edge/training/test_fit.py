from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the host extra")

from vae_edge.errors import TrainingError, UsageError  # noqa: E402
from vae_edge.training import checkpoint as checkpoints  # noqa: E402
from vae_edge.training import fit as fit_module  # noqa: E402
from vae_edge.training.dataset import Dataset  # noqa: E402
from vae_edge.training.evaluation import evaluate_elbo  # noqa: E402
from vae_edge.training.fit import fit, load_settings  # noqa: E402
from vae_edge.training.settings import TrainSettings, Validation  # noqa: E402
from vae_edge.training.trainer import Trainer  # noqa: E402

pytestmark = pytest.mark.host


def blobs(count: int, seed: int) -> np.ndarray:
    """Bright squares at random places: something a VAE can learn in a few steps."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 8, 8, 1), np.float32)
    for image, (y, x) in zip(images, rng.integers(0, 5, (count, 2)), strict=True):
        image[y : y + 4, x : x + 4] = 1
    return images


DATA = Dataset(
    name="blobs",
    source="drawn in the test",
    train_images=blobs(70, 0),
    train_labels=None,
    test_images=blobs(12, 1),
    test_labels=np.arange(12) % 3,
)
SETTINGS = TrainSettings(
    dataset="blobs",
    image_shape=(8, 8, 1),
    encoder_filters=(3, 4),
    decoder_filters=(4, 3),
    epochs=3,
    batch_size=16,
    learning_rate=0.02,
)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than these trainings; test_pictures.py looks at them."""
    monkeypatch.setattr(fit_module, "draw_pictures", lambda *args, **kwargs: ())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "draw_pictures", lambda *args, **kwargs: ())
        run_dir = tmp_path_factory.mktemp("run") / "blobs"
        fit(SETTINGS, DATA, run_dir)
    return run_dir


def state(run_dir: Path) -> dict[str, Any]:
    saved = checkpoints.load_latest(run_dir)
    assert saved is not None
    return {
        "history": saved.progress.history,
        "arrays": [
            array.tobytes()
            for group in (saved.weights, saved.optimizer, saved.noise, saved.best_weights)
            for array in group
        ],
        "model": [weight.tobytes() for weight in load(run_dir).get_weights()],
    }


def load(run_dir: Path) -> Any:
    return keras.saving.load_model(run_dir / "model.keras")


def interrupt_after(epoch: int) -> Callable[[Any], None]:
    def on_epoch(record: Any) -> None:
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return on_epoch


def test_a_run_leaves_everything_in_its_directory(uninterrupted: Path) -> None:
    assert sorted(path.name for path in uninterrupted.iterdir()) == [
        "checkpoint",
        "evaluation.json",
        "history.json",
        "model.keras",
        "settings.json",
    ]
    assert load_settings(uninterrupted) == SETTINGS
    history = json.loads((uninterrupted / "history.json").read_text())["epochs"]
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]


def test_the_result_is_the_evaluation_of_the_saved_model(uninterrupted: Path) -> None:
    evaluation = json.loads((uninterrupted / "evaluation.json").read_text())
    expected = evaluate_elbo(load(uninterrupted), DATA.test_images)
    assert evaluation["elbo"] == pytest.approx(expected.elbo, rel=1e-6)
    assert evaluation["reconstruction"] == pytest.approx(expected.reconstruction, rel=1e-6)
    assert evaluation["images"] == 12
    assert (evaluation["dataset"], evaluation["source"]) == ("blobs", "drawn in the test")
    assert evaluation["parameters"] == load(uninterrupted).count_params()
    assert set(evaluation["versions"]) == {"vae-edge", "tensorflow", "keras", "numpy"}


def test_the_saved_model_has_no_optimizer(uninterrupted: Path) -> None:
    assert getattr(load(uninterrupted), "optimizer", None) is None
    with zipfile.ZipFile(uninterrupted / "model.keras") as archive:
        assert b"optimizer" not in archive.read("model.weights.h5")


def test_the_same_settings_give_the_same_weights(uninterrupted: Path, tmp_path: Path) -> None:
    fit(SETTINGS, DATA, tmp_path)
    assert state(tmp_path) == state(uninterrupted)


def test_another_seed_gives_other_weights(uninterrupted: Path, tmp_path: Path) -> None:
    fit(dataclasses.replace(SETTINGS, seed=1), DATA, tmp_path)
    assert state(tmp_path)["arrays"] != state(uninterrupted)["arrays"]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_and_resumed_run_is_the_uninterrupted_one(
    uninterrupted: Path, tmp_path: Path, epoch: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(SETTINGS, DATA, tmp_path, on_epoch=interrupt_after(epoch))
    assert not (tmp_path / "model.keras").exists()
    result = fit(SETTINGS, DATA, tmp_path, resume=True)
    assert not result.was_finished
    assert state(tmp_path) == state(uninterrupted)


def test_an_interruption_inside_an_epoch_costs_that_epoch_only(
    uninterrupted: Path, tmp_path: Path
) -> None:
    def on_batch(at: Any) -> None:
        if (at.epoch, at.batch) == (2, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(SETTINGS, DATA, tmp_path, on_batch=on_batch)
    assert checkpoints.latest_epoch(tmp_path) == 1
    fit(SETTINGS, DATA, tmp_path, resume=True)
    assert state(tmp_path) == state(uninterrupted)


def test_an_interruption_while_results_are_written_is_made_up_for(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "draw_pictures", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(SETTINGS, DATA, tmp_path)
    assert (tmp_path / "model.keras").exists()
    assert not fit(SETTINGS, DATA, tmp_path, resume=True).was_finished
    assert state(tmp_path) == state(uninterrupted)


def test_progress_is_reported_batch_by_batch(tmp_path: Path) -> None:
    seen: list[Any] = []
    fit(dataclasses.replace(SETTINGS, epochs=2), DATA, tmp_path, on_batch=seen.append)
    # 63 of 70 images are trained on: three batches of 16.
    assert [(at.epoch, at.batch) for at in seen] == [(e, b) for e in (1, 2) for b in (1, 2, 3)]
    assert {(at.epochs, at.batches) for at in seen} == {(2, 3)}


def test_the_recorded_loss_is_the_mean_over_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(SETTINGS, DATA)
    losses: list[float] = []
    train = trainer.model.train_on_batch

    def remember(*args: Any, **kwargs: Any) -> Any:
        result = train(*args, **kwargs)
        losses.append(float(result["loss"]))
        return result

    monkeypatch.setattr(trainer.model, "train_on_batch", remember)
    record = trainer.run_epoch()
    assert len(losses) == 3
    assert record.loss == pytest.approx(sum(losses) / 3, rel=1e-9)
    assert record.loss == pytest.approx(record.reconstruction + record.kl, rel=1e-5)


def test_every_image_is_trained_on_or_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((70, 8, 8, 1), np.float32)
    images[:, 0, 0, 0] = np.arange(70) / 100
    data = dataclasses.replace(DATA, train_images=images)
    seen: list[float] = []
    held: list[float] = []
    trainer = Trainer(dataclasses.replace(SETTINGS, batch_size=1), data)
    monkeypatch.setattr(
        trainer.model,
        "train_on_batch",
        lambda batch, return_dict: (
            seen.extend(batch[:, 0, 0, 0]) or {"loss": 1.0, "reconstruction": 1.0, "kl": 0.0}
        ),
    )

    def evaluate(model: Any, batch: np.ndarray, seed: int) -> Any:  # noqa: ARG001
        held.extend(batch[:, 0, 0, 0])
        return evaluate_elbo(model, batch)

    monkeypatch.setattr("vae_edge.training.trainer.evaluate_elbo", evaluate)
    trainer.run_epoch()
    assert (len(seen), len(held)) == (63, 7)
    assert sorted(seen + held) == sorted(images[:, 0, 0, 0])
    first = list(seen)
    seen.clear()
    trainer.run_epoch()
    assert sorted(seen) == sorted(first)
    assert seen != first


def test_validation_on_the_test_images_trains_on_all_others(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, validation=Validation.TEST, epochs=1, batch_size=10)
    seen: list[Any] = []
    result = fit(settings, DATA, tmp_path, on_batch=seen.append)
    assert len(seen) == 7
    assert result.history.epochs[0].validation_loss == pytest.approx(-result.evaluation.elbo)


def test_limit_takes_that_many_images(tmp_path: Path) -> None:
    seen: list[Any] = []
    settings = dataclasses.replace(SETTINGS, limit=20, epochs=1, batch_size=6)
    fit(settings, DATA, tmp_path, on_batch=seen.append)
    assert len(seen) == 3  # 18 of 20 are trained on


def test_a_batch_larger_than_the_data_is_made_smaller(tmp_path: Path) -> None:
    seen: list[Any] = []
    settings = dataclasses.replace(SETTINGS, batch_size=1000, epochs=1)
    fit(settings, DATA, tmp_path, on_batch=seen.append)
    assert len(seen) == 1


def _validation_losses(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    left = iter(losses)

    def evaluate(model: Any, images: np.ndarray, seed: int) -> Any:  # noqa: ARG001
        elbo = evaluate_elbo(model, images)
        return dataclasses.replace(elbo, reconstruction=next(left), kl=0.0)

    monkeypatch.setattr("vae_edge.training.trainer.evaluate_elbo", evaluate)


def test_the_weights_of_the_best_epoch_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _validation_losses(monkeypatch, 5.0, 4.0, 6.0)
    after: dict[int, bytes] = {}

    def on_epoch(record: Any) -> None:
        saved = checkpoints.load_latest(tmp_path)
        assert saved is not None
        after[record.epoch] = b"".join(array.tobytes() for array in saved.weights)

    result = fit(SETTINGS, DATA, tmp_path, on_epoch=on_epoch)
    assert result.evaluation.best_epoch == 2
    weights = b"".join(weight.tobytes() for weight in load(tmp_path).get_weights())
    assert weights == after[2]
    assert weights not in (after[1], after[3])


def test_patience_stops_a_run_and_resuming_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _validation_losses(monkeypatch, 5.0, 4.0, 6.0, 7.0)
    settings = dataclasses.replace(SETTINGS, epochs=50, patience=2)
    result = fit(settings, DATA, tmp_path)
    assert (result.evaluation.epochs, result.evaluation.best_epoch) == (4, 2)
    assert fit(settings, DATA, tmp_path, resume=True).was_finished


def test_the_learning_rate_falls_along_a_cosine(uninterrupted: Path) -> None:
    saved = checkpoints.load_latest(uninterrupted)
    assert saved is not None
    rates = [record.learning_rate for record in saved.progress.history.epochs]
    expected = [
        0.02 * (0.99 * 0.5 * (1 + np.cos(np.pi * part)) + 0.01) for part in (1 / 3, 2 / 3, 1)
    ]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_a_finished_run_is_left_as_it_is(uninterrupted: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")}
    result = fit(SETTINGS, DATA, uninterrupted, resume=True)
    assert result.was_finished
    assert result.evaluation.best_epoch in (1, 2, 3)
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")} == before


def test_a_deleted_model_of_a_finished_run_is_written_anew(
    uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "model.keras").unlink()
    result = fit(SETTINGS, DATA, run, resume=True)
    assert not result.was_finished
    assert result.model_path.is_file()


def test_a_finished_run_can_be_given_more_epochs(tmp_path: Path) -> None:
    fit(dataclasses.replace(SETTINGS, epochs=1), DATA, tmp_path)
    result = fit(SETTINGS, DATA, tmp_path, resume=True)
    assert not result.was_finished
    assert result.evaluation.epochs == 3
    assert load_settings(tmp_path).epochs == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 2.0}, "beta was 1.0, now 2.0"),
        ({"epochs": 2}, "epochs was 3, now 2"),
        ({"seed": 5, "limit": 30}, "seed was 0, now 5; limit was None, now 30"),
        ({"validation": Validation.TEST}, "validation was split, now test"),
    ],
)
def test_other_settings_cannot_be_resumed_with(
    uninterrupted: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=f"was started with other settings: {message}"):
        fit(dataclasses.replace(SETTINGS, **changes), DATA, uninterrupted, resume=True)


def test_other_images_cannot_be_resumed_with(uninterrupted: Path) -> None:
    other = dataclasses.replace(DATA, train_images=1 - DATA.train_images)
    with pytest.raises(TrainingError, match="'blobs' holds other images than when this run began"):
        fit(SETTINGS, other, uninterrupted, resume=True)


def test_a_run_is_not_started_over_another(uninterrupted: Path) -> None:
    before = state(uninterrupted)
    with pytest.raises(TrainingError, match=r"already holds a run \(checkpoint of epoch 3, model"):
        fit(dataclasses.replace(SETTINGS, seed=9), DATA, uninterrupted)
    assert state(uninterrupted) == before


def test_a_model_from_elsewhere_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_text("precious")
    with pytest.raises(TrainingError, match=r"already holds a run \(model.keras\)"):
        fit(SETTINGS, DATA, tmp_path)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(TrainingError, match="run: is a file; expected a directory"):
        fit(SETTINGS, DATA, tmp_path / "run")


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no training run to resume"):
        fit(SETTINGS, DATA, tmp_path, resume=True)


def test_a_run_without_a_finished_epoch_can_only_be_started_again(tmp_path: Path) -> None:
    def interrupt(at: Any) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(SETTINGS, DATA, tmp_path, on_batch=interrupt)
    with pytest.raises(TrainingError, match="no epoch of this run was finished"):
        fit(SETTINGS, DATA, tmp_path, resume=True)
    assert fit(dataclasses.replace(SETTINGS, epochs=1), DATA, tmp_path).evaluation.epochs == 1


@pytest.mark.parametrize("text", ["{", '{"dataset": "blobs"}', "[]"])
def test_damaged_settings_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(TrainingError, match=r"settings.json: .*changed or damaged"):
        load_settings(tmp_path)


def test_a_diverging_run_stops_and_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _validation_losses(monkeypatch, 5.0, float("nan"))
    with pytest.raises(
        TrainingError,
        match=r"became nan in epoch 2, validation.*checkpoint of epoch 1 is kept.*--learning-rate",
    ):
        fit(SETTINGS, DATA, tmp_path)
    assert checkpoints.latest_epoch(tmp_path) == 1


def test_a_loss_that_explodes_names_the_batch(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"in epoch 1, batch \d+ of 3.*No epoch was finished"):
        fit(dataclasses.replace(SETTINGS, learning_rate=1e30), DATA, tmp_path)


def test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, image_shape=(16, 16, 1))
    with pytest.raises(UsageError, match=r"shape \(16, 16, 1\), but data set 'blobs' has \(8, 8"):
        fit(settings, DATA, tmp_path)
    assert not (tmp_path / "settings.json").exists()


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    data = dataclasses.replace(DATA, train_images=DATA.train_images[:1])
    with pytest.raises(TrainingError, match="leaves no image to train on: of 1, 1 are held out"):
        fit(SETTINGS, data, tmp_path)
