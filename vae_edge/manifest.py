"""What a bundle says of itself: the manifest's records, and reading and writing them.

`schema_version` history:
    1  first version.
    2  lowering: the target, and what each pass did to which layer; the operators that compute in
       float; the selection that `--precision auto` made.
    3  parity in the model's own units: figures without a limit, margins, the tightest limit.
    4  what the model's numbers mean: its preprocessing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vae_edge import codec
from vae_edge.comparison import ALL_METRICS
from vae_edge.errors import ArtifactError, BundleError
from vae_edge.preprocessing import Preprocessing
from vae_edge.terms import Component, Format, Precision, Target, TensorSpec

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "AppliedPass",
    "ArtifactRecord",
    "CalibrationRecord",
    "CandidateRecord",
    "GoldenRecord",
    "LatencyRecord",
    "LoweringRecord",
    "Manifest",
    "MetricRecord",
    "ModelRecord",
    "ParityRecord",
    "QualityBudget",
    "QuantizationRecord",
    "RefusedPass",
    "RuntimeRequirement",
    "SelectionRecord",
    "manifest_schema",
    "read_manifest",
    "write_manifest",
]

SCHEMA_VERSION = 4
MANIFEST_NAME = "manifest.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# One plain file name: no directory, nothing hidden, nothing a shell or a file system reinterprets.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def _check_file(owner: str, file: str, size_bytes: int, sha256: str) -> None:
    if not _FILE_NAME.fullmatch(file):
        raise codec.DecodeError(f"{owner}: file {file!r} must be a plain name inside the bundle")
    if file.lower() == MANIFEST_NAME:
        raise codec.DecodeError(f"{owner}: file must not be the manifest itself")
    if size_bytes < 0:
        raise codec.DecodeError(f"{owner}: size_bytes must not be negative; received {size_bytes}")
    if not _SHA256.fullmatch(sha256):
        raise codec.DecodeError(f"{owner}: sha256 must be 64 lower-case hexadecimal digits")


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """The Keras model that the bundle was exported from.

    Attributes:
        name: what its author calls it.
        source_sha256: of its file.
        latent_dim: size of z.
        image_shape: of one row of the encoder's input: (height, width, channels), or whatever
            shape an array has.
        preprocessing: what its numbers mean.
    """

    name: str
    source_sha256: str
    latent_dim: int
    image_shape: tuple[int, ...]
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.source_sha256):
            raise codec.DecodeError("model: source_sha256 must be 64 lower-case hexadecimal digits")
        if self.latent_dim < 1 or not self.image_shape or min(self.image_shape) < 1:
            raise codec.DecodeError("model: latent_dim and image_shape must be positive")
        self.preprocessing.check_shape(self.image_shape)


@dataclass(frozen=True, kw_only=True)
class QuantizationRecord:
    """A precision spelled out: what is stored and computed in which type.

    Attributes:
        weights: stored type of the large weights.
        weight_granularity: `per-tensor`, `per-channel`, or `none` for float weights.
        weights_symmetric: zero point fixed at 0; None for float weights.
        activations: type that flows between operators.
        activations_symmetric: zero point fixed at 0; None for float activations.
        note: what the types alone do not say, e.g. operators that stay in float.
    """

    weights: str
    weight_granularity: str
    weights_symmetric: bool | None
    activations: str
    activations_symmetric: bool | None
    note: str


@dataclass(frozen=True, kw_only=True)
class AppliedPass:
    """A lowering pass, and the layers that it rewrote."""

    name: str
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RefusedPass:
    """A lowering pass that left a layer of its pattern alone, and why."""

    name: str
    layer: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LoweringRecord:
    """The exact rewrites that this artifact went through.

    Attributes:
        target: the processors that they were chosen for; None where none took place.
        applied: in their order.
        refused: layers that passes looked at and left alone.
        note: what chose them, or why there are none.
    """

    target: Target | None
    applied: tuple[AppliedPass, ...]
    refused: tuple[RefusedPass, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class RuntimeRequirement:
    """The oldest runtime whose operators and format cover the artifact.

    Attributes:
        name: `tflite-runtime`, `ai-edge-litert` or `onnxruntime`.
        version: oldest version, or `unknown` where the converter does not say.
        detail: how that was found, e.g. the opset or the converter's own statement.
    """

    name: str
    version: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class MetricRecord:
    """One measured difference between the artifact and the Keras model.

    Attributes:
        output: what was compared, see `vae_edge.comparison`.
        metric: by which measure.
        value: None where the figure is infinite (e.g. the PSNR of identical images).
        limit: ceiling or floor; None where the figure is reported and not judged.
        passed: the value is within the limit, or there is none.
        margin: how many times the error fits into what the limit allows: below 1 it failed. None
            where there is no limit, or no error at all.
        tightest: the tightest limit of two digits that would have passed; None for an infinite
            value.
    """

    output: str
    metric: str
    value: float | None
    limit: float | None
    passed: bool
    margin: float | None = None
    tightest: float | None = None


@dataclass(frozen=True, kw_only=True)
class ParityRecord:
    """The verdict on an artifact, and the figures it rests on."""

    passed: bool
    samples: int
    runtime: str
    metrics: tuple[MetricRecord, ...]

    def worst(self, metric: str) -> float | None:
        """Give the worst figure of a metric over all outputs but edge cases; None without one.

        Infinite for the PSNR of outputs that are all identical.
        """
        found = [
            math.inf if record.value is None else record.value
            for record in self.metrics
            if record.metric == metric and not record.output.startswith("edge_")
        ]
        if not found:
            return None
        return min(found) if ALL_METRICS[metric].higher_is_better else max(found)


@dataclass(frozen=True, kw_only=True)
class LatencyRecord:
    """Latency of one inference, measured at export. It holds for that machine only.

    Attributes:
        machine: CPU model, cores and system that it was measured on.
        runtime: name and version of the runtime.
        threads: threads the runtime was given.
        batch: images or latents per inference.
        median_ms: median over rounds, milliseconds per inference.
        p95_ms: 95th percentile, milliseconds per inference.
        times_faster_than_keras: the Keras model's fastest call over this, medians of one run.
        times_faster_than_float32: float32 artifact of the same format over this; None for itself.
    """

    machine: str
    runtime: str
    threads: int
    batch: int
    median_ms: float
    p95_ms: float
    times_faster_than_keras: float | None
    times_faster_than_float32: float | None


@dataclass(frozen=True, kw_only=True)
class ArtifactRecord:
    """One file: a component in a format at a precision.

    `operators` counts the operators of its graph by name, so that a device without a parser can
    list them; `float_operators` those of them that compute in float.
    """

    file: str
    size_bytes: int
    sha256: str
    component: Component
    format: Format
    precision: Precision
    quantization: QuantizationRecord
    lowering: LoweringRecord
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    oldest_runtime: RuntimeRequirement
    operators: Mapping[str, int]
    float_operators: Mapping[str, int]
    parity: ParityRecord | None
    latency: LatencyRecord | None

    def __post_init__(self) -> None:
        _check_file(f"artifact {self.label}", self.file, self.size_bytes, self.sha256)

    @property
    def label(self) -> str:
        """Readable identity, e.g. `decoder int8 tflite`."""
        return f"{self.component} {self.precision} {self.format}"


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """The representative dataset that activation ranges were taken from."""

    source: str
    count: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class GoldenRecord:
    """The file of golden vectors, and where their inputs come from."""

    file: str
    size_bytes: int
    sha256: str
    source: str
    images: int
    latents: int

    def __post_init__(self) -> None:
        _check_file("golden", self.file, self.size_bytes, self.sha256)


@dataclass(frozen=True, kw_only=True)
class QualityBudget:
    """How far from the Keras model an artifact may be and still be chosen.

    Attributes:
        min_psnr_db: least PSNR of the decoder's reconstruction, decibels.
        max_error: largest rmse of each of the encoder's outputs, as a share of its span.
    """

    min_psnr_db: float
    max_error: float


@dataclass(frozen=True, kw_only=True)
class CandidateRecord:
    """An artifact that was considered, and what became of it.

    Attributes:
        file: its name; it stands in the bundle only where it was chosen.
        size_bytes: of the file.
        median_ms: milliseconds per inference on the machine that chose; None if not measured.
        psnr_db: the lowest of its outputs; None where they are identical or were not compared.
        rmse: the largest of its outputs, images in grey levels from 0 to 1 and latents in shares
            of their span; None where they were not compared.
        eligible: it passed parity, keeps the budget, and was measured.
        chosen: it is the best of those that are.
        reason: why, or why not.
    """

    file: str
    size_bytes: int
    median_ms: float | None
    psnr_db: float | None
    rmse: float | None
    eligible: bool
    chosen: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class SelectionRecord:
    """Which of several artifacts were the best choice on one machine, within a budget."""

    budget: QualityBudget
    candidates: tuple[CandidateRecord, ...]

    @property
    def chosen(self) -> tuple[str, ...]:
        """The files that were chosen."""
        return tuple(candidate.file for candidate in self.candidates if candidate.chosen)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a bundle says of itself.

    Attributes:
        schema_version: of this document.
        model: what it was exported from.
        artifacts: in the order in which they were made.
        calibration: what activation ranges were taken from.
        golden: the vectors that parity is checked on.
        tools: versions of the packages that took part.
        selection: how the artifacts were chosen from several; None where every one was asked for.
    """

    schema_version: int
    model: ModelRecord
    artifacts: tuple[ArtifactRecord, ...]
    calibration: CalibrationRecord | None
    golden: GoldenRecord
    tools: Mapping[str, str]
    selection: SelectionRecord | None = None

    def __post_init__(self) -> None:
        files = [record.file for record in self.artifacts] + [self.golden.file]
        # Case-insensitive file systems would make one file of two names.
        if len({file.lower() for file in files}) != len(files):
            raise codec.DecodeError("artifacts: a file is named twice")
        identities = [(a.component, a.format, a.precision) for a in self.artifacts]
        if len(set(identities)) != len(identities):
            raise codec.DecodeError(
                "artifacts: a component stands twice in one format and precision"
            )
        if not self.artifacts:
            raise codec.DecodeError("artifacts: a bundle holds at least one")
        if self.selection and set(self.selection.chosen) != {a.file for a in self.artifacts}:
            raise codec.DecodeError("selection: what it chose must be what the bundle holds")


