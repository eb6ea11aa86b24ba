from __future__ import annotations

import json
import os
from dataclasses import dataclass

import pytest

from vae_edge.files import replaced_directory, replaced_file, write_json


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def half_write(path, name):
    with replaced_directory(path) as part:
        (part / name).write_text("half")
        raise ZeroDivisionError


def test_replaced_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "picture.png"

    with replaced_file(path) as part:
        part.write_bytes(b"new")
        assert part.suffix == ".png"
        assert not path.exists()

    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["picture.png"]


def test_replaced_file_keeps_the_old_one_when_the_block_fails(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def write():
        with replaced_file(path) as part:
            part.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["picture.png"]


def test_replaced_directory_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "run"

    with replaced_directory(path) as part:
        (part / "file").write_text("new")
        assert not path.exists()

    assert (path / "file").read_text() == "new"
    assert names(tmp_path) == ["run"]


def test_replaced_directory_does_not_appear_when_the_block_fails(tmp_path):
    path = tmp_path / "run"

    with pytest.raises(ZeroDivisionError):
        half_write(path, "file")

    assert not path.exists()


def test_replaced_directory_starts_empty_after_a_crash(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        half_write(path, "stale")

    with replaced_directory(path) as part:
        (part / "fresh").write_text("new")

    assert names(path) == ["fresh"]


def test_write_json_writes_a_dataclass_readably(tmp_path):
    @dataclass
    class Point:
        x: int
        where: tuple[str, ...]

    write_json(tmp_path / "point.json", Point(1, ("a", "b")))

    text = (tmp_path / "point.json").read_text()
    assert json.loads(text) == {"x": 1, "where": ["a", "b"]}
    assert text.startswith('{\n  "x": 1,\n')
    assert text.endswith("}\n")


@pytest.mark.parametrize("named", [None, "part", "other"])
def test_error_of_replaced_file_names_the_file_and_not_its_stand_in(tmp_path, named):
    path = tmp_path / "picture.png"

    def write():
        with replaced_file(path) as part:
            given = {None: None, "part": str(part), "other": "source.png"}[named]
            raise OSError(28, "No space left on device", given)

    with pytest.raises(OSError, match="No space left") as caught:
        write()

    assert caught.value.filename == ("source.png" if named == "other" else str(path))
    assert names(tmp_path) == []


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    """As /dev/null and /dev/stdout must: root could replace even those."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Opened for both, so that neither end waits for the other.
    end = os.open(pipe, os.O_RDWR)
    try:
        with replaced_file(pipe) as part:
            part.write_text("new")

        assert os.read(end, 100) == b"new"
    finally:
        os.close(end)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
