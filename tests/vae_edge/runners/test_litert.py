from __future__ import annotations

import importlib
import sys
import types
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from vae_edge.errors import ArtifactError, RuntimeMissingError
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.runners import litert
from vae_edge.runners.litert import open_tflite
from vae_edge.terms import TensorSpec

pytest.importorskip("ai_edge_litert")


def open_(content, threads=1):
    return open_tflite(content, "x.tflite", threads)


def boundary(dtype, scale, zero_point):
    """A graph that hands its stored integers through: (1, 4) in, (4, 1) out."""
    return {
        "tensors": {
            "z": ((1, 4), dtype, scale, zero_point),
            "out": ((4, 1), dtype, scale, zero_point),
            "shape": np.array([4, 1], np.int32),
        },
        "operators": [("RESHAPE", ["z", "shape"], ["out"])],
        "signatures": {"run": ({"z": "z"}, {"reconstruction": "out"})},
    }


def passed_through(content, *values):
    with open_(content) as runner:
        return runner.run({"z": np.array([values], np.float32)})["reconstruction"].ravel().tolist()


def test_values_are_those_of_numpy(tiny):
    images = tiny.golden().images(PLAIN_PICTURES)[:1]

    with open_(tiny.tflite("encoder")) as runner:
        outputs = runner.run({"image": images})

    for name, expected in zip(("z_mean", "z_log_var"), tiny.encode(images), strict=True):
        assert outputs[name].dtype == np.float32
        np.testing.assert_allclose(outputs[name], expected, atol=1e-6)


def test_specs_and_names_are_the_files(tiny):
    with open_(tiny.tflite("encoder")) as runner:
        assert runner.name == "x.tflite"
        assert runner.runtime.startswith("ai-edge-litert ")
        assert [str(spec) for spec in runner.inputs] == ["image float32 (1, 4, 4, 1)"]
        assert [str(spec) for spec in runner.outputs] == [
            "z_mean float32 (1, 2)",
            "z_log_var float32 (1, 2)",
        ]


def test_float_tensor_has_no_scale(tiny):
    with open_(tiny.tflite("decoder")) as runner:
        assert runner.inputs[0].scale is None
        assert runner.inputs[0].zero_point is None


def test_outputs_are_the_callers_own(tiny):
    z = np.array([[0.5, -1.0]], np.float32)

    with open_(tiny.tflite("decoder")) as runner:
        first = runner.run({"z": z})["reconstruction"]
        kept = first.copy()
        second = runner.run({"z": -z})["reconstruction"]

    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0  # writable, and after closing


def test_integer_boundary_is_described_as_stored(make_tflite):
    with open_(make_tflite(**boundary("int8", 0.5, -3))) as runner:
        assert runner.inputs == (
            TensorSpec(name="z", shape=(1, 4), dtype="int8", scale=0.5, zero_point=-3),
        )
        assert runner.outputs[0].dtype == "int8"


def test_int8_boundary_rounds_to_its_step(make_tflite):
    content = make_tflite(**boundary("int8", 0.5, -3))

    assert passed_through(content, 0.0, 0.5, 0.7, -1.3) == [0.0, 0.5, 0.5, -1.5]


def test_int8_boundary_rounds_ties_to_even(make_tflite):
    content = make_tflite(**boundary("int8", 0.5, -3))

    # 0.5, 1.5, 2.5 and -0.5 steps
    assert passed_through(content, 0.25, 0.75, 1.25, -0.25) == [0.0, 1.0, 1.0, 0.0]


def test_int8_boundary_saturates(make_tflite):
    content = make_tflite(**boundary("int8", 0.5, -3))

    # stored 127 and -128: (127 + 3) / 2 and (-128 + 3) / 2
    assert passed_through(content, 1e6, 65.0, -1e6, -62.5) == [65.0, 65.0, -62.5, -62.5]


def test_uint8_boundary_has_no_negative_steps(make_tflite):
    content = make_tflite(**boundary("uint8", 0.25, 0))

    assert passed_through(content, -1.0, 0.25, 63.75, 70.0) == [0.0, 0.25, 63.75, 63.75]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_without_a_scale_are_refused(make_tflite, dtype):
    content = make_tflite(**boundary(dtype, None, 0))

    with pytest.raises(ArtifactError, match=rf"x\.tflite: 'z' is {dtype}.*Export it again"):
        open_(content)


def test_free_batch_takes_any_number_of_rows(tiny):
    rows = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)

    with open_(tiny.tflite("decoder", batch=None)) as runner:
        assert runner.inputs[0].shape == (None, 2)
        for count in (3, 7, 1):
            outputs = runner.run({"z": rows[:count]})["reconstruction"]
            np.testing.assert_allclose(outputs, tiny.decode(rows[:count]), atol=1e-6)


def test_fixed_batch_refuses_another_number_of_rows(tiny):
    with (
        open_(tiny.tflite("decoder", batch=4)) as runner,
        pytest.raises(ArtifactError, match=r"input 'z' expects float32 \(4, 2\)"),
    ):
        runner.run({"z": np.zeros((3, 2), np.float32)})


def test_feeds_of_another_type_are_refused(tiny):
    with (
        open_(tiny.tflite("decoder")) as runner,
        pytest.raises(ArtifactError, match=r"received float64 \(1, 2\)\. Cast with"),
    ):
        runner.run({"z": np.zeros((1, 2))})


def test_closed_runner_refuses_to_run(tiny):
    runner = open_(tiny.tflite("decoder"))
    runner.close()
    runner.close()

    with pytest.raises(ArtifactError, match=r"x\.tflite: the runner is closed"):
        runner.run({"z": np.zeros((1, 2), np.float32)})


