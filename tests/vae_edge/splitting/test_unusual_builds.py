"""VAEs of builds that are seldom, and models that look like VAEs and are none."""

from __future__ import annotations

import numpy as np
import pytest

from vae_edge.errors import ModelError, UsageError

pytestmark = pytest.mark.host

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def check_heads(vae, values, images, mean, log_var):
    found = values(vae.encoder, images)
    np.testing.assert_allclose(found["z_mean"], values(mean, images), **TOLERANCE)
    np.testing.assert_allclose(found["z_log_var"], values(log_var, images), **TOLERANCE)


def check_decoder(vae, values, decoder):
    z = np.random.default_rng(1).standard_normal((5, vae.latent_dim), np.float32)
    np.testing.assert_allclose(values(vae.decoder, z), values(decoder, z), **TOLERANCE)


def heads_of(builder, image, names=(None, None)):
    x = builder.trunk(image)
    heads = [builder.dense(x, name) for name in names]
    return heads, [builder.keras.Model(image, head) for head in heads]


@pytest.mark.parametrize("denoising", [False, True])
def test_noise_layer_called_for_training_is_the_sampling(builder, images, values, denoising):
    from vae_edge.splitting import split

    keras, layers = builder.keras, builder.keras.layers
    image = builder.image()
    taken = layers.GaussianNoise(0.5)(image, training=True) if denoising else image
    x = builder.trunk(taken)
    mean, spread = builder.dense(x), builder.dense(x)
    noise = layers.GaussianNoise(1.0)(keras.ops.zeros_like(mean), training=True)
    z = mean + keras.ops.exp(0.5 * spread) * noise
    vae = split(keras.Model(image, builder.decode(z)))
    # Without the noise on the image, as layers of noise are at inference.
    clean = builder.image()
    trunk = keras.Model(taken, [mean, spread])(clean)
    check_heads(vae, values, images, *(keras.Model(clean, head) for head in trunk))
    assert [("training=True" in note) for note in vae.notes] == [True] * denoising


def test_noise_of_one_size_is_no_posterior(builder):
    from vae_edge.splitting import split

    image = builder.image()
    mean = builder.dense(builder.trunk(image))
    z = builder.keras.layers.GaussianNoise(1.0, name="noise")(mean, training=True)
    with pytest.raises(
        ModelError, match=r"noise of its layer 'noise' is of one size.*no z_log_var"
    ):
        split(builder.keras.Model(image, builder.decode(z)))


def test_dropout_called_for_training_is_left_out_and_said(builder, own, images, values):
    from vae_edge.splitting import split

    keras = builder.keras
    image = builder.image()
    x = builder.trunk(image)
    y = keras.layers.Dropout(0.5, name="always")(x, training=True)
    mean, spread = keras.layers.Dense(2), keras.layers.Dense(2)
    z = own.Sampling()([mean(y), spread(y)])
    vae = split(keras.Model(image, builder.decode(z)))
    check_heads(vae, values, images, keras.Model(image, mean(x)), keras.Model(image, spread(x)))
    assert vae.notes == (
        "called with training=True, and read as at inference, without what is random: always.",
    )


def test_model_that_samples_in_its_call_and_adds_its_loss_is_followed(builder, images, values):
    from vae_edge.splitting import split

    keras, ops = builder.keras, builder.keras.ops

    class Lossy(keras.Model):
        def __init__(self):
            super().__init__()
            layers = keras.layers
            # Spread first: only the sampling tells.
            self.encoder = keras.Sequential([layers.Flatten(), layers.Dense(4)])
            self.decoder = keras.Sequential([layers.Dense(16), layers.Reshape((4, 4, 1))])
            self.seed = keras.random.SeedGenerator(1)

        def call(self, inputs):
            spread, mean = ops.split(self.encoder(inputs), 2, axis=-1)
            self.add_loss(ops.mean(ops.square(mean) + ops.exp(spread) - spread))
            return self.decoder(
                mean + ops.exp(0.5 * spread) * keras.random.normal(ops.shape(mean), seed=self.seed)
            )

    model = Lossy()
    model(images)
    vae = split(model)
    expected = values(model.encoder, images)
    found = values(vae.encoder, images)
    np.testing.assert_allclose(found["z_mean"], expected[:, 2:], **TOLERANCE)
    np.testing.assert_allclose(found["z_log_var"], expected[:, :2], **TOLERANCE)
    assert vae.notes == ()


