"""The user's own images: `.npz`, `.npy` and IDX files, and folders."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.errors import DataError
from vae_edge.training.arrays import as_images, as_labels
from vae_edge.training.dataset import Dataset, split
from vae_edge.training.idx import read_idx
from vae_edge.training.image_folder import load_image_folder

__all__ = ["IDX_FILES", "find_idx_files", "load_idx_files", "load_npz", "load_path"]

# Names as MNIST and Fashion-MNIST publish them; each may end in .gz.
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_KEYS = (
    "x_train with optional x_test, y_train, y_test; or images with optional labels; or one array"
)


def load_path(path: Path) -> Dataset:
    """Load a file or folder by what it is.

    Raises:
        DataError: of no known kind, or its contents do not fit.
    """
    if path.is_dir():
        return load_idx_files(path) if find_idx_files(path) else load_image_folder(path)
    if path.suffix == ".npz":
        return load_npz(path)
    if path.suffix == ".npy":
        images = as_images(_load_array(path), str(path))
        return split(name=path.stem, source=str(path), images=images, labels=None)
    if "idx" in path.name:
        images = as_images(read_idx(path), str(path))
        return split(name=path.name.split(".")[0], source=str(path), images=images, labels=None)
    raise DataError(
        f"{path}: not a kind of file that holds a data set. Expected .npz, .npy, an IDX file "
        "(such as train-images-idx3-ubyte.gz) or a folder of PNG or JPEG images."
    )


def load_npz(path: Path, *, name: str | None = None) -> Dataset:
    """Load an `.npz` with a training and a test part, or one part that is split here.

    Raises:
        DataError: not an `.npz`, entries with other names, or arrays that do not fit.
    """
    arrays = _load_archive(path)
    name = name or path.stem
    keys = set(arrays)

    def images(key: str) -> Any:
        return as_images(arrays[key], f"{path}, entry '{key}'")

    def labels(key: str, of: str) -> Any:
        if key not in keys:
            return None
        return as_labels(arrays[key], len(arrays[of]), f"{path}, entry '{key}'")

    whole: str | None = None
    if "x_train" in keys and keys <= {"x_train", "y_train", "x_test", "y_test"}:
        if "x_test" in keys:
            return Dataset(
                name=name,
                source=str(path),
                train_images=images("x_train"),
                train_labels=labels("y_train", "x_train"),
                test_images=images("x_test"),
                test_labels=labels("y_test", "x_test"),
            )
        if "y_test" not in keys:
            whole, label = "x_train", "y_train"
    elif "images" in keys and keys <= {"images", "labels"}:
        whole, label = "images", "labels"
    elif len(keys) == 1:
        (whole,), label = keys, ""
    if whole is None:
        raise DataError(
            f"{path}: expected the entries {_KEYS}; received {', '.join(sorted(keys)) or 'none'}. "
            "Rename the entries."
        )
    return split(name=name, source=str(path), images=images(whole), labels=labels(label, whole))


def _load_array(path: Path) -> npt.NDArray[Any]:
    loaded = _load(path)
    if isinstance(loaded, dict):
        raise DataError(f"{path}: is an archive of arrays. Rename it to end in .npz.")
    return loaded


def _load_archive(path: Path) -> dict[str, npt.NDArray[Any]]:
    loaded = _load(path)
    if not isinstance(loaded, dict):
        raise DataError(f"{path}: is a single array. Rename it to end in .npy.")
    return loaded


def _load(path: Path) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    """Read a numpy file, whatever its name; never unpickles."""
    try:
        # Opened here, because numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                return {key: loaded[key] for key in loaded.files}
            return np.asarray(loaded)
    except (ValueError, EOFError, zipfile.BadZipFile, OSError, MemoryError) as error:
        reason = "it holds Python objects" if "pickle" in str(error).lower() else str(error)
        raise DataError(
            f"{path}: cannot be read as a numpy file ({reason}). Write it anew with np.savez or "
            "np.save from plain arrays."
        ) from error


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Give the path of each IDX file of MNIST's names that is in the folder, by that name."""
    found = {}
    for name in IDX_FILES:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                found[name] = candidate
                break
    return found


def load_idx_files(folder: Path, *, name: str | None = None) -> Dataset:
    """Load the four IDX files of MNIST's names from a folder.

    Raises:
        DataError: some are missing, or one is damaged or does not fit the others.
    """
    found = find_idx_files(folder)
    missing = [f"{file}[.gz]" for file in IDX_FILES if file not in found]
    if missing:
        raise DataError(
            f"{folder}: expected four IDX files; missing {', '.join(missing)}. Copy them there too."
        )

    def read(file: str, axes: int) -> npt.NDArray[np.uint8]:
        array = read_idx(found[file])
        if array.ndim != axes:
            raise DataError(
                f"{found[file]}: expected {axes} axes; received shape {array.shape}. It may be "
                "another file under this name: copy the right one."
            )
        return array

    parts = []
    for images_file, labels_file in (IDX_FILES[:2], IDX_FILES[2:]):
        images = as_images(read(images_file, 3), str(found[images_file]))
        labels = as_labels(read(labels_file, 1), len(images), str(found[labels_file]))
        parts.append((images, labels))
    (train_images, train_labels), (test_images, test_labels) = parts
    return Dataset(
        name=name or folder.resolve().name,
        source=f"IDX files in {folder}",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
