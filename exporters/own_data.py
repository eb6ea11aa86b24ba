"""Representative rows from a user's own files, read as a device reads them."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.representative import (
    CALIBRATION_IMAGES,
    GOLDEN_IMAGES,
    Representative,
    apart,
)
from vae_edge.errors import DataError
from vae_edge.golden import NO_LABEL
from vae_edge.image_source import ImageSource, open_images
from vae_edge.keras_vae import KerasVAE
from vae_edge.npy_stream import open_npy
from vae_edge.terms import DataKind, FloatArray

__all__ = ["from_path", "from_rows"]

Labels = npt.NDArray[np.int16]
Indices = npt.NDArray[np.int64]
_TRAIN, _TEST = "x_train", "x_test"
# Of a set without a test part.
_HELD_OUT = 0.25


def from_path(path: Path, vae: KerasVAE, seed: int) -> Representative:
    """Draw from a file or folder: what to calibrate on, and what to hold out for golden vectors.

    An `.npz` with x_train and x_test, and a folder with the sub-folders train and test, are drawn
    from by part. Of everything else a quarter, and at most 256, is held out. Only the rows that
    are drawn are kept in memory.

    Args:
        path: as `vae_edge.image_source.open_images` takes it, or a folder of such folders, one for
            each class. Classes in an `.npz` are `y_test`, or `labels`.
        vae: whose shape and preprocessing the rows get.
        seed: of what is drawn.

    Raises:
        DataError: it cannot be read, does not fit the model, or holds fewer than two rows.
    """
    rng = np.random.default_rng(seed)
    train, test = _parts(path)
    if test is None:
        drawn, held_out = _held_out(_count(train, vae), rng, str(path))
        test = train
    else:
        held_out = rng.permutation(_count(test, vae))[:GOLDEN_IMAGES]
        drawn = rng.permutation(_count(train, vae))[:CALIBRATION_IMAGES]
    calibration, _ = _take(train, vae, drawn)
    golden, labels = _take(test, vae, held_out)
    return apart(
        source=str(path),
        seed=seed,
        preprocessing=vae.preprocessing,
        calibration=calibration,
        golden=golden,
        golden_labels=labels,
    )


def from_rows(
    rows: npt.NDArray[Any], vae: KerasVAE, seed: int, *, source: str = "rows given"
) -> Representative:
    """Draw from an array: what to calibrate on, and a quarter, at most 256, to hold out.

    Args:
        rows: (count, *image_shape), floats as the encoder takes them, or pictures as uint8 levels.
        vae: whose shape and preprocessing they have.
        seed: of what is drawn.
        source: what they are, for the manifest.

    Raises:
        DataError: they do not fit the model, or are fewer than two.
    """
    shape, pictures = vae.image_shape, vae.preprocessing.kind is DataKind.PICTURE
    if shape[-1] == 1 and rows.shape[1:] == shape[:-1]:  # the single channel may lack
        rows = rows[..., np.newaxis]
    if rows.shape[1:] != shape or rows.dtype.kind not in "fbiu":
        raise DataError(
            f"{source}: has {rows.dtype} {rows.shape}; expected floats of (count, "
            f"{', '.join(map(str, shape))})."
        )
    levels = pictures and rows.dtype == np.uint8
    values = vae.preprocessing.from_levels(rows) if levels else np.asarray(rows, np.float32)
    vae.preprocessing.check_values(values, source)
    _check_span(values, vae, source)
    drawn, held_out = _held_out(len(values), np.random.default_rng(seed), source)
    return apart(
        source=source,
        seed=seed,
        preprocessing=vae.preprocessing,
        calibration=values[np.sort(drawn)],
        golden=values[np.sort(held_out)],
    )


def _held_out(count: int, rng: np.random.Generator, source: str) -> tuple[Indices, Indices]:
    """Give the rows to calibrate on, and those to hold out, of a set without parts."""
    if count < 2:
        raise DataError(
            f"{source}: holds {count} row, and at least two are needed: one to calibrate on and "
            "one to judge by."
        )
    order = rng.permutation(count)
    held = min(GOLDEN_IMAGES, max(1, round(count * _HELD_OUT)))
    return order[held : held + CALIBRATION_IMAGES], order[:held]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A file or folder of rows.

    Attributes:
        path: where.
        entry: of an `.npz`; None for whichever is known.
        labels: entry with the rows' classes.
        label: class of all of its rows.
    """

    path: Path
    entry: str | None = None
    labels: str | None = None
    label: int = NO_LABEL


