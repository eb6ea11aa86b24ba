"""The formats. A new one is a module beside this file and a line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from exporters.base import Exporter
from exporters.to_onnx import OnnxExporter
from exporters.to_tflite import TFLiteExporter
from vae_edge.errors import ExportError
from vae_edge.terms import Format, Precision

__all__ = ["EXPORTERS", "check_combinations"]

EXPORTERS: Mapping[Format, Exporter] = MappingProxyType(
    {exporter.format: exporter for exporter in (TFLiteExporter(), OnnxExporter())}
)

# What a user may ask for and is better off without, with the measurement (docs/performance.md).
NOT_WORTH_IT: Mapping[Precision, str] = MappingProxyType(
    {
        Precision.INT16X8: "16-bit activations have no fast kernel in any runtime measured: the "
        "decoder takes more than ten times float32's time. int8 keeps its outputs' layers in "
        "float, and float16 is exact to 11 bits at float32's speed.",
        Precision.INT4: "4-bit weights have no fast convolution in any runtime measured: the "
        "decoder takes several times float32's time for a file little smaller than int8's.",
    }
)


def check_combinations(formats: Iterable[Format], precisions: Iterable[Precision]) -> None:
    """Refuse, before any work, formats and precisions that do not go together.

    Raises:
        ExportError: every combination that cannot be made, and what can.
    """
    precisions = tuple(precisions)
    refused = [
        (exporter, [p for p in precisions if p not in exporter.precisions])
        for exporter in (EXPORTERS[each] for each in formats)
    ]
    sentences = [
        f"{exporter.format} is not exported at precision '{each}': {NOT_WORTH_IT[each]}"
        for exporter, bad in refused
        for each in bad
        if each in NOT_WORTH_IT
    ] + [
        f"{exporter.format} cannot be exported at precision {', '.join(map(repr, map(str, bad)))}; "
        f"it supports {', '.join(map(str, exporter.precisions))}."
        for exporter, bad in refused
        if bad
    ]
    if sentences:
        raise ExportError(
            " ".join(sentences) + " Leave that combination out, or export it in a call of its own."
        )
