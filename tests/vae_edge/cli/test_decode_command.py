from __future__ import annotations

import io
import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_edge.images import tile
from vae_edge.preprocessing import PLAIN_PICTURES

Z = np.random.default_rng(4).normal(size=(40, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("z.npy", Z)


def test_array_holds_the_image_of_each_latent(run_cli, tiny, tiny_bundle):
    ran = run_cli("decode", tiny_bundle, "z.npy", "--out", "a.npy")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "40 images from decoder.float32.onnx: a.npy\n"
    images = np.load("a.npy")
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, tiny.decode(Z), atol=1e-6)


@pytest.mark.parametrize(
    "entries", [{"z": Z, "z_mean": Z + 9}, {"z_mean": Z, "z_log_var": Z + 9}, {"any": Z}]
)
def test_archives_are_read_by_z_or_else_z_mean(run_cli, tiny, tiny_bundle, entries):
    np.savez("z.npz", **entries)

    assert run_cli("decode", tiny_bundle, "z.npz", "--out", "a.npy").code == 0

    np.testing.assert_allclose(np.load("a.npy"), tiny.decode(Z), atol=1e-6)


def test_array_on_stdin_and_a_single_row_are_read(run_cli, tiny, tiny_bundle, monkeypatch):
    file = io.BytesIO()
    np.save(file, Z[0].astype(np.float64))
    file.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))

    assert run_cli("decode", tiny_bundle, "-", "--out", "a.npy").code == 0

    np.testing.assert_allclose(np.load("a.npy"), tiny.decode(Z[:1]), atol=1e-6)


def test_default_is_one_square_sheet(run_cli, tiny, tiny_bundle):
    np.save("z.npy", Z[:4])

    run_cli("decode", tiny_bundle, "z.npy")

    sheet = np.asarray(Image.open("decoded.png"), np.float32) / 255
    np.testing.assert_allclose(sheet, tile(tiny.decode(Z[:4]), 2)[..., 0], atol=0.6 / 255)


def test_folder_holds_numbered_pictures_beside_what_was_there(run_cli, tiny, tiny_bundle):
    Path("digits").mkdir()
    Path("digits/notes.txt").write_text("mine")

    ran = run_cli("decode", tiny_bundle, "z.npy", "--out", "digits", "--json")

    names = [f"{index:05d}.png" for index in range(40)]
    result = json.loads(ran.out)
    assert result["files"] == [f"digits/{name}" for name in names]
    assert (result["artifact"], result["count"]) == ("decoder.float32.onnx", 40)
    assert sorted(path.name for path in Path("digits").iterdir()) == [*names, "notes.txt"]
    last = np.asarray(Image.open("digits/00039.png"), np.float32) / 255
    np.testing.assert_allclose(last, tiny.decode(Z)[39, ..., 0], atol=0.6 / 255)


def test_what_encode_wrote_decodes_to_the_reconstruction(run_cli, tiny, tiny_bundle):
    images = tiny.golden().images(PLAIN_PICTURES)
    np.save("in.npy", images)

    run_cli("encode", tiny_bundle, "in.npy")
    run_cli("decode", tiny_bundle, "latents.npz", "--out", "a.npy")
    run_cli("reconstruct", tiny_bundle, "in.npy", "--out", "b.npy")

    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))


@pytest.mark.parametrize("out", ["out/a.npy", "out/a.png", "out/digits", "out"])
def test_nothing_is_left_when_a_late_latent_is_bad(run_cli, tiny_bundle, out):
    np.save("z.npy", np.concatenate([Z, [[np.nan, 0]]]))
    Path("out").mkdir()

    assert "not finite" in run_cli("decode", tiny_bundle, "z.npy", "--out", out).error
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 5)), r"z.npy: holds float64 (3, 5); expected latents of shape (count, 2)"),
        (np.zeros((3,)), "holds float64 (3,)"),
        (np.zeros((3, 1, 2)), "holds float64 (3, 1, 2)"),
        (np.zeros((3, 2), bool), "holds bool (3, 2)"),
        (np.zeros(()), "holds float64 ()"),
        (np.zeros((0, 2)), "z.npy: holds no latents"),
    ],
)
def test_latents_that_do_not_fit_are_refused(run_cli, tiny_bundle, array, message):
    np.save("z.npy", array)

    assert message in run_cli("decode", tiny_bundle, "z.npy").error


def test_missing_latents_outputs_and_decoders_are_refused(run_cli, tiny_bundle, make_tiny_bundle):
    assert "gone.npy: cannot be read" in run_cli("decode", tiny_bundle, "gone.npy").error
    assert "expected a picture" in run_cli("decode", tiny_bundle, "z.npy", "--out", "a.txt").error
    path = make_tiny_bundle(("encoder.float32.onnx",))
    assert "without its decoder" in run_cli("decode", path, "z.npy").error


@pytest.mark.parametrize("command", ["decode", "generate", "reconstruct"])
def test_memory_does_not_grow_with_the_count(run_cli, make_tiny_bundle, command):
    """The output is 60,000 images of 64 bytes, 3.8 MB, and never in memory as a whole."""
    count = 60_000
    bundle = make_tiny_bundle(batch=None)
    np.save("z.npy", np.zeros((count, 2), np.float32))
    np.save("in.npy", np.zeros((count, 4, 4), np.uint8))
    arguments = {
        "decode": ["decode", bundle, "z.npy"],
        "generate": ["generate", bundle, "--count"],
        "reconstruct": ["reconstruct", bundle, "in.npy"],
    }[command]

    def run(count):
        given = [*arguments, count] if command == "generate" else arguments
        return run_cli(*given, "--out", "a.npy")

    assert run(64).code == 0  # what is imported and cached stays
    tracemalloc.start()
    try:
        assert run(count).code == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert Path("a.npy").stat().st_size == 128 + count * 64
    assert peak < 1_500_000
