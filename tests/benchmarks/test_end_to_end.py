"""Real workers, real runtimes, on a VAE so small that nothing takes long."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency import run_benchmark
from benchmarks.plan import Selection
from benchmarks.report import Part, read_report
from vae_edge.bundle_writer import BundleWriter
from vae_edge.errors import ArtifactError, BundleError
from vae_edge.keras_vae import KerasCall
from vae_edge.manifest import ArtifactRecord, Manifest
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import Format

pytestmark = pytest.mark.host
WriteBundle = Callable[..., Path]

# Builds, in a process of its own, a Keras VAE on 4 x 4 images and its halves as TFLite.
BUILD_KERAS = """
import sys
from pathlib import Path
import keras, tensorflow as tf

out = Path(sys.argv[1])
image = keras.Input((4, 4, 1))
flat = keras.layers.Flatten()(image)
heads = {name: keras.layers.Dense(2, name=name)(flat) for name in ("z_mean", "z_log_var")}
encoder = keras.Model(image, heads, name="encoder")
z = keras.Input((2,))
pixels = keras.layers.Dense(16, activation="sigmoid")(z)
decoder = keras.Model(z, keras.layers.Reshape((4, 4, 1))(pixels), name="decoder")
keras.Model(image, decoder(encoder(image)["z_mean"])).save(out / "model.keras")

def convert(call, name, shape):
    module = tf.Module()
    module.call = tf.function(call, input_signature=[tf.TensorSpec(shape, tf.float32, name=name)])
    function = module.call.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    return converter.convert()

weights = lambda model: [w.numpy() for w in model.trainable_variables]
wm, bm, wv, bv = weights(encoder)
wd, bd = weights(decoder)
def encode(image):
    flat = tf.reshape(image, (1, 16))
    return {"z_mean": flat @ wm + bm, "z_log_var": flat @ wv + bv}
def decode(z):
    return {"reconstruction": tf.reshape(tf.sigmoid(z @ wd + bd), (1, 4, 4, 1))}
