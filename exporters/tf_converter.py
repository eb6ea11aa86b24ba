"""TensorFlow's own converter: for stock exports, and for graphs that have no direct form here."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from exporters.base import CONVERTER_ROWS, ExportRequest
from exporters.tflite_model import TFLiteModel
from exporters.tflite_writer import SIGNATURE
from exporters.unsupported import complaint
from vae_edge.errors import ExportError
from vae_edge.manifest import QuantizationRecord
from vae_edge.terms import COMPONENT_INPUT, FloatArray, Format, Precision

__all__ = ["QUANTIZATION", "convert"]

Function = Callable[[Any], Mapping[str, Any]]

# Left in float32 where they stand at the graph's boundary only. The heads' outliers would saturate
# in int8, z has too few steps in it, and the sigmoid's input too wide a range.
_FLOAT_AT_BOUNDARY = ("FULLY_CONNECTED", "LOGISTIC")
_DENSE_PER_TENSOR = "convolution weights per channel, dense weights per tensor"

QUANTIZATION: Mapping[Precision, QuantizationRecord] = {
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


def convert(request: ExportRequest, function: Function) -> bytes:
    """Convert a function of one tensor.

    Args:
        request: component, precision, batch and calibration rows. Without `lowering` the settings
            are the converter's defaults, but for names and the batch.
        function: computes the component's outputs by name.

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


def _converted(tf: Any, converter: Callable[[Precision], Any], request: ExportRequest) -> bytes:
    made = converter(request.precision)
    if not request.lowering or request.precision in (Precision.FLOAT32, Precision.FLOAT16):
        return bytes(made.convert())
    content = bytes(converter(Precision.FLOAT32).convert())
    if request.precision is Precision.INT8 and TFLiteModel.parse(content).holds("WHILE"):
        # Its calibrator ends the whole process.
        raise ExportError(
            f"{request.component} cannot be converted to int8 tflite: it holds a loop, as "
            "recurrent layers do, and TensorFlow's quantizer cannot calibrate it. Export it at "
            "--precision float16 or dynamic, or as --format onnx."
        )
    if request.precision is Precision.INT8:
        return _quantize_statically(tf, content, made, request)
    # The newer of the two quantizers makes TRANSPOSE_CONV multiply int8 weights with float
    # activations, which tflite-runtime 2.14 refuses to load and for which no fast kernel exists on
    # ARM. The older one keeps int8 weights and widens them.
    made.experimental_new_dynamic_range_quantizer = not TFLiteModel.parse(content).holds(
        "TRANSPOSE_CONV"
    )
    return bytes(made.convert())


def _quantize_statically(
    tf: Any, float_content: bytes, converter: Any, request: ExportRequest
) -> bytes:
    """Quantize all but what is better left in float32, which the converter alone cannot do."""
    name = COMPONENT_INPUT[request.component]
    left_float = TFLiteModel.parse(float_content).only_at_boundary(_FLOAT_AT_BOUNDARY)
    if not left_float:
        return bytes(converter.convert())
    selective = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=lambda: _batches(request, name),
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=left_float),
    )
    return bytes(selective.get_nondebug_quantized_model())


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
