"""The result of a head to head: its records, ratios and JSON.

`schema_version` history:
    1  first version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.component_quality import DecoderErrors, EncoderErrors
from benchmarks.contestants import Engine
from benchmarks.environment import Environment
from benchmarks.report import FitnessWarning, Settings, Speedup
from benchmarks.statistics import speedup_interval
from benchmarks.stock_job import Failure
from vae_edge import codec
from vae_edge.terms import Component, Format, Precision

__all__ = [
    "SCHEMA_VERSION",
    "HeadToHead",
    "Quality",
    "Row",
    "with_ratios",
    "write_head_to_head",
]

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How far a component is from the Keras model's, the other half being Keras's.

    Attributes:
        images: test images it was judged on; slow ones on fewer.
        encoder: errors of an encoder; None for a decoder.
        decoder: errors of a decoder; None for an encoder.
        elbo_change: ELBO with this half minus Keras's own, nats per image; below 0 is worse.
    """

    images: int
    encoder: EncoderErrors | None
    decoder: DecoderErrors | None
    elbo_change: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant, measured and judged.

    Attributes:
        name: unique in the report.
        tool: who made it; `vae-edge` for ours.
        component: which half of the VAE.
        format: None for a SavedModel.
        precision: of its weights and activations.
        engine: what ran it.
        runtime: its name and version.
        ours: whether vae-edge made it.
        baseline: whether it is the stock export that others are compared with.
        file: its name.
        size_bytes: of the file, or of all files of a SavedModel.
        loops: calls per sample.
        warmup_ns: samples of the warm-up rounds, nanoseconds per call.
        samples_ns: one sample per round, nanoseconds per call; None in rounds it left out.
        median_us: median of the samples, microseconds per call.
        mad_us: their median absolute deviation, not scaled.
        times_stock: how many times faster than the stock export of the same component, format and
            precision; None for that itself, and where there is none.
        times_float32: how many times faster than our float32 of the same component and format;
            None for that itself, and where there is none.
        quality: None where its outputs cannot be compared.
        runner_overhead_us: what `open_artifact(...).run(...)` takes more than the bare call,
            microseconds; None for what is not ours.
    """

    name: str
    tool: str
    component: Component
    format: Format | None
    precision: Precision
    engine: Engine
    runtime: str
    ours: bool
    baseline: bool
    file: str
    size_bytes: int
    loops: int
    warmup_ns: tuple[float | None, ...]
    samples_ns: tuple[float | None, ...]
    median_us: float
    mad_us: float
    times_stock: Speedup | None
    times_float32: Speedup | None
    quality: Quality | None
    runner_overhead_us: float | None


@dataclass(frozen=True, kw_only=True)
class HeadToHead:
    """Everything that a run found, raw samples included.

    Attributes:
        schema_version: of this document.
        vae_edge_version: version that measured.
        started_utc: when, ISO 8601.
        machine: one line that tells this machine from others.
        model: name of the Keras model.
        source_sha256: SHA-256 of its file.
        dataset: what stock exports were calibrated on, and all were judged on.
        settings: how latency was measured.
        batch: rows per call.
        environment: the machine before and after.
        tools: versions of the packages that exported and ran.
        rows: encoders first, then decoders.
        failures: what could not be made, measured or judged.
        warnings: reasons to doubt the latencies; empty on a fit machine.
    """

    schema_version: int
    vae_edge_version: str
    started_utc: str
    machine: str
    model: str
    source_sha256: str
    dataset: str
    settings: Settings
    batch: int
    environment: Environment
    tools: Mapping[str, str]
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[FitnessWarning, ...]


def with_ratios(rows: Sequence[Row], *, seed: int) -> tuple[Row, ...]:
    """Fill in how many times faster each row is than its stock export and than our float32.

    No standard tool writes float16 ONNX; ours, which stores float16 and computes float32, is
    compared with the stock float32 file then. `Speedup.against` says with what.

    Args:
        rows: measured in the same rounds.
        seed: of the bootstrap.
    """
    return tuple(
        replace(
            row,
            times_stock=_speedup(_stock(row, rows), row, seed),
            times_float32=_speedup(_float32(row, rows), row, seed),
        )
        for row in rows
    )


def _stock(row: Row, rows: Sequence[Row]) -> Row | None:
    wanted = [row.precision]
    if row.precision is Precision.FLOAT16:
        wanted.append(Precision.FLOAT32)
    stock = {
        other.precision: other
        for other in rows
        if other.baseline and (other.component, other.format) == (row.component, row.format)
    }
    return next((stock[precision] for precision in wanted if precision in stock), None)


def _float32(row: Row, rows: Sequence[Row]) -> Row | None:
    wanted = (True, row.component, row.format, Precision.FLOAT32)
    return next((o for o in rows if (o.ours, o.component, o.format, o.precision) == wanted), None)


def _speedup(reference: Row | None, row: Row, seed: int) -> Speedup | None:
    if reference is None or reference.name == row.name:
        return None
    interval = speedup_interval(reference.samples_ns, row.samples_ns, seed=seed)
    return Speedup(against=reference.name, interval=interval)


def write_head_to_head(report: HeadToHead) -> str:
    """Give the report as JSON text."""
    return json.dumps(codec.encode(report), indent=2, allow_nan=False) + "\n"
