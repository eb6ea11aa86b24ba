"""tf2onnx: for stock exports, and for graphs that have no direct form here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from exporters.base import CONVERTER_ROWS, ExportRequest
from exporters.converter_guard import Judge, keep_within, kept_in_float
from exporters.onnx_quantization import dynamically, quantize_at_defaults, statically
from exporters.onnx_storage import LOOPS, holds_int8_weights, store_as_float16
from exporters.quantization.records import BEYOND, FLOAT16, FLOAT32, all_in_float
from exporters.unsupported import complaint
from vae_edge.errors import ExportError
from vae_edge.manifest import QuantizationRecord
from vae_edge.terms import COMPONENT_INPUT, COMPONENT_OUTPUTS, Format, Precision

__all__ = ["convert"]

# The opset that Keras's own export and tf2onnx are best tested with.
_OPSET = 17

_QUANTIZATION: Mapping[Precision, QuantizationRecord] = {
    Precision.DYNAMIC: QuantizationRecord(
        weights="int8",
        weight_granularity="per-channel",
        weights_symmetric=True,
        activations="float32",
        activations_symmetric=None,
        note="dense layers only, their activations quantized to uint8 on the fly; "
        "convolutions and transposed convolutions stay float",
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


def convert(
    request: ExportRequest, function: Callable[[Any], Mapping[str, Any]]
) -> tuple[Any, QuantizationRecord]:
    """Convert a function of one tensor to a quantized ONNX model.

    Args:
        request: component, precision, batch and calibration rows. Without `lowering` quantization
            is ONNX Runtime's at its defaults; with it, what costs too much stays in float.
        function: computes the component's outputs by name.

    Returns:
        ModelProto, with named inputs and outputs, and what its precision means.

    Raises:
        ExportError: a converter refused it.
    """
    try:
        model = _converted(request, function)
        if request.precision is Precision.FLOAT32:
            return model, FLOAT32
        if request.precision is Precision.FLOAT16:
            return store_as_float16(model), FLOAT16
        if request.lowering:
            return _within_limits(model, request)
        static = request.precision is Precision.INT8
        rows = request.calibration[:CONVERTER_ROWS] if static else None
        quantized = quantize_at_defaults(model, rows, COMPONENT_INPUT[request.component])
        return quantized, _QUANTIZATION[request.precision]
    except ExportError:
        raise
    except Exception as error:  # tf2onnx and the quantizers raise whatever happens to go wrong
        raise ExportError(complaint(error, request, Format.ONNX)) from error


def _within_limits(model: Any, request: ExportRequest) -> tuple[Any, QuantizationRecord]:
    """Quantize, and store as float16 what stays in float."""
    onnx: Any = importlib.import_module("onnx")
    rows, name = request.calibration[:CONVERTER_ROWS], COMPONENT_INPUT[request.component]
    static = request.precision is Precision.INT8
    quantizable = statically(model, rows, name) if static else dynamically(model)

    def make(left_out: Collection[str]) -> bytes:
        quantized = store_as_float16(quantizable.quantize(left_out))
        return bytes(quantized.SerializeToString())

    found = keep_within(Judge.of(request, Format.ONNX), quantizable.nodes, make)
    if found is not None:
        quantized = onnx.load_from_string(found[0])
        if holds_int8_weights(quantized):
            return quantized, kept_in_float(_described(quantized, request.precision), found[1])
    untaken = found is not None and not found[1]
    why = "ONNX Runtime's quantizer takes none of its weights" if untaken else BEYOND
    return store_as_float16(model), all_in_float(request.precision, why)


def _described(model: Any, precision: Precision) -> QuantizationRecord:
    """What a precision means in a model of which some weights at least are narrow."""
    record = _QUANTIZATION[precision]
    kinds = {node.op_type for node in model.graph.node}
    if precision is Precision.INT8 and "QuantizeLinear" not in kinds:
        record = replace(
            record,
            activations="float32",
            activations_symmetric=None,
            note="weights are widened once, when the model loads, and computed with in float32",
        )
    elif kinds & set(LOOPS):
        record = replace(
            record,
            note=f"{record.note}; weights of loops are widened once, when the model loads, and "
            "computed with in float32",
        )
    return record


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