(out / "encoder.tflite").write_bytes(convert(encode, "image", (1, 4, 4, 1)))
(out / "decoder.tflite").write_bytes(convert(decode, "z", (1, 2)))
"""


def onnx_component(component: str) -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def tensor(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def constant(name: str, value: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(value, name)

    if component == "encoder":
        nodes = [
            helper.make_node("Reshape", ["image", "shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["z_mean"]),
            helper.make_node("MatMul", ["flat", "w"], ["z_log_var"]),
        ]
        inputs = [tensor("image", (1, 4, 4, 1))]
        outputs = [tensor("z_mean", (1, 2)), tensor("z_log_var", (1, 2))]
        shape, weight = np.array([1, 16]), np.ones((16, 2), np.float32)
    else:
        nodes = [
            helper.make_node("MatMul", ["z", "w"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["reconstruction"]),
        ]
        inputs, outputs = [tensor("z", (1, 2))], [tensor("reconstruction", (1, 4, 4, 1))]
        shape, weight = np.array([1, 4, 4, 1]), np.ones((2, 16), np.float32)
    constants = [constant("shape", shape), constant("w", weight)]
    graph = helper.make_graph(nodes, component, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture
def write_bundle(
    tmp_path: Path,
    make_record: Callable[..., ArtifactRecord],
    make_manifest: Callable[..., Manifest],
) -> WriteBundle:
    def write(*artifacts: tuple[str, str, bytes], source_sha256: str = "b" * 64) -> Path:
        golden, records = b"golden", []
        path = tmp_path / "tiny"
        with BundleWriter(path) as writer:
            for component, format, content in artifacts:
                boundary = {}
                try:
                    with open_artifact_bytes(content, Format(format), name="a") as runner:
                        boundary = {"inputs": runner.inputs, "outputs": runner.outputs}
                except ArtifactError:
                    pass  # damaged on purpose
                record = make_record(
                    component,
                    format,
                    "float32",
                    size_bytes=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                    **boundary,
                )
                writer.add(record.file, content)
                records.append(record)
            writer.add("golden.npz", golden)
            writer.stage(
                make_manifest(
                    *records,
                    source_sha256=source_sha256,
                    golden_size_bytes=len(golden),
                    golden_sha256=hashlib.sha256(golden).hexdigest(),
                )
            )
            writer.publish()
        return path

    return write


@pytest.fixture
def onnx_bundle(write_bundle: WriteBundle) -> Path:
    return write_bundle(*((name, "onnx", onnx_component(name)) for name in ("encoder", "decoder")))


def test_both_components_and_the_two_in_a_row(onnx_bundle: Path) -> None:
    report = run_benchmark(onnx_bundle, reference=None, rounds=3, min_sample_ms=0.2)
    assert [candidate.name for candidate in report.candidates] == [
        "encoder float32 onnx",
        "decoder float32 onnx",
        "both float32 onnx",
    ]
    sizes = [candidate.size_bytes for candidate in report.candidates]
    assert sizes[0] == (onnx_bundle / "encoder.float32.onnx").stat().st_size
    assert sizes[2] == (sizes[0] or 0) + (sizes[1] or 0)
    for candidate in report.candidates:
        assert candidate.runtime.startswith("onnxruntime ")
        assert (len(candidate.warmup_ns), len(candidate.samples_ns)) == (2, 3)
        assert candidate.latency.median_ms > 0
        assert candidate.load_ms > 0
        assert candidate.first_inference_ms > 0
        assert candidate.times_faster_than_keras is None
        assert candidate.peak_rss_bytes is not None
        assert candidate.peak_rss_bytes > 10_000_000
    assert not report.reference.measured


def test_nothing_of_tensorflow_is_imported_without_a_reference(
    onnx_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("tensorflow", "keras", "onnx", "tf2onnx", "exporters"):
        (blocked / f"{name}.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(str(blocked))
    only = Selection(parts=(Part.DECODER,))
    report = run_benchmark(onnx_bundle, reference=None, rounds=2, min_sample_ms=0.1, only=only)
    assert [candidate.part for candidate in report.candidates] == [Part.DECODER]


def test_an_artifact_that_does_not_load_is_named(write_bundle: WriteBundle) -> None:
    path = write_bundle(
        ("encoder", "onnx", onnx_component("encoder")), ("decoder", "onnx", b"not a model")
    )
    with pytest.raises(ArtifactError, match=r"decoder\.float32\.onnx: onnxruntime .* cannot load"):
        run_benchmark(path, reference=None, rounds=2, min_sample_ms=0.1)


def test_a_damaged_bundle_is_refused_before_anything_starts(onnx_bundle: Path) -> None:
    with (onnx_bundle / "decoder.float32.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(BundleError, match=r"decoder\.float32\.onnx"):
        run_benchmark(onnx_bundle, reference=None, rounds=2)


@pytest.mark.skipif(not Path("/proc/thread-self/children").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_no_worker_is_left(onnx_bundle: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        # A test run in the background has the interrupt ignored, and its children inherit that.
        [
            *(sys.executable, "-c"),
            (
                "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
                "from vae_edge.cli import main; main()"
            ),
            *("benchmark", str(onnx_bundle), "--rounds", "1000000"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        workers = _wait_for_workers(process.pid)
        # Ctrl-C reaches the whole group; a kill reaches the parent alone.
        (os.killpg if number is signal.SIGINT else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == (130 if number is signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in errors
    assert _all_end(workers)


def _wait_for_workers(pid: int) -> list[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children and all(_ignores_interrupts(int(child)) for child in children):
            return [int(child) for child in children]
        time.sleep(0.005)
    raise AssertionError("no worker was seen")


def _ignores_interrupts(pid: int) -> bool:
    """A worker does from its first line on; before that it is Python that starts."""
    found = re.search(r"SigIgn:\s*([0-9a-f]+)", _status(pid))
    return found is not None and bool(int(found[1], 16) >> (signal.SIGINT - 1) & 1)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def _all_end(pids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if all("gone" in _status(pid) or "(zombie)" in _status(pid) for pid in pids):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
def test_tflite_beside_the_keras_model(write_bundle: WriteBundle, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", BUILD_KERAS, str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    model = tmp_path / "model.keras"
    path = write_bundle(
        *(
            (name, "tflite", (tmp_path / f"{name}.tflite").read_bytes())
            for name in ("encoder", "decoder")
        ),
        source_sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
    )
    report_file = tmp_path / "report.json"
    options = ["--reference", str(model), "--rounds", "3", "--out", str(report_file)]
    done = subprocess.run(
        [sys.executable, "-m", "vae_edge", "benchmark", str(path), *options],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    report = read_report(report_file.read_text(), "report")
    keras = [candidate for candidate in report.candidates if candidate.keras_call is not None]
    assert [(c.keras_call, c.part) for c in keras] == [(k, p) for k in KerasCall for p in Part]
    assert (report.reference.measured, report.reference.matches_bundle) == (True, True)
    for candidate in report.candidates[len(keras) :]:
        fastest = min(
            (c for c in keras if c.part is candidate.part), key=lambda c: c.latency.median_ms
        )
        speedup = candidate.times_faster_than_keras
        assert speedup is not None
        assert speedup.against == fastest.name
        assert speedup.interval.low <= speedup.interval.value <= speedup.interval.high
    # Nothing of what TensorFlow prints reaches the user.
    assert "oneDNN" not in done.stderr
    assert "tf.function" in done.stdout
