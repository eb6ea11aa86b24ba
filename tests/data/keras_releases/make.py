"""Write a VAE with the release of Keras that this is run with, and what it computes.

Needs nothing but Keras and one of its backends, for each release in an environment of its own:

    pip install keras==3.3.3 jax && KERAS_BACKEND=jax python tests/data/keras_releases/make.py

writes `vae-3.3.3.keras` and `vae-3.3.3.npz` beside this file: the model of Keras's own example,
with a registered model class and sampling layer (tests/data/vae_layers.py), and for some images
what its encoder gives, and what its decoder makes of the means.
"""

import sys
import zipfile
from pathlib import Path

import keras
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import vae_layers as own  # noqa: E402  beside this directory

layers = keras.layers


def halves():
    """Give a convolutional encoder and decoder of a few hundred weights."""
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Flatten()(layers.BatchNormalization()(x))
    heads = [layers.Dense(2, name=name)(x) for name in ("z_mean", "z_log_var")]
    encoder = keras.Model(image, [*heads, own.Sampling()(heads)], name="encoder")
    z = keras.Input((2,))
    x = layers.Reshape((2, 2, 2))(layers.LeakyReLU()(layers.Dense(8)(z)))
    x = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid")(x)
    return encoder, keras.Model(z, x, name="decoder")


def main():
    """Write both files."""
    keras.utils.set_random_seed(7)
    stem = f"vae-{keras.__version__}"
    encoder, decoder = halves()
    model = own.ExampleVAE(encoder, decoder)
    images = np.random.default_rng(0).random((3, 4, 4, 1), dtype="float32")
    model(images)
    whole = HERE / f"{stem}-whole.keras"
    model.save(whole)
    with (
        zipfile.ZipFile(whole) as archive,
        zipfile.ZipFile(HERE / f"{stem}.keras", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    whole.unlink()
    z_mean, z_log_var, _ = (np.asarray(each) for each in encoder(images))
    decoded = np.asarray(decoder(z_mean))
    np.savez(
        HERE / f"{stem}.npz", images=images, z_mean=z_mean, z_log_var=z_log_var, decoded=decoded
    )


if __name__ == "__main__":
    main()
