from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from vae_edge.errors import DataError
from vae_edge.training.idx import read_idx

VALUES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx_bytes(values: np.ndarray, type_code: int = 0x08) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, type_code, values.ndim, *values.shape)
    return header + values.tobytes()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_raw_file_is_read(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_idx(write(tmp_path / "a", idx_bytes(VALUES))), VALUES)


def test_a_gzipped_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "images", gzip.compress(idx_bytes(VALUES)))
    np.testing.assert_array_equal(read_idx(path), VALUES)


def test_axes_are_big_endian_and_the_last_runs_fastest(tmp_path: Path) -> None:
    data = bytes.fromhex("00000802 00000002 00000003 010203040506")
    assert read_idx(write(tmp_path / "a", data)).tolist() == [[1, 2, 3], [4, 5, 6]]


# Named, because a gzip file holds the time of its making: test names must not change from one
# process to the next, or the workers of one run collect different tests.
DAMAGED_OR_FOREIGN = {
    "empty": (b"", "not an IDX file.*received an empty file"),
    "three bytes": (b"\x00\x00\x08", "not an IDX file"),
    "zip": (b"PK\x03\x04 a zip file", "not an IDX file.*received 504b0304"),
    "no axes": (b"\x00\x00\x08\x00", "not an IDX file"),
    "floats": (idx_bytes(VALUES, type_code=0x0D), "unsigned bytes.*received type 0x0d"),
    "half a header": (b"\x00\x00\x08\x03\x00\x00\x00\x02", "ends inside its header"),
    "a byte short": (idx_bytes(VALUES)[:-1], "expected 24 values.*received 23.*truncated"),
    "a byte over": (idx_bytes(VALUES) + b"\x00", "expected 24 values.*received more"),
    "2^63 values": (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2), "too many to be true"),
    # Claims 4 GB, and must not allocate them.
    "4 GB claimed": (struct.pack(">BBBB1I", 0, 0, 8, 1, 2**32 - 1) + b"abc", "received 3"),
    "cut gzip": (gzip.compress(idx_bytes(VALUES))[:-9], "gzip data is truncated or damaged"),
    "gzip by its magic only": (b"\x1f\x8bnonsense", "gzip data is truncated or damaged"),
    "short inside gzip": (gzip.compress(idx_bytes(VALUES)[:-5]), "expected 24 values.*received 19"),
}


@pytest.mark.parametrize(
    ("data", "message"), DAMAGED_OR_FOREIGN.values(), ids=DAMAGED_OR_FOREIGN.keys()
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = write(tmp_path / "t10k-images-idx3-ubyte", data)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_damage_inside_gzip_data_is_noticed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    data = bytearray(gzip.compress(idx_bytes(noise)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DataError, match=r"(?i)copy"):
        read_idx(write(tmp_path / "a.gz", bytes(data)))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read.*No such file"):
        read_idx(tmp_path / "absent")
