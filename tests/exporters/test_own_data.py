"""Representative rows from a user's own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exporters.own_data import from_path, from_rows
from vae_edge.errors import DataError
from vae_edge.preprocessing import PLAIN_PICTURES, Preprocessing, Scaling
from vae_edge.terms import DataKind, Likelihood

ARRAYS = Preprocessing(kind=DataKind.ARRAY, input=None, output=None, likelihood=Likelihood.GAUSSIAN)
CENTRED = Preprocessing(
    kind=DataKind.PICTURE,
    input=Scaling.between(-1, 1),
    output=Scaling.between(-1, 1),
    likelihood=Likelihood.GAUSSIAN,
)


@dataclass(frozen=True)
class Model:
    """What of a VAE its data has to fit."""

    image_shape: tuple[int, ...] = (2, 2, 1)
    preprocessing: Preprocessing = PLAIN_PICTURES


def levels(count: int, seed: int = 0) -> np.ndarray:
    """Pictures that are all different."""
    drawn = np.random.default_rng(seed).integers(0, 256, (4 * count, 2, 2, 1)).astype(np.uint8)
    return np.unique(drawn, axis=0)[:count]


def as_set(rows: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in rows}


def draw(path: Path, model: Model | None = None, seed: int = 0):
    return from_path(path, model or Model(), seed)  # type: ignore[arg-type]


def test_a_quarter_is_held_out(tmp_path):
    images = levels(40)
    np.save(tmp_path / "a.npy", images)

    drawn = draw(tmp_path / "a.npy")

    assert (len(drawn.golden), len(drawn.calibration)) == (10, 30)
    wanted = as_set(images.astype(np.float32) / np.float32(255))
    assert as_set(drawn.golden) | as_set(drawn.calibration) == wanted
    assert drawn.source == str(tmp_path / "a.npy")


def test_no_more_than_is_needed_is_kept(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4000, dtype=np.float32).reshape(-1, 1, 1))

    drawn = draw(tmp_path / "a.npy", Model((1, 1), ARRAYS))

    assert (len(drawn.golden), len(drawn.calibration)) == (256, 512)
    assert not as_set(drawn.golden) & as_set(drawn.calibration)


def test_parts_of_an_archive_stay_apart(tmp_path):
    train, test = levels(20, 1), levels(40, 2)[20:]
    classes = np.arange(len(test))
    np.savez(tmp_path / "a.npz", x_train=train, x_test=test, y_test=classes)

    drawn = draw(tmp_path / "a.npz")

    assert as_set(drawn.golden) == as_set(test.astype(np.float32) / np.float32(255))
    by_class = {
        row.tobytes(): label for row, label in zip(drawn.golden, drawn.golden_labels, strict=True)
    }
    assert all(
        by_class[(t / np.float32(255)).astype(np.float32).tobytes()] == c
        for t, c in zip(test, classes, strict=True)
    )


def test_folders_of_classes_are_labelled_in_order(tmp_path):
    for name, level in (("cats", 10), ("dogs", 200)):
        (tmp_path / name).mkdir()
        for i in range(8):
            Image.fromarray(np.full((2, 2), level + i, np.uint8)).save(tmp_path / name / f"{i}.png")

    drawn = draw(tmp_path)

    assert len(drawn.golden) == 4
    for image, label in zip(drawn.golden, drawn.golden_labels, strict=True):
        assert label == (image.mean() > 0.5)


def test_train_and_test_folders_are_parts(tmp_path):
    for part, level in (("train", 0), ("test", 128)):
        (tmp_path / part / "only").mkdir(parents=True)
        for i in range(3):
            path = tmp_path / part / "only" / f"{i}.png"
            Image.fromarray(np.full((2, 2), level + i, np.uint8)).save(path)

    drawn = draw(tmp_path)

    assert drawn.golden.min() > 0.5 > drawn.calibration.max()


def test_pictures_get_the_model_s_range(tmp_path):
    np.save(tmp_path / "a.npy", np.uint8([0, 255]).repeat(4).reshape(2, 2, 2, 1))

    drawn = draw(tmp_path / "a.npy", Model(preprocessing=CENTRED))

    values = np.concatenate([drawn.golden, drawn.calibration])
    assert sorted(values[:, 0, 0, 0]) == [-1, 1]


def test_rows_that_stand_twice_are_not_judged_by(tmp_path):
    np.save(tmp_path / "a.npy", np.concatenate([levels(8), levels(8)]))

    drawn = draw(tmp_path / "a.npy")

    assert not as_set(drawn.golden) & as_set(drawn.calibration)


@pytest.mark.parametrize(
    ("rows", "model", "message"),
    [
        (levels(1), Model(), "holds 1 row, and at least two"),
        (np.full((4, 2, 2, 1), 7, np.float32), Model(), r"must lie in \[0, 1\].*from 7 to 7"),
        (np.zeros((4, 3, 3, 1), np.uint8), Model(), r"expected images of \(2, 2, 1\)"),
        (np.full((4, 5), np.nan, np.float32), Model((5,), ARRAYS), "must be finite"),
        (np.full((4, 2, 2), 9, np.uint8), Model(), "none of its rows is left to calibrate on"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, rows, model, message):
    np.save(tmp_path / "a.npy", rows)

    with pytest.raises(DataError, match=message):
        draw(tmp_path / "a.npy", model)


def test_labels_that_are_not_one_a_row_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=levels(8), labels=np.arange(7))

    with pytest.raises(DataError, match="entry 'labels': expected one whole number for each of 8"):
        draw(tmp_path / "a.npz")


def test_arrays_far_from_the_range_of_training_are_refused(tmp_path):
    unit = Preprocessing(
        kind=DataKind.ARRAY, input=Scaling(), output=Scaling(), likelihood=Likelihood.BERNOULLI
    )
    model = Model(image_shape=(6,), preprocessing=unit)
    rows = np.random.default_rng(0).random((20, 6))
    np.save(tmp_path / "levels.npy", (rows * 255).astype(np.uint8))
    with pytest.raises(DataError, match=r"levels\.npy: holds values from .* in \[0, 1\].*by 255"):
        draw(tmp_path / "levels.npy", model)
    with pytest.raises(DataError, match=r"rows given: holds values from .* in \[0, 1\]"):
        from_rows(rows * 255, model, 0)  # type: ignore[arg-type]
    np.save(tmp_path / "noisy.npy", rows * 1.5)
    assert len(draw(tmp_path / "noisy.npy", model).golden) == 5
    unknown = Model(image_shape=(6,), preprocessing=ARRAYS)
    assert len(draw(tmp_path / "levels.npy", unknown).golden) == 5


def test_arrays_of_another_shape_with_as_many_values_are_told_how(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((20, 2, 3)))
    with pytest.raises(DataError, match=r"save array\.reshape\(-1, 6\)"):
        draw(tmp_path / "a.npy", Model(image_shape=(6,), preprocessing=ARRAYS))


def test_rows_without_the_single_channel_are_taken():
    images = levels(40)[..., 0]
    assert from_rows(images, Model(), 0).golden.shape == (10, 2, 2, 1)  # type: ignore[arg-type]


def test_file_that_is_no_picture_is_said_to_be_none(tmp_path):
    (tmp_path / "table.csv").write_text("1,2,3")
    with pytest.raises(DataError, match=r"table\.csv: cannot be read as a picture"):
        draw(tmp_path / "table.csv")


def test_rows_that_are_all_alike_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((20, 2, 2, 1), np.uint8))
    with pytest.raises(DataError, match=r"none of its rows is left to calibrate on.*more differ"):
        draw(tmp_path / "a.npy")
