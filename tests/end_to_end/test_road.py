"""The whole road as a user types it: train, export, parity, benchmark, use; and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.host, pytest.mark.slow]


def vae_edge(*arguments: object, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "vae_edge", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


def environment() -> dict[str, str]:
    without = ("VAE_EDGE_DATA_DIR", "TF_CPP_MIN_LOG_LEVEL")
    return {key: value for key, value in os.environ.items() if key not in without}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a trained model, and a bundle that was exported from it."""
    folder = tmp_path_factory.mktemp("work")
    vae_edge(
        *("train", "--dataset", "digits", "--epochs", 2, "--limit", 512, "--out", "runs/small"),
        cwd=folder,
    )
    done = vae_edge(
        *("export", "runs/small/model.keras", "--out", "bundle", "--format", "tflite"),
        *("--format", "onnx", "--precision", "float32", "--precision", "int8"),
        cwd=folder,
    )
    (folder / "export.txt").write_text(done.stdout)
    return folder


def copy_of(bundle: Path, target: Path) -> Path:
    target.mkdir()
    for path in bundle.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_export_ends_with_a_table_and_the_next_command(work):
    text = (work / "export.txt").read_text()
    for word in ("encoder", "decoder", "tflite", "onnx", "float32", "int8", "passed", "KB", "us"):
        assert word in text
    assert "FAILED" not in text
    assert "vae-edge parity bundle" in text.splitlines()[-1]
    assert not list((work).glob(".bundle*"))


def test_export_ends_with_a_verdict_on_every_quantized_artifact(work):
    _, _, verdicts = (work / "export.txt").read_text().partition("Did it pay?")
    judged = [line.split() for line in verdicts.splitlines() if ".int8." in line]
    files = {word for words in judged for word in words if ".int8." in word}
    assert files == {f"{c}.int8.{f}" for c in ("encoder", "decoder") for f in ("tflite", "onnx")}


@pytest.fixture(scope="module")
def chosen(work) -> Path:
    """A bundle whose artifacts were chosen by what was measured."""
    done = vae_edge(
        *("export", "runs/small/model.keras", "--out", "chosen", "--format", "tflite"),
        *("--precision", "auto", "--min-psnr", 30, "--max-error", 0.05, "--json"),
        cwd=work,
    )
    (work / "chosen.json").write_text(done.stdout)
    return work / "chosen"


def test_auto_publishes_one_artifact_per_component_and_says_what_it_chose_from(work, chosen):
    document = json.loads((work / "chosen.json").read_text())
    manifest = document["manifest"]
    assert manifest == json.loads((chosen / "manifest.json").read_text())
    assert [a["component"] for a in manifest["artifacts"]] == ["encoder", "decoder"]
    files = {a["file"] for a in manifest["artifacts"]}
    assert {path.name for path in chosen.iterdir()} == {*files, "manifest.json", "golden.npz"}

    selection = manifest["selection"]
    assert selection["budget"] == {"min_psnr_db": 30.0, "max_error": 0.05}
    assert {c["file"] for c in selection["candidates"]} == {
        f"{component}.{precision}.tflite"
        for component in ("encoder", "decoder")
        for precision in ("float32", "float16", "dynamic", "int8")
    }
    assert {c["file"] for c in selection["candidates"] if c["chosen"]} == files
    assert all(c["reason"] for c in selection["candidates"])
    assert {v["file"] for v in document["verdicts"]} == {
        file for file in files if "float32" not in file
    }
    # The float32 artifacts were measured beside it, and are not in the bundle.
    assert all(v["times_smaller"] for v in document["verdicts"])


def test_what_was_chosen_passes_parity_and_can_be_used(work, chosen):
    report = json.loads(vae_edge("parity", chosen, "--json", cwd=work).stdout)
    assert [s["subject"] for s in report["subjects"]].count("encoder+decoder") == 1
    vae_edge("generate", chosen, "--seed", 1, "-n", 4, "--out", "chosen.npy", cwd=work)
    vae_edge("reconstruct", chosen, "chosen.npy", "--json", cwd=work)


