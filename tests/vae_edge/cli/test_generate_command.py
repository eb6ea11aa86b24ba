from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from vae_edge import EdgeVAE


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def generated(tiny_bundle):
    def images(count, seed):
        with EdgeVAE.open(tiny_bundle) as vae:
            return vae.generate(count, seed=seed)

    return images


def test_default_is_one_sheet_of_sixteen(run_cli, tiny_bundle, tmp_path):
    ran = run_cli("generate", tiny_bundle)

    assert ran.code == 0
    assert ran.out == "16 images from decoder.float32.onnx: generated.png\n"
    with Image.open(tmp_path / "generated.png") as sheet:
        assert sheet.size == (4 * 5 - 1, 4 * 5 - 1)


def test_array_holds_the_images_of_the_seed(run_cli, tiny_bundle, generated):
    ran = run_cli("generate", tiny_bundle, "-n", 3, "--seed", 7, "--out", "a.npy")

    assert ran.code == 0
    np.testing.assert_array_equal(np.load("a.npy"), generated(3, 7))


def test_same_seed_gives_the_same_file(run_cli, tiny_bundle, tmp_path):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        run_cli("generate", tiny_bundle, "--seed", seed, "--out", name)

    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b
    assert a != c


def test_folder_holds_numbered_pictures(run_cli, tiny_bundle, tmp_path, generated):
    ran = run_cli("generate", tiny_bundle, "-n", 2, "--seed", 7, "--out", "digits", "--json")

    result = json.loads(ran.out)
    assert result == {
        "artifact": "decoder.float32.onnx",
        "count": 2,
        "files": ["digits/00000.png", "digits/00001.png"],
    }
    second = np.asarray(Image.open(tmp_path / "digits" / "00001.png"), np.float32) / 255
    np.testing.assert_allclose(second, generated(2, 7)[1, ..., 0], atol=0.5 / 255 + 1e-6)


def test_format_and_precision_choose_the_artifact(run_cli, make_tiny_bundle):
    path = make_tiny_bundle(("decoder.float32.tflite", "decoder.float32.onnx", "decoder.int8.onnx"))

    def artifact(*options):
        return json.loads(run_cli("generate", path, "--json", *options).out)["artifact"]

    assert artifact() == "decoder.float32.tflite"
    assert artifact("--format", "onnx") == "decoder.float32.onnx"
    assert artifact("--precision", "int8") == "decoder.int8.onnx"


def test_name_with_brackets_is_printed_as_it_is(run_cli, tiny_bundle, tmp_path):
    ran = run_cli("generate", tiny_bundle, "--out", "[red]x[/blue].png")

    assert ran.code == 0
    assert ran.out.endswith(": [red]x[/blue].png\n")
    assert (tmp_path / "[red]x[" / "blue].png").exists()


@pytest.mark.parametrize("out", ["a.txt", "a.tflite"])
def test_output_of_another_kind_is_refused_before_any_work(run_cli, tmp_path, out):
    error = run_cli("generate", tmp_path / "no bundle", "--out", out).error

    assert error.startswith(f"--out {out}: expected a picture (.png, .jpg, .jpeg, ...), a .npy")


@pytest.mark.parametrize("out", ["a.png", "a.npy"])
def test_folder_where_a_file_is_meant_is_refused(run_cli, tiny_bundle, tmp_path, out):
    (tmp_path / out).mkdir()

    error = run_cli("generate", tiny_bundle, "--out", out).error

    assert error == f"--out {out}: is a folder; expected a file's name."


def test_file_where_a_folder_is_meant_is_refused(run_cli, tiny_bundle, tmp_path):
    (tmp_path / "digits").write_text("")

    assert "expected a picture" in run_cli("generate", tiny_bundle, "--out", "digits").error


def test_picture_that_cannot_be_written_is_refused(run_cli, tiny_bundle, tmp_path):
    (tmp_path / "file").write_text("")

    assert "file" in run_cli("generate", tiny_bundle, "--out", "file/a.png").error
    assert "file" in run_cli("generate", tiny_bundle, "--out", "file/a.npy").error


def test_missing_bundle_is_refused(run_cli, tmp_path):
    error = run_cli("generate", tmp_path / "gone").error

    assert "gone: does not exist; expected a bundle directory" in error


def test_bundle_without_a_decoder_is_refused(run_cli, make_tiny_bundle, tmp_path):
    error = run_cli("generate", make_tiny_bundle(("encoder.float32.onnx",))).error

    assert "without its decoder" in error
    assert not (tmp_path / "generated.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--count", 0),
        ("--count", -3),
        ("--seed", -1),
        ("--threads", 0),
        ("--format", "onx"),
        ("--precision", "int3"),
        ("--unknown",),
    ],
)
def test_unfit_options_are_usage_errors(run_cli, tiny_bundle, options):
    ran = run_cli("generate", tiny_bundle, *options)

    assert ran.code == 2
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert str(options[0]) in ran.err


def test_interrupt_leaves_with_130(run_cli, tiny_bundle, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(EdgeVAE, "generate_stream", interrupt)
    ran = run_cli("generate", tiny_bundle)

    assert ran.code == 130
    assert "Traceback" not in ran.err
