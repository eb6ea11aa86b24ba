"""Which runner opens which format. A new runtime is one module here and one line below.

A package of its own adds one by an entry point, see `vae_edge.plugins`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from vae_edge.errors import ArtifactError
from vae_edge.plugins import RUNNERS_GROUP, load_plugin
from vae_edge.runners.base import Runner
from vae_edge.runners.litert import open_tflite
from vae_edge.runners.onnxruntime import open_onnx
from vae_edge.terms import Format

__all__ = ["OPENERS", "open_artifact", "open_artifact_bytes"]

Opener = Callable[[bytes, str, int], Runner]

OPENERS: Mapping[Format, Opener] = MappingProxyType(
    {Format.TFLITE: open_tflite, Format.ONNX: open_onnx}
)


def open_artifact_bytes(content: bytes, format: Format, *, name: str, threads: int = 1) -> Runner:
    """Load an artifact from memory.

    Args:
        content: the file's bytes.
        format: what kind of file it is.
        name: what to call it in messages.
        threads: threads the runtime may use, at least 1.

    Raises:
        ArtifactError: the runtime cannot load it.
        RuntimeMissingError: no runtime for this format is installed.
    """
    if threads < 1:
        raise ArtifactError(f"{name}: threads must be 1 or more; received {threads}.")
    opener = OPENERS.get(format) or load_plugin(RUNNERS_GROUP, str(format))
    runner: Runner = opener(content, name, threads)
    return runner


def open_artifact(path: str | Path, *, threads: int = 1) -> Runner:
    """Load a `.tflite` or `.onnx` file by its path, whether or not it stands in a bundle.

    Raises:
        ArtifactError: no such file, an unknown kind of file, or the runtime cannot load it.
        RuntimeMissingError: no runtime for this format is installed.
    """
    path = Path(path)
    try:
        format = Format(path.suffix.removeprefix("."))
    except ValueError:
        known = ", ".join(f".{member}" for member in Format)
        raise ArtifactError(
            f"{path}: not an artifact; expected a file ending in {known}."
        ) from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}.") from error
    return open_artifact_bytes(content, format, name=path.name, threads=threads)
