from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from vae_edge.images import tile
from vae_edge.preprocessing import PLAIN_PICTURES


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def originals(tiny):
    images = tiny.golden().images(PLAIN_PICTURES)
    np.save("in.npy", images)
    return images


@pytest.fixture
def reconstructions(tiny, originals):
    return tiny.decode(tiny.encode(originals)[0])


def test_figures_are_those_of_numpy(run_cli, tiny, tiny_bundle, originals, reconstructions):
    ran = run_cli("reconstruct", tiny_bundle, "in.npy", "--out", "out.npy", "--json")

    result = json.loads(ran.out)
    rmse = [
        float(np.sqrt(np.mean((a - b) ** 2)))
        for a, b in zip(reconstructions, originals, strict=True)
    ]
    np.testing.assert_allclose(result["rmse"], rmse, rtol=1e-4)
    np.testing.assert_allclose(result["z_mean"], tiny.encode(originals)[0], atol=1e-5)
    assert result["files"] == ["out.npy"]
    assert result["artifacts"] == "encoder.float32.onnx and decoder.float32.onnx"
    np.testing.assert_allclose(np.load("out.npy"), reconstructions, atol=1e-5)


def test_summary_names_mean_and_worst(run_cli, tiny_bundle, originals, reconstructions):
    rmse = np.sqrt(np.square(reconstructions - originals).mean(axis=(1, 2, 3)))

    ran = run_cli("reconstruct", tiny_bundle, "in.npy")

    assert ran.code == 0
    assert ran.out == (
        "5 images through encoder.float32.onnx and decoder.float32.onnx: reconstructed.png "
        f"(RMSE per pixel: mean {rmse.mean():.4f}, worst {rmse.max():.4f})\n"
    )


def test_sheet_shows_originals_above_their_reconstructions(
    run_cli, tiny_bundle, originals, reconstructions
):
    run_cli("reconstruct", tiny_bundle, "in.npy", "--out", "pair.png")

    sheet = np.asarray(Image.open("pair.png"), np.float32) / 255
    expected = tile(np.concatenate([originals, reconstructions]), columns=5)[..., 0]
    np.testing.assert_allclose(sheet, expected, atol=0.6 / 255)


def test_sheet_of_many_images_has_rows_of_sixteen(run_cli, tiny_bundle, tiny):
    images = tiny.golden(images=19).images(PLAIN_PICTURES)
    np.save("in.npy", images)

    run_cli("reconstruct", tiny_bundle, "in.npy", "--out", "pair.png")

    sheet = np.asarray(Image.open("pair.png"), np.float32) / 255
    assert sheet.shape == (4 * 5 - 1, 16 * 5 - 1)
    np.testing.assert_allclose(sheet[:4, :4], images[0, ..., 0], atol=0.6 / 255)
    np.testing.assert_allclose(sheet[10:14, 10:14], images[18, ..., 0], atol=0.6 / 255)
    assert not sheet[10:14, 15:19].any()  # filled up with black


def test_single_picture_goes_through(run_cli, tiny_bundle, originals):
    Image.fromarray((originals[0, ..., 0] * 255).round().astype(np.uint8)).save("digit.png")

    ran = run_cli("reconstruct", tiny_bundle, "digit.png", "--out", "folder")

    assert ran.out.startswith("1 images through ")
    with Image.open("folder/00000.png") as picture:
        assert picture.size == (4, 4)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 5, 5), np.float32), "expected images of (4, 4, 1)"),
        (np.full((1, 4, 4), 2, np.float32), "images must lie in [0, 1]"),
        (np.full((1, 4, 4), np.nan, np.float32), "images must lie in [0, 1]"),
        (np.zeros((0, 4, 4, 1), np.float32), "holds no images"),
    ],
)
def test_images_that_do_not_fit_are_refused(run_cli, tiny_bundle, array, message):
    np.save("in.npy", array)

    assert message in run_cli("reconstruct", tiny_bundle, "in.npy").error


def test_missing_images_are_refused(run_cli, tiny_bundle):
    assert "gone.png: no such file" in run_cli("reconstruct", tiny_bundle, "gone.png").error


def test_bundle_without_an_encoder_is_refused(run_cli, make_tiny_bundle, originals):
    assert len(originals)
    path = make_tiny_bundle(("decoder.float32.onnx",))

    assert "without its encoder" in run_cli("reconstruct", path, "in.npy").error


def test_name_with_brackets_is_printed_as_it_is(run_cli, tiny_bundle, originals):
    assert len(originals)

    assert (
        ": a[b].png (RMSE" in run_cli("reconstruct", tiny_bundle, "in.npy", "--out", "a[b].png").out
    )
