from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_edge import EdgeVAE
from vae_edge.preprocessing import PLAIN_PICTURES


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(tiny):
    images = tiny.golden(images=40).images(PLAIN_PICTURES)
    np.save("in.npy", images)
    return images


def save_pictures(images, folder="pictures"):
    Path(folder).mkdir()
    for index, image in enumerate(images):
        levels = (image[..., 0] * 255).round().astype(np.uint8)
        Image.fromarray(levels).save(f"{folder}/{index:02d}.png")


def test_archive_holds_mean_and_log_variance(run_cli, tiny, tiny_bundle, images):
    ran = run_cli("encode", tiny_bundle, "in.npy")

    assert ran.code == 0
    assert ran.out == "40 images to 2 latents each by encoder.float32.onnx: latents.npz\n"
    assert ran.err == ""
    with np.load("latents.npz") as latents:
        assert set(latents.files) == {"z_mean", "z_log_var"}
        assert latents["z_mean"].dtype == latents["z_log_var"].dtype == np.float32
        for name, expected in zip(("z_mean", "z_log_var"), tiny.encode(images), strict=True):
            np.testing.assert_allclose(latents[name], expected, atol=1e-5)


def test_folder_gives_the_names_of_its_files_in_their_order(run_cli, tiny, tiny_bundle, images):
    save_pictures(images)

    run_cli("encode", tiny_bundle, "pictures", "--out", "sub/a.npz")

    with np.load("sub/a.npz") as latents:
        assert latents["files"].tolist() == [f"{index:02d}.png" for index in range(40)]
        np.testing.assert_allclose(latents["z_mean"], tiny.encode(images)[0], atol=1e-5)
    assert [path.name for path in Path("sub").iterdir()] == ["a.npz"]


def test_array_holds_the_means_alone(run_cli, tiny, tiny_bundle, images):
    ran = run_cli("encode", tiny_bundle, "in.npy", "--out", "a.npy", "--json")

    assert json.loads(ran.out) == {
        "artifact": "encoder.float32.onnx",
        "count": 40,
        "latent_dim": 2,
        "files": ["a.npy"],
    }
    z_mean = np.load("a.npy")
    assert z_mean.dtype == np.float32
    np.testing.assert_allclose(z_mean, tiny.encode(images)[0], atol=1e-5)


def test_table_names_each_image_and_loses_no_digit(run_cli, tiny_bundle, images):
    save_pictures(images[:2])

    run_cli("encode", tiny_bundle, "pictures", "--out", "a.csv")
    run_cli("encode", tiny_bundle, "in.npy", "--out", "b.csv")

    with EdgeVAE.open(tiny_bundle) as vae:
        expected = np.concatenate(vae.encode(images), axis=1)
    first, *rows = csv.reader(Path("a.csv").read_text().splitlines())
    assert first == ["file", "z_mean_0", "z_mean_1", "z_log_var_0", "z_log_var_1"]
    assert [row[0] for row in rows] == ["00.png", "01.png"]
    np.testing.assert_array_equal(np.float32([row[1:] for row in rows]), expected[:2])
    first, *rows = csv.reader(Path("b.csv").read_text().splitlines())
    assert first[0] == "index"
    assert [row[0] for row in rows] == [str(index) for index in range(40)]
    np.testing.assert_array_equal(np.float32([row[1:] for row in rows]), expected)


@pytest.mark.parametrize("key", ["images", "x_test", "x_train", "only"])
def test_archives_of_images_are_read(run_cli, tiny, tiny_bundle, images, key):
    others = {} if key == "only" else {"labels": np.arange(40)}
    np.savez("in.npz", **{key: (images * 255).round().astype(np.uint8)}, **others)

    assert run_cli("encode", tiny_bundle, "in.npz", "--out", "a.npy").code == 0

    np.testing.assert_allclose(np.load("a.npy"), tiny.encode(images)[0], atol=1e-5)


def test_array_on_stdin_is_read(run_cli, tiny, tiny_bundle, images, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("in.npy").read_bytes())))

    assert run_cli("encode", tiny_bundle, "-", "--out", "a.npy").code == 0

    np.testing.assert_allclose(np.load("a.npy"), tiny.encode(images)[0], atol=1e-5)


def test_pictures_of_another_size_are_refused_with_the_option_and_taken_with_it(
    run_cli, tiny, tiny_bundle
):
    """A grey border of 2 pixels left and right: cropping takes it off again."""
    middle = tiny.golden().images(PLAIN_PICTURES)[:1]
    wide = np.pad((middle[0] * 255).round().astype(np.uint8), ((0, 0), (2, 2), (0, 0)))
    Image.fromarray(np.repeat(wide, 3, axis=2)).save("wide.png")

    error = run_cli("encode", tiny_bundle, "wide.png").error
    ran = run_cli("encode", tiny_bundle, "wide.png", "--fit", "crop", "--out", "a.npy")

    assert "wide.png: is 8x4 RGB; the model takes 4x4 L" in error
    assert "--fit resize, crop or pad" in error
    assert ran.code == 0
    np.testing.assert_allclose(np.load("a.npy"), tiny.encode(middle)[0], atol=1e-5)
    assert not Path("latents.npz").exists()


@pytest.mark.parametrize("out", ["a.npz", "a.npy", "a.csv"])
def test_nothing_is_left_when_a_late_image_is_bad(run_cli, tiny_bundle, images, out):
    images[39] = np.nan
    np.save("in.npy", images)
    Path("out").mkdir()

    error = run_cli("encode", tiny_bundle, "in.npy", "--out", f"out/{out}").error

    assert "not finite" in error
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize("out", ["a.png", "a", "folder.npy"])
def test_output_of_another_kind_is_refused_before_any_work(run_cli, tmp_path, out):
    Path("folder.npy").mkdir()

    error = run_cli("encode", tmp_path / "no bundle", "in.npy", "--out", out).error

    assert error.startswith(f"--out {out}: expected the name of a file that ends in .npz, .npy")


def test_output_that_cannot_be_written_is_refused(run_cli, tiny_bundle, images):
    assert len(images)
    Path("file").write_text("")

    for suffix in ("npz", "npy", "csv"):
        error = run_cli("encode", tiny_bundle, "in.npy", "--out", f"file/a.{suffix}").error
        assert error.startswith(f"file/a.{suffix}: cannot be written (")


def test_missing_images_and_missing_encoder_are_refused(run_cli, tiny_bundle, make_tiny_bundle):
    assert "gone.npy: no such file" in run_cli("encode", tiny_bundle, "gone.npy").error
    path = make_tiny_bundle(("decoder.float32.onnx",))
    np.save("in.npy", np.zeros((1, 4, 4)))
    assert "without its encoder" in run_cli("encode", path, "in.npy").error


def test_images_go_through_in_chunks(run_cli, tiny_bundle, images, monkeypatch):
    seen = []
    real = EdgeVAE.encode

    def encode(self, rows):
        seen.append(len(rows))
        return real(self, rows)

    monkeypatch.setattr(EdgeVAE, "encode", encode)
    np.save("in.npy", np.concatenate([images, images]))

    assert run_cli("encode", tiny_bundle, "in.npy").code == 0
    assert run_cli("reconstruct", tiny_bundle, "in.npy", "--out", "a.npy").code == 0

    assert seen == [32, 32, 16] * 2
