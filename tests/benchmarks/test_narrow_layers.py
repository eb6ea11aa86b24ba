"""Layers to few channels in two forms: both compute the same, and a table compares them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.narrow_layers import main
from exporters.narrow_layers import narrow_layers
from vae_edge.runners.registry import open_artifact_bytes

pytestmark = pytest.mark.host


def test_both_forms_of_a_layer_compute_the_same():
    found = list(narrow_layers([3], [8], [2]))
    assert [case.form for case in found] == [
        *("tflite", "onnx x86", "onnx arm64"),
        *("onnx x86", "onnx arm64") * 2,
    ]
    for case in found:
        rows = np.random.default_rng(0).standard_normal((1, *case.shape), np.float32)
        outputs = []
        for content in (case.first, case.second):
            with open_artifact_bytes(content, case.format, name=case.form) as runner:
                outputs.append(runner.run({runner.inputs[0].name: rows})["reconstruction"])
        assert case.first != case.second
        np.testing.assert_allclose(*outputs, atol=1e-5 * np.abs(outputs[0]).max())


def test_a_row_per_layer_is_printed(tmp_path, capsys):
    asked = ["--kernel", "2", "--channels-in", "8", "--channels-out", "1", "--rounds", "2"]
    assert main([*asked, "--out", str(tmp_path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "| layer | tflite | onnx x86 | onnx arm64 |"
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        "| 2x2, 8 to 1",
        "| 2x2, 8 to 1, blocks of 2x2",
        "| 2x2, 8 to 1, blocks of 3x3",
    ]
    assert {path.parent.name for path in tmp_path.rglob("*.onnx")} == {"whole", "split"}
