"""What a plan means, in the manifest's words."""

from __future__ import annotations

from dataclasses import replace

from exporters.graph import Conv, ConvTranspose, Dense, Graph, Node
from exporters.quantization.plan import QuantizationPlan, WeightMode
from vae_edge.manifest import QuantizationRecord
from vae_edge.terms import Format, Precision

__all__ = ["BEYOND", "FLOAT16", "FLOAT32", "all_in_float", "describe"]

BEYOND = "quantized, it exceeds the limits of the precision"
_FEW_OR_BEYOND = "its layers have few weights, or exceed the limits of the precision in 8 bits"

FLOAT32 = QuantizationRecord(
    weights="float32",
    weight_granularity="none",
    weights_symmetric=None,
    activations="float32",
    activations_symmetric=None,
    note="nothing is quantized",
)
FLOAT16 = QuantizationRecord(
    weights="float16",
    weight_granularity="none",
    weights_symmetric=None,
    activations="float32",
    activations_symmetric=None,
    note="weights are stored in float16 and widened once, when the model loads",
)
_ON_THE_FLY = {
    Format.TFLITE: "activations are quantized on the fly, operator by operator",
    Format.ONNX: "weights are widened once, when the model loads, and computed with in float32",
}


def describe(
    graph: Graph, plan: QuantizationPlan, precision: Precision, format: Format
) -> QuantizationRecord:
    """Spell out a precision for one artifact, naming the layers that stay in float."""
    if precision is Precision.FLOAT32:
        return FLOAT32
    if precision is Precision.FLOAT16:
        return _float16(graph, plan)
    weighted = [node for node in graph.nodes if isinstance(node.op, (Conv, Dense))]
    floats = [node for node in weighted if not _stores_int8(node, plan)]
    if weighted and len(floats) == len(weighted):
        if any(plan.weight_mode(node.output) is WeightMode.FLOAT16 for node in weighted):
            return all_in_float(precision, _FEW_OR_BEYOND)
        return replace(FLOAT32, note=f"nothing is quantized at {precision}: {_FEW_OR_BEYOND}")
    notes = []
    if precision is Precision.DYNAMIC:
        notes.append(_ON_THE_FLY[format])
    elif plan.integer_io:
        notes.append("inputs and outputs are 8-bit integers too")
    else:
        notes.append("inputs and outputs are float32")
    if floats:
        names = ", ".join(dict.fromkeys(node.name for node in floats))
        notes.append(f"in float32: {names}")
    notes += plan.notes
    integer = precision is Precision.INT8 and bool(plan.integer or plan.integer_input)
    signed = format is Format.TFLITE or plan.signed
    return QuantizationRecord(
        weights="int8",
        weight_granularity="per-channel",
        weights_symmetric=True,
        activations=("int8" if signed else "uint8") if integer else "float32",
        activations_symmetric=False if integer else None,
        note="; ".join(notes),
    )


def all_in_float(precision: Precision, why: str) -> QuantizationRecord:
    """Give the record of a file that is quantized in name only, with weights in float16.

    Args:
        precision: that was asked for.
        why: half a sentence.
    """
    return replace(FLOAT16, note=f"nothing is quantized at {precision}: {why}; {FLOAT16.note}")


def _float16(graph: Graph, plan: QuantizationPlan) -> QuantizationRecord:
    wide = [
        node.name
        for node in graph.nodes
        if isinstance(node.op, (Conv, ConvTranspose, Dense))
        and plan.weight_mode(node.output) is not WeightMode.FLOAT16
    ]
    if not wide:
        return FLOAT16
    return replace(FLOAT16, note=f"{FLOAT16.note}; in float32: {', '.join(dict.fromkeys(wide))}")


def _stores_int8(node: Node, plan: QuantizationPlan) -> bool:
    return (
        node.output in plan.integer
        or node.output in plan.integer_input
        or plan.weight_mode(node.output) is WeightMode.INT8
    )
