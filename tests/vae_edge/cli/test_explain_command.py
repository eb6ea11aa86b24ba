from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.host


@pytest.fixture
def model(tiny, tmp_path):
    """The tiny VAE as a Keras model in a file."""
    import keras

    image, z = keras.Input((4, 4, 1), name="image"), keras.Input((2,), name="z")
    flat = keras.layers.Flatten(name="flatten")(image)
    heads = {name: keras.layers.Dense(2, name=name)(flat) for name in ("z_mean", "z_log_var")}
    encoder = keras.Model(image, heads, name="encoder")
    pixels = keras.layers.Dense(16, activation="sigmoid", name="pixels")(z)
    decoder = keras.Model(
        z, keras.layers.Reshape((4, 4, 1), name="picture")(pixels), name="decoder"
    )
    encoder.get_layer("z_mean").set_weights([tiny.w_mean, tiny.b_mean])
    encoder.get_layer("z_log_var").set_weights([tiny.w_log_var, tiny.b_log_var])
    decoder.get_layer("pixels").set_weights([tiny.w_decoder, tiny.b_decoder])
    path = tmp_path / "tiny.keras"
    keras.Model(image, decoder(encoder(image)["z_mean"])).save(path)
    return path


@pytest.fixture
def failing(make_tiny_bundle, tiny):
    """A bundle whose float32 decoder is off as int8 would be."""
    return make_tiny_bundle(contents={"decoder.float32.onnx": tiny.perturbed(0.01).onnx("decoder")})


def test_every_artifact_is_shown_layer_by_layer(run_cli, tiny_bundle, model):
    ran = run_cli("explain", tiny_bundle, "--reference", model)

    assert ran.code == 0
    assert "encoder.float32.onnx: 5 rows against Keras" in ran.out
    assert "decoder.float32.onnx:" in ran.out
    assert ran.out.count("Nothing diverges") == 2
    assert "values of pixels, moved" in ran.out
    assert "is not the file that the bundle was exported from" in ran.err


def test_the_layer_that_diverges_is_named(run_cli, failing, model, tmp_path):
    picture = tmp_path / "layers.png"

    ran = run_cli("explain", failing, "--reference", model, "--picture", picture)

    assert ran.code == 0
    assert "The first layer that diverges is pixels (Dense)" in ran.out
    assert any(
        line.split()[0] == "pixels" and "DIVERGES" in line
        for line in ran.out.splitlines()
        if line.split()
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"Drawn to {picture}." in ran.err


def test_narrow_terminal_says_what_it_lacks_and_cuts_nothing_off(
    run_cli, tiny_bundle, model, monkeypatch
):
    monkeypatch.setattr("vae_edge.cli.console._PIPE_WIDTH", 80)

    narrow = run_cli("explain", tiny_bundle, "--reference", model).out
    monkeypatch.undo()

    said = " ".join(narrow.split())
    assert "Left out here: tensor, type, layout." in said
    assert "COLUMNS=125" in said
    assert "\u2026" not in narrow
    assert max(map(len, narrow.splitlines()[:8])) <= 80
    assert "Left out" not in run_cli("explain", tiny_bundle, "--reference", model).out


def test_json_holds_the_same(run_cli, failing, model):
    ran = run_cli(
        "explain", failing, "--reference", model, "--artifact", "decoder.float32.onnx", "--json"
    )

    document = json.loads(ran.out)
    assert document["schema_version"] == 1
    assert document["model"] == "tiny"
    (explanation,) = document["explanations"]
    assert explanation["artifact"] == "decoder.float32.onnx"
    assert explanation["first"] == "pixels"
    layers = {row["layer"]: row for row in explanation["layers"]}
    assert list(layers) == ["z", "pixels", "picture"]
    assert layers["z"]["sqnr_db"] is None
    assert layers["pixels"]["diverges"]
    assert layers["pixels"]["sqnr_db"] < 80


def test_an_artifact_that_stands_alone(run_cli, tiny_bundle, model):
    ran = run_cli("explain", tiny_bundle / "encoder.float32.onnx", "--reference", model)

    assert ran.code == 0
    assert "encoder.float32.onnx: 32 rows against Keras" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give the .keras model that it was exported from with --reference."),
        (("--artifact", "decoder.int8.onnx"), "has no such file. It holds: encoder.float32.onnx"),
        (("--picture", "layers.svg"), "a PNG is written; give a name ending in .png"),
    ],
)
def test_what_cannot_be_done_is_said(run_cli, tiny_bundle, arguments, message):
    ran = run_cli("explain", tiny_bundle, *arguments)

    assert ran.code == 2
    assert message in ran.err


def test_artifact_chooses_from_a_bundle_only(run_cli, tiny_bundle):
    ran = run_cli("explain", tiny_bundle / "encoder.float32.onnx", "--artifact", "x.onnx")

    assert ran.code == 2
    assert "is not a directory" in ran.err


def test_another_model_is_refused(run_cli, tiny_bundle):
    from vae_edge.keras_vae import shipped_model_path

    ran = run_cli("explain", tiny_bundle, "--reference", shipped_model_path())

    assert ran.code == 2
    assert "images of (4, 4, 1) and latent_dim 2; mnist-vae has (28, 28, 1) and 2" in ran.err


def test_without_tensorflow_the_remedy_is_named(run_cli, tiny_bundle, model, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorflow", None)

    ran = run_cli("explain", tiny_bundle, "--reference", model)

    assert ran.code == 2
    assert "pip install 'vae-edge[host]'" in ran.err
