"""Small VAEs of many architectures, briefly trained, for tests and for `benchmarks.architectures`.

Random weights give posteriors without shape and outputs without contrast, on which any damage looks
small or any rounding large. A few dozen steps on smooth random data are enough to leave that state.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.keras_vae import KerasVAE
from vae_edge.terms import FloatArray

__all__ = [
    "ZOO",
    "Architecture",
    "Data",
    "build",
    "data_for",
    "smooth_images",
    "smooth_signals",
]

_BATCH = 32
_RATE = 2e-3


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One VAE.

    Attributes:
        shape: of one row of data.
        latent_dim: size of z.
        encoder: from a Keras tensor of rows to what the heads read, or to both heads.
        decoder: from a Keras tensor of z to the reconstruction.
        low: smallest value of the data.
        high: largest.
        steps: of training.
        note: what it is there for.
    """

    shape: tuple[int, ...]
    latent_dim: int
    encoder: Callable[[Any], Any]
    decoder: Callable[[Any], Any]
    low: float = 0.0
    high: float = 1.0
    steps: int = 60
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Rows to calibrate on and others to judge on, as `exporters.representative` takes them."""

    source: str
    train_images: FloatArray
    test_images: FloatArray
    test_labels: npt.NDArray[np.int64] | None = None


def smooth_images(count: int, shape: tuple[int, ...], seed: int) -> FloatArray:
    """Give images of a few soft blobs each, float32 (count, height, width, channels) in [0, 1]."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    y, x = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    images = np.zeros((count, *shape))
    for _ in range(3):
        cy, cx, size = (rng.uniform(a, b, (count, 1, 1)) for a, b in ((0, 1), (0, 1), (0.1, 0.3)))
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * size**2))
        images += blob[..., None] * rng.uniform(0, 1, (count, 1, 1, channels))
    return np.asarray(np.clip(images, 0, 1), np.float32)


def smooth_signals(count: int, shape: tuple[int, ...], seed: int) -> FloatArray:
    """Give windows of two sines each, float32 (count, steps, channels) in [0, 1]."""
    rng = np.random.default_rng(seed)
    steps, channels = shape
    t = np.linspace(0, 1, steps)[None, :, None]
    waves = sum(
        rng.uniform(0.1, 0.25, (count, 1, channels))
        * np.sin(
            2 * np.pi * (rng.integers(1, 5, (count, 1, 1)) * t + rng.uniform(size=(count, 1, 1)))
        )
        for _ in range(2)
    )
    return np.asarray(np.clip(0.5 + waves, 0, 1), np.float32)


def data_for(architecture: Architecture, seed: int = 0, count: int = 768) -> Data:
    """Give data of an architecture's shape and range."""
    draw = smooth_signals if len(architecture.shape) == 2 else smooth_images
    low, span = architecture.low, architecture.high - architecture.low
    rows = np.asarray(low + span * draw(count, architecture.shape, seed), np.float32)
    third = count // 3
    return Data(source="smooth random data", train_images=rows[third:], test_images=rows[:third])


def build(name: str, *, seed: int = 0, steps: int | None = None) -> KerasVAE:
    """Build one of the zoo's models and train it briefly."""
    keras: Any = importlib.import_module("keras")
    keras.utils.set_random_seed(seed)
    architecture = ZOO[name]
    rows = keras.Input(architecture.shape)
    read = architecture.encoder(rows)
    if not isinstance(read, tuple):
        read = tuple(
            keras.layers.Dense(architecture.latent_dim, name=head)(read)
            for head in ("z_mean", "z_log_var")
        )
    encoder = keras.Model(
        rows, dict(zip(("z_mean", "z_log_var"), read, strict=True)), name="encoder"
    )
    z = keras.Input((architecture.latent_dim,))
    decoder = keras.Model(z, architecture.decoder(z), name="decoder")
    data = data_for(architecture, seed)
    _train(
        encoder,
        decoder,
        data.train_images,
        architecture,
        architecture.steps if steps is None else steps,
    )
    return KerasVAE(
        name=name,
        source_sha256=f"{seed:064x}",
        encoder=encoder,
        decoder=decoder,
        latent_dim=architecture.latent_dim,
        image_shape=architecture.shape,
    )


