"""The command: what it refuses, and one whole run on a VAE so small that nothing takes long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contestants import OURS
from benchmarks.head_to_head import main
from benchmarks.head_to_head_report import HeadToHead
from benchmarks.stock import STOCK
from vae_edge import codec
from vae_edge.terms import Component, Format, Precision

OPTIONAL = ("OpenVINO", "MNN", "ai-edge-quantizer")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--threads", "2"], "so it measures with 1"),
        (["--rounds", "1"], "--rounds must be 2 or more; received 1."),
        (["--batch", "0"], "--batch must be 1 or more; received 0."),
        (["--images", "0"], "--images must be 1 or more; received 0."),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_any_work(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert reason in captured.err
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_names_tell_all_stock_exports_apart() -> None:
    assert len({tool.suffix for tool in STOCK}) == len(STOCK)
    assert len({(tool.tool, tool.format, tool.precision) for tool in STOCK}) == len(STOCK)


def test_one_stock_export_at_most_is_what_others_are_compared_with() -> None:
    baselines = [(tool.format, tool.precision) for tool in STOCK if tool.baseline]
    assert len(set(baselines)) == len(baselines)
    # None of the standard tools that are built here makes 4-bit weights.
    made = set(Precision) - {Precision.INT4}
    assert {(Format.TFLITE, precision) for precision in made} < set(baselines)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vae_edge.training.model import VAE
    from vae_edge.training.settings import Architecture

    shape = Architecture(
        image_shape=(8, 8, 1), latent_dim=2, encoder_filters=(4, 8), decoder_filters=(8, 4)
    )
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    VAE(shape, seed=7).save(path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1)).astype(np.uint8))
    return path


def run(*options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.head_to_head", *map(str, options)],
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.host
@pytest.mark.study
@pytest.mark.slow
def test_a_whole_run(model: Path, images: Path, tmp_path: Path) -> None:
    options = [model, "--dataset", images, "--out", tmp_path, "--rounds", "2", "--images", "6"]
    done = run(*options, "--check")
    # Untrained and tiny: what is required of the shipped model is not reached.
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "| required | aim | measured | reached |" in done.stdout
    text = (tmp_path / "head-to-head.json").read_text()
    report = codec.decode(HeadToHead, codec.loads(text))
    assert (tmp_path / "head-to-head.png").read_bytes().startswith(b"\x89PNG")
    assert done.stdout.startswith((tmp_path / "head-to-head.md").read_text())

    failed = {failure.name for failure in report.failures}
    assert all(any(name in failure for name in OPTIONAL) for failure in failed), failed
    assert len(report.rows) + len(failed) == 2 * len(STOCK) + sum(r.ours for r in report.rows)
    for row in report.rows:
        assert row.quality is not None
        assert row.quality.images == 6
        assert (row.quality.encoder is None) == (row.component is Component.DECODER)
        assert (row.runner_overhead_us is not None) == row.ours
        assert len(row.samples_ns) == 2
        if row.precision is Precision.FLOAT32:
            assert abs(row.quality.elbo_change) < 1e-3
    ours = {(r.component, r.format, r.precision) for r in report.rows if r.ours}
    assert {(c, f, Precision.INT8) for c in Component for f in Format} <= ours
    for row in report.rows:
        if row.ours and row.times_stock is not None:
            assert OURS not in row.times_stock.against

    other = tmp_path / "other.keras"
    other.write_bytes(model.read_bytes() + b"\0")
    refused = run(other, *options[1:], "--bundle", tmp_path / "bundle")
    assert refused.returncode == 2
    assert "was exported from another model" in refused.stderr
    assert "Traceback" not in refused.stderr
