"""What the parent and a worker process say to each other: one JSON object per line."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.report import Part
from vae_edge.keras_vae import KerasCall
from vae_edge.terms import Format, Precision

__all__ = ["Failure", "GroupTask", "Loaded", "LoadedWorkload", "Memory", "Request", "Sampled"]


@dataclass(frozen=True, kw_only=True)
class GroupTask:
    """What one worker process measures: the first line it reads.

    Attributes:
        name: for messages, e.g. `int8 tflite` or `keras`.
        source: path of the bundle, or of the Keras model.
        format: of the artifacts; None for the Keras model.
        precision: of the artifacts; `float32` for the Keras model.
        parts: what to measure.
        threads: threads for the runtime.
        batch: images or latents per inference.
        seed: of the inputs.
    """

    name: str
    source: str
    format: Format | None
    precision: Precision
    parts: tuple[Part, ...]
    threads: int
    batch: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """One order to a worker; figures that the operation does not use are 0.

    Attributes:
        operation: `prepare`, `load`, `calibrate`, `sample` or `memory`.
        workload: which of the loaded workloads.
        loops: inferences in the sample.
        settle: untimed inferences before it.
        min_sample_ns: what to calibrate for.
    """

    operation: str
    workload: int = 0
    loops: int = 0
    settle: int = 0
    min_sample_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class LoadedWorkload:
    """Something that a worker can measure, after it was loaded and run once."""

    part: Part
    keras_call: KerasCall | None
    runtime: str
    load_ms: float
    first_inference_ms: float


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Answer to `load`; a request names a workload by its place here."""

    workloads: tuple[LoadedWorkload, ...]


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Answer to `sample`: nanoseconds of all its loops together."""

    sample_ns: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Answer to `memory`: most resident memory so far; None where the system does not say."""

    peak_rss_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Answer to any request that failed.

    Attributes:
        kind: name of the exception's class.
        message: what it said.
    """

    kind: str
    message: str