_Places = tuple[_Place, ...]


def _parts(path: Path) -> tuple[_Places, _Places | None]:
    """Give the places to calibrate on, and those to hold out where they are apart."""
    if path.is_dir():
        folders = {child.name: child for child in path.iterdir() if child.is_dir()}
        if folders.keys() == {"train", "test"}:
            return _folders(folders["train"]), _folders(folders["test"])
        return _folders(path), None
    if path.suffix.lower() == ".npz":
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            held = {Path(name).stem for name in archive.namelist()}
            if {_TRAIN, _TEST} <= held:
                labels = "y_test" if "y_test" in held else None
                return (
                    (_Place(path=path, entry=_TRAIN),),
                    (_Place(path=path, entry=_TEST, labels=labels),),
                )
            return (_Place(path=path, labels="labels" if "labels" in held else None),), None
    return (_Place(path=path),), None


def _folders(path: Path) -> _Places:
    """Give a folder of pictures, or its sub-folders, one for each class."""
    children = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    classes = tuple(_Place(path=child, label=label) for label, child in enumerate(children))
    return classes or (_Place(path=path),)


@contextlib.contextmanager
def _open(place: _Place, vae: KerasVAE) -> Iterator[ImageSource]:
    with open_images(
        place.path, vae.image_shape, preprocessing=vae.preprocessing, entry=place.entry
    ) as source:
        yield source


def _labels(place: _Place, count: int) -> Labels:
    if place.labels is None:
        return np.full(count, place.label, np.int16)
    with open_npy(place.path, (place.labels,)) as stream:
        labels = stream.whole()
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{place.path}, entry '{place.labels}': expected one whole number for each of {count} "
            f"rows; received {labels.dtype} {labels.shape}. Give class numbers, or leave it out."
        )
    return labels.astype(np.int16)


def _count(places: _Places, vae: KerasVAE) -> int:
    count = 0
    for place in places:
        with _open(place, vae) as source:
            if source.count == 1:  # what is no picture at all is said before that it is too few
                next(iter(source.chunks()))
            count += source.count
    return count


def _check_span(rows: FloatArray, vae: KerasVAE, source: str) -> None:
    """Refuse arrays that cannot be in the values of training, such as 8-bit levels for [0, 1].

    A device may be given a reading that is off every scale; what a model is calibrated on is none.

    Raises:
        DataError: where they lie, and where they should.
    """
    scaling = vae.preprocessing.input
    if vae.preprocessing.kind is DataKind.PICTURE or scaling is None or not rows.size:
        return
    span = scaling.high - scaling.low
    least, most = float(rows.min()), float(rows.max())
    if least < scaling.low - span or most > scaling.high + span:
        raise DataError(
            f"{source}: holds values from {least:g} to {most:g}, and the model takes values in "
            f"[{scaling.low:g}, {scaling.high:g}]. Give them as in training, levels divided by 255 "
            "say; or state the range that it was trained on: --value-range LOW,HIGH."
        )


def _take(
    places: _Places, vae: KerasVAE, chosen: npt.NDArray[np.int64]
) -> tuple[FloatArray, Labels]:
    """Read the chosen rows of all places one after the other, in order, and their classes."""
    wanted, start = np.sort(chosen), 0
    rows: list[FloatArray] = []
    classes: list[Labels] = []
    for place in places:
        with _open(place, vae) as source:
            classes.append(_labels(place, source.count))
            for chunk in source.chunks():
                here = wanted[(wanted >= start) & (wanted < start + len(chunk))] - start
                vae.preprocessing.check_values(chunk[here], f"{place.path}: images")
                _check_span(chunk[here], vae, str(place.path))
                rows.append(chunk[here])
                start += len(chunk)
    return np.concatenate(rows), np.concatenate(classes)[wanted]
