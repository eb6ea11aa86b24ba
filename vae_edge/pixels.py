"""From a picture to the pixels that a model takes: one conversion for training and for devices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from vae_edge.errors import DataError
from vae_edge.terms import Fit, FloatArray

__all__ = ["fit_picture", "to_floats", "to_levels"]

_MODES = {1: "L", 3: "RGB"}
# Pillow would clip these to 8 bits instead of scaling them.
_DEEP = ("I", "F")


def to_levels(picture: Image.Image, channels: int) -> npt.NDArray[np.uint8]:
    """Give a picture's pixels as 8-bit levels.

    Colour becomes grey by Pillow's "L": (299 R + 587 G + 114 B) / 1000 (ITU-R BT.601). Transparency
    and the orientation in EXIF data are ignored.

    Args:
        picture: of at most 8 bits per channel.
        channels: 1 for grey or 3 for RGB.

    Returns:
        uint8, (height, width, channels), in 0..255.

    Raises:
        DataError: more than 8 bits per channel, or another number of channels.
    """
    if channels not in _MODES:
        raise DataError(f"a picture has 1 or 3 channels; the model takes {channels}. Give a .npy.")
    if picture.mode.startswith(_DEEP):
        raise DataError(
            f"has Pillow mode '{picture.mode}', more than 8 bits per channel. Convert it to 8 bits "
            "as in training."
        )
    levels = np.asarray(picture.convert(_MODES[channels]), np.uint8)
    return levels.reshape(*levels.shape[:2], channels)


def to_floats(levels: npt.NDArray[np.uint8]) -> FloatArray:
    """Give 8-bit levels 0..255 as float32 in [0, 1], of the same shape."""
    return levels.astype(np.float32) / np.float32(255)


def fit_picture(picture: Image.Image, image_shape: tuple[int, ...], fit: Fit) -> FloatArray:
    """Convert a picture to the model's channels, then bring it to the model's size.

    resize: stretched to the size, whatever its proportions. crop: the largest centred part of the
    model's proportions. pad: the whole picture in the middle, black around it. Sizes change with
    Pillow's bilinear filter, which averages over all pixels when it makes a picture smaller.

    Args:
        picture: of any size, at most 8 bits per channel.
        image_shape: (height, width, channels) that the model takes.
        fit: which of the three.

    Returns:
        float32, `image_shape`, in [0, 1].

    Raises:
        DataError: as `to_levels`.
    """
    height, width, channels = image_shape
    levels = to_levels(picture, channels)
    converted = Image.fromarray(levels[..., 0] if channels == 1 else levels)
    size, bilinear = (width, height), Image.Resampling.BILINEAR
    if fit is Fit.RESIZE:
        fitted = converted.resize(size, bilinear)
    elif fit is Fit.CROP:
        fitted = ImageOps.fit(converted, size, bilinear)
    else:
        fitted = ImageOps.pad(converted, size, bilinear, color=0 if channels == 1 else (0, 0, 0))
    return to_floats(to_levels(fitted, channels))
