"""The Keras model: loading it safely, taking it apart, and calling its halves as users do.

Host only. Keras and TensorFlow are imported inside the functions, so that this module can be
imported where they are not installed.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from vae_edge.bundle import sha256_of
from vae_edge.errors import ModelError, RuntimeMissingError
from vae_edge.runners.base import Runner, RunnerBase, check_feeds
from vae_edge.terms import COMPONENT_INPUT, COMPONENT_OUTPUTS, Component, FloatArray, TensorSpec

__all__ = [
    "KerasCall",
    "KerasVAE",
    "default_name",
    "load_keras_vae",
    "open_keras_runner",
    "shipped_model_path",
]

HOST_REMEDY = "pip install 'vae-edge[host]'"
SHIPPED_MODEL_NAME = "mnist-vae"


class KerasCall(str, Enum):
    """The ways users call a Keras model."""

    PREDICT = "predict"
    CALL = "call"
    FUNCTION = "tf.function"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, kw_only=True)
class KerasVAE:
    """A Keras VAE taken apart.

    Attributes:
        name: what to call it; the bundle's default name.
        source_sha256: SHA-256 of the file it came from.
        encoder: Keras model, image -> z_mean and z_log_var.
        decoder: Keras model, z -> reconstruction.
        latent_dim: size of z.
        image_shape: (height, width, channels).
    """

    name: str
    source_sha256: str
    encoder: Any
    decoder: Any
    latent_dim: int
    image_shape: tuple[int, ...]

    def component(self, component: Component) -> Any:
        """Give the Keras model of one half."""
        return self.encoder if component is Component.ENCODER else self.decoder

    def row_shape(self, component: Component) -> tuple[int, ...]:
        """Give the shape of one input row of a half, without the batch."""
        return self.image_shape if component is Component.ENCODER else (self.latent_dim,)

    def function(self, component: Component) -> Callable[[Any], dict[str, Any]]:
        """Give a half as a function of one tensor that returns its outputs by name."""
        model = self.component(component)
        if component is Component.DECODER:
            return lambda z: {"reconstruction": _single(model(z, training=False))}

        def encode(image: Any) -> dict[str, Any]:
            outputs = model(image, training=False)
            return {name: outputs[name] for name in COMPONENT_OUTPUTS[component]}

        return encode


def shipped_model_path() -> Path:
    """Give the path of the MNIST VAE that ships in the package.

    Raises:
        ModelError: the installation lacks it.
    """
    path = Path(str(files("vae_edge.assets") / f"{SHIPPED_MODEL_NAME}.keras"))
    if not path.is_file():
        raise ModelError(
            f"{path}: the model that ships with vae-edge is missing from this installation. "
            "Reinstall it: pip install --force-reinstall vae-edge."
        )
    return path


def load_keras_vae(path: str | Path) -> KerasVAE:
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


def default_name(path: Path) -> str:
    """Give a model a name from its path: `runs/digits/model.keras` is called digits."""
    # Every run has a `model.keras`, so its directory says more.
    stem = path.absolute().parent.name if path.stem == "model" else path.stem
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-")
    return kept or "vae"


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
    shape = tuple(_single(decoder.output).shape[1:])
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


def _single(output: Any) -> Any:
    """A decoder gives one tensor, bare or as the only entry of a dict or list."""
    if isinstance(output, Mapping):
        (output,) = output.values()
    elif isinstance(output, (list, tuple)):
        (output,) = output
    return output


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:297] + "..."
    return text if text.endswith(".") else f"{text}."


def open_keras_runner(
    vae: KerasVAE, component: Component, call: KerasCall = KerasCall.FUNCTION
) -> Runner:
    """Give a half of the Keras model as a runner that accepts any batch.

    Args:
        vae: as `load_keras_vae` gives it.
        component: which half.
        call: how the model is called: `model.predict`, `model(x)`, or a `tf.function`.
    """
    return _KerasRunner(vae, component, call)


class _KerasRunner(RunnerBase):
    def __init__(self, vae: KerasVAE, component: Component, call: KerasCall) -> None:
        keras: Any = importlib.import_module("keras")
        outputs = {
            Component.ENCODER: tuple((name, (vae.latent_dim,)) for name in ("z_mean", "z_log_var")),
            Component.DECODER: (("reconstruction", vae.image_shape),),
        }[component]
        super().__init__(
            name=f"{vae.name} {component} (Keras {call})",
            runtime=f"keras {keras.__version__}",
            inputs=(
                TensorSpec(
                    name=COMPONENT_INPUT[component],
                    shape=(None, *vae.row_shape(component)),
                    dtype="float32",
                ),
            ),
            outputs=tuple(
                TensorSpec(name=name, shape=(None, *shape), dtype="float32")
                for name, shape in outputs
            ),
        )
        self._call = _callable(vae, component, call)

    def run(self, feeds: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one inference."""
        check_feeds(self._name, self._inputs, feeds)
        outputs = self._call(feeds[self._inputs[0].name])
        return {name: np.array(value, np.float32) for name, value in outputs.items()}


def _callable(
    vae: KerasVAE, component: Component, call: KerasCall
) -> Callable[[FloatArray], Mapping[str, Any]]:
    if call is KerasCall.PREDICT:
        model = vae.component(component)

        def predict(rows: FloatArray) -> Mapping[str, Any]:
            result = model.predict(rows, verbose=0)
            return result if component is Component.ENCODER else {"reconstruction": _single(result)}

        return predict
    function = vae.function(component)
    if call is KerasCall.CALL:
        return function
    tf: Any = importlib.import_module("tensorflow")
    name = COMPONENT_INPUT[component]
    shape = (None, *vae.row_shape(component))
    compiled: Callable[[FloatArray], Mapping[str, Any]] = tf.function(
        function, input_signature=[tf.TensorSpec(shape, tf.float32, name=name)]
    )
    return compiled
