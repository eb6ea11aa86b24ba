from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vae_edge.errors import DataError
from vae_edge.training.data import load_dataset
from vae_edge.training.dataset import Dataset

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (20, 8, 8), dtype=np.uint8)
TEST = RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8)
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST_NAMES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + bytes(
        values.tobytes()
    )


def write_idx_files(folder: Path, *, zipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    labels = {20: np.arange(20, dtype=np.uint8) % 10, 6: np.arange(6, dtype=np.uint8)}
    for (images_name, labels_name), images in ((NAMES, TRAIN), (TEST_NAMES, TEST)):
        for name, values in ((images_name, images), (labels_name, labels[len(images)])):
            data = idx_bytes(values)
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
    return folder


def write_images(folder: Path, images: np.ndarray, names: str = "{:02d}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / names.format(i))
    return folder


def pixels(images: np.ndarray) -> np.ndarray:
    return np.round(images * 255).astype(np.uint8).squeeze(-1)


def assert_is_a_split_of(dataset: Dataset, images: np.ndarray) -> None:
    parts = np.concatenate([pixels(dataset.train_images), pixels(dataset.test_images)])
    assert sorted(map(bytes, parts)) == sorted(map(bytes, images))


def test_an_npz_with_both_parts_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "faces.npz"
    labels = np.arange(20)
    np.savez(path, x_train=TRAIN, y_train=labels, x_test=TEST)
    dataset = load_dataset(path)
    assert dataset.name == "faces"
    assert dataset.source == str(path)
    np.testing.assert_array_equal(pixels(dataset.train_images), TRAIN)
    np.testing.assert_array_equal(pixels(dataset.test_images), TEST)
    assert dataset.train_labels is not None
    assert dataset.train_labels.tolist() == list(range(20))
    assert dataset.test_labels is None
    assert dataset.image_shape == (8, 8, 1)


@pytest.mark.parametrize("keys", [("x_train", "y_train"), ("images", "labels")])
def test_an_npz_with_one_part_is_split_with_its_labels(
    tmp_path: Path, keys: tuple[str, str]
) -> None:
    # The label of each image is its first pixel, so that a mix-up would show.
    images = TRAIN.copy()
    images[:, 0, 0] = np.arange(20)
    np.savez(tmp_path / "a.npz", **{keys[0]: images, keys[1]: np.arange(20)})
    dataset = load_dataset(tmp_path / "a.npz")
    assert (len(dataset.train_images), len(dataset.test_images)) == (18, 2)
    assert_is_a_split_of(dataset, images)
    for part, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        assert labels is not None
        assert pixels(part)[:, 0, 0].tolist() == labels.tolist()


def test_the_split_is_the_same_every_time(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", TRAIN)
    first, second = (load_dataset(tmp_path / "a.npz") for _ in range(2))
    np.testing.assert_array_equal(first.test_images, second.test_images)
    assert first.fingerprint() == second.fingerprint()
    assert first.train_labels is None


def test_a_npy_of_colour_images_is_split(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((10, 8, 4, 3), np.float32))
    dataset = load_dataset(tmp_path / "a.npy")
    assert dataset.image_shape == (8, 4, 3)
    assert (len(dataset.train_images), len(dataset.test_images)) == (9, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": TRAIN, "b": TRAIN}, "expected the entries x_train.*received a, b"),
        ({"x_train": TRAIN, "y_test": TRAIN}, "expected the entries"),
        ({"x_train": TRAIN, "x_valid": TRAIN}, "received x_train, x_valid"),
        ({}, "received none"),
        ({"x_train": TRAIN, "x_test": TEST[:, :4]}, r"shape \(8, 8, 1\), test.*\(4, 8, 1\)"),
        ({"images": TRAIN, "labels": np.arange(3)}, "entry 'labels': expected one whole number"),
        ({"images": TRAIN * 1.0}, r"entry 'images': expected floats in \[0, 1\]"),
        ({"images": TRAIN[:1]}, "at least 2 images.*received 1"),
        ({"images": np.array([None])}, "it holds Python objects"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut off", b"some text", b"\x93NUMPY\x01\x00"])
def test_a_damaged_numpy_file_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match="cannot be read as a numpy file"):
        load_dataset(tmp_path / name)


def test_a_npz_under_the_name_of_an_npy_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=TRAIN)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"is an archive.*Rename it to end in .npz"):
        load_dataset(tmp_path / "a.npy")


def test_a_npy_under_the_name_of_an_npz_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TRAIN)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"is a single array.*Rename it to end in .npy"):
        load_dataset(tmp_path / "a.npz")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_of_idx_files_is_read(tmp_path: Path, zipped: bool) -> None:
    dataset = load_dataset(write_idx_files(tmp_path / "letters", zipped=zipped))
    assert dataset.name == "letters"
    np.testing.assert_array_equal(pixels(dataset.train_images), TRAIN)
    assert dataset.test_labels is not None
    assert dataset.test_labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_single_idx_file_is_split(tmp_path: Path) -> None:
    write_idx_files(tmp_path)
    dataset = load_dataset(tmp_path / NAMES[0])
    assert dataset.train_labels is None
    assert_is_a_split_of(dataset, TRAIN)


