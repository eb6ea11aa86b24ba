"""The Keras VAE taken apart, and calling its halves as users do.

Host only. Keras and TensorFlow are imported inside the functions, so that this module can be
imported where they are not installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_edge.errors import ModelError
from vae_edge.preprocessing import PLAIN_PICTURES, Preprocessing
from vae_edge.runners.base import Runner, RunnerBase, check_feeds
from vae_edge.terms import COMPONENT_INPUT, COMPONENT_OUTPUTS, Component, FloatArray, TensorSpec

if TYPE_CHECKING:
    from vae_edge.split_options import SplitOptions

__all__ = [
    "KerasCall",
    "KerasVAE",
    "default_name",
    "host_remedy",
    "load_keras_vae",
    "open_keras_runner",
    "shipped_model_path",
    "single",
]

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
        image_shape: of one row of the encoder's input: (height, width, channels), or whatever
            shape an array has.
        preprocessing: what the values of its input and output mean.
        notes: what the user should know of how the model was taken apart, a sentence each.
    """

    name: str
    source_sha256: str
    encoder: Any
    decoder: Any
    latent_dim: int
    image_shape: tuple[int, ...]
    preprocessing: Preprocessing = PLAIN_PICTURES
    notes: tuple[str, ...] = ()

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
            return lambda z: {"reconstruction": single(model(z, training=False))}

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


def load_keras_vae(path: str | Path | None, options: SplitOptions | None = None) -> KerasVAE:
    """Load a `.keras` file in Keras's safe mode and take the VAE in it apart.

    Short for `vae_edge.splitting.load`, which says what is taken.

    Args:
        path: of the file; None where `options` names one for each half.
        options: what cannot be told from the model itself.

    Raises:
        ModelError: not a file that can be loaded safely, or not a VAE that can be split.
        RuntimeMissingError: TensorFlow or Keras is not installed.
    """
    from vae_edge.splitting import load

    return load(path) if options is None else load(path, options)


def host_remedy() -> str:
    """Give the command that adds the host packages to this machine."""
    # Nobody needs them but whoever meets the error.
    from vae_edge.installing import host_command
    from vae_edge.machine import this_machine

    return host_command(this_machine(imports=False))


def default_name(path: Path) -> str:
    """Give a model a name from its path: `runs/digits/model.keras` is called digits."""
    # Every run has a `model.keras`, so its directory says more.
    stem = path.absolute().parent.name if path.stem == "model" else path.stem
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-")
    return kept or "vae"


def single(output: Any) -> Any:
    """A decoder gives one tensor, bare or as the only entry of a dict or list."""
    if isinstance(output, Mapping):
        (output,) = output.values()
    elif isinstance(output, (list, tuple)):
        (output,) = output
    return output


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
            return result if component is Component.ENCODER else {"reconstruction": single(result)}

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