@pytest.mark.parametrize("joined", [False, True])
def test_methods_called_encode_and_decode_are_halves(builder, images, values, joined):
    import tensorflow as tf

    from vae_edge.splitting import split

    keras = builder.keras

    class Methods(keras.Model):
        def __init__(self):
            super().__init__()
            layers = keras.layers
            self.flat, self.mu, self.lv = layers.Flatten(), layers.Dense(2), layers.Dense(2)
            self.pixels, self.shape_ = layers.Dense(16), layers.Reshape((4, 4, 1))

        def encode(self, images):
            x = self.flat(images)
            heads = self.mu(x), self.lv(x)
            return keras.ops.concatenate(heads, axis=-1) if joined else heads

        def decode(self, z, apply_sigmoid=False):
            made = self.shape_(self.pixels(z))
            return keras.ops.sigmoid(made) if apply_sigmoid else made

        def call(self, inputs):
            heads = self.encode(inputs)
            mean, spread = tf.split(heads, 2, axis=-1) if joined else heads
            return self.decode(mean + tf.exp(0.5 * spread) * tf.random.normal(tf.shape(mean)))

    model = Methods()
    model(images)
    vae = split(model)
    flat = images.reshape(len(images), 16)
    found = values(vae.encoder, images)
    for key, dense in (("z_mean", model.mu), ("z_log_var", model.lv)):
        kernel, bias = dense.get_weights()
        np.testing.assert_allclose(found[key], flat @ kernel + bias, **TOLERANCE)
    kernel, bias = model.pixels.get_weights()
    z = np.random.default_rng(1).standard_normal((5, 2), np.float32)
    np.testing.assert_allclose(
        values(vae.decoder, z), (z @ kernel + bias).reshape(5, 4, 4, 1), **TOLERANCE
    )
    assert len(vae.notes) == 1
    assert "--scale" in vae.notes[0] or "--z-mean" in vae.notes[0]


def test_only_tensor_of_the_image_s_shape_is_the_reconstruction(builder, own, values):
    from vae_edge.splitting import split

    keras = builder.keras
    z = keras.Input((2,))
    picture = builder.decode(z)
    label = keras.layers.Dense(10, activation="softmax", name="label")(z)
    decoder = keras.Model(z, {"label": label, "picture": picture}, name="decoder")
    encoder = builder.encoder(lambda x: [builder.dense(x, "mean"), builder.dense(x, "log_var")])
    vae = split(encoder, decoder)
    check_decoder(vae, values, keras.Model(z, picture))
    assert vae.notes == ()
    image = builder.image()
    made = decoder(own.Sampling()(encoder(image)))
    whole = split(keras.Model(image, [made["label"], made["picture"]]))
    check_decoder(whole, values, keras.Model(z, picture))


def test_mean_and_spread_of_pixels_are_told_apart_by_name_or_asked_for(builder, own, values):
    from vae_edge.splitting import SplitOptions, split

    keras = builder.keras
    encoder = builder.encoder(lambda x: [builder.dense(x, "mean"), builder.dense(x, "log_var")])
    z = keras.Input((2,))
    first, second = builder.decode(z), builder.decode(z)
    named = keras.Model(z, {"x_log_var": first, "x_mean": second}, name="decoder")
    vae = split(encoder, named)
    check_decoder(vae, values, keras.Model(z, second))
    assert any("'x_mean' was taken for the reconstruction" in note for note in vae.notes)

    decoder = keras.Model(z, [first, second], name="decoder")
    layer = second._keras_history[0].name
    with pytest.raises(ModelError, match=rf"{layer} \(4, 4, 1\).*--reconstruction LAYER"):
        split(encoder, decoder)
    told = split(encoder, decoder, options=SplitOptions(reconstruction=layer))
    check_decoder(told, values, keras.Model(z, second))

    image = builder.image()
    whole = keras.Model(image, decoder(own.Sampling()(encoder(image))))
    with pytest.raises(ModelError, match=rf"decoder/{layer} \(4, 4, 1\).*--reconstruction LAYER"):
        split(whole)
    told = split(whole, options=SplitOptions(reconstruction=f"decoder/{layer}"))
    check_decoder(told, values, keras.Model(z, second))
    with pytest.raises(ModelError, match=r"--reconstruction nothing: there is no such l") as caught:
        split(whole, options=SplitOptions(reconstruction="nothing"))
    assert f"decoder/{layer} (4, 4, 1)" in str(caught.value)
    assert "(2)" not in str(caught.value)  # no picture


