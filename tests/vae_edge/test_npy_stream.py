from __future__ import annotations

import io
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from vae_edge.errors import DataError
from vae_edge.images import open_images
from vae_edge.npy_stream import open_npy, write_npy

ROWS = np.arange(70, dtype=np.float32).reshape(35, 2)


@pytest.fixture
def stdin(monkeypatch):
    def give(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def bytes_of(array, save=np.save):
    file = io.BytesIO()
    save(file, array)
    return file.getvalue()


def pieces(path, rows=16, keys=("z",)):
    with open_npy(Path(path), keys) as stream:
        return list(stream.chunks(rows))


@pytest.mark.parametrize("array", [ROWS, np.asfortranarray(ROWS), ROWS.astype(">f8")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, np.save])
def test_rows_come_in_pieces_from_every_kind_of_file(tmp_path, array, save):
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, array) if save is np.save else save(path, other=ROWS[:1], z=array)

    chunks = pieces(path)

    assert [len(chunk) for chunk in chunks] == [16, 16, 3]
    np.testing.assert_array_equal(np.concatenate(chunks), ROWS)


def test_stdin_is_read(stdin):
    stdin(bytes_of(ROWS))

    np.testing.assert_array_equal(np.concatenate(pieces("-")), ROWS)


def test_single_entry_is_taken_whatever_its_name(tmp_path):
    np.savez(tmp_path / "a.npz", whatever=ROWS)

    np.testing.assert_array_equal(np.concatenate(pieces(tmp_path / "a.npz")), ROWS)


def test_first_of_the_keys_that_is_there_is_taken(tmp_path):
    np.savez(tmp_path / "a.npz", z_mean=ROWS, z=ROWS + 1)

    chunks = pieces(tmp_path / "a.npz", keys=("z", "z_mean"))

    np.testing.assert_array_equal(np.concatenate(chunks), ROWS + 1)


def test_missing_entry_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=ROWS, b=ROWS)

    with pytest.raises(DataError, match=r"expected an entry z or z_mean; it holds a, b\."):
        pieces(tmp_path / "a.npz", keys=("z", "z_mean"))


@pytest.mark.parametrize("cut", [0, 5, 100, 130, 400])
def test_what_is_cut_off_is_refused(tmp_path, stdin, cut):
    content = bytes_of(ROWS)[:cut]
    (tmp_path / "a.npy").write_bytes(content)
    stdin(content)

    for path in (tmp_path / "a.npy", "-"):
        with pytest.raises(DataError, match="damaged or holds no plain numbers"):
            pieces(path)


def test_header_that_promises_more_than_the_file_is_refused_at_once(tmp_path):
    content = bytes_of(ROWS).replace(b"(35, 2), }  ", b"(999999, 2)}")
    (tmp_path / "a.npy").write_bytes(content)

    with pytest.raises(DataError, match="damaged"), open_npy(tmp_path / "a.npy"):
        pytest.fail("it was opened")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"text"])
def test_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)

    with pytest.raises(DataError, match=r"a\.npz: cannot be read as an \.npz archive"):
        pieces(tmp_path / "a.npz")


def test_entry_with_a_wrong_checksum_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, z=ROWS)
    content = bytearray(path.read_bytes())
    content[content.index(ROWS.tobytes()) + 9] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataError, match="damaged"):
        pieces(path)


def test_python_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", z=np.array([{}], object))

    with pytest.raises(DataError, match="no plain numbers"):
        pieces(tmp_path / "a.npz")


def test_written_file_is_that_of_numpy(tmp_path):
    path = tmp_path / "sub" / "a.npy"

    write_npy(path, ROWS.shape, iter([ROWS[:20], ROWS[20:]]))

    assert path.read_bytes() == bytes_of(ROWS)


def test_nothing_is_left_of_a_file_whose_rows_fail(tmp_path):
    def rows():
        yield ROWS[:20]
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_npy(tmp_path / "a.npy", ROWS.shape, rows())

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("save", [np.save, np.savez_compressed])
def test_memory_does_not_grow_with_the_file(tmp_path, save):
    """4 MB of images; a chunk of 32 is 2 kB."""
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, np.zeros((60_000, 4, 4, 1), np.float32))
    tracemalloc.start()
    try:
        with open_images(path, (4, 4, 1)) as source:
            seen = sum(len(chunk) for chunk in source.chunks())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert seen == 60_000
    assert peak < 400_000
