"""Where images come from: a picture, a folder, numpy's files or stdin, a chunk at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from vae_edge.errors import DataError
from vae_edge.npy_stream import STDIN, NpyStream, open_npy
from vae_edge.pixels import fit_picture, to_floats, to_levels
from vae_edge.preprocessing import PLAIN_PICTURES, Preprocessing
from vae_edge.terms import DataKind, Fit, FloatArray

__all__ = ["IMAGE_KEYS", "IMAGE_SUFFIXES", "ImageSource", "open_images"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
IMAGE_KEYS = ("images", "x_test", "x_train", "x")
_NAMES = {1: "L", 3: "RGB"}
_FIT_HINT = "vae-edge export, encode, reconstruct and parity do so with --fit resize, crop or pad."


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images that are read when they are asked for, once.

    Attributes:
        count: how many there are, at least 1.
        files: names of the pictures in a folder, else None.
        read: gives them in chunks of at most so many, float32 (count, height, width, channels).
    """

    count: int
    files: tuple[str, ...] | None
    read: Callable[[int], Iterator[FloatArray]]

    def chunks(self, rows: int = 32) -> Iterator[FloatArray]:
        """Give the images in order, at most `rows` at a time, as the encoder takes them.

        float32, (count, *image_shape).

        Raises:
            DataError: one cannot be read or does not fit, when it is reached.
        """
        return self.read(rows)


@contextlib.contextmanager
def open_images(
    path: str | Path,
    image_shape: tuple[int, ...],
    *,
    fit: Fit | str | None = None,
    preprocessing: Preprocessing = PLAIN_PICTURES,
    entry: str | None = None,
) -> Iterator[ImageSource]:
    """Open images for reading in chunks.

    Args:
        path: a picture; a folder, whose pictures are taken in the order of their names; a `.npy`
            or an entry `images`, `x_test`, `x_train` or `x` of an `.npz`, uint8 levels or floats
            as the model was trained on them, channels in its order, of shape (count, height,
            width[, channels]) or one image; `-` for such a `.npy` on stdin.
        image_shape: (height, width, channels) that the model takes; any, where it takes arrays.
        fit: `resize`, `crop` or `pad` (`vae_edge.pixels.fit_picture`) for images of another size,
            and for colour where the model is grey; by default as `preprocessing` says, and where
            it does not, they are refused. Arrays that need it are rounded to 8 bits first, as a
            picture would be.
        preprocessing: what the model's values mean.
        entry: of an `.npz`; by default the first of the above that is in it.

    Raises:
        DataError: no such file, not images, none at all; without `fit`, an array of another shape;
            an unknown `fit`.
    """
    path = Path(path)
    model = _Model(image_shape, preprocessing, _fit(fit) or preprocessing.fit)
    if path != STDIN and not path.exists():
        raise DataError(
            f"{path}: no such file. Give a picture, a .npy file, an .npz file, or a folder."
        )
    arrays = path == STDIN or (path.suffix.lower() in (".npy", ".npz") and not path.is_dir())
    if preprocessing.kind is DataKind.ARRAY and not arrays:
        raise DataError(
            f"{path}: the model takes arrays of {image_shape}: give a .npy or .npz file. Where it "
            "was trained on pictures, export it with --value-range LOW,HIGH."
        )
    if path.is_dir() and not arrays:
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DataError(f"{path}: holds no pictures ({', '.join(IMAGE_SUFFIXES)}).")
        yield _pictures(files, model, named=True)
    elif arrays:
        with open_npy(path, IMAGE_KEYS if entry is None else (entry,)) as stream:
            yield _array(stream, model)
    else:
        yield _pictures([path], model, named=False)


@dataclass(frozen=True)
class _Model:
    """What images have to become."""

    image_shape: tuple[int, ...]
    preprocessing: Preprocessing
    fit: Fit | None

    @property
    def pictures(self) -> bool:
        return self.preprocessing.kind is DataKind.PICTURE


def _fit(fit: Fit | str | None) -> Fit | None:
    if fit is not None and fit not in list(Fit):
        raise DataError(f"unknown fit '{fit}'. Choose one of: {', '.join(map(str, Fit))}.")
    return None if fit is None else Fit(fit)


def _pictures(files: list[Path], model: _Model, *, named: bool) -> ImageSource:
    def read(rows: int) -> Iterator[FloatArray]:
        for start in range(0, len(files), rows):
            yield np.stack([_read_picture(file, model) for file in files[start : start + rows]])

    names = tuple(file.name for file in files) if named else None
    return ImageSource(count=len(files), files=names, read=read)


