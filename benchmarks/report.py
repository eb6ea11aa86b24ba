"""The result of a benchmark run: its records, JSON and JSON Schema.

`schema_version` history:
    1  first version.
    2  a verdict on every artifact, and the best choice among them on this machine.
    3  artifacts that went on running for minutes (`sustained`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from benchmarks.environment import Environment, MachineState
from benchmarks.statistics import Interval
from vae_edge import codec
from vae_edge.errors import UsageError
from vae_edge.keras_vae import KerasCall
from vae_edge.manifest import LatencyRecord, ModelRecord, SelectionRecord
from vae_edge.terms import Format, Precision
from vae_edge.verdict import Verdict

__all__ = [
    "SCHEMA_VERSION",
    "BenchmarkReport",
    "CandidateReport",
    "FitnessWarning",
    "LatencyStatistics",
    "Part",
    "ReferenceRecord",
    "Settings",
    "SkippedGroup",
    "Speedup",
    "SustainedRecord",
    "latency_records",
    "read_report",
    "report_schema",
    "write_report",
]

SCHEMA_VERSION = 3


class Part(str, Enum):
    """What of a VAE is measured: a component, or the encoder and then the decoder on `z_mean`."""

    ENCODER = "encoder"
    DECODER = "decoder"
    BOTH = "both"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a run measured.

    Attributes:
        threads: threads that each runtime was given, TensorFlow included.
        rounds: rounds that count; each gives one sample per candidate, a slow one leaves some out.
        warmup_rounds: rounds before them, stored apart.
        min_sample_ms: shortest sample; its inner loops are doubled until it lasts that long.
        seed: of the inputs, the order within rounds and the bootstrap.
    """

    threads: int
    rounds: int
    warmup_rounds: int
    min_sample_ms: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class ReferenceRecord:
    """The Keras model that artifacts were measured against.

    Attributes:
        measured: whether it ran here.
        note: which model, or why none was measured.
        sha256: of its file; None where it was not measured.
        matches_bundle: whether it is the model that the bundle was exported from.
    """

    measured: bool
    note: str
    sha256: str | None
    matches_bundle: bool | None


@dataclass(frozen=True, kw_only=True)
class LatencyStatistics:
    """Milliseconds per inference over the rounds; defined in `benchmarks.statistics`."""

    median_ms: float
    p95_ms: float
    p99_ms: float
    mad_ms: float


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """How many times faster a candidate is than another, per image.

    Attributes:
        against: name of the other candidate.
        interval: ratio of the medians over the same rounds, with its confidence interval.
    """

    against: str
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class CandidateReport:
    """One thing that was measured.

    Attributes:
        name: unique in the report, e.g. `decoder int8 tflite` or `both keras predict`.
        part: what of the VAE.
        format: None for the Keras model.
        precision: of the artifact; `float32` for the Keras model.
        keras_call: how the Keras model was called; None for an artifact.
        files: artifacts that ran; empty for the Keras model.
        size_bytes: of those files together; None for the Keras model.
        runtime: name and version.
        batch: images or latents per inference.
        loops: inferences per sample.
        load_ms: from the file to a runner, runtime already imported and file in the page cache;
            for `both` of its two components, for Keras of the whole model.
        first_inference_ms: first inference after that (for Keras it builds or traces); for `both`
            the first of the encoder and the first of the decoder.
        warmup_ns: samples of the warm-up rounds, nanoseconds per inference.
        samples_ns: one sample per round, nanoseconds per inference; None in rounds that a slow
            candidate leaves out.
        latency: what the samples say.
        throughput_per_s: images or latents per second at the median.
        peak_rss_bytes: most resident memory of its process, which also holds Python, numpy, the
            runtime and the other candidates of the same format and precision; None if unknown.
        times_faster_than_keras: against the fastest of Keras's calls for the same part; None for
            the Keras model, or where it was not measured.
        times_faster_than_float32: against the float32 artifact of the same format; None for
            itself, for the Keras model, or where that was not measured.
    """

    name: str
    part: Part
    format: Format | None
    precision: Precision
    keras_call: KerasCall | None
    files: tuple[str, ...]
    size_bytes: int | None
    runtime: str
    batch: int
    loops: int
    load_ms: float
    first_inference_ms: float
    warmup_ns: tuple[float | None, ...]
    samples_ns: tuple[float | None, ...]
    latency: LatencyStatistics
    throughput_per_s: float
    peak_rss_bytes: int | None
    times_faster_than_keras: Speedup | None
    times_faster_than_float32: Speedup | None


