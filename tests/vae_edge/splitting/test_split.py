"""Taking VAEs of many builds apart: what comes out computes what the model's own layers do."""

from __future__ import annotations

import numpy as np
import pytest

from vae_edge.errors import ModelError

pytestmark = pytest.mark.host

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def check(vae, values, images, mean, log_var, decoded=None):
    """`mean` and `log_var` are models, or arrays, of what is expected."""
    found = values(vae.encoder, images)
    assert set(found) == {"z_mean", "z_log_var"}
    for key, wanted in (("z_mean", mean), ("z_log_var", log_var)):
        expected = wanted if isinstance(wanted, np.ndarray) else values(wanted, images)
        np.testing.assert_allclose(found[key], expected, **TOLERANCE)
    if decoded is not None:
        z = np.random.default_rng(1).standard_normal((5, vae.latent_dim), np.float32)
        np.testing.assert_allclose(
            values(vae.decoder, z), values(decoded, z).reshape(5, *vae.image_shape), **TOLERANCE
        )


def flat_model(builder, sampling, *, names=(None, None), heads=None):
    """One graph: image, two heads, sampling, decoder; and models of the heads."""
    image = builder.image()
    x = builder.trunk(image)
    first, second = heads(x) if heads else [builder.dense(x, name) for name in names]
    model = builder.keras.Model(image, builder.decode(sampling([first, second])))
    return model, [builder.keras.Model(image, head) for head in (first, second)]


@pytest.mark.parametrize(
    ("sampling", "order", "to_log_var"),
    [
        ("Sampling", (0, 1), lambda head: head),
        ("SpreadFirst", (1, 0), lambda head: head),
        ("FixedNoise", (0, 1), lambda head: head),
        ("LogStdSampling", (0, 1), lambda head: 2 * head),
        ("SoftplusSampling", (0, 1), lambda head: 2 * np.log(np.log1p(np.exp(head)))),
    ],
)
def test_what_the_heads_are_is_measured_from_the_sampling(
    builder, own, images, values, sampling, order, to_log_var
):
    from vae_edge.splitting import split

    model, heads = flat_model(builder, getattr(own, sampling)())
    vae = split(model)
    mean, spread = heads[order[0]], heads[order[1]]
    check(vae, values, images, mean, to_log_var(values(spread, images)))
    assert (vae.latent_dim, vae.image_shape) == (2, (4, 4, 1))
    assert len(vae.notes) == (sampling in ("LogStdSampling", "SoftplusSampling"))


@pytest.mark.parametrize(("sampling", "factor"), [("StdSampling", 2.0), ("VarianceSampling", 1.0)])
def test_standard_deviation_and_variance_become_their_logarithm(
    builder, own, images, values, sampling, factor
):
    from vae_edge.splitting import split

    model, (mean, spread) = flat_model(
        builder,
        getattr(own, sampling)(),
        heads=lambda x: [builder.dense(x), builder.dense(x, activation="sigmoid")],
    )
    vae = split(model)
    check(vae, values, images, mean, factor * np.log(values(spread, images)))
    assert "z_log_var is" in vae.notes[0]


def test_sampling_by_bare_operations_is_found_without_a_logarithm_of_an_exponential(
    builder, own, images, values
):
    from vae_edge.splitting import split

    ops = builder.keras.ops
    model, (mean, log_var) = flat_model(
        builder, lambda heads: heads[0] + ops.exp(0.5 * heads[1]) * own.Noise()(heads[0])
    )
    vae = split(model)
    check(vae, values, images, mean, log_var)
    assert not any(type(layer).__name__ in ("Exp", "Log") for layer in vae.encoder.operations)