def test_sigmoid_is_put_behind_logits(builder, values):
    from vae_edge.splitting import SplitOptions, split

    keras, layers = builder.keras, builder.keras.layers
    encoder = builder.encoder(lambda x: [builder.dense(x, "mean"), builder.dense(x, "log_var")])
    z = keras.Input((2,))
    logits = layers.Reshape((4, 4, 1))(layers.Dense(16)(z))
    decoder = keras.Model(z, logits, name="decoder")
    vae = split(encoder, decoder, options=SplitOptions(logits=True))
    rows = np.random.default_rng(2).standard_normal((5, 2), np.float32)
    expected = 1 / (1 + np.exp(-values(decoder, rows)))
    np.testing.assert_allclose(values(vae.decoder, rows), expected, **TOLERANCE)
    assert "a sigmoid was put behind the decoder, which gives logits." in vae.notes
    bounded = keras.Model(z, layers.Activation("sigmoid")(logits), name="decoder")
    with pytest.raises(ModelError, match=r"--logits: the decoder ends in the activation sigmoid"):
        split(encoder, bounded, options=SplitOptions(logits=True))


def sizeless(builder, own, *, whole):
    """A VAE of convolutions for images of any size."""
    keras, layers = builder.keras, builder.keras.layers
    image = keras.Input((None, None, 1))
    heads = [layers.Conv2D(2, 3, strides=2, padding="same", name=n)(image) for n in ("mu", "lv")]
    encoder = keras.Model(image, [*heads, own.Sampling()(heads)], name="encoder")
    z = keras.Input((None, None, 2))
    decoder = keras.Model(
        z, layers.Conv2DTranspose(1, 3, strides=2, padding="same")(z), name="decoder"
    )
    return (
        (keras.Model(image, decoder(encoder(image)[2])), encoder, decoder)
        if whole
        else (None, encoder, decoder)
    )


@pytest.mark.parametrize("whole", [False, True])
def test_model_of_any_size_is_built_for_the_one_that_is_told(builder, own, images, values, whole):
    from vae_edge.splitting import SplitOptions, split

    model, encoder, decoder = sizeless(builder, own, whole=whole)
    given = (model,) if whole else (encoder, decoder)
    with pytest.raises(ModelError, match=r"images of \(\?, \?, 1\).*--image-shape, e\.g\. 64,64,3"):
        split(*given)
    vae = split(*given, options=SplitOptions(image_shape=(4, 4, 1)))
    assert (vae.image_shape, vae.latent_dim) == ((4, 4, 1), 8)
    mean, log_var, _ = values(encoder, images)
    found = values(vae.encoder, images)
    np.testing.assert_allclose(found["z_mean"], mean.reshape(-1, 8), **TOLERANCE)
    np.testing.assert_allclose(found["z_log_var"], log_var.reshape(-1, 8), **TOLERANCE)
    np.testing.assert_allclose(
        values(vae.decoder, mean.reshape(-1, 8)), values(decoder, mean), **TOLERANCE
    )
    for shape, message in (
        ((4, 4, 3), r"--image-shape 4,4,3: the model takes \(\?, \?, 1\)"),
        ((5, 5, 1), r"encoder takes images of \(5, 5, 1\), the decoder gives \(6, 6, 1\)"),
    ):
        with pytest.raises(ModelError, match=message):
            split(*given, options=SplitOptions(image_shape=shape))
    with pytest.raises(UsageError, match="expected sizes of 1 or more"):
        SplitOptions(image_shape=(0, 4, 1))


def test_hierarchical_vae_is_refused(builder, own):
    from vae_edge.splitting import split

    image = builder.image()
    (mean, spread), _ = heads_of(builder, image)
    first = own.Sampling(name="lower")([mean, spread])
    second = own.Sampling(name="upper")([builder.dense(first), builder.dense(first)])
    z = builder.keras.layers.Concatenate()([first, second])
    with pytest.raises(ModelError, match=r"sampled in 2 places \(lower, upper\).*hierarchical"):
        split(builder.keras.Model(image, builder.decode(z)))