def test_benchmark_ends_with_verdicts_and_the_best_choice(work):
    options = ("--rounds", 3, "--component", "decoder")
    done = vae_edge("benchmark", "bundle", *options, "--min-psnr", 20, cwd=work)
    assert "Did it pay?" in done.stdout
    assert "Best choice for this device" in done.stdout
    assert "images of at least 20 dB" in done.stdout
    report = json.loads(vae_edge("benchmark", "bundle", *options, "--json", cwd=work).stdout)
    assert {v["file"] for v in report["verdicts"]} == {"decoder.int8.tflite", "decoder.int8.onnx"}
    assert len([c for c in report["best"]["candidates"] if c["chosen"]]) <= 1


def test_auto_takes_the_place_of_a_bundle_only_when_told(work):
    done = vae_edge(
        *("export", "runs/small/model.keras", "--out", "bundle", "--precision", "auto"),
        *("--format", "tflite", "--format", "onnx"),
        cwd=work,
        check=2,
    )
    assert "bundle: holds a bundle of 8 artifacts" in done.stderr
    assert "give --replace" in done.stderr


def test_manifest_records_latency_against_keras(work):
    manifest = json.loads((work / "bundle" / "manifest.json").read_text())
    assert len(manifest["artifacts"]) == 8
    for artifact in manifest["artifacts"]:
        assert artifact["parity"]["passed"] is True
        latency = artifact["latency"]
        assert latency["median_ms"] > 0
        assert latency["times_faster_than_keras"] > 0
        assert (latency["times_faster_than_float32"] is None) == (
            artifact["precision"] == "float32"
        )
    assert "scikit-learn" in manifest["calibration"]["source"]


def test_parity_passes_from_golden_vectors_and_against_the_live_model(work):
    assert "All 12 passed." in vae_edge("parity", "bundle", cwd=work).stdout
    done = vae_edge("parity", "bundle", "--reference", "runs/small/model.keras", "--json", cwd=work)
    report = json.loads(done.stdout)
    assert report["passed"] is True
    assert report["reference"].startswith("live model")
    assert len(report["subjects"]) == 12


def test_limit_that_is_not_met_exits_with_1(work):
    done = vae_edge("parity", "bundle", "--tolerance", "int8:z_mean.rmse=1e-9", cwd=work, check=1)
    assert "FAILED" in done.stdout
    # Both formats' int8 encoders, and nothing else.
    assert "10 of 12 passed." in done.stdout


def test_other_weights_are_found_out(work, tmp_path):
    """An artifact whose hash is right but whose weights are not the model's."""
    import onnx

    bundle = copy_of(work / "bundle", tmp_path / "bundle")
    path = bundle / "decoder.float32.onnx"
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda w: int(np.prod(w.dims)))
    values = onnx.numpy_helper.to_array(weight).copy()
    values *= 1.05
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    content = model.SerializeToString()
    path.write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (record,) = (a for a in manifest["artifacts"] if a["file"] == path.name)
    record["sha256"] = hashlib.sha256(content).hexdigest()
    record["size_bytes"] = len(content)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    report = json.loads(vae_edge("parity", bundle, "--json", cwd=work, check=1).stdout)
    failed = {(s["subject"], s["format"], s["precision"]) for s in report["subjects"]} - {
        (s["subject"], s["format"], s["precision"]) for s in report["subjects"] if s["passed"]
    }
    # The pair decodes the z_mean of a barely trained encoder, which all lie near 0.
    pair = ("encoder+decoder", "onnx", "float32")
    assert failed - {pair} == {("decoder", "onnx", "float32")}


def test_damaged_artifact_exits_with_2_and_is_named(work, tmp_path):
    bundle = copy_of(work / "bundle", tmp_path / "bundle")
    path = bundle / "encoder.int8.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for command in ("parity", "benchmark", "inspect", "generate"):
        done = vae_edge(command, bundle, cwd=tmp_path, check=2)
        assert "encoder.int8.tflite: sha256 differs from the manifest" in done.stderr
        assert not done.stdout


