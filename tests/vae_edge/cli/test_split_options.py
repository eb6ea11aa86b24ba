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


@pytest.mark.parametrize("command", ["export", "parity", "explain"])
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
