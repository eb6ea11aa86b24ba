from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the host extra")
special = pytest.importorskip("scipy.special")
integrate = pytest.importorskip("scipy.integrate")
tf = pytest.importorskip("tensorflow")

from vae_edge.training.model import VAE, kl_divergence, reconstruction_loss  # noqa: E402
from vae_edge.training.settings import Architecture  # noqa: E402

pytestmark = pytest.mark.host

SMALL = Architecture(
    image_shape=(8, 8, 1), latent_dim=2, encoder_filters=(3, 4), decoder_filters=(4, 3)
)


def images(count: int, shape: tuple[int, ...] = (8, 8, 1)) -> np.ndarray:
    return np.random.default_rng(0).random((count, *shape), np.float32)


def host(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def test_reconstruction_loss_is_the_binary_cross_entropy() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (5, 4, 4, 3)).astype(np.float32)
    target = images(5, (4, 4, 3))
    p = special.expit(logits.astype(np.float64))
    expected = -(special.xlogy(target, p) + special.xlogy(1 - target, 1 - p)).sum((1, 2, 3))
    np.testing.assert_allclose(host(reconstruction_loss(logits, target)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("logit", "pixel", "expected"),
    [
        (0.0, 0.0, np.log(2)),
        (0.0, 1.0, np.log(2)),
        (1e4, 1.0, 0.0),
        (-1e4, 0.0, 0.0),
        (1e4, 0.0, 1e4),
        (-1e4, 1.0, 1e4),
        (1e30, 0.0, 1e30),
        (-200.0, 0.5, 100.0),
    ],
)
def test_extreme_logits_give_the_exact_loss(logit: float, pixel: float, expected: float) -> None:
    shape = (1, 1, 1, 1)
    loss = reconstruction_loss(np.full(shape, logit, np.float32), np.full(shape, pixel, np.float32))
    np.testing.assert_allclose(host(loss), [expected], rtol=1e-6, atol=1e-30)


def test_gradients_of_saturated_pixels_are_finite() -> None:
    logits = tf.Variable(np.array([[[[1e4]], [[-1e4]], [[0.5]]]], np.float32))
    with tf.GradientTape() as tape:
        loss = reconstruction_loss(logits, np.array([[[[0.0]], [[1.0]], [[0.0]]]], np.float32))
    # d/dl = sigmoid(l) - x
    gradient = tape.gradient(loss, logits).numpy().ravel()
    np.testing.assert_allclose(gradient, [1, -1, 0.622459], atol=1e-6)


@pytest.mark.parametrize(("mean", "log_var"), [(0.0, 0.0), (1.5, 0.0), (0.0, -3.0), (-2.0, 1.0)])
def test_kl_divergence_is_the_integral(mean: float, log_var: float) -> None:
    sigma = np.exp(log_var / 2)

    def integrand(z: float) -> float:
        log_q = -0.5 * ((z - mean) / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi))
        log_p = -0.5 * z**2 - np.log(np.sqrt(2 * np.pi))
        return float(np.exp(log_q) * (log_q - log_p))

    expected, _ = integrate.quad(integrand, mean - 12 * sigma, mean + 12 * sigma)
    received = host(
        kl_divergence(np.array([[mean]], np.float32), np.array([[log_var]], np.float32))
    )
    np.testing.assert_allclose(received, [expected], atol=1e-6)


def test_kl_divergence_is_summed_over_dimensions_not_images() -> None:
    z_mean = np.array([[1, 2], [3, 0]], np.float32)
    np.testing.assert_allclose(host(kl_divergence(z_mean, np.zeros_like(z_mean))), [2.5, 4.5])


def test_kl_divergence_near_the_prior_keeps_its_digits() -> None:
    # 0.5 * (exp(v) - 1 - v) = v^2 / 4 + ...; computed with exp, float32 would give 0 or noise.
    log_var = np.array([[1e-3]], np.float32)
    received = host(kl_divergence(np.zeros((1, 1), np.float32), log_var))
    np.testing.assert_allclose(received, [2.5e-7], rtol=1e-2)


def test_the_default_model_is_the_one_of_the_design() -> None:
    model = VAE()
    assert _layers(model.encoder) == [
        ("InputLayer", (28, 28, 1)),
        ("Conv2D", (14, 14, 32)),
        ("Conv2D", (7, 7, 64)),
        ("Flatten", (3136,)),
        ("Dense", (2,)),
        ("Dense", (2,)),
    ]
    assert _layers(model.decoder) == [
        ("InputLayer", (2,)),
        ("Dense", (3136,)),
        ("Reshape", (7, 7, 64)),
        ("Conv2DTranspose", (14, 14, 64)),
        ("Conv2DTranspose", (28, 28, 32)),
        ("Conv2DTranspose", (28, 28, 1)),
        ("Activation", (28, 28, 1)),
    ]
    assert model.count_params() == 96453


def _layers(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(type(layer).__name__, tuple(layer.output.shape[1:])) for layer in model.layers]