def test_one_dense_layer_for_both_heads_becomes_two(builder, own, images, values):
    from vae_edge.splitting import split

    image = builder.image()
    both = builder.dense(builder.trunk(image), units=4)
    model = builder.keras.Model(image, builder.decode(own.JoinedSampling()(both)))
    vae = split(model)
    expected = values(builder.keras.Model(image, both), images)
    check(vae, values, images, expected[:, :2], expected[:, 2:])
    assert all(tensor.shape == (None, 2) for tensor in vae.encoder.output.values())


def test_random_numbers_may_be_an_input_of_the_model(builder, images, values):
    from vae_edge.splitting import split

    ops = builder.keras.ops
    image, noise = builder.image(), builder.keras.Input((2,))
    x = builder.trunk(image)
    log_var, mean = builder.dense(x), builder.dense(x)
    decoded = builder.decode(mean + ops.exp(log_var / 2) * noise)
    vae = split(builder.keras.Model([image, noise], decoded))
    model = builder.keras.Model
    check(vae, values, images, model(image, mean), model(image, log_var))


@pytest.mark.parametrize("names", [("encoder", "decoder"), ("recognition", "generator")])
def test_nested_halves_are_found_by_what_they_do(builder, own, images, values, names):
    from vae_edge.splitting import split

    def outputs(x):
        heads = [builder.dense(x), builder.dense(x)]
        return [*heads, own.Sampling()(heads)]

    encoder, decoder = builder.encoder(outputs, names[0]), builder.decoder(names[1])
    image = builder.image()
    scaled = builder.keras.layers.Rescaling(0.5)(image)
    vae = split(builder.keras.Model(image, decoder(encoder(scaled)[2])))
    mean, log_var, _ = values(encoder, images * 0.5)
    check(vae, values, images, mean, log_var, decoder)
    assert vae.decoder is decoder
    assert not any(isinstance(each, own.Sampling) for each in vae.encoder.layers)


def test_model_that_also_gives_its_heads_is_split(builder, own, images, values):
    from vae_edge.splitting import split

    model, (mean, log_var) = flat_model(builder, own.Sampling())
    outputs = [model.output, mean.output, log_var.output]
    vae = split(builder.keras.Model(model.input, outputs))
    check(vae, values, images, mean, log_var)


@pytest.mark.parametrize(
    ("keys", "scale"),
    [
        (("z_mean", "z_log_var"), 1),
        (("mu", "logvar"), 1),
        (("mean", "log_sigma"), 2),
    ],
)
def test_encoder_of_two_models_is_read_by_its_keys(builder, images, values, keys, scale):
    from vae_edge.splitting import split

    encoder = builder.encoder(lambda x: {keys[1]: builder.dense(x), keys[0]: builder.dense(x)})
    decoder = builder.decoder()
    vae = split(encoder, decoder)
    expected = values(encoder, images)
    check(vae, values, images, expected[keys[0]], scale * expected[keys[1]], decoder)
    assert bool(vae.notes) == (scale == 2)
    assert (vae.encoder is encoder) == (keys[0] == "z_mean")


def test_what_only_their_order_tells_is_said(builder, images, values):
    from vae_edge.splitting import split

    encoder = builder.encoder(lambda x: [builder.dense(x, "a"), builder.dense(x, "b")])
    vae = split(encoder, builder.decoder())
    first, second = values(encoder, images)
    check(vae, values, images, first, second)
    assert "'a' and 'b' were taken for z_mean and log-var by their order" in vae.notes[0]


def test_sampled_z_in_the_encoder_settles_the_order(builder, own, images, values):
    from vae_edge.splitting import split

    def outputs(x):
        spread, mean = builder.dense(x), builder.dense(x)
        return [spread, mean, own.Sampling()([mean, spread])]

    encoder = builder.encoder(outputs)
    vae = split(encoder, builder.decoder())
    spread, mean, _ = values(encoder, images)
    check(vae, values, images, mean, spread)
    assert vae.notes == ()


