"""How commands are told to take a model apart: on the command line, in full."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """An encoder of which nothing tells what its heads are, and a decoder; in two files."""
    import keras

    layers = keras.layers
    image = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Conv2D(2, 3, strides=2, activation="relu")(image))
    mean = layers.Dense(2, name="mu")(x)
    spread = layers.Dense(2, name="sigma", activation="softplus")(x)
    z = keras.Input((2,))
    pixels = layers.Dense(64, activation="sigmoid", name="first")(z)
    directory = tmp_path_factory.mktemp("halves")
    keras.Model(image, [mean, spread]).save(directory / "encoder.keras")
    keras.Model(z, layers.Reshape((8, 8, 1))(pixels)).save(directory / "decoder.keras")
    return directory


@pytest.fixture(scope="module")
def options(halves):
    return (
        *("--encoder", halves / "encoder.keras", "--decoder", halves / "decoder.keras"),
        *("--z-mean", "mu", "--z-log-var", "sigma", "--scale", "std", "--decoder-input", "first"),
    )


def test_two_files_and_named_layers_go_from_export_to_parity(run_cli, options, halves, tmp_path):
    out = tmp_path / "bundle"
    ran = run_cli(
        *("export", *options, "--format", "onnx", "--precision", "float32", "--out", out),
        *("--calibration", "samples", "--no-benchmark", "--json"),
    )
    assert ran.code == 0, ran.err
    assert "note: z_log_var is 2 * log('sigma')" in ran.err
    model = json.loads(ran.out)["manifest"]["model"]
    assert (model["name"], model["latent_dim"]) == (halves.name, 2)

    judged = run_cli("parity", out, *options)
    assert judged.code == 0, judged.err
    assert "All 3 passed" in judged.out
    assert "not the file that the bundle was exported from" not in judged.err

    report = tmp_path / "report.json"
    measured = run_cli(
        "benchmark", out, *options, "--rounds", 2, "--component", "encoder", "--out", report
    )
    assert measured.code == 0, measured.err
    assert "not the model that the bundle was exported from" not in measured.err
    reference = json.loads(report.read_text())["reference"]
    assert (reference["measured"], reference["matches_bundle"]) == (True, True)
    assert reference["note"] == f"{halves / 'encoder.keras'}, {halves / 'decoder.keras'}"


OWN_LAYERS = """
import keras


class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Halves for any size, with an unregistered layer and two tensors of logits; their options."""
    import keras

    from vae_edge.splitting.custom_code import import_modules

    layers = keras.layers
    directory = tmp_path_factory.mktemp("own")
    source = directory / "own_layers.py"
    source.write_text(OWN_LAYERS)
    (module,) = import_modules([str(source)])
    image = keras.Input((None, None, 1))
    heads = {
        name: layers.Conv2D(1, 3, strides=2, padding="same", name=f"{name}_head")(image)
        for name in ("z_mean", "z_log_var")
    }
    z = keras.Input((None, None, 1))
    up = module.Doubled()(layers.UpSampling2D()(z))
    logits = [layers.Conv2D(1, 3, padding="same", name=name)(up) for name in ("this", "that")]
    keras.Model(image, heads).save(directory / "encoder.keras")
    keras.Model(z, logits).save(directory / "decoder.keras")
    return (
        *("--encoder", directory / "encoder.keras", "--decoder", directory / "decoder.keras"),
        *("--import", source, "--logits", "--image-shape", "8,8,1", "--reconstruction", "that"),
    )


def test_what_is_said_of_a_model_holds_in_every_command(run_cli, own, tmp_path):
    out, report = tmp_path / "bundle", tmp_path / "report.json"
    ran = run_cli(
        *("export", *own, "--format", "onnx", "--precision", "float32", "--out", out),
        *("--calibration", "samples", "--no-benchmark", "--json"),
    )
    assert ran.code == 0, ran.err
    model = json.loads(ran.out)["manifest"]["model"]
    assert (model["image_shape"], model["latent_dim"]) == ([8, 8, 1], 16)
    assert model["preprocessing"]["likelihood"] == "bernoulli"  # behind the sigmoid
    judged = run_cli("parity", out, *own)
    assert judged.code == 0, judged.err
    assert "All 3 passed" in judged.out
    measured = run_cli("benchmark", out, *own, "--rounds", 2, "--out", report)
    assert measured.code == 0, measured.err
    found = {each["name"] for each in json.loads(report.read_text())["candidates"]}
    assert any("keras" in name.lower() for name in found)


@pytest.mark.parametrize("command", ["parity", "benchmark"])
def test_how_to_take_apart_is_refused_without_a_model(run_cli, tiny_bundle, command):
    ran = run_cli(command, tiny_bundle, "--z-mean", "mu", "--z-log-var", "sigma")
    assert ran.code == 2
    assert "go with --reference MODEL, or with --encoder and --decoder" in ran.err


@pytest.mark.parametrize("text", ["64x64x3", "64,-1,3", "", "a,b"])
def test_shape_that_is_none_is_refused(run_cli, tmp_path, text):
    ran = run_cli("export", tmp_path / "any.keras", "--image-shape", text)
    assert ran.code == 2
    assert "--image-shape" in ran.err
    assert "expected whole numbers, e.g. 64,64,3" in ran.err


@pytest.mark.parametrize("command", ["export", "parity", "explain", "benchmark"])
def test_one_half_without_the_other_is_refused(run_cli, tiny_bundle, command):
    target = () if command == "export" else (tiny_bundle,)
    ran = run_cli(command, *target, "--encoder", "encoder.keras")
    assert ran.code == 2
    assert "--encoder and --decoder go together; received only --encoder" in ran.err


def test_module_that_is_not_there_is_said(run_cli, halves, tmp_path):
    ran = run_cli(
        *("export", halves / "encoder.keras", "--import", "no_such_module_at_all"),
        *("--out", tmp_path / "bundle"),
    )
    assert ran.code == 2
    assert "--import no_such_module_at_all: fails with ModuleNotFoundError" in ran.err
    assert not (tmp_path / "bundle").exists()
