"""TensorFlow's own converter: for stock exports, and for graphs that have no direct form here."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from exporters.base import CONVERTER_ROWS, ExportRequest
from exporters.converter_guard import Judge, keep_within, kept_in_float
from exporters.quantization.records import BEYOND, FLOAT16, FLOAT32, all_in_float
from exporters.tflite_model import TFLiteModel
from exporters.tflite_writer import SIGNATURE
from exporters.unsupported import complaint
from vae_edge.errors import ExportError
from vae_edge.manifest import QuantizationRecord
from vae_edge.terms import COMPONENT_INPUT, Component, FloatArray, Format, Precision

__all__ = ["convert"]

Function = Callable[[Any], Mapping[str, Any]]

# Left in float32 where they stand at the graph's boundary. The heads' outliers would saturate in
# int8, z has too few steps in it, and the sigmoid's input too wide a range.
_FLOAT_AT_BOUNDARY = ("FULLY_CONNECTED", "LOGISTIC")
_DENSE_PER_TENSOR = "convolution weights per channel, dense weights per tensor"

_QUANTIZATION: Mapping[Precision, QuantizationRecord] = {
    Precision.DYNAMIC: QuantizationRecord(
        weights="int8",
        weight_granularity="per-channel",
        weights_symmetric=True,
        activations="float32",
        activations_symmetric=None,
        note=f"{_DENSE_PER_TENSOR}; activations are quantized on the fly, biases are float32; "
        "transposed convolutions widen their int8 weights and compute in float32",
    ),
    Precision.INT8: QuantizationRecord(
        weights="int8",
        weight_granularity="per-channel",
        weights_symmetric=True,
        activations="int8",
        activations_symmetric=False,
        note=f"{_DENSE_PER_TENSOR}; graph inputs and outputs are float32",
    ),
}

_FLOAT: Mapping[Precision, QuantizationRecord] = {
    Precision.FLOAT32: FLOAT32,
    Precision.FLOAT16: FLOAT16,
}


def convert(request: ExportRequest, function: Function) -> tuple[bytes, QuantizationRecord]:
    """Convert a function of one tensor.

    Args:
        request: component, precision, batch and calibration rows. Without `lowering` the settings
            are the converter's defaults, but for names and the batch; with it, what costs too much
            in 8 bits stays in float.
        function: computes the component's outputs by name.

    Returns:
        The file, and what its precision means.

    Raises:
        ExportError: the converter refused it, or it needs operators that are not built in.
    """
    tf: Any = importlib.import_module("tensorflow")
    with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
        _write_saved_model(request, function, directory)

        # From a SavedModel: converting a bare concrete function would lose the signature's names.
        def converter(precision: Precision) -> Any:
            made = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=[SIGNATURE])
            _configure(tf, made, request, precision)
            return made

        try:
            return _converted(tf, converter, request)
        except ExportError:
            raise
        except Exception as error:  # the converter raises what its C++ side happens to give
            raise ExportError(complaint(error, request, Format.TFLITE)) from error


def _converted(
    tf: Any, converter: Callable[[Precision], Any], request: ExportRequest
) -> tuple[bytes, QuantizationRecord]:
    made = converter(request.precision)
    if request.precision in _FLOAT:
        return bytes(made.convert()), _FLOAT[request.precision]
    record = _QUANTIZATION[request.precision]
    if not request.lowering:
        return bytes(made.convert()), record
    content = TFLiteModel.parse(bytes(converter(Precision.FLOAT32).convert()))
    if request.precision is Precision.INT8 and content.holds("WHILE"):
        # Its calibrator ends the whole process.
        raise ExportError(
            f"{request.component} cannot be converted to int8 tflite: it holds a loop, as "
            "recurrent layers do, and TensorFlow's quantizer cannot calibrate it. Export it at "
            "--precision float16 or dynamic, or as --format onnx."
        )
    judge = Judge.of(request, Format.TFLITE)
    if request.precision is Precision.INT8:
        found = _quantize_statically(tf, made, request, judge)
    else:
        # The newer of the two quantizers makes TRANSPOSE_CONV multiply int8 weights with float
        # activations, which tflite-runtime 2.14 refuses to load and for which no fast kernel exists
        # on ARM. The older one keeps int8 weights and widens them.
        made.experimental_new_dynamic_range_quantizer = not content.holds("TRANSPOSE_CONV")
        quantized = bytes(made.convert())
        found = (quantized, ()) if judge.excess(quantized) <= 1 else None
    if found is not None and TFLiteModel.parse(found[0]).int8_weights:
        return found[0], kept_in_float(record, found[1])
    untaken = found is not None and not found[1]
    why = "TensorFlow's quantizer takes none of its weights" if untaken else BEYOND
    return bytes(converter(Precision.FLOAT16).convert()), all_in_float(request.precision, why)


def _quantize_statically(
    tf: Any, converter: Any, request: ExportRequest, judge: Judge
) -> tuple[bytes, tuple[str, ...]] | None:
    """Quantize all but what is better left in float32, which the converter alone cannot do.

    It calibrates once, and quantizes as often as it takes to find what costs too much.
    """
    name = COMPONENT_INPUT[request.component]
    options = tf.lite.experimental.QuantizationDebugOptions()
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=lambda: _batches(request, name),
        debug_options=options,
    )
    calibrated = TFLiteModel.parse(debugger.calibrated_model)
    boundary = calibrated.at_boundary(
        _FLOAT_AT_BOUNDARY, inputs=request.component is Component.DECODER
    )

    def make(left_out: Collection[str]) -> bytes:
        options.denylisted_nodes = [*boundary, *left_out]
        return bytes(debugger.get_nondebug_quantized_model())

    nodes = [name for name in calibrated.computed() if name not in boundary]
    return keep_within(judge, nodes, make)


def _write_saved_model(request: ExportRequest, function: Function, directory: str) -> None:
    tf: Any = importlib.import_module("tensorflow")
    keras: Any = importlib.import_module("keras")
    spec = tf.TensorSpec(
        (request.batch, *request.vae.row_shape(request.component)),
        tf.float32,
        name=COMPONENT_INPUT[request.component],
    )
    archive = keras.export.ExportArchive()
    archive.track(request.vae.component(request.component))
    archive.add_endpoint(SIGNATURE, function, input_signature=[spec])
    archive.write_out(directory, verbose=False)


def _configure(tf: Any, converter: Any, request: ExportRequest, precision: Precision) -> None:
    ops = tf.lite.OpsSet
    converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS]
    if precision is not Precision.FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # Per-channel dense weights need FULLY_CONNECTED version 12, which tflite-runtime 2.14 and
        # LiteRT 1.0 lack.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = request.lowering
    if precision is Precision.FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    if precision is Precision.INT8:
        if request.lowering:
            converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS_INT8]
        name = COMPONENT_INPUT[request.component]
        converter.representative_dataset = lambda: _batches(request, name)


def _batches(request: ExportRequest, name: str) -> Iterator[dict[str, FloatArray]]:
    size = request.batch or 1
    rows = request.calibration[:CONVERTER_ROWS]
    for start in range(0, len(rows) - size + 1, size):
        yield {name: rows[start : start + size]}
