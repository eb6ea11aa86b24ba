"""A file of a model that was taken apart, which needs no options to be loaded again."""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vae_edge.keras_vae import KerasVAE
from vae_edge.split_options import SplitOptions
from vae_edge.splitting.flat_graph import is_own

__all__ = ["file_for_workers"]


@contextlib.contextmanager
def file_for_workers(
    vae: KerasVAE, path: Path | None, options: SplitOptions
) -> Iterator[Path | None]:
    """Give a file from which another process loads the same halves, while the context lasts.

    The model's own file where that is loaded without options; else one of the halves as they were
    taken apart. None where layers of the user's own are left in them, which only `--import` knows.
    """
    if path is not None and options == SplitOptions():
        yield path
    elif any(is_own(layer) for half in (vae.encoder, vae.decoder) for layer in _layers(half)):
        yield None
    else:
        keras: Any = importlib.import_module("keras")
        with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
            image = keras.Input(vae.image_shape)
            whole = keras.Model(image, vae.decoder(vae.encoder(image)["z_mean"]))
            file = Path(directory) / "halves.keras"
            whole.save(file)
            yield file


def _layers(half: Any) -> Iterator[Any]:
    yield from half._flatten_layers(include_self=False, recursive=True)
