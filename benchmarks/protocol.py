"""What the parent and a worker process say to each other: one JSON object per line."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.report_parts import Part
from vae_edge.keras_vae import KerasCall
from vae_edge.split_options import SplitOptions
from vae_edge.terms import Component, Format, Precision

__all__ = ["Failure", "GroupTask", "Loaded", "LoadedWorkload", "Memory", "Request", "Sampled"]

_FOUND = SplitOptions()


@dataclass(frozen=True, kw_only=True)
class GroupTask:
    """What one worker process measures: the first line it reads.

    Attributes:
        name: for messages, e.g. `int8 tflite` or `keras`.
        source: path of the bundle, or of the Keras model; empty where `split` names its halves.
        format: of the artifacts; None for the Keras model.
        precision: of the artifacts; `float32` for the Keras model.
        encoder_precision: of the encoder, where it is another one than the decoder's; else None.
        parts: what to measure.
        threads: threads for the runtime.
        batches: images or latents per inference; several for the Keras model only.
        alone: its only part is the only thing that the process ever opens.
        seed: of the inputs.
        split: how the Keras model is taken apart.
    """

    name: str
    source: str
    format: Format | None
    precision: Precision
    encoder_precision: Precision | None = None
    parts: tuple[Part, ...]
    threads: int
    batches: tuple[int, ...]
    alone: bool
    seed: int
    split: SplitOptions = _FOUND

    def precision_of(self, component: Component) -> Precision:
        """Give the precision of its encoder or decoder."""
        encoder = self.encoder_precision if component is Component.ENCODER else None
        return encoder or self.precision


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
    batch: int
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
    """Answer to `memory`; None where the system does not say.

    Attributes:
        peak_rss_bytes: most resident memory so far.
        base_rss_bytes: resident memory with the runtime imported, before anything was opened; None
            too for a process that was not alone with one artifact.
    """

    peak_rss_bytes: int | None
    base_rss_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Answer to any request that failed.

    Attributes:
        kind: name of the exception's class.
        message: what it said.
    """

    kind: str
    message: str
