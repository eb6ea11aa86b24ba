"""From whatever a file holds to images as the model takes them, or a clear refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.errors import DataError
from vae_edge.pixels import to_floats
from vae_edge.terms import FloatArray

__all__ = ["LabelArray", "as_images", "as_labels"]

LabelArray = npt.NDArray[np.int64]

_CHANNELS = (1, 3)


def as_images(array: npt.NDArray[Any], where: str) -> FloatArray:
    """Bring images to float32 (count, height, width, channels) in [0, 1].

    Args:
        array: (count, height, width) or (count, height, width, 1 or 3); uint8 in 0..255, bool, or
            floats that already lie in [0, 1].
        where: file and entry, for messages.

    Raises:
        DataError: another shape or type, no images, or a value out of range or not finite.
    """
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.shape[3] not in _CHANNELS:
        hint = "Reshape the array"
        if array.ndim == 4 and array.shape[1] in _CHANNELS:
            hint = "The channels seem to stand second: np.moveaxis(images, 1, -1)"
        raise DataError(
            f"{where}: expected images of shape (count, height, width) or (count, height, width, "
            f"1 or 3); received {array.shape}. {hint}."
        )
    if array.size == 0:
        raise DataError(
            f"{where}: expected at least one image; received shape {array.shape}. Check how the "
            "file was written."
        )
    if array.dtype == np.uint8:
        return to_floats(array)
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{where}: expected uint8 values 0..255 or floats in [0, 1]; received {array.dtype}. "
            "Convert with images.astype(np.uint8)."
        )
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise DataError(
            f"{where}: {bad} of {array.size} values are not finite. Remove or repair these images."
        )
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise DataError(
            f"{where}: expected floats in [0, 1]; received {low:g} to {high:g}. Scale them, e.g. "
            "images / 255."
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def as_labels(array: npt.NDArray[Any], count: int, where: str) -> LabelArray:
    """Bring labels to int64 (count,).

    Raises:
        DataError: not one whole number per image.
    """
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{where}: expected one whole number for each of the {count} images; received "
            f"{array.dtype} {array.shape}. Give class numbers of shape ({count},), or leave the "
            "labels out."
        )
    return array.astype(np.int64)
