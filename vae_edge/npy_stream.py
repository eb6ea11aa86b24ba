"""numpy's files read and written row by row, so that they may be larger than memory."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vae_edge.errors import DataError
from vae_edge.files import replaced_file
from vae_edge.terms import FloatArray

__all__ = ["STDIN", "NpyStream", "open_npy", "write_npy", "write_npy_part", "written"]

STDIN = Path("-")
_ZIP_MAGIC = b"PK\x03\x04"


class NpyStream:
    """An array in a file, of which only the rows asked for are in memory.

    Attributes:
        name: file and entry, for messages.
        shape: of the whole array.
        dtype: of its values, never Python objects.
    """

    def __init__(self, file: IO[bytes], name: str, size: int | None) -> None:
        """Read the header.

        Args:
            file: at the first byte of the array.
            name: for messages.
            size: bytes of the array with its header, None where unknown.

        Raises:
            DataError: damaged, cut off, or of Python objects.
        """
        self.name, self._file = name, file
        with _translated(name):
            self.shape, self._by_columns, self.dtype, read = _header(file)
            count = math.prod(self.shape)
            if size is not None and read + count * self.dtype.itemsize > size:
                raise ValueError("cut off")

    def chunks(self, rows: int) -> Iterator[npt.NDArray[Any]]:
        """Give the array in pieces of `rows` rows, once; the last one is what is left.

        An array in Fortran's order, whose rows are scattered over the file, is read as a whole.

        Raises:
            DataError: the file is damaged or ends early.
        """
        if self._by_columns:
            whole = self._read(self.shape[::-1]).transpose()
            yield from (whole[i : i + rows] for i in range(0, len(whole), rows))
            return
        for start in range(0, self.shape[0], rows):
            yield self._read((min(rows, self.shape[0] - start), *self.shape[1:]))

    def whole(self) -> npt.NDArray[Any]:
        """Give the whole array.

        Raises:
            DataError: as `chunks`.
        """
        if self._by_columns:
            return self._read(self.shape[::-1]).transpose()
        return self._read(self.shape)

    def _read(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        with _translated(self.name):
            content = self._file.read(math.prod(shape) * self.dtype.itemsize)
            return np.frombuffer(content, self.dtype, count=math.prod(shape)).reshape(shape)


@contextlib.contextmanager
def open_npy(path: Path, keys: tuple[str, ...] = ()) -> Iterator[NpyStream]:
    """Open a `.npy`, an entry of an `.npz`, or `-` for a `.npy` on stdin.

    Args:
        path: which.
        keys: entries of an `.npz` to look for, the first that is there is taken; a single entry is
            taken whatever its name.

    Raises:
        DataError: cannot be read, damaged, or none of these entries.
    """
    with contextlib.ExitStack() as stack:
        if path == STDIN:
            if sys.stdin.isatty():
                raise DataError("-: expected a .npy array on stdin; it is a terminal. Pipe one in.")
            yield NpyStream(sys.stdin.buffer, "stdin", None)
            return
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
        if path.suffix.lower() == ".npz":
            yield _entry(stack, file, path, keys)
            return
        if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC and zipfile.is_zipfile(file):
            raise DataError(f"{path}: holds several arrays; expected one .npy array.")
        file.seek(0)
        yield NpyStream(file, str(path), os.fstat(file.fileno()).st_size)


def _entry(
    stack: contextlib.ExitStack, file: IO[bytes], path: Path, keys: tuple[str, ...]
) -> NpyStream:
    with _translated(str(path), "an .npz archive", "numpy.savez"):
        archive = stack.enter_context(zipfile.ZipFile(file))
        held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = [key for key in keys if key in held] or (list(held) if len(held) == 1 else [])
        if not wanted:
            raise DataError(
                f"{path}: expected an entry {' or '.join(keys)}; it holds "
                f"{', '.join(sorted(held)) or 'none'}. Rename the one that is meant."
            )
        info = held[wanted[0]]
        entry = stack.enter_context(archive.open(info))
    return NpyStream(entry, f"{path}, entry '{wanted[0]}'", info.file_size)


def write_npy(path: Path, shape: tuple[int, ...], chunks: Iterable[FloatArray]) -> None:
    """Write a float32 array as its rows come; `path` is either whole or not there.

    Args:
        path: whose folder is made where it is missing.
        shape: of the whole array.
        chunks: (count, ...) each, together of that shape.

    Raises:
        DataError: it cannot be written.
    """
    with written(path), replaced_file(path) as part, write_npy_part(part, shape) as append:
        for chunk in chunks:
            append(chunk)


@contextlib.contextmanager
def write_npy_part(path: Path, shape: tuple[int, ...]) -> Iterator[Callable[[FloatArray], None]]:
    """Give a function that appends float32 rows to a new `.npy` of a shape known beforehand.

    Written and not memory-mapped: on a full disk a write is an error, and a mapped page is the end
    of the process.
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)

        def append(rows: FloatArray) -> None:
            file.write(np.ascontiguousarray(rows, "<f4").data)

        yield append


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Make the folder of `path`, and say which file it was that could not be written.

    Raises:
        DataError: for an OSError inside.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}). Check that its folder is "
            "writable and that the disk is not full."
        ) from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether by columns, dtype, and bytes read. ValueError where it is not plain."""
    counted = _Counted(file)
    version = np.lib.format.read_magic(counted)
    if version == (1, 0):
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(counted)
    elif version == (2, 0):
        shape, by_columns, dtype = np.lib.format.read_array_header_2_0(counted)
    else:
        raise ValueError("names of structured types")
    if dtype.hasobject or not dtype.itemsize or any(length < 0 for length in shape):
        raise ValueError("no plain numbers")
    return shape, by_columns, dtype, counted.count


class _Counted:
    """A file that knows how much was read; stdin cannot tell its position."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.count = file, 0

    def read(self, size: int = -1, /) -> bytes:
        content = self._file.read(size)
        self.count += len(content)
        return content


@contextlib.contextmanager
def _translated(
    name: str, kind: str = "a .npy array", writer: str = "numpy.save"
) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}.") from error
    # Encrypted entries are a RuntimeError, unknown compression is a NotImplementedError.
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        # numpy's own words recommend to unpickle the file.
        raise DataError(
            f"{name}: cannot be read as {kind}: it is damaged or holds no plain numbers. "
            f"Write it with {writer}."
        ) from error