def write_manifest(manifest: Manifest) -> str:
    """Give the manifest as JSON text."""
    return json.dumps(codec.encode(manifest), indent=2, allow_nan=False) + "\n"


def read_manifest(text: str, where: str) -> Manifest:
    """Read a manifest, refusing everything that is not exactly one.

    Args:
        text: content of the file.
        where: its path, for the error message.

    Raises:
        BundleError: not JSON, an unknown version, or unknown, missing, duplicate or ill-typed
            keys; the message names the place.
    """
    try:
        raw = codec.loads(text)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        number = version if isinstance(version, int) and not isinstance(version, bool) else 0
        if number > SCHEMA_VERSION:
            raise BundleError(
                f"{where}: schema_version {codec.shown(version)} is newer than supported "
                f"({SCHEMA_VERSION}). Upgrade vae-edge: pip install -U vae-edge."
            )
        if 1 <= number < SCHEMA_VERSION:
            raise BundleError(
                f"{where}: schema_version {number} is of an earlier vae-edge; this one reads "
                f"{SCHEMA_VERSION}. Export the bundle again from its model: vae-edge export MODEL."
            )
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise BundleError(
                f"{where}: schema_version must be {SCHEMA_VERSION}; received "
                f"{codec.shown(version)}. This is not a vae-edge manifest, or it was damaged: copy "
                "the bundle again."
            )
        return codec.decode(Manifest, raw)
    except (codec.DecodeError, ArtifactError) as error:
        raise BundleError(
            f"{where}: {str(error).removesuffix('.')}. The manifest was damaged or edited: copy or "
            "export the bundle again."
        ) from error


def manifest_schema() -> dict[str, object]:
    """Give the JSON Schema of the manifest, as published in `vae_edge/manifest.schema.json`."""
    return codec.schema(Manifest, title=f"vae-edge bundle manifest, version {SCHEMA_VERSION}")
