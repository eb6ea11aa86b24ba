"""Options that several commands share, declared once so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["BundlePath", "DataDir", "Json", "Threads", "Verbose"]

BundlePath = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Bundle directory that `vae-edge export` wrote.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="VAE_EDGE_DATA_DIR",
        help="Directory that holds the data set's files (MNIST: the four IDX files, gzipped or not, "
        "or mnist.npz).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads each runtime may use.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", help="Show what TensorFlow and the converters print, and tracebacks."),
]
