from __future__ import annotations

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the host extra")

from vae_edge.errors import TrainingError  # noqa: E402
from vae_edge.training.evaluation import evaluate_elbo  # noqa: E402
from vae_edge.training.model import VAE  # noqa: E402
from vae_edge.training.settings import Architecture  # noqa: E402

pytestmark = pytest.mark.host

SMALL = Architecture(
    image_shape=(4, 4, 1), latent_dim=2, encoder_filters=(2,), decoder_filters=(2,)
)
IMAGES = np.random.default_rng(0).random((7, 4, 4, 1), np.float32)


def test_elbo_is_the_mean_over_images_of_both_terms() -> None:
    model = VAE(SMALL)
    model.encoder.get_layer("z_log_var").bias.assign([-3.0, 1.0])  # far from a variance of 1
    result = evaluate_elbo(model, IMAGES, seed=5)
    posterior = model.encoder(IMAGES)
    z_mean, z_log_var = (np.array(posterior[name]) for name in ("z_mean", "z_log_var"))
    epsilon = np.random.default_rng(5).standard_normal((7, 2), dtype=np.float32)
    p = np.array(model.decoder(z_mean + np.exp(z_log_var / 2) * epsilon)).astype(np.float64)
    bce = -(IMAGES * np.log(p) + (1 - IMAGES) * np.log(1 - p)).sum((1, 2, 3)).mean()
    kl = 0.5 * (np.exp(z_log_var) - 1 - z_log_var + z_mean**2).sum(1).mean()
    assert result.reconstruction == pytest.approx(bce, rel=1e-5)
    assert result.kl == pytest.approx(kl, rel=1e-4)
    assert result.elbo == pytest.approx(-bce - kl, rel=1e-5)
    assert result.images == 7


def test_beta_does_not_enter_the_elbo() -> None:
    assert evaluate_elbo(VAE(SMALL, beta=9.0), IMAGES) == evaluate_elbo(VAE(SMALL), IMAGES)


def test_the_noise_depends_on_the_seed_alone() -> None:
    model = VAE(SMALL)
    first = evaluate_elbo(model, IMAGES, seed=1)
    assert evaluate_elbo(model, IMAGES, seed=1) == first
    assert evaluate_elbo(model, IMAGES, seed=2) != first


def test_batches_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model = VAE(SMALL)
    whole = evaluate_elbo(model, IMAGES)
    monkeypatch.setattr("vae_edge.training.evaluation._BATCH", 3)
    assert evaluate_elbo(model, IMAGES).elbo == pytest.approx(whole.elbo, rel=1e-6)


def test_the_models_own_noise_is_left_alone() -> None:
    model = VAE(SMALL)
    before = keras.ops.convert_to_numpy(model.seed_generator.state)
    evaluate_elbo(model, IMAGES)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.seed_generator.state), before)


def test_no_images_cannot_be_evaluated() -> None:
    with pytest.raises(TrainingError, match="cannot evaluate on 0 images"):
        evaluate_elbo(VAE(SMALL), IMAGES[:0])