def test_failure_inside_the_graph_names_the_artifact(make_tflite):
    content = make_tflite(
        tensors={
            "z": ((None, 4), "float32"),
            "out": ((2, 2), "float32"),
            "shape": np.array([2, 2], np.int32),
        },
        operators=[("RESHAPE", ["z", "shape"], ["out"])],
        signatures={"run": ({"z": "z"}, {"reconstruction": "out"})},
    )

    with (
        open_(content) as runner,
        pytest.raises(ArtifactError, match=r"x\.tflite: ai-edge-litert .* cannot run it: "),
    ):
        runner.run({"z": np.zeros((3, 4), np.float32)})


def test_two_signatures_are_refused_and_named(make_tflite):
    given = boundary("float32", None, 0)
    sides = given["signatures"]["run"]
    given["signatures"] = {"one": sides, "two": sides}

    with pytest.raises(ArtifactError, match="expected one signature; it has one, two"):
        open_(make_tflite(**given))


def test_no_signature_is_refused(make_tflite):
    given = {**boundary("float32", None, 0), "signatures": {}}

    with pytest.raises(ArtifactError, match="expected one signature; it has none"):
        open_(make_tflite(**given))


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"\x1c\0\0\0TFL", b"\x1c\0\0\0ONNX" + b"\0" * 99]
)
def test_file_of_another_kind_is_refused_before_the_runtime_sees_it(content):
    with pytest.raises(ArtifactError, match=r"x\.tflite: not a TFLite file, or damaged"):
        open_(content)


def test_graph_that_the_runtime_cannot_prepare_names_the_remedy(make_tflite):
    given = boundary("float32", None, 0)
    # Two inputs of this operator are missing, so that preparing it fails.
    given["operators"] = [("FULLY_CONNECTED", ["z"], ["out"])]

    with pytest.raises(
        ArtifactError, match=r"ai-edge-litert .* cannot load it: .*needs a newer runtime"
    ):
        open_(make_tflite(**given))


class FakeImports:
    """Stands in for `importlib.import_module`: a module, or the error that importing it raises."""

    def __init__(self, **modules):
        self.modules = modules

    def __call__(self, name):
        found = self.modules[name.split(".")[0]]
        if isinstance(found, Exception):
            raise found
        return found


def test_without_any_runtime_the_message_says_what_was_tried(monkeypatch):
    imports = FakeImports(
        ai_edge_litert=ImportError("no module"), tflite_runtime=AttributeError("_ARRAY_API")
    )
    monkeypatch.setattr(importlib, "import_module", imports)

    with pytest.raises(
        RuntimeMissingError,
        match=r"pip install .*ai-edge-litert: no module; tflite-runtime: _ARRAY_API",
    ):
        open_(b"")


def test_tflite_runtime_serves_where_litert_is_missing(monkeypatch, tiny):
    real = importlib.import_module("ai_edge_litert.interpreter")
    imports = FakeImports(
        ai_edge_litert=ImportError("no module"),
        tflite_runtime=types.SimpleNamespace(Interpreter=real.Interpreter),
    )
    monkeypatch.setattr(importlib, "import_module", imports)
    monkeypatch.setattr(litert, "version", lambda package: {"tflite-runtime": "2.14.0"}[package])

    with open_(tiny.tflite("decoder")) as runner:
        assert runner.runtime == "tflite-runtime 2.14.0"


def test_runtime_without_metadata_is_used_all_the_same(monkeypatch, tiny):
    def unknown(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(litert, "version", unknown)

    with open_(tiny.tflite("decoder")) as runner:
        assert runner.runtime == "ai-edge-litert (version unknown)"


def test_threads_reach_the_interpreter(monkeypatch, tiny):
    asked = []
    real = importlib.import_module("ai_edge_litert.interpreter").Interpreter

    def interpreter(**options):
        asked.append(options["num_threads"])
        return real(**options)

    monkeypatch.setitem(
        sys.modules, "ai_edge_litert.interpreter", types.SimpleNamespace(Interpreter=interpreter)
    )
    open_(tiny.tflite("decoder"), threads=3).close()

    assert asked == [3]


@pytest.fixture(scope="module")
def converted():
    """The decoder's dense layer through TensorFlow's own converter, with int8 at its boundary."""
    tf = pytest.importorskip("tensorflow")
    weights = np.array([[1.0, -2.0, 0.5], [0.25, 1.5, -1.0]], np.float32)

    class Dense(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 2), tf.float32, name="z")])
        def run(self, z):
            return {"reconstruction": tf.matmul(z, weights)}

    module = Dense()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.run.get_concrete_function()], module
    )
    rng = np.random.default_rng(0)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.uniform(-1, 1, (1, 2)).astype(np.float32)] for _ in range(50)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert(), weights


@pytest.mark.host
def test_converted_int8_boundary_is_quantized_as_its_own_interpreter_would(converted):
    content, weights = converted
    z = np.array([[0.3, -0.7]], np.float32)

    with open_(content) as runner:
        values = runner.run({"z": z})["reconstruction"]
        source, target = runner.inputs[0], runner.outputs[0]

    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(
        model_content=content
    )
    interpreter.allocate_tensors()
    (entry,), (exit_,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (source.scale, source.zero_point) == entry["quantization"]
    assert (target.scale, target.zero_point) == exit_["quantization"]
    stored = np.round(z / source.scale + source.zero_point).astype(np.int8)
    interpreter.set_tensor(entry["index"], stored)
    interpreter.invoke()
    raw = interpreter.get_tensor(exit_["index"]).astype(np.float32)
    np.testing.assert_allclose(values, (raw - target.zero_point) * target.scale, rtol=1e-6)
    np.testing.assert_allclose(values, z @ weights, atol=0.05)
    assert target.dtype == "int8"
