"""The library: docs/api.md, run as it stands, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vae_edge
from vae_edge.api import EdgeVAE, export, parity, split
from vae_edge.bundle import Bundle
from vae_edge.errors import DataError, ParityError, UsageError, VaeEdgeError

ROOT = Path(vae_edge.__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
EXAMPLE = ROOT / "docs" / "examples" / "exporter"

pytestmark = pytest.mark.host


def dense_vae(path: Path) -> Path:
    """Save a VAE of dense layers for 8x8 pictures, of the form that Keras's own example has."""
    import keras
    from keras import layers

    image = keras.Input((8, 8, 1))
    x = layers.Dense(16, activation="relu")(layers.Flatten()(image))
    heads = {name: layers.Dense(2, name=name)(x) for name in ("z_mean", "z_log_var")}
    encoder = keras.Model(image, heads, name="encoder")
    z = keras.Input((2,))
    y = layers.Dense(64, activation="sigmoid")(layers.Dense(16, activation="relu")(z))
    decoder = keras.Model(z, layers.Reshape((8, 8, 1))(y), name="decoder")
    vae = keras.Model(image, decoder(encoder(image)["z_mean"]))
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    vae.set_weights([rng.standard_normal(w.shape) / 4 for w in vae.get_weights()])
    # A posterior whose spread is like that of a trained one.
    spread = encoder.get_layer("z_log_var")
    spread.set_weights([spread.get_weights()[0] / 10, np.full(2, -2.0)])
    vae.save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    dense_vae(folder / "my_vae.keras")
    np.save(folder / "images.npy", images())
    return folder


def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (200, 8, 8, 1)).astype(np.uint8)


def test_page_can_be_followed(folder, monkeypatch, capsys):
    """Every line that says what it prints, prints that."""
    monkeypatch.chdir(folder)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    space: dict[str, object] = {}
    for block in blocks:
        promised = re.findall(r"print\(.*\)  # (.*)$", block, re.MULTILINE)

        exec(block, space)

        printed = capsys.readouterr().out
        for line in promised:
            assert line in printed.splitlines(), block
    assert len(blocks) == 6
    assert space["pixels"].dtype == np.uint8  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example's package, as pip leaves it: its module and its metadata on the path."""
    site = tmp_path_factory.mktemp("site")
    (site / "vae_edge_npz.py").write_text((EXAMPLE / "vae_edge_npz.py").read_text())
    metadata = site / "vae_edge_npz-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vae-edge-npz\nVersion: 0.1\n")
    groups = re.findall(
        r'^\[project\.entry-points\."(.*)"\]\nnpz = "(.*)"$',
        (EXAMPLE / "pyproject.toml").read_text(),
        re.MULTILINE,
    )
    assert len(groups) == 2
    lines = [line for group, target in groups for line in (f"[{group}]", f"npz = {target}")]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


