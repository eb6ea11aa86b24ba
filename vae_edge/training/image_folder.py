"""A folder of PNG or JPEG files as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.errors import DataError
from vae_edge.pixels import to_levels
from vae_edge.training.arrays import LabelArray, as_images
from vae_edge.training.dataset import Dataset, split

__all__ = ["load_image_folder"]

_SUFFIXES = {".png", ".jpg", ".jpeg"}
# Pillow's names for images that already are grey or RGB; anything else would need a choice from us.
_CHANNELS = {"1": 1, "L": 1, "I;16": 1, "RGB": 3}


def load_image_folder(folder: Path) -> Dataset:
    """Load PNG and JPEG images, all of one size, all grey or all RGB, of 8 or 16 bits.

    Images directly in the folder have no labels; images in sub-folders are labelled 0, 1, ... in
    the order of the sub-folders' names. A folder of two sub-folders `train` and `test` is used as
    it is; any other is split 90 to 10.

    Raises:
        DataError: no images, images beside sub-folders, one that cannot be read, or images of
            different sizes or kinds.
    """
    folders = _subfolders(folder)
    if {path.name for path in folders} == {"train", "test"}:
        (train, train_labels), (test, test_labels) = (
            _load(folder / part) for part in ("train", "test")
        )
        return Dataset(
            name=folder.resolve().name,
            source=f"images in {folder}",
            train_images=as_images(train, str(folder / "train")),
            train_labels=train_labels,
            test_images=as_images(test, str(folder / "test")),
            test_labels=test_labels,
        )
    images, labels = _load(folder)
    return split(
        name=folder.resolve().name,
        source=f"images in {folder}",
        images=as_images(images, str(folder)),
        labels=labels,
    )


def _load(folder: Path) -> tuple[npt.NDArray[np.uint8], LabelArray | None]:
    files, folders = _image_files(folder), _subfolders(folder)
    if files and folders:
        raise DataError(
            f"{folder}: holds images ({files[0].name}, ...) beside sub-folders ({folders[0].name}, "
            "...). Put every image into the sub-folder of its class, or none."
        )
    labels: list[int] = []
    for label, path in enumerate(folders):
        members = _image_files(path)
        if not members:
            raise DataError(
                f"{path}: expected PNG or JPEG images of one class; found none. Remove the "
                "sub-folder, or put its images directly into it."
            )
        files += members
        labels += [label] * len(members)
    if not files:
        raise DataError(f"{folder}: holds no PNG or JPEG images. Check the path.")
    return _read_all(files), np.array(labels, np.int64) if folders else None


def _read_all(files: list[Path]) -> npt.NDArray[np.uint8]:
    first = _read(files[0])
    images = np.empty((len(files), *first.shape), np.uint8)
    for i, path in enumerate(files):
        image = _read(path)
        if image.shape != first.shape:
            raise DataError(
                f"{path}: is {_describe(image)}, but {files[0]} is {_describe(first)}. Bring all "
                "images to one size and kind."
            )
        images[i] = image
    return images


def _read(path: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in _CHANNELS:
                raise DataError(
                    f"{path}: expected a grey or RGB image; received Pillow mode '{image.mode}'. "
                    "Convert it, e.g. Image.open(path).convert('L')."
                )
            return to_levels(image, _CHANNELS[image.mode])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow reports damaged PNGs as SyntaxError.
        raise DataError(
            f"{path}: cannot be read as an image ({error}). Replace or remove the file."
        ) from error


def _describe(image: npt.NDArray[Any]) -> str:
    kind = "grey" if image.shape[2] == 1 else "RGB"
    return f"{image.shape[1]}x{image.shape[0]} {kind}"


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
