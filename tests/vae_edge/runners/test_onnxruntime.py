from __future__ import annotations

import importlib

import numpy as np
import pytest

from vae_edge.errors import ArtifactError, RuntimeMissingError
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.runners.onnxruntime import open_onnx

ort = pytest.importorskip("onnxruntime")


def open_(content, threads=1):
    return open_onnx(content, "x.onnx", threads)


def test_values_are_those_of_numpy(tiny):
    images = tiny.golden().images(PLAIN_PICTURES)[:1]

    with open_(tiny.onnx("encoder")) as runner:
        outputs = runner.run({"image": images})

    for name, expected in zip(("z_mean", "z_log_var"), tiny.encode(images), strict=True):
        assert outputs[name].dtype == np.float32
        np.testing.assert_allclose(outputs[name], expected, atol=1e-6)


def test_specs_and_names_are_the_files(tiny):
    with open_(tiny.onnx("encoder", batch=None)) as runner:
        assert runner.name == "x.onnx"
        assert runner.runtime == f"onnxruntime {ort.__version__}"
        assert [str(spec) for spec in runner.inputs] == ["image float32 (any, 4, 4, 1)"]
        assert [str(spec) for spec in runner.outputs] == [
            "z_mean float32 (any, 2)",
            "z_log_var float32 (any, 2)",
        ]
        assert runner.inputs[0].scale is None


def test_outputs_are_the_callers_own(tiny):
    z = np.array([[0.5, -1.0]], np.float32)

    with open_(tiny.onnx("decoder")) as runner:
        first = runner.run({"z": z})["reconstruction"]
        kept = first.copy()
        second = runner.run({"z": -z})["reconstruction"]

    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0  # writable, and after closing


def test_free_batch_takes_any_number_of_rows(tiny):
    rows = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)

    with open_(tiny.onnx("decoder", batch=None)) as runner:
        for count in (3, 7, 1):
            outputs = runner.run({"z": rows[:count]})["reconstruction"]
            np.testing.assert_allclose(outputs, tiny.decode(rows[:count]), atol=1e-6)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.zeros((2, 2), np.float32), r"expects float32 \(1, 2\); received float32 \(2, 2\)"),
        (np.zeros((1, 2), np.float64), r"received float64 \(1, 2\)\. Cast with z\.astype"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(tiny, z, message):
    with open_(tiny.onnx("decoder")) as runner, pytest.raises(ArtifactError, match=message):
        runner.run({"z": z})


def test_closed_runner_refuses_to_run(tiny):
    runner = open_(tiny.onnx("decoder"))
    runner.close()
    runner.close()

    with pytest.raises(ArtifactError, match=r"x\.onnx: the runner is closed"):
        runner.run({"z": np.zeros((1, 2), np.float32)})


def test_failure_inside_the_graph_names_the_artifact(tiny):
    """A free batch at the boundary, and a fixed one inside, as careless exports have."""
    with (
        open_(tiny.onnx("decoder", batch=None, baked_batch=1)) as runner,
        pytest.raises(ArtifactError, match=r"x\.onnx: onnxruntime .* cannot run it: .*Reshape"),
    ):
        runner.run({"z": np.zeros((3, 2), np.float32)})


@pytest.mark.parametrize("content", [b"", b"not an ONNX file", b"\x08\x08" + b"\xff" * 50])
def test_damaged_file_names_the_runtime_and_the_remedy(content):
    with pytest.raises(
        ArtifactError, match=r"x\.onnx: onnxruntime .* cannot load it: .*pip install -U onnxruntime"
    ):
        open_(content)


def test_truncated_file_is_refused(tiny):
    content = tiny.onnx("decoder")

    with pytest.raises(ArtifactError, match="cannot load it"):
        open_(content[: len(content) // 2])


@pytest.mark.parametrize("dtype", ["DOUBLE", "FLOAT16"])
def test_boundary_other_than_float_is_refused(tiny, dtype):
    with pytest.raises(
        ArtifactError, match=r"x\.onnx: 'z' is tensor\(.*\); expected float32, or 8-bit"
    ):
        open_(tiny.onnx("decoder", dtype=dtype))


def test_without_onnxruntime_the_message_says_how_to_get_it(monkeypatch):
    def refuse(name):
        raise ImportError(f"no {name}")

    monkeypatch.setattr(importlib, "import_module", refuse)

    with pytest.raises(
        RuntimeMissingError, match=r"pip install .*onnxruntime.*Tried onnxruntime: no onnxruntime"
    ):
        open_(b"")


def test_threads_reach_the_session(monkeypatch, tiny):
    asked = []
    real = ort.InferenceSession

    def session(content, options, **kwargs):
        asked.append(options.intra_op_num_threads)
        return real(content, options, **kwargs)

    monkeypatch.setattr(ort, "InferenceSession", session)
    open_(tiny.onnx("decoder"), threads=3).close()

    assert asked == [3]
