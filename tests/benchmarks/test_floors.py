"""Integer operators of an ONNX file, cut out and timed beside it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.floors import Floor, floors, main, pieces

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """Convolution with a 1x2 kernel of ones to two channels, then a product with ones."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = {
        "scale": np.float32(1),
        "zero": np.uint8(0),
        "kernel": np.ones((2, 3, 1, 2), np.int8),
        "scales": np.ones(2, np.float32),
        "zeros": np.zeros(2, np.int8),
        "shape": np.array([1, 24], np.int64),
        "matrix": np.ones((24, 5), np.int8),
    }
    convolution = ["q", "scale", "zero", "kernel", "scales", "zeros", "scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("QLinearConv", convolution, ["c"], kernel_shape=[1, 2]),
        helper.make_node("Reshape", ["c", "shape"], ["r"]),
        helper.make_node("MatMulInteger", ["r", "matrix", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 5])],
        initializer=[numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    path = tmp_path_factory.mktemp("floors") / "artifact.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return path


def run(content: bytes, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


def test_a_piece_computes_what_its_operator_does(artifact):
    convolution, product = pieces(artifact)
    assert convolution.name == "QLinearConv 1x4x4x3 by 2x3x1x2"
    rows = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3) % 7
    beside = rows[:, :, :-1].astype(int) + rows[:, :, 1:]
    sums = np.repeat(beside.sum(axis=3, keepdims=True), 2, axis=3)
    np.testing.assert_array_equal(run(convolution.model, rows), sums)
    assert product.name == "MatMulInteger 1x24 by 24x5"
    vector = np.arange(24, dtype=np.uint8)[np.newaxis]
    np.testing.assert_array_equal(run(product.model, vector), [[276] * 5])


def test_the_floor_is_a_call_and_every_operator(artifact):
    (found,) = floors([artifact], rounds=2)
    assert [name for name, _ in found.own_us] == [piece.name for piece in pieces(artifact)]
    assert found.median_us > 0
    assert found.empty_us > 0
    exact = Floor(file=artifact, median_us=9.0, empty_us=2.0, own_us=(("a", 1.5), ("b", 0.25)))
    assert exact.floor_us == 3.75


def test_a_table_per_file_is_printed(artifact, capsys):
    assert main([str(artifact), "--rounds", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("| artifact.onnx | µs |")
    assert "| QLinearConv 1x4x4x3 by 2x3x1x2 |" in printed


def test_what_is_no_onnx_file_is_refused_by_name(tmp_path, capsys):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\xff" * 40)
    for path in (broken, tmp_path / "missing.onnx"):
        assert main([str(path)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert str(path) in printed.err
