"""From a picture to the pixels that a model takes: one conversion for training and for devices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from vae_edge.errors import DataError
from vae_edge.terms import Fit, FloatArray

__all__ = ["fit_picture", "to_floats", "to_levels"]

_MODES = {1: "L", 3: "RGB"}
_SIXTEEN_BITS = "I;16"
# 32 bits per channel, whose black and white no file states.
_DEEP = ("I", "F")
# TIFF tags: bits per sample, and whether the lowest level is white (0) or black (1).
_BITS, _PHOTOMETRIC = 258, 262


def to_levels(picture: Image.Image, channels: int) -> npt.NDArray[np.uint8]:
    """Give a picture's pixels as 8-bit levels.

    Colour becomes grey by Pillow's "L": (299 R + 587 G + 114 B) / 1000 (ITU-R BT.601). Grey of 16
    bits is scaled, 65535 to 255, and rounded to the nearest level; of colour with 16 bits Pillow
    gives the upper 8. Transparency and the orientation in EXIF data are ignored.

    Args:
        picture: of at most 16 bits per channel.
        channels: 1 for grey or 3 for RGB.

    Returns:
        uint8, (height, width, channels), in 0..255.

    Raises:
        DataError: more than 16 bits per channel, a TIFF of 9 to 15 bits or with the lowest level
            as white, or another number of channels.
    """
    if channels not in _MODES:
        raise DataError(f"a picture has 1 or 3 channels; the model takes {channels}. Give a .npy.")
    if picture.mode.startswith(_SIXTEEN_BITS):
        picture = _eight_bits(picture)
    elif picture.mode.startswith(_DEEP):
        raise DataError(
            f"has Pillow mode '{picture.mode}', more than 16 bits per channel. Save it with 8 or "
            "16, black as 0 and white as the largest value, as in training."
        )
    levels = np.asarray(picture.convert(_MODES[channels]), np.uint8)
    return levels.reshape(*levels.shape[:2], channels)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8-bit grey: Pillow's own conversion would clip it at 255."""
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    if bits != 16 or tags.get(_PHOTOMETRIC, 1) != 1:
        raise DataError(
            f"is a TIFF of {bits} bits per channel"
            + (" whose lowest level is white" if bits == 16 else "")
            + ". Save it with 8 or 16, black as 0 and white as the largest value."
        )
    # 65535 = 255 * 257, an odd factor: there are no ties.
    deep = np.asarray(picture).astype(np.uint32)
    return Image.fromarray(((deep + 128) // 257).astype(np.uint8))


def to_floats(levels: npt.NDArray[np.uint8]) -> FloatArray:
    """Give 8-bit levels 0..255 as float32 in [0, 1], of the same shape."""
    return levels.astype(np.float32) / np.float32(255)


def fit_picture(picture: Image.Image, image_shape: tuple[int, ...], fit: Fit) -> FloatArray:
    """Convert a picture to the model's channels, then bring it to the model's size.

    resize: stretched to the size, whatever its proportions. crop: the largest centred part of the
    model's proportions. pad: the whole picture in the middle, black around it. Sizes change with
    Pillow's bilinear filter, which averages over all pixels when it makes a picture smaller.

    Args:
        picture: of any size, at most 16 bits per channel.
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
