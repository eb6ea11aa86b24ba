"""Loading a `.keras` file safely.

Keras and TensorFlow are imported inside the functions, so that this module can be imported where
they are not installed.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vae_edge.bundle import sha256_of
from vae_edge.errors import ModelError, RuntimeMissingError
from vae_edge.keras_vae import HOST_REMEDY, KerasVAE, default_name, single
from vae_edge.terms import COMPONENT_OUTPUTS, Component

__all__ = ["load"]


def load(path: str | Path) -> KerasVAE:
    """Load a `.keras` file in Keras's safe mode and take the VAE in it apart.

    Args:
        path: a file that `vae-edge train` wrote, or any Keras 3 model with `encoder` and `decoder`
            as attributes or as nested layers, whose encoder gives `z_mean` and `z_log_var` by name.

    Raises:
        ModelError: no such file, not a Keras 3 file, damaged, needs code that is not available or
            not safe, or not a VAE that can be split.
        RuntimeMissingError: TensorFlow or Keras is not installed.
    """
    path = Path(path)
    _check_file(path)
    keras = _import_keras()
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the damaged part happens to cause
        raise ModelError(
            f"{path}: Keras {keras.__version__} cannot load it: {_short(error)} Either the file is "
            "damaged, or it needs a custom layer that is not registered, or code that safe mode "
            "refuses (a Lambda layer): save it again with registered layers only."
        ) from error
    return _split(model, name=default_name(path), path=path)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ModelError(
            f"{path}: no such model. Train one with `vae-edge train`, or leave MODEL out to export "
            "the one that ships with vae-edge."
        )
    if path.is_dir() or path.suffix != ".keras":
        raise ModelError(
            f"{path}: expected a .keras file (Keras 3); HDF5, SavedModel and pickles are not "
            "loaded, because they can run code. Save the model again: model.save('model.keras')."
        )
    try:
        content_is_zip = zipfile.is_zipfile(path)
        with path.open("rb"):
            pass
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}.") from error
    if not content_is_zip:
        raise ModelError(
            f"{path}: is damaged or not a .keras file (a zip archive was expected). Save or copy "
            "it again."
        )


def _import_keras() -> Any:
    try:
        importlib.import_module("tensorflow")
        keras = importlib.import_module("keras")
        # Registers the VAE of `vae-edge train`, so that its files load.
        importlib.import_module("vae_edge.training.model")
    except ImportError as error:
        raise RuntimeMissingError(
            f"Loading a Keras model needs the host packages, and {error.name} cannot be imported: "
            f"{HOST_REMEDY}."
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise RuntimeMissingError(
            f"Keras runs on the backend '{keras.backend.backend()}'; vae-edge converts through "
            "TensorFlow. Set KERAS_BACKEND=tensorflow."
        )
    return keras


def _split(model: Any, *, name: str, path: Path) -> KerasVAE:
    encoder, decoder = _half(model, "encoder"), _half(model, "decoder")
    if encoder is None or decoder is None:
        layers = ", ".join(layer.name for layer in getattr(model, "layers", ())[:12])
        raise ModelError(
            f"{path}: holds no VAE that can be split: expected a model with an `encoder` and a "
            f"`decoder` (attributes or nested layers); it is a {type(model).__name__} with the "
            f"layers {layers or 'none'}. Name the halves so and save it again."
        )
    image_shape = _row_shape(encoder, "encoder", path)
    outputs = encoder.output
    wanted = COMPONENT_OUTPUTS[Component.ENCODER]
    if not isinstance(outputs, Mapping) or any(key not in outputs for key in wanted):
        given = ", ".join(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise ModelError(
            f"{path}: the encoder must give a dict with z_mean and z_log_var; it gives {given}. "
            "Build it as keras.Model(image, {'z_mean': ..., 'z_log_var': ...})."
        )
    latent_dim = int(outputs["z_mean"].shape[-1])
    latent_shape = _row_shape(decoder, "decoder", path)
    if latent_shape != (latent_dim,) or tuple(outputs["z_log_var"].shape[1:]) != latent_shape:
        raise ModelError(
            f"{path}: the halves do not fit: z_mean has {latent_dim} values, z_log_var "
            f"{tuple(outputs['z_log_var'].shape[1:])}, the decoder takes {latent_shape}."
        )
    shape = tuple(single(decoder.output).shape[1:])
    if shape != image_shape:
        raise ModelError(
            f"{path}: the encoder takes images of {image_shape}, the decoder gives {shape}. "
            "They must be the same."
        )
    return KerasVAE(
        name=name,
        source_sha256=sha256_of(path),
        encoder=encoder,
        decoder=decoder,
        latent_dim=latent_dim,
        image_shape=image_shape,
    )


def _half(model: Any, name: str) -> Any:
    half = getattr(model, name, None)
    if half is None:
        half = next((layer for layer in getattr(model, "layers", ()) if layer.name == name), None)
    return half if hasattr(half, "output") and hasattr(half, "input_shape") else None


def _row_shape(half: Any, name: str, path: Path) -> tuple[int, ...]:
    shape = half.input_shape
    if isinstance(shape, Mapping):
        shape = next(iter(shape.values())) if len(shape) == 1 else None
    elif isinstance(shape, list):
        shape = shape[0] if len(shape) == 1 else None
    if shape is None or any(n is None for n in shape[1:]):
        raise ModelError(
            f"{path}: the {name} must have one input of a fixed shape; it has {half.input_shape}."
        )
    return tuple(int(n) for n in shape[1:])


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:297] + "..."
    return text if text.endswith(".") else f"{text}."
