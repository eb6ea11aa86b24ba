"""Images in and out of files, the same way as in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vae_edge.errors import DataError
from vae_edge.files import replaced_file
from vae_edge.image_source import IMAGE_SUFFIXES, open_images
from vae_edge.npy_stream import written
from vae_edge.preprocessing import PLAIN_PICTURES, Preprocessing
from vae_edge.terms import Fit, FloatArray

__all__ = [
    "IMAGE_SUFFIXES",
    "Fit",
    "open_images",
    "read_images",
    "save_image",
    "tile",
    "write_image",
]


def read_images(
    path: str | Path,
    image_shape: tuple[int, ...],
    *,
    fit: Fit | str | None = None,
    preprocessing: Preprocessing = PLAIN_PICTURES,
) -> FloatArray:
    """Read all images of a picture, an array, or a folder of pictures, of the model's shape.

    Args:
        path: as `vae_edge.image_source.open_images` takes it.
        image_shape: (height, width, channels) that the model takes.
        fit: `resize`, `crop` or `pad` for images of another size or with colour where the model is
            grey; by default as `preprocessing` says.
        preprocessing: what the model's values mean; by default those in [0, 1].

    Returns:
        float32, (count, *image_shape), as the encoder takes them.

    Raises:
        DataError: no such file, not an image, another size or number of channels, unknown `fit`.
    """
    with open_images(path, image_shape, fit=fit, preprocessing=preprocessing) as source:
        return np.concatenate(list(source.chunks()))


def write_image(path: str | Path, image: FloatArray) -> None:
    """Write one image, (height, width, channels) in [0, 1], as a picture; the suffix says which.

    Raises:
        DataError: not a picture's suffix, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{path}: not a picture's name; end it in .png.")
    with written(path):
        try:
            save_image(path, image)
        except ValueError as error:
            raise DataError(f"{path}: cannot be written: {error}. End it in .png.") from error


def save_image(path: Path, image: FloatArray) -> None:
    """Write one image as `write_image` does, into a folder that exists.

    Raises:
        OSError: it cannot be written.
        ValueError: the kind of picture cannot hold it.
    """
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    picture: Any = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    with replaced_file(path) as part:
        picture.save(part)


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
