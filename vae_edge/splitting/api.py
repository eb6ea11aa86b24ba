"""Taking a Keras VAE apart, whatever it was built like."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vae_edge.bundle import sha256_of
from vae_edge.errors import ModelError, UsageError
from vae_edge.keras_vae import KerasVAE, default_name
from vae_edge.split_options import SplitOptions
from vae_edge.splitting.archive import read_archive
from vae_edge.splitting.custom_code import import_modules
from vae_edge.splitting.finding import split_pair, split_whole
from vae_edge.splitting.halves import Halves, check_halves
from vae_edge.splitting.loading import import_keras, load_model

__all__ = ["load", "name_of", "source_sha256", "split"]

_PLAIN = SplitOptions()


def load(path: str | Path | None, options: SplitOptions = _PLAIN) -> KerasVAE:
    """Load a VAE from one `.keras` file, or its halves from two, and take it apart.

    Args:
        path: of the whole model; None where `options` names the halves.
        options: what cannot be told from the model itself.

    Raises:
        ModelError: a file that cannot be loaded safely, or a model that cannot be split; says why.
        UsageError: a whole model and halves beside it, or neither.
        RuntimeMissingError: TensorFlow or Keras is not installed.
    """
    files = _files(path, options)
    for file in files:  # what is no model at all is refused before TensorFlow is even imported
        read_archive(file)
    import_keras()
    modules = import_modules(options.imports)
    loaded = [load_model(file, modules) for file in files]
    notes = tuple(note for each in loaded for note in each.notes)
    where = " and ".join(map(str, files))
    if len(files) == 1:
        halves = split_whole(loaded[0].model, options, where)
    else:
        halves = split_pair(loaded[0].model, loaded[1].model, options, where)
    name, sha256 = name_of(path, options), source_sha256(path, options)
    return _taken_apart(halves, name, sha256, where, notes)


def split(
    model: Any, decoder: Any = None, *, name: str = "vae", options: SplitOptions = _PLAIN
) -> KerasVAE:
    """Take a Keras VAE apart that is in memory.

    Args:
        model: the whole VAE, or its encoder where `decoder` is given. Any Keras model, functional
            or not.
        decoder: the decoder, or None.
        name: what to call it.
        options: where to cut, and what the spread is; its files are not read.

    Raises:
        ModelError: it cannot be split; says why.
        RuntimeMissingError: TensorFlow or Keras is not installed.
    """
    keras = import_keras()
    for each in (model, *(() if decoder is None else (decoder,))):
        if not isinstance(each, keras.layers.Layer):
            raise ModelError(
                f"expected a Keras 3 model; received {type(each).__module__}."
                f"{type(each).__name__}. Give the model itself, not a file or a function of it."
            )
    where = f"the model '{name}'"
    if decoder is None:
        halves = split_whole(model, options, where)
    else:
        halves = split_pair(model, decoder, options, where)
    return _taken_apart(halves, name, _weights_sha256(halves), where)


def name_of(path: str | Path | None, options: SplitOptions = _PLAIN) -> str:
    """Name a model after its file, or after the directory of its halves.

    Raises:
        UsageError: a whole model and halves beside it, or neither.
    """
    files = _files(path, options)
    return default_name(files[0] if len(files) == 1 else files[0].with_name("model.keras"))


def source_sha256(path: str | Path | None, options: SplitOptions = _PLAIN) -> str:
    """Give the SHA-256 that stands for a model's file, or for the two files of its halves.

    Raises:
        UsageError: a whole model and halves beside it, or neither.
    """
    digests = [sha256_of(file) for file in _files(path, options)]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _files(path: str | Path | None, options: SplitOptions) -> tuple[Path, ...]:
    if options.encoder is None or options.decoder is None:
        if path is None:
            raise UsageError("no model: give one .keras file, or --encoder and --decoder.")
        return (Path(path),)
    if path is not None:
        raise UsageError(
            f"{path} is a whole model, and --encoder and --decoder name its halves. Give one or "
            "the other."
        )
    return Path(options.encoder), Path(options.decoder)


def _taken_apart(
    halves: Halves, name: str, sha256: str, where: str, notes: tuple[str, ...] = ()
) -> KerasVAE:
    check_halves(halves, where)
    image_shape = tuple(int(n) for n in halves.encoder.inputs[0].shape[1:])
    return KerasVAE(
        name=name,
        source_sha256=sha256,
        encoder=halves.encoder,
        decoder=halves.decoder,
        latent_dim=int(halves.decoder.inputs[0].shape[-1]),
        image_shape=image_shape,
        notes=(*notes, *halves.notes),
    )


def _weights_sha256(halves: Halves) -> str:
    digest = hashlib.sha256()
    for half in (halves.encoder, halves.decoder):
        digest.update(half.to_json().encode() if hasattr(half, "to_json") else b"")
        for weight in half.weights:
            digest.update(weight.numpy().tobytes())
    return digest.hexdigest()
