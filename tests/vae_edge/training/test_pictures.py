from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="needs the host extra")

from vae_edge.errors import RuntimeMissingError
from vae_edge.training import pictures
from vae_edge.training.pictures import PICTURES, draw_manifold, draw_pictures

pytestmark = pytest.mark.host

IMAGES = np.random.default_rng(0).random((30, 28, 28, 1), np.float32)
LABELS = np.arange(30) % 10


def encode(images: np.ndarray) -> np.ndarray:
    return images[:, 0, :2, 0]


def encode_4(images: np.ndarray) -> np.ndarray:
    return images[:, 0, :4, 0]


def decode(z: np.ndarray) -> np.ndarray:
    """A grey image as bright as the first number of z says."""
    return np.broadcast_to(z[:, 0, None, None, None], (len(z), 28, 28, 1)).astype(np.float32)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_all_pictures_of_a_latent_plane_are_drawn(tmp_path: Path) -> None:
    paths = draw_pictures(
        tmp_path, encode=encode, decode=decode, images=IMAGES, labels=LABELS, latent_dim=2
    )
    assert sorted(path.name for path in paths) == sorted(PICTURES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PICTURES)


def test_originals_stand_above_their_reconstructions(tmp_path: Path) -> None:
    draw_pictures(tmp_path, encode=encode, decode=decode, images=IMAGES, labels=None, latent_dim=2)
    sheet = pixels(tmp_path / "reconstructions.png")[::2, ::2]
    assert sheet.shape == (2 * 28, 16 * 28)
    np.testing.assert_array_equal(sheet[:28, 28:56], np.round(IMAGES[1, ..., 0] * 255))
    assert (sheet[28:, 28:56] == round(float(IMAGES[1, 0, 0, 0]) * 255)).all()


def test_the_manifold_runs_over_the_quantiles_of_the_prior(tmp_path: Path) -> None:
    asked: list[np.ndarray] = []

    def remember(z: np.ndarray) -> np.ndarray:
        asked.append(z)
        return decode(z)

    draw_manifold(tmp_path, decode=remember, side=3)
    (z,) = asked
    # Phi^-1 of 1/6, 1/2, 5/6
    third = 0.967422
    np.testing.assert_allclose(z[:3], [(-third, third), (0, third), (third, third)], atol=1e-5)
    np.testing.assert_allclose(z[6:], [(-third, -third), (0, -third), (third, -third)], atol=1e-5)


def test_a_plane_is_not_drawn_of_more_dimensions(tmp_path: Path) -> None:
    paths = draw_pictures(
        tmp_path, encode=encode_4, decode=decode, images=IMAGES, labels=LABELS, latent_dim=4
    )
    assert [path.name for path in paths] == ["reconstructions.png", "generated.png", "latents.png"]


def test_a_single_dimension_has_no_plane_at_all(tmp_path: Path) -> None:
    paths = draw_pictures(
        tmp_path,
        encode=lambda images: images[:, 0, :1, 0],
        decode=decode,
        images=IMAGES,
        labels=LABELS,
        latent_dim=1,
    )
    assert [path.name for path in paths] == ["reconstructions.png", "generated.png"]


def test_colour_few_images_and_many_classes_are_drawn(tmp_path: Path) -> None:
    paths = draw_pictures(
        tmp_path,
        encode=encode,
        decode=lambda z: np.full((len(z), 64, 64, 3), 0.5, np.float32),
        images=np.random.default_rng(0).random((5, 64, 64, 3), np.float32),
        labels=np.array([3, 50, 7, 3, 900]),
        latent_dim=2,
    )
    assert len(paths) == 4
    assert pixels(tmp_path / "reconstructions.png").shape == (2 * 64, 5 * 64, 3)


def test_more_than_ten_classes_are_told_apart(tmp_path: Path) -> None:
    draw_pictures(
        tmp_path,
        encode=encode,
        decode=decode,
        images=IMAGES,
        labels=np.arange(30),
        latent_dim=2,
    )
    assert len(np.unique(pixels(tmp_path / "latents.png")[..., :3].reshape(-1, 3), axis=0)) > 30


def test_the_same_model_draws_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        draw_pictures(
            tmp_path / name,
            encode=encode,
            decode=decode,
            images=IMAGES,
            labels=LABELS,
            latent_dim=2,
        )
    for name in PICTURES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_without_matplotlib_the_error_says_how_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeMissingError, match="pip install 'vae-edge"):
        pictures.draw_latents(tmp_path, encode=encode, images=IMAGES, labels=None)
