"""tf2onnx: for stock exports, and for graphs that have no direct form here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from exporters.base import CONVERTER_ROWS, ExportRequest
from exporters.onnx_quantization import (
    quantize_at_defaults,
    quantize_dynamically,
    quantize_statically,
    store_as_float16,
)
from exporters.unsupported import complaint
from vae_edge.errors import ExportError
from vae_edge.manifest import QuantizationRecord
from vae_edge.terms import COMPONENT_INPUT, COMPONENT_OUTPUTS, Format, Precision

__all__ = ["QUANTIZATION", "convert"]

# The opset that Keras's own export and tf2onnx are best tested with.
_OPSET = 17

QUANTIZATION: Mapping[Precision, QuantizationRecord] = {
    Precision.DYNAMIC: QuantizationRecord(
        weights="int8",
        weight_granularity="per-tensor",
        weights_symmetric=True,
        activations="float32",
        activations_symmetric=None,
        note="dense layers only, their activations quantized to uint8 on the fly; "
        "convolutions and transposed convolutions stay float32",
    ),
    Precision.INT8: QuantizationRecord(
        weights="int8",
        weight_granularity="per-channel",
        weights_symmetric=True,
        activations="uint8",
        activations_symmetric=False,
        note="QuantizeLinear and DequantizeLinear pairs; graph inputs and outputs are float32, and "
        "so are dense layers there and the layer before a final sigmoid",
    ),
}


def convert(request: ExportRequest, function: Callable[[Any], Mapping[str, Any]]) -> Any:
    """Convert a function of one tensor to a quantized ONNX model.

    Args:
        request: component, precision, batch and calibration rows. Without `lowering` quantization
            is ONNX Runtime's at its defaults.
        function: computes the component's outputs by name.

    Returns:
        ModelProto, with named inputs and outputs.

    Raises:
        ExportError: a converter refused it.
    """
    name = COMPONENT_INPUT[request.component]
    rows = request.calibration[:CONVERTER_ROWS]
    try:
        model = _converted(request, function)
        if request.precision is Precision.FLOAT32:
            return model
        if request.precision is Precision.FLOAT16:
            return store_as_float16(model)
        if not request.lowering:
            static = request.precision is Precision.INT8
            return quantize_at_defaults(model, rows if static else None, name)
        if request.precision is Precision.DYNAMIC:
            return quantize_dynamically(model)
        return quantize_statically(model, rows, name)
    except ExportError:
        raise
    except Exception as error:  # tf2onnx and the quantizers raise whatever happens to go wrong
        raise ExportError(complaint(error, request, Format.ONNX)) from error


def _converted(request: ExportRequest, function: Callable[[Any], Mapping[str, Any]]) -> Any:
    """The component as a float32 ONNX model, checked, with named inputs and outputs."""
    tf: Any = importlib.import_module("tensorflow")
    tf2onnx: Any = importlib.import_module("tf2onnx")
    onnx: Any = importlib.import_module("onnx")
    name = COMPONENT_INPUT[request.component]
    spec = tf.TensorSpec(
        (request.batch, *request.vae.row_shape(request.component)), tf.float32, name=name
    )
    traced = tf.function(function, input_signature=[spec])
    model, _ = tf2onnx.convert.from_function(traced, input_signature=[spec], opset=_OPSET)
    _order_outputs(model, COMPONENT_OUTPUTS[request.component])
    given = [node.name for node in model.graph.input]
    if given != [name]:
        raise ExportError(f"the graph's inputs are {given}; expected ['{name}'].")
    for value in (*model.graph.input, *model.graph.output):
        dimension = value.type.tensor_type.shape.dim[0]
        if request.batch is None:
            dimension.dim_param = "batch"
    onnx.checker.check_model(model, full_check=True)
    return model


def _order_outputs(model: Any, names: tuple[str, ...]) -> None:
    """Put the outputs in their stated order; a traced dict lists them alphabetically."""
    outputs = {value.name: value for value in model.graph.output}
    if set(outputs) != set(names):
        raise ExportError(f"the graph's outputs are {sorted(outputs)}; expected {list(names)}.")
    ordered = [outputs[name] for name in names]
    del model.graph.output[:]
    model.graph.output.extend(ordered)