def _train(
    encoder: Any, decoder: Any, rows: FloatArray, architecture: Architecture, steps: int
) -> None:
    """Squared error in shares of the range, and a little of the KL term."""
    tf: Any = importlib.import_module("tensorflow")
    keras: Any = importlib.import_module("keras")
    span = architecture.high - architecture.low
    for layer in encoder._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt(rows)
    optimizer = keras.optimizers.Adam(_RATE)
    variables = encoder.trainable_variables + decoder.trainable_variables
    optimizer.build(variables)

    @tf.function  # type: ignore[untyped-decorator]
    def step(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            posterior = encoder(batch, training=True)
            mean, log_var = posterior["z_mean"], posterior["z_log_var"]
            z = mean + tf.exp(log_var / 2) * tf.random.normal(tf.shape(mean))
            error = tf.square((decoder(z, training=True) - batch) / span)
            kl = tf.exp(log_var) + tf.square(mean) - 1 - log_var
            pixels = float(np.prod(architecture.shape))
            loss = 10 * pixels * tf.reduce_mean(error) + 0.5 * tf.reduce_mean(tf.reduce_sum(kl, 1))
        gradients = tape.gradient(loss, variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 50.0)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    rng = np.random.default_rng(0)
    for _ in range(steps):
        step(tf.constant(rows[rng.integers(0, len(rows), _BATCH)]))


def _layers() -> Any:
    return importlib.import_module("keras").layers


def _ops() -> Any:
    return importlib.import_module("keras").ops


# Dense layers alone


def _dense_encoder(x: Any) -> Any:
    k = _layers()
    return k.Dense(64, "relu")(k.Flatten()(x))


def _dense_decoder(shape: tuple[int, ...]) -> Callable[[Any], Any]:
    def decode(z: Any) -> Any:
        k = _layers()
        y = k.Dense(int(np.prod(shape)), "sigmoid")(k.Dense(64, "relu")(z))
        return k.Reshape(shape)(y)

    return decode


# Keras's own example


def _example_encoder(x: Any) -> Any:
    k = _layers()
    x = k.Conv2D(32, 3, strides=2, padding="same", activation="relu")(x)
    x = k.Conv2D(64, 3, strides=2, padding="same", activation="relu")(x)
    return k.Dense(16, activation="relu")(k.Flatten()(x))


def _example_decoder(z: Any) -> Any:
    k = _layers()
    y = k.Reshape((7, 7, 64))(k.Dense(7 * 7 * 64, activation="relu")(z))
    y = k.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu")(y)
    y = k.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu")(y)
    return k.Conv2DTranspose(1, 3, padding="same", activation="sigmoid")(y)


# Batch normalisation and leaky rectifiers


def _norm_leaky_encoder(x: Any) -> Any:
    k = _layers()
    for filters in (16, 32, 48):
        x = k.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = k.LeakyReLU(0.2)(k.BatchNormalization(momentum=0.8)(x))
    return k.Flatten()(x)


def _norm_leaky_decoder(z: Any) -> Any:
    k = _layers()
    y = k.Reshape((4, 4, 48))(k.Dense(4 * 4 * 48)(z))
    y = k.LeakyReLU(0.2)(k.BatchNormalization(momentum=0.8)(y))
    for filters in (32, 16):
        y = k.Conv2DTranspose(filters, 4, strides=2, padding="same")(y)
        y = k.LeakyReLU(0.2)(k.BatchNormalization(momentum=0.8)(y))
    return k.Conv2DTranspose(3, 4, strides=2, padding="same", activation="sigmoid")(y)


# Residual blocks


def _residual(x: Any, filters: int, norm: Callable[[], Any]) -> Any:
    k = _layers()
    y = k.Conv2D(filters, 3, padding="same")(k.Activation("swish")(norm()(x)))
    y = k.Conv2D(filters, 3, padding="same")(k.Activation("swish")(norm()(y)))
    if x.shape[-1] != filters:
        x = k.Conv2D(filters, 1)(x)
    return k.Add()([x, y])


def _residual_encoder(norm: str) -> Callable[[Any], Any]:
    def encode(x: Any) -> Any:
        k = _layers()
        x = k.Conv2D(8, 3, padding="same")(x)
        for filters in (16, 24, 32):
            x = _residual(x, filters, _NORMS[norm])
            x = k.Conv2D(filters, 3, strides=2, padding="same")(x)
        x = k.Activation("swish")(_NORMS[norm]()(x))
        return k.Flatten()(x)

    return encode


def _residual_decoder(norm: str, interpolation: str, activation: str) -> Callable[[Any], Any]:
    def decode(z: Any) -> Any:
        k = _layers()
        y = k.Reshape((8, 8, 32))(k.Dense(8 * 8 * 32)(z))
        for filters in (32, 16, 8):
            y = _residual(y, filters, _NORMS[norm])
            y = k.UpSampling2D(2, interpolation=interpolation)(y)
            y = k.Conv2D(filters, 3, padding="same")(y)
        y = k.Activation("swish")(_NORMS[norm]()(y))
        return k.Conv2D(3, 3, padding="same", activation=activation)(y)

    return decode


_NORMS: Mapping[str, Callable[[], Any]] = {
    "group": lambda: _layers().GroupNormalization(4),
    "layer": lambda: _layers().LayerNormalization(),
}


# Kernels 2 to 5, strides 1 to 3, odd sizes, output padding


def _odd_encoder(x: Any) -> Any:
    k = _layers()
    x = k.Conv2D(8, 2, padding="valid", activation="relu")(x)
    x = k.Conv2D(12, (5, 3), strides=(3, 2), padding="same", activation="relu")(x)
    x = k.Conv2D(16, 4, strides=(1, 3), padding="same", activation="elu")(x)
    return k.Flatten()(k.Conv2D(16, 2, dilation_rate=2, padding="valid", activation="tanh")(x))


def _odd_decoder(z: Any) -> Any:
    k = _layers()
    y = k.Reshape((3, 2, 16))(k.Dense(3 * 2 * 16, "relu")(z))
    y = k.Conv2DTranspose(16, 3, strides=2, padding="valid", activation="relu")(y)
    y = k.Conv2DTranspose(12, 5, strides=(2, 3), padding="same", activation="relu")(y)
    y = k.Conv2DTranspose(8, 2, strides=(2, 1), padding="valid", output_padding=(1, 0))(y)
    y = k.Cropping2D(((1, 1), (0, 0)))(k.Activation("relu")(y))
    y = k.Conv2DTranspose(8, 4, padding="same", activation="relu")(y)
    y = k.ZeroPadding2D(((0, 0), (3, 4)))(y)
    return k.Conv2D(2, 3, padding="same", activation="sigmoid")(y)


# Depthwise-separable convolutions


def _separable_encoder(x: Any) -> Any:
    k = _layers()
    x = k.Conv2D(16, 3, strides=2, padding="same", activation="relu6")(x)
    for filters in (24, 32):
        x = k.DepthwiseConv2D(3, strides=2, padding="same")(x)
        x = k.ReLU(max_value=6)(k.BatchNormalization(momentum=0.8)(x))
        x = k.Conv2D(filters, 1)(x)
        x = k.Activation("hard_silu")(k.BatchNormalization(momentum=0.8)(x))
    return k.GlobalAveragePooling2D()(x)


def _separable_decoder(z: Any) -> Any:
    k = _layers()
    y = k.Reshape((8, 8, 24))(k.Dense(8 * 8 * 24, activation="hard_silu")(z))
    for filters in (24, 16):
        y = k.UpSampling2D(2)(y)
        y = k.SeparableConv2D(filters, 5, padding="same", activation="relu")(y)
    return k.SeparableConv2D(3, 3, padding="same", activation="sigmoid")(y)


# Signals


def _signal_encoder(x: Any) -> Any:
    k = _layers()
    for filters, kernel in ((16, 7), (24, 5), (32, 3)):
        x = k.Conv1D(filters, kernel, strides=2, padding="same")(x)
        x = k.ReLU()(k.BatchNormalization(momentum=0.8)(x))
    return k.Flatten()(x)


def _signal_decoder(z: Any) -> Any:
    k = _layers()
    y = k.Reshape((16, 32))(k.Dense(16 * 32)(z))
    for filters in (24, 16):
        y = k.Conv1DTranspose(filters, 5, strides=2, padding="same")(y)
        y = k.ReLU()(k.BatchNormalization(momentum=0.8)(y))
    return k.Conv1DTranspose(6, 7, strides=2, padding="same")(y)


def _pooled_signal_encoder(x: Any) -> Any:
    k = _layers()
    x = k.ZeroPadding1D(2)(x)
    x = k.MaxPooling1D(2)(k.Conv1D(16, 5, activation="leaky_relu")(x))
    x = k.AveragePooling1D(3)(k.SeparableConv1D(24, 3, padding="same", activation="swish")(x))
    x = k.Conv1D(32, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    return k.Concatenate()([k.GlobalAveragePooling1D()(x), k.GlobalMaxPooling1D()(x)])


def _pooled_signal_decoder(z: Any) -> Any:
    k = _layers()
    y = k.Reshape((20, 16))(k.Dense(20 * 16, "swish")(z))
    for size, filters in ((3, 24), (2, 16)):
        y = k.UpSampling1D(size)(y)
        y = k.LayerNormalization()(k.Conv1D(filters, 5, padding="same")(y))
        y = k.Activation("gelu")(y)
    y = k.Cropping1D(1)(k.ZeroPadding1D(2)(y))
    return k.Conv1D(3, 3, padding="valid", activation="tanh")(y)


# Pooling, slopes that are learned


def _pooling_encoder(x: Any) -> Any:
    k = _layers()
    x = k.MaxPooling2D(2)(k.PReLU(shared_axes=[1, 2])(k.Conv2D(8, 3, padding="same")(x)))
    x = k.AveragePooling2D(3, strides=2, padding="same")(
        k.PReLU()(k.Conv2D(16, 3, padding="same")(x))
    )
    x = k.MaxPooling2D(3, strides=2, padding="same")(
        k.Conv2D(24, 3, padding="same", activation="softplus")(x)
    )
    x = k.Permute((2, 1, 3))(x)
    return k.Concatenate()([k.GlobalMaxPooling2D()(x), k.GlobalAveragePooling2D()(x)])


def _pooling_decoder(z: Any) -> Any:
    k = _layers()
    y = k.Reshape((6, 6, 16))(k.Dense(576, "softplus")(z))
    y = k.Conv2D(16, 3, activation="relu")(k.ZeroPadding2D(1)(k.UpSampling2D(2)(y)))
    y = k.UpSampling2D((2, 2), interpolation="bilinear")(y)
    y = k.PReLU(shared_axes=[1, 2])(k.Conv2D(8, 5, padding="same")(y))
    return k.Conv2D(1, 3, padding="same", activation="sigmoid")(y)


# Activations that are rare


def _rare_encoder(x: Any) -> Any:
    k = _layers()
    x = k.Conv2D(12, 3, strides=2, padding="same", activation="mish")(x)
    x = k.Conv2D(16, 3, strides=2, padding="same", activation="selu")(x)
    x = k.ELU(0.5)(k.Dense(32)(k.Flatten()(x)))
    return k.Dense(32, "hard_sigmoid")(x)


def _rare_decoder(z: Any) -> Any:
    k = _layers()
    y = k.Dense(32, "softsign")(z)
    y = k.Reshape((4, 4, 12))(k.Dense(192, "mish")(y))
    y = k.Conv2DTranspose(12, 3, strides=2, padding="same", activation="selu")(y)
    y = k.ReLU(max_value=4.0, negative_slope=0.1)(k.Conv2D(12, 3, padding="same")(y))
    y = k.Conv2DTranspose(8, 3, strides=2, padding="same", activation="exponential")(y)
    return k.Conv2D(1, 3, padding="same", activation="hard_sigmoid")(y)


# Operators between tensors


def _ops_encoder(x: Any) -> Any:
    k, ops = _layers(), _ops()
    x = k.Rescaling(1 / 127.5, offset=-1)(x)
    a = k.Conv2D(12, 3, strides=2, padding="same", activation="relu")(x)
    b = k.Conv2D(12, 3, strides=2, padding="same")(x)
    x = k.Concatenate()(
        [k.Average()([a, b]), k.Maximum()([a, b]), k.Subtract()([a, b]), k.Minimum()([a, b])]
    )
    x = ops.tanh(0.5 * x + 0.1) * ops.sigmoid(x)
    x = k.Dense(8)(k.Flatten()(ops.mean(x, axis=(1, 2), keepdims=True)) - 0.2)
    mean, log_var = ops.split(x, 2, axis=-1)
    return mean, ops.clip(log_var, -8.0, 4.0)


def _ops_decoder(z: Any) -> Any:
    k, ops = _layers(), _ops()
    y = k.Reshape((8, 8, 12))(k.Dense(768, "relu")(z))
    gate = k.Dense(12, "sigmoid")(k.Dense(4, "relu")(k.GlobalAveragePooling2D()(y)))
    y = y * k.Reshape((1, 1, 12))(gate)
    y = k.UpSampling2D(2)(k.Conv2D(8, 3, padding="same", activation="relu")(y))
    y = k.Conv2D(3, 3, padding="same", activation="sigmoid")(ops.maximum(y, 0.1) / 2.0)
    return k.Rescaling(255.0)(y)


def _normalized_encoder(x: Any) -> Any:
    k = _layers()
    x = k.Normalization(axis=-1)(x)
    x = k.Conv2D(12, 3, strides=2, activation="relu")(x)
    x = k.BatchNormalization(momentum=0.8)(x)
    x = k.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    return k.Flatten()(k.BatchNormalization(momentum=0.8)(x))


# What goes through the converters


def _attention_encoder(x: Any) -> Any:
    k = _layers()
    x = k.Dense(16)(x)
    x = k.LayerNormalization()(x + k.MultiHeadAttention(2, 8)(x, x))
    return k.GlobalAveragePooling1D()(k.Dense(24, "gelu")(x))


def _attention_decoder(z: Any) -> Any:
    k = _layers()
    y = k.Reshape((16, 16))(k.Dense(256)(z))
    y = k.LayerNormalization()(y + k.MultiHeadAttention(2, 8)(y, y))
    return k.Dense(4)(k.Dense(32, "gelu")(y))


def _lstm_encoder(x: Any) -> Any:
    return _layers().LSTM(24)(x)


def _lstm_decoder(z: Any) -> Any:
    k = _layers()
    y = k.LSTM(24, return_sequences=True)(k.RepeatVector(16)(z))
    return k.TimeDistributed(k.Dense(3))(y)


ZOO: Mapping[str, Architecture] = {
    "dense": Architecture(
        shape=(12, 12, 1),
        latent_dim=4,
        encoder=_dense_encoder,
        decoder=_dense_decoder((12, 12, 1)),
        steps=150,
        note="dense layers alone",
    ),
    "keras-example": Architecture(
        shape=(28, 28, 1),
        latent_dim=2,
        encoder=_example_encoder,
        decoder=_example_decoder,
        note="the layers of Keras's own example",
    ),
    "norm-leaky": Architecture(
        shape=(32, 32, 3),
        latent_dim=16,
        encoder=_norm_leaky_encoder,
        decoder=_norm_leaky_decoder,
        note="batch normalisation, leaky rectifiers",
    ),
    "residual-group": Architecture(
        shape=(64, 64, 3),
        latent_dim=16,
        encoder=_residual_encoder("group"),
        decoder=_residual_decoder("group", "nearest", "tanh"),
        low=-1.0,
        note="residual blocks, group normalisation, swish, nearest upsampling, tanh",
    ),
    "residual-layer": Architecture(
        shape=(64, 64, 3),
        latent_dim=32,
        encoder=_residual_encoder("layer"),
        decoder=_residual_decoder("layer", "bilinear", "linear"),
        note="residual blocks, layer normalisation, swish, bilinear upsampling, linear",
    ),
    "odd": Architecture(
        shape=(27, 23, 2),
        latent_dim=5,
        encoder=_odd_encoder,
        decoder=_odd_decoder,
        note="kernels 2 to 5, strides 1 to 3, odd sizes, output padding, cropping",
    ),
    "separable": Architecture(
        shape=(32, 32, 3),
        latent_dim=8,
        encoder=_separable_encoder,
        decoder=_separable_decoder,
        note="depthwise and separable convolutions, ReLU6, hard swish",
    ),
    "signal": Architecture(
        shape=(128, 6),
        latent_dim=8,
        encoder=_signal_encoder,
        decoder=_signal_decoder,
        low=-2.0,
        high=2.0,
        note="sensor windows: Conv1D, Conv1DTranspose, batch normalisation, linear",
    ),
    "signal-pooling": Architecture(
        shape=(120, 3),
        latent_dim=6,
        encoder=_pooled_signal_encoder,
        decoder=_pooled_signal_decoder,
        low=-1.0,
        note="1-D pooling, padding, cropping, upsampling, causal and separable convolutions, tanh",
    ),
    "pooling": Architecture(
        shape=(24, 24, 1),
        latent_dim=6,
        encoder=_pooling_encoder,
        decoder=_pooling_decoder,
        note="max and average pooling, global pooling, PReLU, Softplus, Permute",
    ),
    "rare-activations": Architecture(
        shape=(16, 16, 1),
        latent_dim=4,
        encoder=_rare_encoder,
        decoder=_rare_decoder,
        steps=150,
        note="mish, SELU, ELU, hard sigmoid, softsign, exponential",
    ),
    "operations": Architecture(
        shape=(16, 16, 3),
        latent_dim=4,
        encoder=_ops_encoder,
        decoder=_ops_decoder,
        high=255.0,
        steps=150,
        note="Rescaling, operations between tensors and numbers, split, squeeze-and-excite",
    ),
    "normalized": Architecture(
        shape=(16, 16, 3),
        latent_dim=128,
        encoder=_normalized_encoder,
        decoder=_dense_decoder((16, 16, 3)),
        high=1.0,
        note="Normalization, batch normalisation behind rectifiers",
    ),
    "wide-latent": Architecture(
        shape=(16, 16, 1),
        latent_dim=512,
        encoder=_dense_encoder,
        decoder=_dense_decoder((16, 16, 1)),
        note="512 latents",
    ),
    "attention": Architecture(
        shape=(16, 4),
        latent_dim=4,
        encoder=_attention_encoder,
        decoder=_attention_decoder,
        steps=150,
        note="multi-head attention: through the converters",
    ),
    "lstm": Architecture(
        shape=(16, 3),
        latent_dim=4,
        encoder=_lstm_encoder,
        decoder=_lstm_decoder,
        steps=150,
        note="LSTM: through the converters",
    ),
}
"""By name."""
