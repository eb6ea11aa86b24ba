"""docs/your-own-vae.md: its Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vae_edge

PAGE = Path(vae_edge.__file__).parents[1] / "docs" / "your-own-vae.md"

pytestmark = pytest.mark.host


def halves():
    import keras
    from keras import layers

    image = keras.Input((4, 4, 1))
    x = layers.Flatten()(image)
    # A standard deviation, which the page says of it.
    heads = [layers.Dense(2, name="mu")(x), layers.Dense(2, activation="softplus", name="sigma")(x)]
    z = keras.Input((2,))
    y = layers.Reshape((4, 4, 1))(layers.Dense(16, activation="sigmoid")(z))
    return keras.Model(image, heads, name="encoder"), keras.Model(z, y, name="decoder")


def test_page_s_python_runs(tmp_path, monkeypatch, layers_file):
    import keras
    import numpy as np

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_layers.py").write_text(layers_file.read_text())
    encoder, decoder = halves()
    image = keras.Input((4, 4, 1))
    mean, _ = encoder(image)
    model = keras.Model(image, decoder(mean))
    model.save("vae.keras")
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    space = {"model": model, "encoder": encoder, "decoder": decoder}

    exec(block, space)

    vae = space["vae"]
    rows = np.random.default_rng(0).random((3, 4, 4, 1), np.float32)
    wanted, sigma = encoder(rows)
    given = vae.encoder(rows)
    np.testing.assert_allclose(given["z_mean"], wanted, atol=1e-6)
    np.testing.assert_allclose(given["z_log_var"], 2 * np.log(np.asarray(sigma)), atol=1e-5)
    assert any("standard deviation" in note for note in vae.notes)