def test_one_output_for_both_is_halved_and_said(builder, images, values):
    from vae_edge.splitting import split

    encoder = builder.encoder(lambda x: builder.dense(x, units=4))
    vae = split(encoder, builder.decoder())
    both = values(encoder, images)
    check(vae, values, images, both[:, :2], both[:, 2:])
    assert "first half" in vae.notes[0]


def test_scale_is_taken_as_told(builder, images, values):
    from vae_edge.splitting import Scale, SplitOptions, split

    encoder = builder.encoder(lambda x: [builder.dense(x), builder.dense(x)])
    vae = split(encoder, builder.decoder(), options=SplitOptions(scale=Scale.SOFTPLUS))
    first, second = values(encoder, images)
    check(vae, values, images, first, 2 * np.log(np.log1p(np.exp(second))))


def test_layers_of_ones_own_class_are_opened(own, images, values):
    from vae_edge.splitting import split

    model = own.GuideVAE()
    model(images)
    vae = split(model)
    mean, log_var, _ = values(model.encoder, images)
    check(vae, values, images, mean, log_var, model.decoder)
    assert model.encoder.dense_mean in vae.encoder.layers
    assert model.decoder.dense in vae.decoder.layers


def test_sampling_in_the_models_own_call_is_found(own, images, values):
    from vae_edge.splitting import split

    model = own.InlineVAE()
    model(images)
    vae = split(model)
    x = model.body(images)
    check(vae, values, images, values(model.second, x), 2 * values(model.first, x), model.head)


def test_blocks_of_ones_own_become_the_layers_inside(builder, own, images, values):
    from vae_edge.splitting import split

    def outputs(x):
        x = own.Residual(6)(own.Residual(6)(x))
        return [builder.dense(x, "z_mean"), builder.dense(x, "z_log_var")]

    encoder = builder.encoder(outputs)
    vae = split(encoder, builder.decoder())
    check(vae, values, images, *values(encoder, images))
    assert not any(isinstance(layer, own.Residual) for layer in vae.encoder.layers)


def test_layer_that_only_adds_a_loss_is_left_out(builder, own, images, values):
    from vae_edge.splitting import split

    model, heads = flat_model(builder, lambda heads: own.Sampling()(own.AddKL()(heads)))
    vae = split(model)
    check(vae, values, images, *heads)
    assert not any(isinstance(layer, own.AddKL) for layer in vae.encoder.layers)


def test_sampling_that_gives_the_mean_at_inference_is_found(builder, own, images, values):
    from vae_edge.splitting import split

    model, (mean, log_var) = flat_model(builder, own.TrainedSampling())
    check(split(model), values, images, mean, log_var)


def test_lambda_in_memory_is_measured(builder, images, values):
    from vae_edge.splitting import split

    keras = builder.keras
    model, (log_var, mean) = flat_model(
        builder,
        keras.layers.Lambda(
            lambda p: p[1] + keras.ops.exp(p[0] / 2) * keras.random.normal(keras.ops.shape(p[0]))
        ),
    )
    check(split(model), values, images, mean, log_var)


def test_latents_on_a_grid_become_a_vector(builder, own, images, values):
    from vae_edge.splitting import split

    layers, keras = builder.keras.layers, builder.keras
    image = builder.image()
    heads = [layers.Conv2D(3, 3, strides=2, padding="same")(image) for _ in range(2)]
    z = own.Sampling()(heads)
    grid = keras.Input((2, 2, 3))
    decoder = keras.Model(grid, layers.Conv2DTranspose(1, 3, strides=2, padding="same")(grid))
    vae = split(keras.Model(image, decoder(z)))
    mean, log_var = (values(keras.Model(image, head), images).reshape(6, 12) for head in heads)
    check(vae, values, images, mean, log_var)
    assert vae.latent_dim == 12


