"""ONNX through tf2onnx, quantized with ONNX Runtime's own tools."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from exporters.base import FLOAT16, FLOAT32, NO_LOWERING, ExportedArtifact, ExportRequest
from exporters.onnx_quantization import (
    quantize_dynamically,
    quantize_statically,
    store_as_float16,
)
from vae_edge.errors import ExportError
from vae_edge.manifest import QuantizationRecord, RuntimeRequirement
from vae_edge.terms import (
    COMPONENT_INPUT,
    COMPONENT_OUTPUTS,
    FloatArray,
    Format,
    Precision,
)

__all__ = ["OPSET", "OnnxExporter"]

# ONNX Runtime reads opset 17 since 1.12; nothing written here needs a newer one.
OPSET = 17
# The oldest that exports are run on.
_OLDEST_ONNXRUNTIME = "1.15.0"

QUANTIZATION: Mapping[Precision, QuantizationRecord] = {
    Precision.FLOAT32: FLOAT32,
    Precision.FLOAT16: FLOAT16,
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
        note="QuantizeLinear and DequantizeLinear pairs; ONNX Runtime has no integer transposed "
        "convolution, so that one computes in float32; graph inputs and outputs are float32, and "
        "so are dense layers there and the layer before a final sigmoid",
    ),
}

_QUANTIZE: Mapping[Precision, Callable[[Any, FloatArray, str], Any]] = {
    Precision.FLOAT32: lambda model, rows, name: model,
    Precision.FLOAT16: lambda model, rows, name: store_as_float16(model),
    Precision.DYNAMIC: lambda model, rows, name: quantize_dynamically(model),
    Precision.INT8: quantize_statically,
}


class OnnxExporter:
    """Exports `.onnx` files at one opset, with the graph's inputs and outputs named."""

    @property
    def format(self) -> Format:
        """The format that is written."""
        return Format.ONNX

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that can be made."""
        return tuple(QUANTIZATION)

    def export(self, request: ExportRequest) -> ExportedArtifact:
        """Convert one component.

        Raises:
            ExportError: the converter or the quantizer refused it.
        """
        name = COMPONENT_INPUT[request.component]
        try:
            model = _QUANTIZE[request.precision](_convert(request), request.calibration, name)
        except Exception as error:  # tf2onnx and onnxruntime raise no class of their own
            raise ExportError(
                f"{request.component} cannot be converted to {request.precision} onnx: "
                f"{' '.join(str(error).split())[:300]} Try another --precision or --format."
            ) from error
        # Stating the tool that wrote the file is ours; a converter's home page is noise.
        model.producer_name, model.producer_version, model.doc_string = "vae-edge", "", ""
        return ExportedArtifact(
            content=model.SerializeToString(deterministic=True),
            quantization=QUANTIZATION[request.precision],
            lowering=NO_LOWERING,
            oldest_runtime=RuntimeRequirement(
                name="onnxruntime",
                version=_OLDEST_ONNXRUNTIME,
                detail=f"opset {OPSET}, IR version {model.ir_version}",
            ),
            operators=dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
        )

    def tools(self) -> Mapping[str, str]:
        """Give the packages that take part, and their versions."""
        names = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime")
        return {name: version(name) for name in names}


def _convert(request: ExportRequest) -> Any:
    """The component as a float32 ONNX model, checked, with named inputs and outputs."""
    tf: Any = importlib.import_module("tensorflow")
    tf2onnx: Any = importlib.import_module("tf2onnx")
    onnx: Any = importlib.import_module("onnx")
    name = COMPONENT_INPUT[request.component]
    spec = tf.TensorSpec(
        (request.batch, *request.vae.row_shape(request.component)), tf.float32, name=name
    )
    function = tf.function(request.vae.function(request.component), input_signature=[spec])
    model, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=OPSET)
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
