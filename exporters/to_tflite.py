"""TFLite: written operator by operator, or by TensorFlow's converter where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

from exporters.base import ExportedArtifact, ExportRequest
from exporters.lowered import Lowered, lower, not_lowered, plan_lowered
from exporters.lowering.dense_as_conv import DenseAsConv
from exporters.lowering.merge_heads import MergeHeads
from exporters.lowering.split_weights import SplitWeights
from exporters.quantization.records import describe
from exporters.tf_converter import convert
from exporters.tf_graph import compute
from exporters.tflite_model import TFLiteModel
from exporters.tflite_writer import SIGNATURE, unwritable, write_tflite
from vae_edge.errors import ExportError
from vae_edge.manifest import LoweringRecord, QuantizationRecord
from vae_edge.terms import Format, Precision

__all__ = ["SIGNATURE", "TFLiteExporter"]

# Heads in such parts are for a quantizer that knows which of them stay in float: TensorFlow's knows
# dense layers at the boundary, and would give the parts and not the heads a range.
_OWN_QUANTIZER = (DenseAsConv, MergeHeads, SplitWeights)
_PRECISIONS = (Precision.FLOAT32, Precision.FLOAT16, Precision.DYNAMIC, Precision.INT8)


class TFLiteExporter:
    """Exports `.tflite` files with one named signature."""

    @property
    def format(self) -> Format:
        """The format that is written."""
        return Format.TFLITE

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
            content, quantization = convert(request, request.vae.function(request.component))
            record = not_lowered("TensorFlow's converter at its defaults")
            return _artifact(content, quantization, record)
        lowered = lower(request, Format.TFLITE)
        reason = unwritable(lowered.graph)
        if reason is None:
            graph, plan = plan_lowered(lowered, request, Format.TFLITE)
            content = write_tflite(graph, plan, request.batch)
            quantization = describe(graph, plan, request.precision, Format.TFLITE)
            return _artifact(content, quantization, lowered.record)
        return _by_converter(request, lowered, reason)

    def tools(self) -> Mapping[str, str]:
        """Give the packages that take part, and their versions."""
        return {name: version(name) for name in ("tensorflow", "keras", "ai-edge-litert")}


def _by_converter(request: ExportRequest, lowered: Lowered, reason: str) -> ExportedArtifact:
    if request.integer_io:
        raise ExportError(
            f"{request.component} cannot have integer inputs and outputs: {reason}. Leave --io out."
        )
    if any(isinstance(each, _OWN_QUANTIZER) for each in lowered.profile.passes):
        passes = tuple(p for p in lowered.profile.passes if not isinstance(p, _OWN_QUANTIZER))
        profile = replace(lowered.profile, passes=passes)
        lowered = lower(replace(request, profile=profile), Format.TFLITE)
    content, quantization = convert(request, lambda rows: compute(lowered.graph, rows))
    note = f"{lowered.record.note}; written by TensorFlow's converter, because {reason}"
    return _artifact(content, quantization, replace(lowered.record, note=note))


def _artifact(
    content: bytes, quantization: QuantizationRecord, lowering: LoweringRecord
) -> ExportedArtifact:
    model = TFLiteModel.parse(content)
    return ExportedArtifact(
        content=content,
        quantization=quantization,
        lowering=lowering,
        oldest_runtime=model.oldest_runtime(),
        operators=model.count(),
        float_operators=model.count(in_float=True),
    )