@dataclass(frozen=True, kw_only=True)
class FitnessWarning:
    """A reason to doubt the figures.

    Attributes:
        code: `governor`, `load`, `throttled`, `spread`, `threads` or `emulated`.
        text: what was found, and what to do.
    """

    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class SkippedGroup:
    """Artifacts that were not measured, because their runtime is not installed here."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SustainedRecord:
    """An artifact that ran without a pause, and whether it slowed down.

    Attributes:
        file: the artifact.
        duration_s: how long it ran, seconds.
        window_s: what counts as the first and the last of it: a minute, or half of a shorter run.
        samples: how many were taken.
        first_ms: median of the first window, milliseconds per inference.
        last_ms: median of the last window, which ends with the run.
        last_over_first: ratio of the two, with its confidence interval; above 1 it slowed down.
        windows_ms: median of every window from the start on, the last one perhaps shorter; None
            for one in which no sample began.
        before: the machine before the first sample.
        after: the machine after the last one.
    """

    file: str
    duration_s: float
    window_s: float
    samples: int
    first_ms: float
    last_ms: float
    last_over_first: Interval
    windows_ms: tuple[float | None, ...]
    before: MachineState
    after: MachineState


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """Everything that a run found, raw samples included.

    Attributes:
        schema_version: of this document.
        vae_edge_version: version that measured.
        started_utc: when, ISO 8601.
        machine: one line that tells this machine from others.
        model: the model that the bundle was exported from, from its manifest.
        settings: how it was measured.
        environment: the machine before and after.
        reference: the Keras model measured against, or why there is none.
        candidates: Keras first, then artifacts in the manifest's order.
        skipped: what could not be measured here.
        warnings: reasons to doubt the figures; empty on a fit machine.
        verdicts: whether each artifact measured paid, beside float32 of its format.
        best: which of them are the best choice here, one per component, of whatever format; None
            where that was not asked.
        sustained: one artifact per component that went on running; empty where not asked.
    """

    schema_version: int
    vae_edge_version: str
    started_utc: str
    machine: str
    model: ModelRecord
    settings: Settings
    environment: Environment
    reference: ReferenceRecord
    candidates: tuple[CandidateReport, ...]
    skipped: tuple[SkippedGroup, ...]
    warnings: tuple[FitnessWarning, ...]
    verdicts: tuple[Verdict, ...] = ()
    best: SelectionRecord | None = None
    sustained: tuple[SustainedRecord, ...] = ()


def latency_records(report: BenchmarkReport) -> Mapping[str, LatencyRecord]:
    """Give each measured artifact's figures as the manifest keeps them, by file name."""
    return {
        candidate.files[0]: LatencyRecord(
            machine=report.machine,
            runtime=candidate.runtime,
            threads=report.settings.threads,
            batch=candidate.batch,
            median_ms=candidate.latency.median_ms,
            p95_ms=candidate.latency.p95_ms,
            times_faster_than_keras=_value(candidate.times_faster_than_keras),
            times_faster_than_float32=_value(candidate.times_faster_than_float32),
        )
        for candidate in report.candidates
        if len(candidate.files) == 1
    }


def _value(speedup: Speedup | None) -> float | None:
    return None if speedup is None else speedup.interval.value


def write_report(report: BenchmarkReport) -> str:
    """Give the report as JSON text."""
    return json.dumps(codec.encode(report), indent=2, allow_nan=False) + "\n"


def read_report(text: str, where: str) -> BenchmarkReport:
    """Read what `write_report` gave.

    Raises:
        UsageError: not JSON, another version, or not exactly such a document; names the place.
    """
    try:
        raw = codec.loads(text)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise UsageError(
                f"{where}: schema_version must be {SCHEMA_VERSION}; received {version!r}. Expected "
                "a file that `vae-edge benchmark --out FILE` of this version wrote."
            )
        return codec.decode(BenchmarkReport, raw)
    except codec.DecodeError as error:
        raise UsageError(
            f"{where}: {error}. The report was damaged or edited: run vae-edge benchmark again."
        ) from error


def report_schema() -> dict[str, object]:
    """Give the JSON Schema of the report, as published in `benchmarks/report.schema.json`."""
    return codec.schema(
        BenchmarkReport, title=f"vae-edge benchmark report, version {SCHEMA_VERSION}"
    )
