"""Where images go that a command makes: one sheet, an array, or a folder."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vae_edge.errors import UsageError
from vae_edge.images import IMAGE_SUFFIXES, save_image, tile, write_image
from vae_edge.npy_stream import write_npy, written
from vae_edge.preprocessing import Preprocessing
from vae_edge.terms import DataKind, FloatArray

__all__ = ["check_output", "image_files", "is_sheet", "write_images"]


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


def image_files(out: Path, count: int) -> Iterator[Path]:
    """Give the files that `write_images` makes of `count` images."""
    if is_sheet(out) or out.suffix.lower() == ".npy":
        yield out
        return
    yield from (out / f"{index:05d}.png" for index in range(count))


def write_images(
    out: Path,
    chunks: Iterable[FloatArray],
    *,
    count: int,
    image_shape: tuple[int, ...],
    preprocessing: Preprocessing,
    columns: int,
) -> None:
    """Write images as one sheet, one array, or numbered pictures in a folder.

    An array and a folder are written as the images come, and only a sheet is put together in
    memory. Nothing appears under `out` before the last image is there.

    Args:
        out: as `check_output` allows.
        chunks: float32 (n, *image_shape) each, as the decoder gives them. An array keeps them so.
        count: of all of them together.
        image_shape: (height, width, channels), or of an array.
        preprocessing: what their values mean.
        columns: images per row of a sheet.

    Raises:
        DataError: it cannot be written.
        UsageError: pictures of what is none.
    """
    if out.suffix.lower() == ".npy":
        write_npy(out, (count, *image_shape), chunks)
        return
    if preprocessing.kind is not DataKind.PICTURE:
        raise UsageError(
            f"--out {out}: the model gives arrays of {image_shape}, of which there are no "
            f"pictures; expected a .npy file, e.g. --out {out.with_suffix('.npy').name}."
        )
    pictures = map(preprocessing.to_picture, chunks)
    if is_sheet(out):
        write_image(out, tile(np.concatenate(list(pictures)), columns))
        return
    with _filled_folder(out) as part:
        files = image_files(part, count)
        for chunk in pictures:
            for image in chunk:
                save_image(next(files), image)


@contextlib.contextmanager
def _filled_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out`, and move what is in it there when the block ends well."""
    # Inside a folder that exists, which may be another disk than the one it is mounted in.
    there = out.is_dir()
    part = (out if there else out.parent) / f".{out.name or 'images'}.tmp"
    try:
        with written(out):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            yield part
            if there:
                for file in part.iterdir():
                    file.replace(out / file.name)
            else:
                part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
