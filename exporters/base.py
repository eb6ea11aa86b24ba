"""The seam between the export pipeline and the formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from vae_edge.errors import ExportError
from vae_edge.keras_vae import KerasVAE
from vae_edge.manifest import LoweringRecord, QuantizationRecord, RuntimeRequirement
from vae_edge.terms import Component, FloatArray, Format, Precision

__all__ = ["FLOAT16", "FLOAT32", "NO_LOWERING", "ExportRequest", "ExportedArtifact", "Exporter"]

NO_LOWERING = LoweringRecord(applied=(), refused=())
# What these two precisions mean is the same in every format.
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


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One artifact to make.

    Attributes:
        vae: the Keras model, taken apart.
        component: which half.
        precision: one of the exporter's own.
        batch: rows per inference; None for any number.
        calibration: representative rows of the component's input, float32 (count, ...).
    """

    vae: KerasVAE
    component: Component
    precision: Precision
    batch: int | None
    calibration: FloatArray

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ExportError(f"batch must be 1 or more, or dynamic; received {self.batch}.")


@dataclass(frozen=True, kw_only=True)
class ExportedArtifact:
    """A converted component, as it will stand in a file.

    Attributes:
        content: the file's bytes.
        quantization: what the precision means in this file.
        lowering: exact rewrites that were applied or refused.
        oldest_runtime: oldest runtime that can run it.
        operators: how often each operator stands in the graph, by name.
    """

    content: bytes
    quantization: QuantizationRecord
    lowering: LoweringRecord
    oldest_runtime: RuntimeRequirement
    operators: Mapping[str, int]


class Exporter(Protocol):
    """A format. See CONTRIBUTING.md for a worked example of adding one."""

    @property
    def format(self) -> Format:
        """The format that is written."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that can be made."""

    def export(self, request: ExportRequest) -> ExportedArtifact:
        """Convert one component.

        Raises:
            ExportError: the conversion failed; the message names the component and the operator.
        """

    def tools(self) -> Mapping[str, str]:
        """Give the packages that take part in a conversion, and their versions."""
