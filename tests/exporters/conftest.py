"""A small untrained VAE with every layer of the real one, and data for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved `.keras` VAE for 16x16 images; large enough that every weight gets quantized."""
    from vae_edge.training.model import VAE
    from vae_edge.training.settings import Architecture

    path = tmp_path_factory.mktemp("tiny") / "tiny.keras"
    shape = Architecture(
        image_shape=(16, 16, 1), latent_dim=3, encoder_filters=(8, 24), decoder_filters=(24, 8)
    )
    model = VAE(shape, seed=7)
    # Untrained biases are zero; a lost bias would go unnoticed.
    rng = np.random.default_rng(0)
    for half in (model.encoder, model.decoder):
        half.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in half.get_weights()])
    model.save(path)
    return path


@pytest.fixture(scope="session")
def tiny_vae(tiny_model: Path):
    from vae_edge.keras_vae import load_keras_vae

    return load_keras_vae(tiny_model)


@pytest.fixture(scope="session")
def tiny_representative():
    from exporters.representative import Representative

    rng = np.random.default_rng(1)

    def draw(count: int) -> np.ndarray:
        return rng.integers(0, 256, (count, 16, 16, 1)).astype(np.float32) / np.float32(255)

    return Representative(source="noise", seed=3, calibration=draw(64), golden=draw(16))
