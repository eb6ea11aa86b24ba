"""The formats. A new one is a module beside this file and a line here, or another package's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from exporters.base import Exporter
from exporters.to_onnx import OnnxExporter
from exporters.to_tflite import TFLiteExporter
from vae_edge.errors import ExportError
from vae_edge.plugins import EXPORTERS_GROUP, load_plugin
from vae_edge.terms import Format, Precision

__all__ = ["EXPORTERS", "check_combinations", "exporter_of"]

EXPORTERS: Mapping[Format, Exporter] = MappingProxyType(
    {exporter.format: exporter for exporter in (TFLiteExporter(), OnnxExporter())}
)


def exporter_of(format: Format) -> Exporter:
    """Give the exporter of a format, also one that another package adds by an entry point.

    Raises:
        RuntimeMissingError: no package adds one, or it cannot be imported.
        ExportError: what a package adds is no exporter.
    """
    if format in EXPORTERS:
        return EXPORTERS[format]
    added = load_plugin(EXPORTERS_GROUP, str(format))
    exporter: Exporter = added() if isinstance(added, type) else added
    lacking = [n for n in ("format", "precisions", "export", "tools") if not hasattr(exporter, n)]
    if lacking or exporter.format is not format:
        reason = f"lacks {', '.join(lacking)}" if lacking else f"is of {exporter.format}"
        raise ExportError(
            f"what an installed package adds as the exporter of '{format}' {reason}. "
            "docs/api.md says what an exporter is."
        )
    return exporter


# What a user may ask for and is better off without, with the measurement (docs/performance.md).
NOT_WORTH_IT: Mapping[Precision, str] = MappingProxyType(
    {
        Precision.INT16X8: "16-bit activations have no fast kernel in any runtime measured: the "
        "decoder takes more than ten times float32's time. int8 keeps its outputs' layers in "
        "float, and float16 is exact to 11 bits at float32's speed.",
        Precision.INT4: "4-bit weights have no fast convolution in any runtime measured: the "
        "encoder takes half again float32's time, and its latents are off by tens of nats.",
    }
)


def check_combinations(formats: Iterable[Format], precisions: Iterable[Precision]) -> None:
    """Refuse, before any work, formats and precisions that do not go together.

    Raises:
        ExportError: every combination that cannot be made, and what can.
    """
    precisions = tuple(precisions)
    sentences = [
        f"precision '{each}' is not exported: {NOT_WORTH_IT[each]}"
        for each in precisions
        if each in NOT_WORTH_IT
    ]
    for exporter in map(exporter_of, formats):
        bad = [p for p in precisions if p not in exporter.precisions and p not in NOT_WORTH_IT]
        if bad:
            sentences.append(
                f"{exporter.format} cannot be exported at precision "
                f"{', '.join(map(repr, map(str, bad)))}."
            )
    if sentences:
        supported = {
            f"{exporter.format}: {', '.join(map(str, exporter.precisions))}"
            for exporter in map(exporter_of, formats)
        }
        raise ExportError(f"{' '.join(sentences)} Supported: {'; '.join(sorted(supported))}.")