def _read_picture(path: Path, model: _Model) -> FloatArray:
    (height, width, channels), fit = model.image_shape, model.fit
    try:
        with Image.open(path) as picture:
            same = picture.size == (width, height)
            # Grey of 16 bits is scaled to 8, not cut off (`to_levels`).
            grey = picture.mode in ("1", "L", "LA") or picture.mode.startswith("I;16")
            # Before anything is unpacked: a small file may hold a huge picture.
            if fit is None and (not same or (channels == 1 and not grey)):
                raise DataError(
                    f"{path}: is {picture.width}x{picture.height} {picture.mode}; the model takes "
                    f"{width}x{height} {_NAMES.get(channels, f'{channels} channels')}. "
                    f"Resize or convert it as in training; {_FIT_HINT}"
                )
            try:
                unit = (
                    to_floats(to_levels(picture, channels))
                    if fit is None or same
                    else fit_picture(picture, model.image_shape, fit)
                )
                return model.preprocessing.from_picture(unit)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}.") from error


def _array(stream: NpyStream, model: _Model) -> ImageSource:
    image_shape, fit = model.image_shape, model.fit
    shape = _as_rows(stream.shape, image_shape)
    if shape is None and model.pictures:
        shape = _as_pictures(stream.shape)
    exact = shape is not None and shape[1:] == image_shape
    known = "fbiu" if not model.pictures else "f"
    plain = stream.dtype.kind in known or (model.pictures and stream.dtype == np.uint8)
    if shape is None or not plain or (fit is None and not exact):
        hint = "" if exact or shape is None else f" For another size or colour: {_FIT_HINT}"
        if plain and not model.pictures and _same_size(stream.shape, image_shape):
            reshaped = ", ".join(map(str, (-1, *image_shape)))
            hint = f" If its values are in that order, save array.reshape({reshaped})."
        raise DataError(
            f"{stream.name}: holds {stream.dtype} {stream.shape}; expected {_expected(model)}."
            f"{hint}"
        )
    if not shape[0]:
        raise DataError(f"{stream.name}: holds no images.")
    # Pillow's own limit for the pictures that it opens.
    limit = Image.MAX_IMAGE_PIXELS
    if not exact and limit and shape[1] * shape[2] > 2 * limit:
        raise DataError(f"{stream.name}: images of {shape[2]}x{shape[1]} are too large to fit.")

    def read(rows: int) -> Iterator[FloatArray]:
        # The axis of the count may be missing from an array of one image.
        pieces = iter([stream.whole()]) if shape[0] == 1 else stream.chunks(rows)
        for piece in pieces:
            images = piece.reshape(-1, *shape[1:])
            if not exact:
                yield np.stack([_fit_array(image, stream.name, model) for image in images])
            elif images.dtype == np.uint8 and model.pictures:
                yield model.preprocessing.from_levels(images)
            else:
                yield np.asarray(images, np.float32)

    return ImageSource(count=shape[0], files=None, read=read)


def _expected(model: _Model) -> str:
    scaling = model.preprocessing.input
    if not model.pictures:
        return f"arrays of {model.image_shape}, in the values of training"
    assert scaling is not None  # noqa: S101  pictures have a range
    return (
        f"images of {model.image_shape}, as uint8 or as floats in [{scaling.low:g}, "
        f"{scaling.high:g}]"
    )


def _as_rows(given: tuple[int, ...], row: tuple[int, ...]) -> tuple[int, ...] | None:
    """Give the shape as (count, *row) where it is such rows or one, whose single channel may lack.

    None where it is not.
    """
    for shape in (row, row[:-1] if row[-1] == 1 else row):
        if given == shape:
            return (1, *row)
        if given[1:] == shape:
            return (given[0], *row)
    return None


def _same_size(given: tuple[int, ...], row: tuple[int, ...]) -> bool:
    """Tell whether rows of another shape hold as many values."""
    return len(given) > 1 and math.prod(given[1:]) == math.prod(row)


def _as_pictures(given: tuple[int, ...]) -> tuple[int, ...] | None:
    """Give the shape of pictures of another size as (count, height, width, channels).

    Three axes are one colour picture where the last has 1 or 3 entries. None where it is no
    pictures' shape.
    """
    shape: tuple[int, ...] = given
    if len(given) == 2:
        shape = (1, *given, 1)
    elif len(given) == 3:
        shape = (1, *given) if given[2] in _NAMES else (*given, 1)
    fits = len(shape) == 4 and shape[3] in _NAMES and all(shape[1:])
    return shape if fits else None


def _fit_array(image: npt.NDArray[Any], name: str, model: _Model) -> FloatArray:
    preprocessing = model.preprocessing
    assert model.fit is not None  # noqa: S101  refused before any is read
    try:
        if image.dtype != np.uint8:
            values = image.astype(np.float32)
            preprocessing.check_values(values, "images")
            image = preprocessing.input_levels(values)
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        # In the model's order of channels already.
        return preprocessing.levels.apply(fit_picture(picture, model.image_shape, model.fit))
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
