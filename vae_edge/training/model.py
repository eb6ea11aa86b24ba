"""The convolutional VAE and its loss.

Formulas: D. P. Kingma and M. Welling, Auto-Encoding Variational Bayes, 2013 (arXiv:1312.6114): the
KL term in appendix B, the Bernoulli decoder's reconstruction term in appendix C.1.

Importing this module is all that `keras.saving.load_model` needs to load a trained model.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from vae_edge.codec import decode, encode
from vae_edge.training.settings import Architecture

__all__ = ["VAE", "kl_divergence", "reconstruction_loss"]

_KERNEL = 3


def reconstruction_loss(logits: Any, images: Any) -> Any:
    """Binary cross-entropy of Bernoulli pixels, summed over each image, in nats.

    `max(l, 0) - l*x + log(1 + exp(-|l|))` equals `-x*log(s) - (1-x)*log(1-s)` with
    `s = sigmoid(l)`, and stays finite where the sigmoid rounds to 0 or 1.

    Args:
        logits: float32 (batch, height, width, channels), the decoder before its sigmoid.
        images: same shape, values in [0, 1].

    Returns:
        float32 (batch,).
    """
    per_pixel = ops.maximum(logits, 0.0) - logits * images + ops.softplus(-ops.abs(logits))
    return ops.sum(per_pixel, axis=(1, 2, 3))


def kl_divergence(z_mean: Any, z_log_var: Any) -> Any:
    """KL(N(z_mean, exp(z_log_var)) to N(0, I)) of each image, in nats.

    `0.5 * sum(exp(z_log_var) - 1 - z_log_var + z_mean^2)`; expm1 keeps the small values near the
    prior exact.

    Args:
        z_mean: float32 (batch, latent_dim).
        z_log_var: same shape.

    Returns:
        float32 (batch,), never below 0 but for rounding.
    """
    terms = ops.expm1(z_log_var) - z_log_var + ops.square(z_mean)
    return 0.5 * ops.sum(terms, axis=1)


class _Glorot:
    """A differently seeded initializer at each call: weights depend on `seed` and nothing else."""

    def __init__(self, seed: int) -> None:
        self._next = seed * 1000

    def __call__(self) -> keras.initializers.Initializer:
        self._next += 1
        return keras.initializers.GlorotUniform(seed=self._next)


def _encoder(shape: Architecture, glorot: _Glorot) -> keras.Model:
    image = keras.Input(shape.image_shape, name="image")
    x = image
    for i, filters in enumerate(shape.encoder_filters):
        x = layers.Conv2D(
            filters,
            _KERNEL,
            strides=2,
            padding="same",
            activation="relu",
            kernel_initializer=glorot(),
            name=f"encoder_conv_{i}",
        )(x)
    x = layers.Flatten(name="encoder_flatten")(x)
    for i, units in enumerate(shape.hidden_units):
        x = layers.Dense(
            units, activation="relu", kernel_initializer=glorot(), name=f"encoder_dense_{i}"
        )(x)
    heads = {
        name: layers.Dense(shape.latent_dim, kernel_initializer=glorot(), name=name)(x)
        for name in ("z_mean", "z_log_var")
    }
    return keras.Model(image, heads, name="encoder")


def _decoder(shape: Architecture, glorot: _Glorot) -> keras.Model:
    factor = 2 ** len(shape.decoder_filters)
    height, width, channels = shape.image_shape
    grid = (height // factor, width // factor, shape.decoder_filters[0])
    z = keras.Input((shape.latent_dim,), name="z")
    x = z
    for i, units in enumerate((*reversed(shape.hidden_units), grid[0] * grid[1] * grid[2])):
        x = layers.Dense(
            units, activation="relu", kernel_initializer=glorot(), name=f"decoder_dense_{i}"
        )(x)
    x = layers.Reshape(grid, name="decoder_reshape")(x)
    for i, filters in enumerate(shape.decoder_filters):
        x = layers.Conv2DTranspose(
            filters,
            _KERNEL,
            strides=2,
            padding="same",
            activation="relu",
            kernel_initializer=glorot(),
            name=f"decoder_conv_{i}",
        )(x)
    # The sigmoid is a layer of its own so that the loss can be computed from the logits.
    x = layers.Conv2DTranspose(
        channels, _KERNEL, padding="same", kernel_initializer=glorot(), name="logits"
    )(x)
    return keras.Model(z, layers.Activation("sigmoid", name="reconstruction")(x), name="decoder")


@keras.saving.register_keras_serializable(package="vae_edge")
class VAE(keras.Model):  # type: ignore[misc]  # keras has no types
    """Convolutional variational autoencoder.

    Calling it samples `z` and returns a dict of `z_mean`, `z_log_var`, `z`, `logits` and
    `reconstruction`. Compile it with an optimizer alone: the loss is its own.

    Attributes:
        architecture: what it was built from.
        beta: weight of the KL term in the loss.
        encoder: functional model, `image` -> {`z_mean`, `z_log_var`}; nothing random in it.
        decoder: functional model, `z` -> `reconstruction`, values in [0, 1].
        logits: the decoder without its sigmoid; all its layers are the decoder's.
        seed_generator: state of the sampling noise.
    """

    def __init__(
        self,
        architecture: Architecture | None = None,
        *,
        beta: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.architecture = architecture or Architecture()
        self.beta = beta
        self.seed = seed
        glorot = _Glorot(seed)
        self.encoder = _encoder(self.architecture, glorot)
        self.decoder = _decoder(self.architecture, glorot)
        logits = self.decoder.get_layer("logits").output
        self.logits = keras.Model(self.decoder.input, logits, name="logits")
        for part in (self.encoder, self.logits):
            # Measured on a two-core CPU: `predict` takes twice as long when XLA compiles it.
            part.jit_compile = False
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._means = tuple(
            keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")
        )
        self.built = True

    def call(self, images: Any) -> dict[str, Any]:
        """Encode, sample `z = z_mean + exp(z_log_var / 2) * epsilon`, decode."""
        posterior = self.encoder(images)
        z_mean, z_log_var = posterior["z_mean"], posterior["z_log_var"]
        epsilon = keras.random.normal(ops.shape(z_mean), seed=self.seed_generator)
        z = z_mean + ops.exp(0.5 * z_log_var) * epsilon
        logits = self.logits(z)
        return {
            "z_mean": z_mean,
            "z_log_var": z_log_var,
            "z": z,
            "logits": logits,
            "reconstruction": ops.sigmoid(logits),
        }

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Running means of loss, reconstruction and KL, in nats per image."""
        return list(self._means)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,  # noqa: ARG002  Keras passes it; a VAE has no target but its input
        y_pred: Any = None,
        sample_weight: Any = None,  # noqa: ARG002
        training: bool = True,  # noqa: ARG002
    ) -> Any:
        """Reconstruction + beta * KL, each averaged over the batch."""
        reconstruction = ops.mean(reconstruction_loss(y_pred["logits"], x))
        kl = ops.mean(kl_divergence(y_pred["z_mean"], y_pred["z_log_var"]))
        loss = reconstruction + self.beta * kl
        count = ops.shape(x)[0]
        for tracker, value in zip(self._means, (loss, reconstruction, kl), strict=True):
            tracker.update_state(value, sample_weight=count)
        return loss

    def get_config(self) -> dict[str, Any]:
        """Plain JSON values from which `from_config` builds the same model."""
        config = {"architecture": encode(self.architecture), "beta": self.beta, "seed": self.seed}
        return {"name": self.name, **config}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> VAE:  # noqa: ARG003
        """Build the model that `get_config` described."""
        architecture = decode(Architecture, config["architecture"], "architecture")
        return cls(**{**config, "architecture": architecture})
