"""The IDX file format of MNIST, read strictly.

Layout (Y. LeCun, the MNIST database): two zero bytes, one byte for the type, one for the number of
axes, then each axis as a big-endian uint32, then the values, last axis fastest.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from vae_edge.errors import DataError

__all__ = ["read_idx"]

_UNSIGNED_BYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
# MNIST has 47 million values; a header that claims far more is not worth allocating for.
_MOST_VALUES = 2**32


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, gzipped or not (told by its first bytes).

    Returns:
        uint8 array of the shape in the header.

    Raises:
        DataError: the file cannot be read, is not IDX, holds another type, or is longer or
            shorter than its header says.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not zipped:
                return _read(raw, path)
            with gzip.GzipFile(fileobj=raw) as unzipped:
                return _read(cast("IO[bytes]", unzipped), path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: the gzip data is truncated or damaged ({error}). Copy or download the file "
            "again."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}). Check the path and its "
            "permissions."
        ) from error


def _read(stream: IO[bytes], path: Path) -> npt.NDArray[np.uint8]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[3] == 0:
        raise DataError(
            f"{path}: not an IDX file: expected it to begin with two zero bytes, a type and a "
            f"number of axes; received {magic.hex() or 'an empty file'}. Give the file as "
            "published, e.g. train-images-idx3-ubyte.gz."
        )
    if magic[2] != _UNSIGNED_BYTE:
        raise DataError(
            f"{path}: expected an IDX file of unsigned bytes (type 0x08); received type "
            f"0x{magic[2]:02x}. Convert the values to uint8."
        )
    axes = magic[3]
    header = stream.read(4 * axes)
    if len(header) < 4 * axes:
        raise DataError(f"{path}: ends inside its header. Copy or download the file again.")
    shape = struct.unpack(f">{axes}I", header)
    count = math.prod(shape)
    if count > _MOST_VALUES:
        raise DataError(
            f"{path}: its header claims {count} values (shape {shape}), too many to be true. Copy "
            "or download the file again."
        )
    # One more than expected, to notice a file that goes on.
    values = _read_up_to(stream, count + 1)
    if len(values) != count:
        received = "more" if len(values) > count else str(len(values))
        raise DataError(
            f"{path}: expected {count} values for shape {shape}; received {received}. The file is "
            "truncated or damaged: copy or download it again."
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read_up_to(stream: IO[bytes], count: int) -> bytes:
    """Read in pieces, so that a false header costs no more memory than the file really fills."""
    pieces, left = [], count
    while left > 0 and (piece := stream.read(min(left, 2**24))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
