"""A small VAE that was trained just enough for every layer to matter, and its bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SIZE = 16


def pictures(count: int, seed: int) -> np.ndarray:
    """Soft bars off the middle: no two ends or axes of such an image are alike."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    y, x, tall = (rng.uniform(*ends, (count, 1, 1)) for ends in ((3, 13), (3, 13), (1.5, 5)))
    images = np.exp(-(((rows - y) / tall) ** 2) - ((columns - x - 0.3 * (rows - y)) / 2) ** 2)
    levels = np.rint(images * 255)[..., np.newaxis]
    return levels.astype(np.float32) / np.float32(255)


@pytest.fixture(scope="session")
def sensitive_vae(tmp_path_factory: pytest.TempPathFactory):
    """Trained for some seconds: an untrained one hardly depends on anything it is given."""
    import keras

    from vae_edge.keras_vae import load_keras_vae
    from vae_edge.training.model import VAE
    from vae_edge.training.settings import Architecture

    keras.utils.set_random_seed(0)
    shape = Architecture(
        image_shape=(SIZE, SIZE, 1),
        latent_dim=3,
        encoder_filters=(8, 16),
        decoder_filters=(16, 8),
    )
    model = VAE(shape, seed=7)
    model.compile(keras.optimizers.Adam(0.003))
    model.fit(pictures(4000, seed=1), batch_size=50, epochs=8, verbose=0)
    path = tmp_path_factory.mktemp("sensitive") / "sensitive.keras"
    model.save(path)
    return load_keras_vae(path)


@pytest.fixture(scope="session")
def sensitive_bundle(sensitive_vae, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both formats at all four precisions."""
    from exporters.pipeline import ExportPlan, export_bundle
    from exporters.representative import Representative
    from vae_edge.terms import Format, Precision

    made = (Precision.FLOAT32, Precision.FLOAT16, Precision.DYNAMIC, Precision.INT8)
    plan = ExportPlan(
        destination=tmp_path_factory.mktemp("sabotage") / "bundle",
        formats=tuple(Format),
        precisions=dict.fromkeys(Format, made),
        keep_failing=True,
    )
    # Bright ones and noise too: else an int8 encoder saturates on the edge cases, as it should.
    noise = np.random.default_rng(6).random((32, SIZE, SIZE, 1), np.float32)
    calibration = np.concatenate([pictures(192, seed=2), 1 - pictures(32, seed=5), noise])
    images = Representative(
        source="bars", seed=3, calibration=calibration, golden=pictures(64, seed=4)
    )
    return export_bundle(sensitive_vae, plan, images).bundle.path
