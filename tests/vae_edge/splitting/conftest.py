"""Small VAEs of many builds, and the layers of a user's own that they are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

LAYERS_FILE = Path(__file__).parents[2] / "data" / "vae_layers.py"
SIDE, LATENT = 4, 2


@pytest.fixture(scope="session")
def layers_file() -> Path:
    return LAYERS_FILE


@pytest.fixture(scope="session")
def own(layers_file):
    """The user's module, imported as `--import` does."""
    pytest.importorskip("keras")
    from vae_edge.splitting.custom_code import import_modules

    (module,) = import_modules([str(layers_file)])
    return module


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(5).random((6, SIDE, SIDE, 1), np.float32)


class Builder:
    """Makes halves and wholes; every part gets random weights of its own."""

    def __init__(self, own) -> None:
        import keras

        self.keras, self.own = keras, own

    def image(self):
        return self.keras.Input((SIDE, SIDE, 1))

    def trunk(self, image):
        layers = self.keras.layers
        x = layers.Conv2D(2, 3, strides=2, padding="same", activation="relu")(image)
        x = layers.Dropout(0.5)(x)
        return layers.Dense(6, activation="tanh")(layers.Flatten()(x))

    def dense(self, x, name=None, units=LATENT, **options):
        return self.keras.layers.Dense(
            units,
            name=name,
            bias_initializer=self.keras.initializers.RandomNormal(stddev=0.3),
            **options,
        )(x)

    def decode(self, z):
        layers = self.keras.layers
        x = self.dense(z, units=SIDE * SIDE, activation="sigmoid")
        return layers.Reshape((SIDE, SIDE, 1))(x)

    def decoder(self, name="decoder"):
        z = self.keras.Input((LATENT,))
        return self.keras.Model(z, self.decode(z), name=name)

    def encoder(self, outputs, name="encoder"):
        """`outputs` makes them of the trunk's features."""
        image = self.image()
        return self.keras.Model(image, outputs(self.trunk(image)), name=name)


@pytest.fixture(scope="session")
def builder(own):
    return Builder(own)


@pytest.fixture(scope="session")
def values():
    """Run a half of a `KerasVAE`, or any Keras model, and give plain arrays."""

    def run(model, rows):
        import keras

        return keras.tree.map_structure(np.asarray, model(rows, training=False))

    return run