def test_missing_idx_files_are_named(tmp_path: Path) -> None:
    write_idx_files(tmp_path)
    (tmp_path / TEST_NAMES[0]).unlink()
    (tmp_path / NAMES[1]).unlink()
    with pytest.raises(
        DataError, match=r"missing train-labels-idx1-ubyte\[.gz\], t10k-images-idx3-ubyte\[.gz\]"
    ):
        load_dataset(tmp_path)


def test_images_under_the_name_of_labels_are_refused(tmp_path: Path) -> None:
    write_idx_files(tmp_path)
    (tmp_path / NAMES[1]).write_bytes(idx_bytes(TRAIN))
    with pytest.raises(DataError, match=r"expected 1 axes; received shape \(20, 8, 8\)"):
        load_dataset(tmp_path)


def test_labels_of_another_count_are_refused(tmp_path: Path) -> None:
    write_idx_files(tmp_path)
    (tmp_path / NAMES[1]).write_bytes(idx_bytes(np.zeros(19, np.uint8)))
    with pytest.raises(DataError, match="one whole number for each of the 20 images"):
        load_dataset(tmp_path)


def test_a_folder_of_images_is_split(tmp_path: Path) -> None:
    write_images(tmp_path / "glyphs", TRAIN)
    (tmp_path / "glyphs" / ".hidden.png").write_bytes(b"")
    (tmp_path / "glyphs" / "notes.txt").write_text("not an image")
    dataset = load_dataset(tmp_path / "glyphs")
    assert dataset.name == "glyphs"
    assert dataset.train_labels is None
    assert_is_a_split_of(dataset, TRAIN)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "cat", np.zeros((10, 8, 8), np.uint8))
    write_images(tmp_path / "dog", np.full((10, 8, 8), 255, np.uint8), "{}.PNG")
    dataset = load_dataset(tmp_path)
    assert dataset.train_labels is not None
    np.testing.assert_array_equal(dataset.train_images.mean((1, 2, 3)), dataset.train_labels)
    assert set(dataset.train_labels.tolist()) == {0, 1}


def test_train_and_test_folders_are_used_as_they_are(tmp_path: Path) -> None:
    for part, images in (("train", TRAIN), ("test", TEST)):
        write_images(tmp_path / part / "a", images[:3])
        write_images(tmp_path / part / "b", images[3:])
    dataset = load_dataset(tmp_path)
    np.testing.assert_array_equal(pixels(dataset.train_images), TRAIN)
    np.testing.assert_array_equal(pixels(dataset.test_images), TEST)
    assert dataset.test_labels is not None
    assert dataset.test_labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_jpegs_and_one_bit_images_are_read(tmp_path: Path) -> None:
    write_images(tmp_path / "j", np.full((3, 8, 8, 3), 128, np.uint8), "{}.jpeg")
    assert load_dataset(tmp_path / "j").image_shape == (8, 8, 3)
    (tmp_path / "b").mkdir()
    for i in range(2):
        Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "b" / f"{i}.png")
    np.testing.assert_array_equal(load_dataset(tmp_path / "b").test_images[0, ..., 0], np.eye(8))


def test_the_odd_size_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, TRAIN[:3])
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "odd.png")
    with pytest.raises(DataError, match=r"odd.png: is 9x8 grey, but .*00.png is 8x8 grey"):
        load_dataset(tmp_path)


def test_grey_among_colour_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, np.zeros((2, 8, 8, 3), np.uint8))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "odd.png")
    with pytest.raises(DataError, match=r"odd.png: is 8x8 grey, but .*00.png is 8x8 RGB"):
        load_dataset(tmp_path)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, TRAIN[:2])
    whole = (tmp_path / "00.png").read_bytes()
    for data in (b"", b"text", whole[:50]):
        (tmp_path / "bad.png").write_bytes(data)
        with pytest.raises(DataError, match=r"bad.png: cannot be read as an image"):
            load_dataset(tmp_path)


def test_an_image_with_transparency_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, np.zeros((2, 8, 8, 4), np.uint8))
    with pytest.raises(DataError, match=r"expected a grey or RGB image; received.*'RGBA'"):
        load_dataset(tmp_path)


def test_images_beside_sub_folders_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, TRAIN[:2])
    write_images(tmp_path / "cat", TRAIN[:2])
    with pytest.raises(DataError, match=r"holds images \(00.png, ...\) beside sub-folders \(cat"):
        load_dataset(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "cat", TRAIN[:2])
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match="dog: expected PNG or JPEG images of one class"):
        load_dataset(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no PNG or JPEG images"):
        load_dataset(tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"data.csv: not a kind of file that holds a data set"):
        load_dataset(tmp_path / "data.csv")


def test_the_fingerprint_tells_images_apart(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=TRAIN, x_test=TEST)
    changed = TRAIN.copy()
    changed[3, 2, 1] ^= 1
    np.savez(tmp_path / "b.npz", x_train=changed, x_test=TEST)
    assert load_dataset(tmp_path / "a.npz").fingerprint() != (
        load_dataset(tmp_path / "b.npz").fingerprint()
    )