def test_layers_are_cut_where_the_user_says(builder, images, values):
    from vae_edge.splitting import SplitOptions, split

    image = builder.image()
    x = builder.trunk(image)
    heads = [builder.dense(x, "alpha"), builder.dense(x, "omega")]
    code = builder.keras.layers.Add(name="code")(heads)
    model = builder.keras.Model(image, builder.decode(code))
    options = SplitOptions(z_mean="alpha", z_log_var="omega", decoder_input="code")
    vae = split(model, options=options)
    check(vae, values, images, *(builder.keras.Model(image, head) for head in heads))
    with pytest.raises(ModelError, match=r"nothing random is in it.*alpha \(2\), omega \(2\)"):
        split(model)
    wrong = SplitOptions(z_mean="beta", z_log_var="omega", decoder_input="code")
    with pytest.raises(ModelError, match=r"--z-mean beta: there is no such layer.*alpha \(2\)"):
        split(model, options=wrong)
    with pytest.raises(ModelError, match=r"where z enters the decoder cannot be told"):
        split(model, options=SplitOptions(z_mean="alpha", z_log_var="omega"))


def test_sampling_that_fits_no_reading_is_asked_about(builder, own):
    from vae_edge.splitting import split

    model, _ = flat_model(builder, own.WarmSampling(), names=("left", "right"))
    with pytest.raises(ModelError, match=r"cannot be told.*fits no reading.*--z-mean LAYER"):
        split(model)


def test_condition_beside_the_image_is_refused(builder, own):
    from vae_edge.splitting import split

    keras = builder.keras
    z, label = keras.Input((2,)), keras.Input((10,))
    decoder = keras.Model(
        [z, label], builder.decode(keras.layers.Concatenate()([z, label])), name="decoder"
    )
    encoder = builder.encoder(lambda x: [builder.dense(x), builder.dense(x)])
    with pytest.raises(ModelError, match=r"decoder takes 2 tensors \(\(2\), \(10\)\).*condition"):
        split(encoder, decoder)
    image = builder.image()
    sampled = own.Sampling()(encoder(image))
    with pytest.raises(ModelError, match=r"takes 2 tensors.*condition"):
        split(keras.Model([image, label], decoder([sampled, label])))


def test_decoder_of_two_outputs_is_refused(builder):
    from vae_edge.splitting import split

    encoder = builder.encoder(lambda x: [builder.dense(x), builder.dense(x)])
    z = builder.keras.Input((2,))
    decoder = builder.keras.Model(z, [builder.decode(z), builder.decode(z)])
    with pytest.raises(ModelError, match="the decoder gives 2 tensors"):
        split(encoder, decoder)


def test_random_numbers_in_a_half_are_refused(builder, own):
    from vae_edge.splitting import split

    encoder = builder.encoder(lambda x: [builder.dense(x), builder.dense(x)])
    z = builder.keras.Input((2,))
    decoder = builder.keras.Model(z, builder.decode(z + own.Noise()(z)))
    with pytest.raises(ModelError, match="random numbers are drawn in it"):
        split(encoder, decoder)


@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_model_that_is_no_vae_is_refused(builder, kind):
    from vae_edge.splitting import split

    image = builder.image()
    code = builder.dense(builder.trunk(image), "code")
    outputs = builder.decode(code) if kind == "autoencoder" else code
    with pytest.raises(ModelError, match=r"no VAE that can be split: nothing random is in it"):
        split(builder.keras.Model(image, outputs))


def test_model_whose_call_leaves_keras_is_refused_with_the_reason(builder):
    import tensorflow as tf

    from vae_edge.splitting import split

    class Raw(builder.keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = builder.keras.layers.Dense(16)

        def call(self, z):
            return tf.reshape(self.layer(z), (-1, 4, 4, 1))

    decoder = Raw()
    decoder(np.zeros((1, 2), np.float32))
    encoder = builder.encoder(lambda x: [builder.dense(x), builder.dense(x)])
    with pytest.raises(ModelError, match=r"the decoder is a Raw whose layers cannot be read"):
        split(encoder, decoder)