def test_bundle_can_be_used(work, tmp_path):
    vae_edge("generate", work / "bundle", "--seed", 1, "-n", 4, "--out", "a.npy", cwd=tmp_path)
    vae_edge("generate", work / "bundle", "--seed", 1, "-n", 4, "--out", "b.npy", cwd=tmp_path)
    images = np.load(tmp_path / "a.npy")
    assert images.shape == (4, 28, 28, 1)
    np.testing.assert_array_equal(images, np.load(tmp_path / "b.npy"))
    done = vae_edge("reconstruct", work / "bundle", "a.npy", "--json", cwd=tmp_path)
    assert len(json.loads(done.stdout)["rmse"]) == 4
    assert (tmp_path / "reconstructed.png").stat().st_size > 100


def test_shipped_model_exports_without_being_named(tmp_path):
    done = vae_edge(
        *("export", "--format", "tflite", "--precision", "int8", "--no-benchmark"), cwd=tmp_path
    )
    manifest = json.loads((tmp_path / "build" / "mnist-vae" / "manifest.json").read_text())
    assert manifest["model"]["latent_dim"] == 2
    assert [a["file"] for a in manifest["artifacts"]] == [
        "encoder.int8.tflite",
        "decoder.int8.tflite",
    ]
    assert all(a["parity"]["passed"] for a in manifest["artifacts"])
    steps = ("loading the model", "calibration data", "encoder int8 tflite", "decoder int8 tflite")
    wanted = [f"{n}/5 {step}" for n, step in enumerate((*steps, "parity"), start=1)]
    assert [line for line in done.stderr.splitlines() if "/5 " in line] == wanted
    # Third-party noise stays off the screen.
    for line in done.stderr.splitlines():
        assert not line.startswith(("I0000", "W0000", "E0000", "WARNING", "INFO:"))
        assert "tensorflow/" not in line


def test_impossible_combination_is_refused_before_anything_is_made(tmp_path):
    done = vae_edge(
        *("export", "--format", "tflite", "--format", "onnx", "--precision", "int16x8"),
        cwd=tmp_path,
        check=2,
    )
    assert "precision 'int16x8' is not exported: 16-bit activations have no fast" in done.stderr
    assert "float32, float16, dynamic, int8" in done.stderr
    assert not list(tmp_path.iterdir())


def test_ctrl_c_during_export_leaves_nothing(work, tmp_path):
    process = subprocess.Popen(
        # A test run in the background has the interrupt ignored, and its children inherit that.
        [
            *(sys.executable, "-c"),
            (
                "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
                "from vae_edge.cli import main; main()"
            ),
            *("export", str(work / "runs/small/model.keras")),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    deadline = time.monotonic() + 120
    # Once the staging directory is there, the export is under way.
    while not list(tmp_path.glob("build/.small.*/*.tflite")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "No bundle was written" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "build").iterdir()) == []


def test_quickstart_goes_the_whole_road_and_redoes_only_what_is_missing(
    tmp_path, monkeypatch, capfd
):
    from vae_edge.cli import main, quickstart

    monkeypatch.setattr(quickstart, "_EFFORT", {"digits": (256, 2)})
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("VAE_EDGE_DATA_DIR", raising=False)
    stamps = []
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            main(["quickstart", "--dataset", "digits", "--out", str(tmp_path / "out")])
        assert stop.value.code == 0
        captured = capfd.readouterr()
        assert captured.out.rstrip().endswith("digits-vae")
        assert "scikit-learn" in captured.err
        assert "To use MNIST" in captured.err
        files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        stamps.append({path: path.stat().st_mtime_ns for path in files})
    assert stamps[0] == stamps[1]
    names = {path.name for path in stamps[0]}
    assert {"model.keras", "manifest.json", "generated.png", "digits-vae.json"} <= names