@pytest.fixture
def command(folder, installed, monkeypatch):
    def run(*arguments: str, plugin: bool = True) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("PYTHONPATH", str(installed) if plugin else "")
        return subprocess.run(
            [sys.executable, "-m", "vae_edge", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_another_package_s_format_is_one_like_the_others(command, folder):
    made = command(
        *("export", "my_vae.keras", "--format", "npz", "--format", "onnx"),
        *("--precision", "float32", "--calibration", "images.npy", "--out", "both"),
        "--no-benchmark",
    )
    proven = command("parity", "both")
    drawn = command("generate", "both", "--format", "npz", "--count", "4", "--out", "new.npy")
    measured = command("benchmark", "both", "--format", "npz", "--rounds", "3")

    assert made.returncode == 0, made.stderr
    assert (folder / "both" / "encoder.float32.npz").is_file()
    assert proven.returncode == 0, proven.stdout + proven.stderr
    # Two artifacts and their pair, in each of two formats.
    assert "All 6 passed" in proven.stdout
    assert drawn.returncode == 0, drawn.stderr
    assert np.load(folder / "new.npy").shape == (4, 8, 8, 1)
    assert measured.returncode == 0, measured.stderr
    assert "npz" in measured.stdout


def test_a_device_without_the_package_is_told_what_is_missing(command):
    command(
        *("export", "my_vae.keras", "--format", "npz", "--precision", "float32"),
        *("--calibration", "images.npy", "--out", "alone", "--no-benchmark"),
    )
    without = command("parity", "alone", plugin=False)
    asked = command("export", "my_vae.keras", "--format", "npz", plugin=False)

    assert without.returncode == 2
    assert "must be one of 'tflite', 'onnx'; received 'npz'" in without.stderr
    assert asked.returncode == 2
    assert "npz" in asked.stderr


def test_a_layer_that_the_package_cannot_do_is_named(command, tiny_conv):
    made = command(
        *("export", str(tiny_conv), "--format", "npz", "--precision", "float32", "--no-benchmark")
    )

    assert made.returncode == 2
    assert "npz has no operator for the layer" in made.stderr
    assert "Traceback" not in made.stderr


@pytest.fixture(scope="module")
def tiny_conv(tmp_path_factory):
    from vae_edge.training.model import VAE
    from vae_edge.training.settings import Architecture

    path = tmp_path_factory.mktemp("conv") / "conv.keras"
    shape = Architecture(image_shape=(8, 8, 1), encoder_filters=(4,), decoder_filters=(4,))
    VAE(shape).save(path)
    return path


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"formats": ["tflit"]}, UsageError, "unknown format 'tflit'. Choose one of: tflite, onnx"),
        ({"precisions": ["int7"]}, UsageError, "unknown precision 'int7'"),
        ({"calibration": "nowhere.npy"}, DataError, "nowhere.npy: no such file"),
        ({"calibration": images()[:1]}, DataError, "holds 1 row, and at least two"),
        ({"calibration": images()[:, :4]}, DataError, r"expected floats of \(count, 8, 8, 1\)"),
        (
            {"calibration": np.full((4, 8, 8, 1), 9.0)},
            DataError,
            r"must lie in \[0, 1\]; received values from 9 to 9",
        ),
        ({"value_range": (1, 0)}, UsageError, "expected LOW,HIGH with LOW below HIGH"),
        ({"tolerances": {"int8:z_mean.nonsense": 1.0}}, UsageError, "has no metric 'nonsense'"),
    ],
)
def test_export_refuses_what_cannot_be_meant(folder, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        export(folder / "my_vae.keras", tmp_path / "out", **options)

    assert not (tmp_path / "out").exists()


def test_split_gives_what_it_is_given_again(folder):
    vae = split(folder / "my_vae.keras")

    assert split(vae) is vae
    assert split(folder / "my_vae.keras", name="other").name == "other"
    with pytest.raises(UsageError, match="two paths, or two Keras models"):
        split(folder / "my_vae.keras", vae.decoder)


def test_models_in_memory_are_exported(folder, tmp_path):
    vae = split(folder / "my_vae.keras")

    result = export(
        split(vae.encoder, vae.decoder, name="pair"),
        tmp_path / "pair",
        formats=["onnx"],
        precisions=["float32"],
    )

    assert result.parity.passed
    assert Bundle.open(tmp_path / "pair").manifest.model.name == "pair"
    with EdgeVAE.open(tmp_path / "pair") as edge:
        given = images()[:3]
        wanted = vae.encoder(given.astype(np.float32) / 255)["z_mean"]
        np.testing.assert_allclose(edge.encode(given).z_mean, wanted, atol=1e-5)


def test_parity_refuses_what_it_cannot_compare(folder, tmp_path):
    export(folder / "my_vae.keras", tmp_path / "b", formats=["onnx"], precisions=["float32"])

    with pytest.raises(ParityError, match=r"data is compared with the Keras model, which is not"):
        parity(tmp_path / "b", data=images())
    with pytest.raises(VaeEdgeError, match="does not exist"):
        parity(tmp_path / "nowhere")


def test_what_was_assumed_of_a_model_is_in_the_result(tmp_path):
    import keras
    from keras import layers

    from vae_edge.api import export, split

    image, z = keras.Input((8, 8, 1)), keras.Input((2,))
    flat = layers.Flatten()(image)
    encoder = keras.Model(image, [layers.Dense(2, name="a")(flat), layers.Dense(2, name="b")(flat)])
    logits = layers.Reshape((8, 8, 1))(layers.Dense(64)(z))
    vae = split(encoder, keras.Model(z, logits), logits=True)
    result = export(vae, tmp_path / "out", formats=["onnx"], precisions=["float32"])
    assert any("'a' and 'b' were taken for z_mean" in note for note in result.notes)
    assert any("sigmoid was put behind" in note for note in result.notes)
    model = result.bundle.manifest.model
    assert str(model.preprocessing.likelihood) == "bernoulli"

    plain = export(
        split(encoder, keras.Model(z, logits)),
        tmp_path / "plain",
        formats=["onnx"],
        precisions=["float32"],
    )
    assert any("--value-range" in note and "--logits" in note for note in plain.notes)
