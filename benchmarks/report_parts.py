"""What a benchmark report is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from benchmarks.environment import MachineState
from benchmarks.neighbours import Neighbours
from benchmarks.statistics import Interval
from vae_edge.keras_vae import KerasCall
from vae_edge.manifest import LatencyRecord
from vae_edge.terms import Component, Format, Precision

__all__ = [
    "CandidateReport",
    "FitnessWarning",
    "LatencyStatistics",
    "Part",
    "RecordedLatency",
    "ReferenceRecord",
    "Settings",
    "SkippedGroup",
    "Speedup",
    "SustainedRecord",
]


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
        threads: threads that each runtime was given, TensorFlow included; of several the first,
            which verdicts go by.
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
        precision: of the artifact, of two in a row the decoder's; `float32` for the Keras model.
        encoder_precision: of the encoder before it, where that is another one; else None.
        keras_call: how the Keras model was called; None for an artifact.
        files: artifacts that ran; empty for the Keras model.
        sha256: of each of them.
        size_bytes: of those files together; None for the Keras model.
        runtime: name and version; for Keras those of TensorFlow too.
        threads: threads of its runtime.
        batch: images or latents per inference.
        loops: inferences per sample.
        alone: whether the next two figures and its memory are those of a process that held nothing
            else; otherwise other candidates were opened in that process before it.
        load_ms: from the file to a runner, runtime already imported and file in the page cache;
            for `both` of its two components, for Keras of the whole model.
        first_inference_ms: first inference after that (for Keras it builds or traces); for `both`
            the first of the encoder and the first of the decoder.
        warmup_ns: samples of the warm-up rounds, nanoseconds per inference.
        samples_ns: one sample per round, nanoseconds per inference; None in rounds that a slow
            candidate leaves out.
        latency: what the samples say.
        throughput_per_s: images or latents per second at the median.
        peak_rss_bytes: most resident memory of its process, Python, numpy and the runtime
            included; None if unknown.
        base_rss_bytes: resident memory of that process before it opened the artifact, with Python,
            numpy and the runtime imported; None where it is not alone, or unknown.
        times_faster_than_keras: against the fastest of Keras's calls for the same part; None for
            the Keras model, or where it was not measured.
        times_faster_than_float32: against the float32 artifact of the same format; None for
            itself, for the Keras model, or where that was not measured.
    """

    name: str
    part: Part
    format: Format | None
    precision: Precision
    encoder_precision: Precision | None = None
    keras_call: KerasCall | None
    files: tuple[str, ...]
    sha256: tuple[str, ...]
    size_bytes: int | None
    runtime: str
    threads: int
    batch: int
    loops: int
    alone: bool
    load_ms: float
    first_inference_ms: float
    warmup_ns: tuple[float | None, ...]
    samples_ns: tuple[float | None, ...]
    latency: LatencyStatistics
    throughput_per_s: float
    peak_rss_bytes: int | None
    base_rss_bytes: int | None
    times_faster_than_keras: Speedup | None
    times_faster_than_float32: Speedup | None

    @property
    def precisions(self) -> str:
        """The precision, for people: `int8`, or `int8+float16` where a pair has two."""
        encoder = f"{self.encoder_precision}+" if self.encoder_precision else ""
        return f"{encoder}{self.precision}"

    @property
    def what(self) -> tuple[Part, Format | None, str, KerasCall | None]:
        """What it is, in whatever setting of threads and batch."""
        return self.part, self.format, self.precisions, self.keras_call

    @property
    def own_rss_bytes(self) -> int | None:
        """What its process grew by from before it opened the artifact to its peak."""
        if self.peak_rss_bytes is None or self.base_rss_bytes is None:
            return None
        return max(self.peak_rss_bytes - self.base_rss_bytes, 0)


@dataclass(frozen=True, kw_only=True)
class FitnessWarning:
    """A reason to doubt the figures.

    Attributes:
        code: which one; `benchmarks.fitness` has them all.
        seen: what was found.
        remedy: what to do about it.
    """

    code: str
    seen: str
    remedy: str

    @property
    def text(self) -> str:
        """Both, for people."""
        return f"{self.seen} {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class SkippedGroup:
    """What was not measured, and why: no runtime, or a batch that an artifact does not take."""

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
        neighbours: what others took of the processor meanwhile; None where the system does not say.
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
    neighbours: Neighbours | None = None


@dataclass(frozen=True, kw_only=True)
class RecordedLatency:
    """What a manifest says of an artifact's latency at export, on the machine named in it."""

    file: str
    component: Component
    format: Format
    precision: Precision
    latency: LatencyRecord

    @property
    def keras_ms(self) -> float | None:
        """How long the Keras model's fastest call took there, by the ratio that was recorded."""
        ratio = self.latency.times_faster_than_keras
        return None if ratio is None else ratio * self.latency.median_ms
