"""Where images go that a command makes: one sheet, an array, or a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vae_edge.errors import DataError, UsageError
from vae_edge.files import replaced_file
from vae_edge.images import IMAGE_SUFFIXES, tile, write_image
from vae_edge.terms import FloatArray

__all__ = ["check_output", "is_sheet", "write_images"]


def is_sheet(out: Path) -> bool:
    """Tell whether `out` names one picture."""
    return out.suffix.lower() in IMAGE_SUFFIXES


def check_output(out: Path) -> None:
    """Refuse, before any work, an output that is neither a picture, an array nor a folder.

    Raises:
        UsageError: an unknown suffix, or a folder where a file is meant.
    """
    as_file = is_sheet(out) or out.suffix.lower() == ".npy"
    if as_file and out.is_dir():
        raise UsageError(f"--out {out}: is a folder; expected a file's name.")
    if not as_file and (out.suffix or out.is_file()):
        raise UsageError(
            f"--out {out}: expected a picture ({', '.join(IMAGE_SUFFIXES[:3])}, ...), a .npy file, "
            "or a folder."
        )


def write_images(out: Path, images: FloatArray, *, columns: int) -> list[Path]:
    """Write images as one sheet, one array, or numbered pictures in a folder; give the files."""
    if is_sheet(out):
        write_image(out, tile(images, columns))
        return [out]
    if out.suffix.lower() == ".npy":
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with replaced_file(out) as part:
                np.save(part, images, allow_pickle=False)
        except OSError as error:  # numpy's own says only how many bytes were written
            raise DataError(
                f"{out}: cannot be written ({error.strerror or error}). Check that its folder is "
                "writable and that the disk is not full."
            ) from error
        return [out]
    files = [out / f"{index:05d}.png" for index in range(len(images))]
    for file, image in zip(files, images, strict=True):
        write_image(file, image)
    return files
