"""Files and directories that are either whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vae_edge.codec import encode

__all__ = ["replaced_directory", "replaced_file", "write_json"]


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to, and move it there when the block ends well.

    The suffix stays, because Keras and matplotlib choose the format by it. A crash leaves the old
    file; what was half written is removed, or overwritten by the next attempt. An OSError that
    names no file, as a write to a full disk does, or the one beside, is made to name `path`.

    A device or a pipe, such as /dev/null or /dev/stdout, is given itself: it takes what is written,
    and moving a file over it would destroy it, for everybody where root does so.
    """
    special = path.exists() and not path.is_file() and not path.is_dir()
    part = path if special else path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield part
        if not special:
            _sync(part)
            part.replace(path)
    except OSError as error:
        if error.filename in (None, str(part)):
            error.filename = str(path)
        raise
    finally:
        if not special:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_directory(path: Path) -> Iterator[Path]:
    """Give an empty directory beside `path` to fill, and rename it to `path` when the block ends.

    `path` itself must not exist.
    """
    part = path.with_name(f"{path.name}.tmp")
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    yield part
    for file in part.iterdir():
        _sync(file)
    part.rename(path)


def write_json(path: Path, document: Any) -> None:
    """Write a dataclass tree as JSON, atomically."""
    with replaced_file(path) as part:
        part.write_text(json.dumps(encode(document), indent=2) + "\n", encoding="utf-8")


def _sync(path: Path) -> None:
    """Have the contents on the disk before a name points at them, so that a power cut is safe."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