def test_inputs_and_outputs_have_their_names() -> None:
    model = VAE(SMALL)
    assert [tensor.name for tensor in model.encoder.inputs] == ["image"]
    assert sorted(model.encoder.output) == ["z_log_var", "z_mean"]
    assert [tensor.name for tensor in model.decoder.inputs] == ["z"]
    assert model.decoder.layers[-1].name == "reconstruction"


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(image_shape=(16, 24, 3), latent_dim=5, hidden_units=(7, 6)),
        Architecture(image_shape=(6, 4, 1), encoder_filters=(2,), decoder_filters=(3,)),
        Architecture(image_shape=(8, 8, 1), encoder_filters=(2, 2, 2), decoder_filters=(4,)),
    ],
)
def test_shape_filters_and_units_can_be_chosen(architecture: Architecture) -> None:
    model = VAE(architecture)
    batch = images(2, architecture.image_shape)
    outputs = model(batch)
    assert outputs["reconstruction"].shape == batch.shape
    assert outputs["z_mean"].shape == (2, architecture.latent_dim)
    units = [layer.units for layer in model.encoder.layers if isinstance(layer, keras.layers.Dense)]
    assert units == [*architecture.hidden_units, architecture.latent_dim, architecture.latent_dim]
    dense = [layer.units for layer in model.decoder.layers if isinstance(layer, keras.layers.Dense)]
    assert dense[:-1] == list(reversed(architecture.hidden_units))


def test_nothing_random_is_in_the_encoder_or_decoder() -> None:
    model = VAE(SMALL)
    for part in (model.encoder, model.decoder):
        function = tf.function(part).get_concrete_function(
            tf.TensorSpec((1, *part.inputs[0].shape[1:]), tf.float32)
        )
        graph = function.graph.as_graph_def()
        operators = {node.op for node in graph.node}
        operators |= {node.op for inner in graph.library.function for node in inner.node_def}
        assert not [name for name in operators if "Random" in name]
        assert "Conv2D" in str(operators)


def test_the_reconstruction_is_the_decoded_z() -> None:
    model = VAE(SMALL)
    outputs = model(images(3))
    np.testing.assert_allclose(
        host(model.decoder(outputs["z"])), host(outputs["reconstruction"]), atol=1e-6
    )
    np.testing.assert_allclose(
        special.expit(host(outputs["logits"])), host(outputs["reconstruction"]), atol=1e-6
    )


def test_z_is_drawn_from_the_posterior() -> None:
    model = VAE(SMALL)
    model.encoder.get_layer("z_log_var").bias.assign([-3.0, 1.0])  # far from a variance of 1
    batch = np.repeat(images(1), 4000, axis=0)
    outputs = model(batch)
    sigma = np.exp(host(outputs["z_log_var"])[0] / 2)
    standard = (host(outputs["z"]) - host(outputs["z_mean"])) / sigma
    # 4000 draws: the mean is within 4/sqrt(4000), the deviation within 4/sqrt(8000).
    np.testing.assert_allclose(standard.mean(0), 0, atol=0.064)
    np.testing.assert_allclose(standard.std(0), 1, atol=0.045)


def test_sampling_goes_on_and_depends_on_the_seed() -> None:
    first, again, other = VAE(SMALL, seed=3), VAE(SMALL, seed=3), VAE(SMALL, seed=4)
    batch = images(2)
    z = host(first(batch)["z"])
    np.testing.assert_array_equal(z, host(again(batch)["z"]))
    assert not np.array_equal(z, host(first(batch)["z"]))
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_no_two_layers_start_from_the_same_numbers() -> None:
    model = VAE(Architecture(image_shape=(8, 8, 1), encoder_filters=(3, 3), decoder_filters=(3, 3)))
    heads = [model.encoder.get_layer(name).kernel for name in ("z_mean", "z_log_var")]
    assert not np.array_equal(host(heads[0]), host(heads[1]))


@pytest.mark.parametrize("beta", [1.0, 4.0, 0.0])
def test_the_loss_is_reconstruction_plus_beta_times_kl(beta: float) -> None:
    model = VAE(SMALL, beta=beta)
    model.compile(optimizer="adam", jit_compile=False)
    batch = images(6)
    result = model.test_on_batch(batch, return_dict=True)
    assert float(result["loss"]) == pytest.approx(
        float(result["reconstruction"]) + beta * float(result["kl"]), rel=1e-6
    )
    posterior = model.encoder(batch)
    z_mean, z_log_var = (host(posterior[name]) for name in ("z_mean", "z_log_var"))
    kl = 0.5 * (np.exp(z_log_var) - 1 - z_log_var + z_mean**2).sum(1).mean()
    assert float(result["kl"]) == pytest.approx(kl, rel=1e-4)


def test_fit_as_every_keras_model_does_lowers_the_loss() -> None:
    model = VAE(SMALL)
    model.compile(optimizer=keras.optimizers.Adam(0.01), jit_compile=False)
    history = model.fit(np.round(images(64)), epochs=3, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert set(history) == {"loss", "reconstruction", "kl"}


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    model = VAE(SMALL, beta=2.0, seed=7, name="mine")
    model.set_weights([weight + 0.01 for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert isinstance(loaded, VAE)
    assert (loaded.architecture, loaded.beta, loaded.seed, loaded.name) == (SMALL, 2.0, 7, "mine")
    batch = images(3)
    for name in ("z_mean", "z_log_var"):
        np.testing.assert_array_equal(
            host(model.encoder(batch)[name]), host(loaded.encoder(batch)[name])
        )
    z = np.array([[0.3, -1.0]], np.float32)
    np.testing.assert_array_equal(host(model.decoder(z)), host(loaded.decoder(z)))


def test_the_configuration_is_plain_json() -> None:
    config = keras.saving.serialize_keras_object(VAE(SMALL))
    assert config["registered_name"] == "vae_edge>VAE"
    assert config["config"]["architecture"]["image_shape"] == [8, 8, 1]
