"""The code in docs/anomaly.md runs as it stands, and finds what numpy finds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vae_edge

DOCUMENT = Path(vae_edge.__file__).parents[1] / "docs" / "anomaly.md"


@pytest.fixture
def code():
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return compile(block, str(DOCUMENT), "exec")


def save(folder, levels):
    folder.mkdir()
    for index, image in enumerate(levels):
        Image.fromarray(image).save(folder / f"{index:03d}.png")


def negative_elbo(tiny, image):
    """One image at a time, pixel by pixel, from the formulas."""
    z_mean, z_log_var = tiny.encode(image[np.newaxis])
    p = tiny.decode(z_mean)[0].astype(float)
    error = -sum(
        x * np.log(q) + (1 - x) * np.log(1 - q) for x, q in zip(image.flat, p.flat, strict=True)
    )
    pairs = zip(z_mean[0].astype(float), z_log_var[0].astype(float), strict=True)
    return error + sum((np.exp(v) - 1 - v + m * m) / 2 for m, v in pairs)


def test_frames_above_the_quantile_are_reported(
    code, tiny, tiny_bundle, tmp_path, monkeypatch, capsys
):
    rng = np.random.default_rng(0)
    normal = rng.integers(0, 128, (40, 4, 4), np.uint8)
    camera = np.concatenate([rng.integers(0, 128, (5, 4, 4)), rng.integers(0, 256, (5, 4, 4))])
    camera = camera.astype(np.uint8)
    tiny_bundle.rename(tmp_path / "mnist-vae")
    save(tmp_path / "normal", normal)
    save(tmp_path / "camera", camera)
    monkeypatch.chdir(tmp_path)

    exec(code, {"__name__": "anomaly"})

    expected = [negative_elbo(tiny, image / np.float32(255)) for image in camera]
    threshold = np.quantile(
        [negative_elbo(tiny, image / np.float32(255)) for image in normal], 0.99
    )
    found = {
        f"{index:03d}.png: {score:.2f} nats, more than {threshold:.2f}"
        for index, score in enumerate(expected)
        if score > threshold
    }
    assert set(capsys.readouterr().out.splitlines()) == found
    assert 0 < len(found) < len(camera)


def test_frame_of_another_size_and_colour_is_fitted_as_its_file_would_be(tmp_path):
    """The sentence about the frames of a camera library."""
    from vae_edge.images import read_images
    from vae_edge.pixels import fit_picture
    from vae_edge.terms import Fit

    frame = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(frame).save(tmp_path / "frame.png")

    np.testing.assert_array_equal(
        fit_picture(Image.fromarray(frame), (4, 4, 1), Fit.CROP),
        read_images(tmp_path / "frame.png", (4, 4, 1), fit="crop")[0],
    )
