"""ONNX: written operator by operator, or by tf2onnx where that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from exporters.base import ExportedArtifact, ExportRequest
from exporters.lowered import lower, not_lowered, plan_lowered
from exporters.onnx_writer import unwritable, write_onnx
from exporters.quantization.records import describe
from exporters.tf2onnx_converter import convert
from exporters.tf_graph import compute
from vae_edge.errors import ExportError
from vae_edge.manifest import LoweringRecord, QuantizationRecord, RuntimeRequirement
from vae_edge.terms import Format, Precision

__all__ = ["OnnxExporter"]

# The oldest that exports are run on. Opset 18 was first read by 1.14.
_OLDEST_ONNXRUNTIME = "1.15.0"
_PRECISIONS = (Precision.FLOAT32, Precision.FLOAT16, Precision.DYNAMIC, Precision.INT8)
_FLOAT_COMPUTE = frozenset(
    {
        "Abs",
        "Add",
        "AveragePool",
        "Clip",
        "Col2Im",
        "Conv",
        "ConvTranspose",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Gemm",
        "HardSigmoid",
        "HardSwish",
        "InstanceNormalization",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "PRelu",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Resize",
        "Selu",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Tanh",
    }
)
# Those of them that ONNX Runtime has an integer kernel for, between the two.
_FUSED_BETWEEN = frozenset({"Add", "Conv", "Gemm", "LeakyRelu", "MatMul", "Mul", "Sigmoid"})


class OnnxExporter:
    """Exports `.onnx` files at one opset, with the graph's inputs and outputs named."""

    @property
    def format(self) -> Format:
        """The format that is written."""
        return Format.ONNX

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that can be made."""
        return _PRECISIONS

    def export(self, request: ExportRequest) -> ExportedArtifact:
        """Convert one component.

        Raises:
            ExportError: no integer form with `integer_io`, or the converter refused it.
        """
        if not request.lowering:
            model, quantization = convert(request, request.vae.function(request.component))
            record = not_lowered("tf2onnx and ONNX Runtime's quantizers at their defaults")
            return _artifact(model, quantization, record)
        lowered = lower(request, Format.ONNX)
        reason = unwritable(lowered.graph)
        if reason is None:
            graph, plan = plan_lowered(lowered, request, Format.ONNX)
            model = write_onnx(graph, plan, request.batch)
            quantization = describe(graph, plan, request.precision, Format.ONNX)
            return _artifact(model, quantization, lowered.record)
        if request.integer_io:
            raise ExportError(
                f"{request.component} cannot have integer inputs and outputs: {reason}. "
                "Leave --io out."
            )
        lowered = lower(request, Format.ONNX, by_converter=True)
        model, quantization = convert(request, lambda rows: compute(lowered.graph, rows))
        note = f"{lowered.record.note}; written by tf2onnx, because {reason}"
        return _artifact(model, quantization, replace(lowered.record, note=note))

    def tools(self) -> Mapping[str, str]:
        """Give the packages that take part, and their versions."""
        names = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime")
        return {name: version(name) for name in names}


def _artifact(
    model: Any, quantization: QuantizationRecord, lowering: LoweringRecord
) -> ExportedArtifact:
    # Stating the tool that wrote the file is ours; a converter's home page is noise.
    model.producer_name, model.producer_version, model.doc_string = "vae-edge", "", ""
    counts = Counter(node.op_type for node in model.graph.node)
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    return ExportedArtifact(
        content=model.SerializeToString(deterministic=True),
        quantization=quantization,
        lowering=lowering,
        oldest_runtime=RuntimeRequirement(
            name="onnxruntime",
            version=_OLDEST_ONNXRUNTIME,
            detail=f"the oldest that exports are run on; opset {opset}, "
            f"IR version {model.ir_version}",
        ),
        operators=dict(sorted(counts.items())),
        float_operators=dict(sorted(_in_float(model.graph).items())),
    )


def _in_float(graph: Any) -> Counter[str]:
    """Count what computes in float.

    A quantizer writes an integer operator as a float one between DequantizeLinear and
    QuantizeLinear, and the runtime makes one of the three where it has such a kernel.
    """
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    counts: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in _FLOAT_COMPUTE:
            continue
        around = {made_by.get(name) for name in node.input if name}
        after = {reader for output in node.output for reader in readers.get(output, ("output",))}
        between = around == {"DequantizeLinear"} and after == {"QuantizeLinear"}
        if not (between and node.op_type in _FUSED_BETWEEN):
            counts[node.op_type] += 1
    return counts
