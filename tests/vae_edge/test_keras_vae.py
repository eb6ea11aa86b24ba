"""Loading a Keras model safely and taking it apart, or saying why not."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from vae_edge.errors import ModelError
from vae_edge.terms import Component

pytestmark = pytest.mark.host


def halves(latent_dim: int = 2, side: int = 4, *, as_dict: bool = True):
    """A functional encoder and decoder, unrelated to the package's own model."""
    import keras

    image = keras.Input((side, side, 1), name="image")
    flat = keras.layers.Flatten()(image)
    heads = [keras.layers.Dense(latent_dim, name=n)(flat) for n in ("z_mean", "z_log_var")]
    outputs = dict(zip(("z_mean", "z_log_var"), heads, strict=True)) if as_dict else heads
    encoder = keras.Model(image, outputs, name="encoder")
    z = keras.Input((latent_dim,), name="z")
    pixels = keras.layers.Dense(side * side, activation="sigmoid")(z)
    decoder = keras.Model(z, keras.layers.Reshape((side, side, 1))(pixels), name="decoder")
    return encoder, decoder


def save_nested(path: Path, encoder, decoder) -> Path:
    import keras

    image = keras.Input(encoder.input_shape[1:])
    encoded = encoder(image)
    first = encoded["z_mean"] if isinstance(encoded, dict) else encoded[0]
    keras.Model(image, decoder(first)).save(path)
    return path


def test_functional_model_with_nested_halves_is_split(tmp_path):
    from vae_edge.keras_vae import load_keras_vae

    encoder, decoder = halves()
    vae = load_keras_vae(save_nested(tmp_path / "nested.keras", encoder, decoder))
    assert (vae.name, vae.latent_dim, vae.image_shape) == ("nested", 2, (4, 4, 1))
    images = np.random.default_rng(0).random((3, 4, 4, 1), np.float32)
    np.testing.assert_allclose(
        vae.function(Component.ENCODER)(images)["z_log_var"],
        encoder(images)["z_log_var"],
        atol=1e-6,
    )


@pytest.mark.parametrize("call", ["predict", "call", "tf.function"])
def test_keras_runner_gives_what_the_model_gives(tmp_path, call):
    from vae_edge.keras_vae import KerasCall, load_keras_vae, open_keras_runner

    encoder, decoder = halves()
    vae = load_keras_vae(save_nested(tmp_path / "nested.keras", encoder, decoder))
    z = np.array([[0.5, -1.0], [2.0, 0.0]], np.float32)
    with open_keras_runner(vae, Component.DECODER, KerasCall(call)) as runner:
        outputs = runner.run({"z": z})
        assert list(outputs) == ["reconstruction"]
        np.testing.assert_allclose(outputs["reconstruction"], decoder(z), atol=1e-6)
        assert runner.inputs[0].batch is None


def test_model_file_in_a_run_is_named_after_its_directory():
    from vae_edge.keras_vae import default_name

    assert default_name(Path("runs/fashion/model.keras")) == "fashion"
    assert default_name(Path("runs/fashion/best one.keras")) == "best-one"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.keras", None, "no such model"),
        ("model.h5", b"x", "expected a \\.keras file"),
        ("empty.keras", b"", "is empty"),
        ("noise.keras", b"\x00" * 1000, "damaged or not a \\.keras file"),
    ],
)
def test_file_that_is_no_model_is_refused(tmp_path, name, content, message):
    from vae_edge.keras_vae import load_keras_vae

    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_keras_vae(path)
    assert str(path) in str(caught.value)


def test_truncated_and_foreign_archives_are_refused(tmp_path):
    from vae_edge.keras_vae import load_keras_vae

    whole = save_nested(tmp_path / "whole.keras", *halves())
    cut = tmp_path / "cut.keras"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    foreign = tmp_path / "foreign.keras"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("readme.txt", "not a model")
    for path in (cut, foreign):
        with pytest.raises(ModelError, match="damaged"):
            load_keras_vae(path)


def test_lambda_layers_are_refused(tmp_path):
    import keras

    from vae_edge.keras_vae import load_keras_vae

    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image))
    model.save(tmp_path / "evil.keras")
    with pytest.raises(ModelError, match="Lambda"):
        load_keras_vae(tmp_path / "evil.keras")


def test_model_without_halves_is_refused_with_its_layers(tmp_path):
    import keras

    from vae_edge.keras_vae import load_keras_vae

    image = keras.Input((4,))
    keras.Model(image, keras.layers.Dense(2, name="only")(image)).save(tmp_path / "plain.keras")
    with pytest.raises(ModelError, match=r"holds no VAE that can be split.*only"):
        load_keras_vae(tmp_path / "plain.keras")
