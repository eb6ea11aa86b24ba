"""Images in and out of files, the same way as in training: float32 in [0, 1]."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from vae_edge.errors import DataError
from vae_edge.files import replaced_file
from vae_edge.terms import FloatArray

__all__ = ["IMAGE_SUFFIXES", "read_images", "tile", "write_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
_MODES = {1: "L", 3: "RGB"}


def read_images(path: str | Path, image_shape: tuple[int, ...]) -> FloatArray:
    """Read images of exactly the model's shape from a picture, an array, or a folder of pictures.

    Args:
        path: a picture, a `.npy` of (count, height, width[, channels]) or one image, or a folder
            whose pictures are read in the order of their names.
        image_shape: (height, width, channels) that the model takes.

    Returns:
        float32, (count, height, width, channels), in [0, 1].

    Raises:
        DataError: no such file, not an image, another size or number of channels.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DataError(f"{path}: holds no pictures ({', '.join(IMAGE_SUFFIXES)}).")
        return np.stack([_read_picture(file, image_shape) for file in files])
    if not path.exists():
        raise DataError(f"{path}: no such file. Give a picture, a .npy file, or a folder.")
    if path.suffix.lower() == ".npy":
        return _read_array(path, image_shape)
    return _read_picture(path, image_shape)[np.newaxis]


def _read_picture(path: Path, image_shape: tuple[int, ...]) -> FloatArray:
    height, width, channels = image_shape
    try:
        with Image.open(path) as picture:
            # Not 16-bit grey: Pillow would clip it to 8 bits instead of scaling it.
            grey = picture.mode in ("1", "L", "LA")
            # Before anything is unpacked: a small file may hold a huge picture.
            if picture.size != (width, height) or (channels == 1 and not grey):
                raise DataError(
                    f"{path}: is {picture.width}x{picture.height} {picture.mode}; the model takes "
                    f"{width}x{height} {_MODES.get(channels, f'{channels} channels')}. "
                    "Resize or convert it as in training."
                )
            pixels = np.asarray(picture.convert(_MODES[channels]), np.float32) / np.float32(255)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        KeyError,
        ValueError,
    ) as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}.") from error
    return pixels.reshape(image_shape)


def _read_array(path: Path, image_shape: tuple[int, ...]) -> FloatArray:
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        # numpy's own words recommend to unpickle the file.
        raise DataError(
            f"{path}: cannot be read as a .npy array: it is damaged or holds no plain numbers. "
            "Write it with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: holds several arrays; expected one .npy array of images.")
    given = array.shape
    if array.dtype == np.uint8:
        array = array.astype(np.float32) / np.float32(255)
    # Trailing channel axis left out, leading count left out, or both.
    if image_shape[-1] == 1 and array.shape[-2:] == image_shape[:2]:
        array = array[..., np.newaxis]
    if array.shape == image_shape:
        array = array[np.newaxis]
    if array.shape[1:] == image_shape and not len(array):
        raise DataError(f"{path}: holds no images.")
    if array.shape[1:] != image_shape or array.dtype.kind != "f":
        raise DataError(
            f"{path}: holds {array.dtype} {given}; expected images of {image_shape}, as uint8 or "
            "as floats in [0, 1]."
        )
    return np.asarray(array, np.float32)


def write_image(path: str | Path, image: FloatArray) -> None:
    """Write one image, (height, width, channels) in [0, 1], as a picture; the suffix says which.

    Raises:
        DataError: not a picture's suffix, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{path}: not a picture's name; end it in .png.")
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    picture: Any = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as part:
            picture.save(part)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be written: {error}.") from error


def tile(images: FloatArray, columns: int) -> FloatArray:
    """Lay images out in rows of `columns`, separated by a grey line.

    Args:
        images: float32 (count, height, width, channels), count at least 1.
        columns: images per row, at least 1.

    Returns:
        float32 (height, width, channels) of the whole sheet; missing places are black.
    """
    count, height, width, channels = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), 0.5, np.float32)
    for index in range(rows * columns):
        top, left = (index // columns) * (height + 1), (index % columns) * (width + 1)
        image = images[index] if index < count else 0
        sheet[top : top + height, left : left + width] = image
    return sheet
