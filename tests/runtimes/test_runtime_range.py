"""Each artifact runs on the runtimes that the manifest says, and is refused in words by older ones.

From the lower bounds of pyproject.toml, and the oldest that the manifest states, to the newest.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_edge.bundle import Bundle, sha256_of
from vae_edge.manifest import ArtifactRecord

pytestmark = [pytest.mark.runtimes, pytest.mark.host, pytest.mark.slow]

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# From old to new: every LiteRT is newer than the last tflite-runtime, whatever their numbers.
PACKAGES = {"tflite": ("tflite-runtime", "ai-edge-litert"), "onnx": ("onnxruntime",)}
RANGE = (
    ("tflite-runtime", "lowest"),
    ("ai-edge-litert", "lowest"),
    ("ai-edge-litert", "newest"),
    ("onnxruntime", "lowest"),
    ("onnxruntime", "newest"),
)
# No runtime knows them: an ONNX opset and a version of a TFLite operator.
FUTURE_OPSET = 200
FUTURE_OPERATOR = 120


def rank(package: str, version: str) -> tuple[int, tuple[int, ...]]:
    """Order runtimes of one format by age."""
    (packages,) = (names for names in PACKAGES.values() if package in names)
    return packages.index(package), tuple(int(n) for n in version.split(".")[:3])


def lowest_in_pyproject(package: str) -> str:
    """Give the version that a device may install at least, e.g. `1.19`."""
    bounds = re.findall(rf'"{package}(?:>=|==)([\d.]+)', PYPROJECT.read_text())
    return min(bounds, key=lambda text: [int(n) for n in text.split(".")])


def stated(bundle: Bundle) -> set[tuple[str, str]]:
    records = (record.oldest_runtime for record in bundle.manifest.artifacts)
    return {(runtime.name, runtime.version) for runtime in records}


def check(bundle: Bundle, environment: Any) -> None:
    """Compare what runs in an environment with what the manifest says of it."""
    done = environment.parity(bundle.path)
    here = (environment.runtime.package, environment.version)
    records = [r for r in bundle.manifest.artifacts if r.format == environment.format]
    assert records
    ran = {record.file: runs_on(record, here) for record in records}
    for record in records:
        subject = done.of(record.file)
        reason = subject["failure"]
        if ran[record.file]:
            assert subject["passed"], (here, record.label, reason, subject["metrics"])
            assert subject["runtime"] == " ".join(here)
        else:
            assert_refused(record.file, reason, here)
    # A pair is judged only where both of its halves run.
    for pair in done.pairs():
        assert pair["passed"], (here, pair)
    assert done.exit_code == (0 if all(ran.values()) else 1)


def runs_on(record: ArtifactRecord, here: tuple[str, str]) -> bool:
    oldest = record.oldest_runtime
    return rank(oldest.name, oldest.version) <= rank(*here)


def assert_refused(file: str, reason: str | None, here: tuple[str, str]) -> None:
    """The message names the file, the runtime that is too old, and the way out."""
    assert reason is not None, f"{file} runs on {' '.join(here)}: it states too new a runtime"
    assert reason.startswith(f"{file}: {' '.join(here)} cannot")
    assert "pip install -U" in reason


@pytest.fixture(scope="session", params=RANGE, ids=lambda param: "-".join(param))
def environment(request: pytest.FixtureRequest, make_environment: Callable[..., Any]) -> Any:
    package, which = request.param
    return make_environment(package, lowest_in_pyproject(package) if which == "lowest" else None)


def test_artifacts_run_where_the_manifest_says(environment, shipped_bundle):
    check(shipped_bundle, environment)


def test_oldest_runtimes_that_the_manifest_states(make_environment, shipped_bundle):
    """They may be older than what vae-edge installs."""
    for package, version in sorted(stated(shipped_bundle)):
        check(shipped_bundle, make_environment(package, version))


def test_artifact_from_the_future_is_refused_in_words(environment, shipped_bundle, tmp_path):
    newer = from_the_future(shipped_bundle, environment.format, tmp_path / "newer")
    done = environment.parity(newer.path)
    here = (environment.runtime.package, environment.version)
    assert done.exit_code == 1
    for record in newer.manifest.artifacts:
        if record.format == environment.format:
            subject = done.of(record.file)
            assert not subject["passed"]
            assert_refused(record.file, subject["failure"], here)
            assert "needs a newer runtime" in subject["failure"]


def from_the_future(bundle: Bundle, format: str, target: Path) -> Bundle:
    """Copy a bundle, and have every artifact of a format need more than any runtime knows."""
    shutil.copytree(bundle.path, target)
    manifest = json.loads((target / "manifest.json").read_text())
    for record in manifest["artifacts"]:
        path = target / record["file"]
        if record["format"] == format:
            content = path.read_bytes()
            content = future_onnx(content) if format == "onnx" else future_tflite(content)
            path.write_bytes(content)
            record |= {"size_bytes": len(content), "sha256": sha256_of(content)}
    (target / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.open(target)


def future_onnx(content: bytes) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    for opset in model.opset_import:
        opset.version = FUTURE_OPSET
    return bytes(model.SerializeToString())


def future_tflite(content: bytes) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as fb

    model = fb.ModelT.InitFromObj(fb.Model.GetRootAsModel(content, 0))
    for code in model.operatorCodes:
        code.version = FUTURE_OPERATOR
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
