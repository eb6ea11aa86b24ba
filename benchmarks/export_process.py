"""Exporting as a user does, in a process of its own: what it holds is gone before measuring."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from vae_edge.errors import ExportError

__all__ = ["export_in_process"]

# The bundle holds what could be converted; the rest is listed.
_PUBLISHED = (0, 1)


def export_in_process(arguments: Sequence[str]) -> None:
    """Run `vae-edge export` without its benchmark, in both formats, failing artifacts included.

    Args:
        arguments: of the command, besides those.

    Raises:
        ExportError: no bundle was published; with the command's own last line.
    """
    command = [sys.executable, "-m", "vae_edge", "export", "--format=tflite", "--format=onnx"]
    done = subprocess.run(  # noqa: S603  our own interpreter and options
        [*command, "--no-benchmark", "--replace", "--keep-failing", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode not in _PUBLISHED:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ExportError(f"vae-edge export failed: {reason[0].removeprefix('error: ')}")
