"""What a plan means, in the manifest's words."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.graph import Dense
from exporters.quantization.plan import QuantizationPlan, WeightMode
from exporters.quantization.records import describe
from vae_edge.terms import Format, Precision

pytestmark = pytest.mark.host


@pytest.fixture
def graph(chain):
    dense = Dense(kernel=np.ones((4, 4), np.float32), bias=np.zeros(4, np.float32))
    return chain((4,), dense, dense)


@pytest.mark.parametrize("precision", [Precision.DYNAMIC, Precision.INT8])
@pytest.mark.parametrize("mode", [WeightMode.FLOAT32, WeightMode.FLOAT16])
def test_a_file_that_is_quantized_in_name_only_says_so(graph, precision, mode):
    record = describe(graph, QuantizationPlan(weights={"a": mode}), precision, Format.ONNX)
    assert (record.weights, record.activations) == (mode.value, "float32")
    assert record.note.startswith(f"nothing is quantized at {precision}: ")


def test_values_are_integers_where_a_layer_computes_with_them(graph):
    stored = QuantizationPlan(weights={"a": WeightMode.INT8})
    record = describe(graph, stored, Precision.INT8, Format.ONNX)
    assert (record.weights, record.activations) == ("int8", "float32")
    assert "in float32: b" in record.note

    computed = QuantizationPlan(integer_input=frozenset("a"))
    record = describe(graph, computed, Precision.INT8, Format.ONNX)
    assert (record.weights, record.activations) == ("int8", "uint8")