def test_skip_connection_past_the_sampling_is_refused(builder, own):
    from vae_edge.splitting import split

    keras, layers = builder.keras, builder.keras.layers
    image = builder.image()
    features = layers.Conv2D(3, 3, padding="same", name="features")(image)
    (mean, spread), _ = heads_of(builder, image)
    decoded = builder.decode(own.Sampling()([mean, spread]))
    joined = layers.Conv2D(1, 1)(layers.Concatenate()([decoded, features]))
    with pytest.raises(ModelError, match=r"needs features \(4, 4, 3\) beside z.*skip connection"):
        split(keras.Model(image, joined))


def test_several_samples_for_each_image_are_refused(builder, own):
    from vae_edge.splitting import split

    keras, layers, ops = builder.keras, builder.keras.layers, builder.keras.ops

    class Five(own.Sampling):
        def call(self, inputs):
            mean, log_var = inputs
            noise = keras.random.normal((ops.shape(mean)[0], 5, 2), seed=self.seed_generator)
            return mean[:, None] + ops.exp(0.5 * log_var)[:, None] * noise

    image = builder.image()
    heads, _ = heads_of(builder, image)
    pixels = layers.GlobalAveragePooling1D()(layers.Dense(16)(Five()(heads)))
    with pytest.raises(ModelError, match="draws 5 samples of z for each image"):
        split(keras.Model(image, layers.Reshape((4, 4, 1))(pixels)))


def test_condition_can_be_fixed_as_the_error_says(builder, images, values):
    from vae_edge.splitting import split

    keras, layers, ops = builder.keras, builder.keras.layers, builder.keras.ops
    image, z, label = builder.image(), keras.Input((2,)), keras.Input((10,))
    x = layers.Concatenate()([builder.trunk(image), label])
    heads = [builder.dense(x, "z_mean"), builder.dense(x, "z_log_var")]
    encoder = keras.Model([image, label], heads)
    decoder = keras.Model([z, label], builder.decode(layers.Concatenate()([z, label])))
    with pytest.raises(ModelError) as caught:
        split(encoder, decoder)
    assert "keras.Model(z, decoder([z, keras.ops.zeros_like(z[:, :1]) + condition]))" in str(
        caught.value
    )
    condition = np.eye(10, dtype=np.float32)[3:4]
    fixed = keras.Model(z, decoder([z, ops.zeros_like(z[:, :1]) + condition]))
    zero = ops.zeros_like(layers.Flatten()(image)[:, :1])
    vae = split(keras.Model(image, encoder([image, zero + condition])), fixed)
    rows = np.repeat(condition, len(images), axis=0)
    mean, log_var = values(encoder, [images, rows])
    found = values(vae.encoder, images)
    np.testing.assert_allclose(found["z_mean"], mean, **TOLERANCE)
    np.testing.assert_allclose(found["z_log_var"], log_var, **TOLERANCE)
    np.testing.assert_allclose(
        values(vae.decoder, mean), values(decoder, [mean, rows]), **TOLERANCE
    )


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("scale_log", "log-std"),
        ("z_lv", "log-var"),
        ("varlog", "log-var"),
        ("log_scale", "log-std"),
        ("scale", "std"),
    ],
)
def test_names_say_what_a_spread_is(name, scale):
    from vae_edge.splitting.heads import scale_of_name

    assert scale_of_name(name) == scale


def test_layers_of_any_names_can_be_called_in_a_graph(builder, own, images, values):
    import tensorflow as tf

    from vae_edge.splitting import split

    keras = builder.keras
    image = keras.Input((4, 4, 1), name="bild")
    x = builder.trunk(image)
    heads = [builder.dense(x, name) for name in ("mittel größe", "mittel grüße", "平均")]
    joined = keras.layers.Add(name="summe über alle")([heads[0], heads[1]])
    z = own.Sampling(name="würfeln")([joined, heads[2]])
    inner = keras.Input((2,), name="größe")
    decoder = keras.Model(inner, builder.decode(inner), name="entschlüssler")
    vae = split(keras.Model(image, decoder(z)))
    check_heads(vae, values, images, *(keras.Model(image, head) for head in (joined, heads[2])))
    check_decoder(vae, values, decoder)
    for half, rows in ((vae.encoder, images), (vae.decoder, np.zeros((2, 2), np.float32))):
        tf.function(lambda given, half=half: half(given, training=False))(rows)
    assert heads[2]._keras_history[0].name == "平均"  # the user's model is untouched
