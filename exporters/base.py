"""The seam between the export pipeline and the formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from exporters.profiles import Profile
from exporters.quantization.recipes import Recipe
from exporters.quantization.scored import Scored
from vae_edge.errors import ExportError
from vae_edge.keras_vae import KerasVAE
from vae_edge.manifest import LoweringRecord, QuantizationRecord, RuntimeRequirement
from vae_edge.terms import Component, FloatArray, Format, Precision, Target

__all__ = ["CONVERTER_ROWS", "ExportRequest", "ExportedArtifact", "Exporter"]

# Standard quantizers run row by row, and ONNX Runtime's keeps every tensor of every row.
CONVERTER_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One artifact to make.

    Attributes:
        vae: the Keras model, taken apart.
        component: which half.
        precision: one of the exporter's own.
        batch: rows per inference; None for any number.
        calibration: representative rows of the component's input, float32 (count, ...).
        target: the processors to choose graph forms for.
        lowering: rewrite the graph; otherwise it is the standard converter's at its defaults.
        integer_io: 8-bit inputs and outputs too; int8 only.
        seed: of what is drawn from the calibration rows.
        scored: of a decoder, what its reconstruction loss is counted on; None counts none.
        edges: inputs that no data set holds, float32 (count, ...), to judge it on too.
        profile: passes other than those that are right for the format, precision and target.
        recipe: of int8, other than the component's own.
    """

    vae: KerasVAE
    component: Component
    precision: Precision
    batch: int | None
    calibration: FloatArray
    target: Target = Target.ANY
    lowering: bool = True
    integer_io: bool = False
    seed: int = 0
    scored: Scored | None = None
    edges: FloatArray | None = None
    profile: Profile | None = None
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ExportError(f"batch must be 1 or more, or dynamic; received {self.batch}.")
        if self.integer_io and self.precision is not Precision.INT8:
            raise ExportError(
                f"integer inputs and outputs go with precision int8; received {self.precision}. "
                "Leave --io out, or export with --precision int8."
            )
        if self.integer_io and not self.lowering:
            raise ExportError(
                "integer inputs and outputs need the lowered graph. Leave --no-lowering out."
            )


@dataclass(frozen=True, kw_only=True)
class ExportedArtifact:
    """A converted component, as it will stand in a file.

    Attributes:
        content: the file's bytes.
        quantization: what the precision means in this file.
        lowering: exact rewrites that were applied or refused.
        oldest_runtime: oldest runtime that can run it.
        operators: how often each operator stands in the graph, by name.
        float_operators: those of them that compute in float.
    """

    content: bytes
    quantization: QuantizationRecord
    lowering: LoweringRecord
    oldest_runtime: RuntimeRequirement
    operators: Mapping[str, int]
    float_operators: Mapping[str, int]


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
