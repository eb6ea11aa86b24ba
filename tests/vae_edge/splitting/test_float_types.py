"""Models of other types of float than float32, and of policies that mix them."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from vae_edge.errors import ModelError

pytestmark = pytest.mark.host

SOURCE = '''
import keras
from keras import layers


@keras.saving.register_keras_serializable(package="floats")
class Block(layers.Layer):
    """Makes its inner layer under the policy of the moment, as most layers of one's own do."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units, activation="tanh")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, inputs):
        return inputs + self.dense(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
'''


@contextlib.contextmanager
def policy(name):
    import keras

    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def model_of(block):
    """A flat VAE of one hidden layer, whose sampling layer computes in float32."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(11)
    image = keras.Input((4, 4, 1))
    x = block(6)(layers.Dense(6, name="hidden")(layers.Flatten()(image)))
    heads = [layers.Dense(2, name=name)(x) for name in ("z_mean", "z_log_var")]
    z = layers.Add(name="sampling")(heads)
    pixels = layers.Dense(16, activation="sigmoid", name="pixels")(z)
    return keras.Model(image, layers.Reshape((4, 4, 1))(pixels))


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    from vae_edge.splitting.custom_code import import_modules

    path = tmp_path_factory.mktemp("floats") / "floats_layers.py"
    path.write_text(SOURCE)
    (found,) = import_modules([str(path)])
    return found


@pytest.mark.parametrize(
    "name", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"]
)
@pytest.mark.parametrize("from_file", [False, True])
def test_halves_compute_in_float32_with_the_model_s_weights(module, tmp_path, name, from_file):
    from vae_edge.splitting import SplitOptions, load, split

    with policy(name):
        model = model_of(module.Block)
    told = {"z_mean": "z_mean", "z_log_var": "z_log_var", "decoder_input": "sampling"}
    if from_file:
        model.save(tmp_path / "vae.keras")
        vae = load(tmp_path / "vae.keras", SplitOptions(imports=(module.__file__,), **told))
    else:
        vae = split(model, options=SplitOptions(**told))
    weights = [np.asarray(each).astype(np.float32) for each in model.get_weights()]
    kernel, bias, inner, inner_bias, mean, mean_bias, spread, spread_bias, *decoder = weights
    images = np.random.default_rng(3).random((5, 4, 4, 1), np.float32)
    x = images.reshape(5, 16) @ kernel + bias
    x = x + np.tanh(x @ inner + inner_bias)
    found = vae.encoder(images)
    np.testing.assert_allclose(found["z_mean"], x @ mean + mean_bias, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["z_log_var"], x @ spread + spread_bias, rtol=1e-5, atol=1e-5)
    z = np.random.default_rng(4).standard_normal((5, 2), np.float32)
    pixels = 1 / (1 + np.exp(-(z @ decoder[0] + decoder[1])))
    made = vae.decoder(z)
    assert str(made.dtype.name) == "float32"
    np.testing.assert_allclose(np.asarray(made).reshape(5, 16), pixels, rtol=1e-5, atol=1e-5)
    assert [name in note for note in vae.notes] == [True]
    assert str(model.get_layer("hidden").compute_dtype) in name  # the user's model is untouched


def test_casts_between_floats_are_left_out():
    import keras
    from keras import layers, ops

    from vae_edge.splitting import split

    image = keras.Input((4, 4, 1))
    x = layers.Flatten()(ops.cast(image, "float16"))
    heads = {
        key: layers.Dense(2, name=key, dtype="mixed_float16")(x) for key in ("z_mean", "z_log_var")
    }
    z = keras.Input((2,))
    pixels = layers.Reshape((4, 4, 1))(layers.Dense(16)(z))
    encoder = keras.Model(image, heads)
    vae = split(encoder, keras.Model(z, pixels))
    images = np.random.default_rng(3).random((5, 4, 4, 1), np.float32)
    kernel, bias = (np.asarray(each) for each in encoder.get_layer("z_mean").weights)
    expected = images.reshape(5, 16) @ kernel + bias
    assert not np.allclose(encoder(images)["z_mean"], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(vae.encoder(images)["z_mean"], expected, rtol=1e-6, atol=1e-6)


def test_layer_that_cannot_be_made_anew_is_said():
    import keras
    from keras import layers

    from vae_edge.splitting import split

    class Unsaid(layers.Layer):
        def __init__(self, factor):
            super().__init__(dtype="mixed_float16")
            self.factor = keras.ops.convert_to_tensor(factor)  # not serializable

        def call(self, inputs):
            return inputs * keras.ops.cast(self.factor, inputs.dtype)

    image = keras.Input((4, 4, 1))
    x = Unsaid(np.float32(2))(layers.Flatten()(image))
    encoder = keras.Model(image, {key: layers.Dense(2)(x) for key in ("z_mean", "z_log_var")})
    z = keras.Input((2,))
    decoder = keras.Model(z, layers.Reshape((4, 4, 1))(layers.Dense(16)(z)))
    with pytest.raises(ModelError, match=r"its encoder computes in mixed_float16.*get_config"):
        split(encoder, decoder)


def test_model_that_keras_has_quantized_is_refused(module, tmp_path):
    from keras import layers

    from vae_edge.splitting import SplitOptions, load, split

    model = model_of(module.Block)
    for layer in model.layers:
        if isinstance(layer, layers.Dense):
            layer.quantize("int8")
    told = {"z_mean": "z_mean", "z_log_var": "z_log_var", "decoder_input": "sampling"}
    with pytest.raises(ModelError, match=r"quantized by Keras.*as it was before that"):
        split(model, options=SplitOptions(**told))
    model.save(tmp_path / "vae.keras")
    with pytest.raises(ModelError, match=r"Keras has quantized the model.*before that"):
        load(tmp_path / "vae.keras", SplitOptions(imports=(module.__file__,), **told))
