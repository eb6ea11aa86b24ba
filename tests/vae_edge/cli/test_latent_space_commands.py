"""`interpolate` and `manifold`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_edge import EdgeVAE
from vae_edge.images import tile
from vae_edge.preprocessing import PLAIN_PICTURES

Q = 0.6744898  # Phi^-1(3/4), from a table


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.float32([[1, 0]]))
    np.save("b.npy", np.float32([0, 2]))


def pixels(path):
    return np.asarray(Image.open(path), np.float32) / 255


def test_rows_are_interpolated_in_a_line_by_default(run_cli, tiny, tiny_bundle):
    ran = run_cli("interpolate", tiny_bundle, "a.npy", "b.npy", "--steps", 3, "--out", "way.npy")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "3 images from decoder.float32.onnx, linear: way.npy\n"
    expected = tiny.decode(np.float32([[1, 0], [0.5, 1], [0, 2]]))
    np.testing.assert_allclose(np.load("way.npy"), expected, atol=1e-6)


def test_slerp_follows_the_arc(run_cli, tiny, tiny_bundle):
    """Over a right angle the middle weighs both ends by sin(45 degrees)."""
    options = ("--steps", 3, "--method", "slerp", "--out", "way.npy", "--json")
    ran = run_cli("interpolate", tiny_bundle, "a.npy", "b.npy", *options)

    half = np.sqrt(0.5)
    expected = tiny.decode(np.float32([[1, 0], [half, 2 * half], [0, 2]]))
    np.testing.assert_allclose(np.load("way.npy"), expected, atol=1e-6)
    assert json.loads(ran.out) == {
        "artifact": "decoder.float32.onnx",
        "count": 3,
        "method": "slerp",
        "z": [[1.0, 0.0], [0.0, 2.0]],
        "files": ["way.npy"],
    }


def test_pictures_are_interpolated_between_their_means_on_one_sheet(run_cli, tiny, tiny_bundle):
    images = tiny.golden().images(PLAIN_PICTURES)[:2]
    for name, image in zip("xy", images, strict=True):
        Image.fromarray((image[..., 0] * 255).round().astype(np.uint8)).save(f"{name}.png")

    assert run_cli("interpolate", tiny_bundle, "x.png", "y.png", "--steps", 5).code == 0

    x, y = tiny.encode(images)[0]
    expected = tile(tiny.decode(np.stack([x + (y - x) * t / 4 for t in range(5)])), 5)
    np.testing.assert_allclose(pixels("interpolated.png"), expected[..., 0], atol=0.6 / 255)


def test_picture_and_row_can_be_mixed_and_fitted(run_cli, tiny, tiny_bundle):
    Image.fromarray(np.full((8, 8, 3), 128, np.uint8)).save("x.png")
    options = ("--fit", "resize", "--steps", 2, "--out", "way.npy")

    assert run_cli("interpolate", tiny_bundle, "x.png", "a.npy", *options).code == 0

    z_mean = tiny.encode(np.full((1, 4, 4, 1), 128 / 255))[0]
    expected = tiny.decode(np.concatenate([z_mean, [[1, 0]]]))
    np.testing.assert_allclose(np.load("way.npy"), expected, atol=1e-5)


def test_rows_need_no_encoder(run_cli, make_tiny_bundle):
    path = make_tiny_bundle(("decoder.float32.onnx",))

    assert run_cli("interpolate", path, "a.npy", "b.npy").code == 0


def test_ends_that_are_none_are_refused(run_cli, tiny_bundle):
    np.save("many.npy", np.zeros((3, 4, 4), np.float32))
    np.save("rows.npy", np.zeros((3, 2), np.float32))
    np.save("zero.npy", np.zeros((1, 2), np.float32))

    def error(*arguments):
        return run_cli("interpolate", tiny_bundle, "a.npy", *arguments).error

    assert "many.npy: holds 3 images; expected one" in error("many.npy")
    assert "rows.npy: holds float32 (3, 2); expected images" in error("rows.npy")
    assert "slerp needs latents with a direction" in error("zero.npy", "--method", "slerp")
    assert "gone.npy: no such file" in error("gone.npy")
    assert not Path("interpolated.png").exists()


def test_manifold_is_the_grid_of_equal_probability(run_cli, tiny, tiny_bundle):
    ran = run_cli("manifold", tiny_bundle, "--steps", 2, "--json")

    assert json.loads(ran.out) == {
        "artifact": "decoder.float32.onnx",
        "count": 4,
        "axes": [0, 1],
        "span": None,
        "files": ["manifold.png"],
    }
    grid = np.float32([[-Q, Q], [Q, Q], [-Q, -Q], [Q, -Q]])
    expected = tile(tiny.decode(grid), 2)[..., 0]
    np.testing.assert_allclose(pixels("manifold.png"), expected, atol=0.6 / 255)


def test_span_and_axes_choose_the_plane(run_cli, tiny, tiny_bundle):
    options = ("--steps", 3, "--span", 1.5, "--axes", "1,0", "--out", "plane.npy")
    ran = run_cli("manifold", tiny_bundle, *options)

    assert ran.out == "3 by 3 images from decoder.float32.onnx: plane.npy\n"
    grid = np.float32([[up, across] for up in (1.5, 0, -1.5) for across in (-1.5, 0, 1.5)])
    np.testing.assert_allclose(np.load("plane.npy"), tiny.decode(grid), atol=1e-6)


def test_command_draws_what_edge_vae_gives(run_cli, tiny_bundle):
    run_cli("manifold", tiny_bundle, "--steps", 7, "--span", 2, "--out", "plane.npy")
    run_cli("interpolate", tiny_bundle, "a.npy", "b.npy", "--steps", 40, "--out", "way.npy")

    with EdgeVAE.open(tiny_bundle) as vae:
        np.testing.assert_array_equal(np.load("plane.npy"), vae.manifold(7, span=2))
        np.testing.assert_array_equal(np.load("way.npy"), vae.interpolate([1, 0], [0, 2], 40))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--axes", "0"), "--axes 0: expected two numbers of latents, e.g. 0,1"),
        (("--axes", "0,1,2"), "--axes 0,1,2: expected two numbers"),
        (("--axes", "a,b"), "--axes a,b: expected two numbers"),
        (("--axes", "0,2"), "two different latents of 0 to 1; received 0,2"),
        (("--axes", "1,1"), "received 1,1"),
        (("--span", 0), "span must be over 0 and at most 6; received 0"),
        (("--span", 7), "received 7"),
        (("--out", "a.txt"), "expected a picture"),
    ],
)
def test_planes_that_cannot_be_are_refused(run_cli, tiny_bundle, options, message):
    assert message in run_cli("manifold", tiny_bundle, *options).error
    assert not Path("manifold.png").exists()


def test_model_of_more_latents_asks_for_axes(run_cli, tiny_bundle, fake_runner, monkeypatch):
    wide = EdgeVAE(
        latent_dim=5, image_shape=(4, 4, 1), encoder=None, decoder=fake_runner("decoder")
    )
    monkeypatch.setattr(EdgeVAE, "open", lambda *_, **__: wide)

    error = run_cli("manifold", tiny_bundle).error

    assert "this model has 5 latents, and a manifold shows two" in error
    assert "--axes 0,1" in error
