"""The result of a benchmark run: its records, JSON and JSON Schema.

`schema_version` history:
    1  first version.
    2  a verdict on every artifact, and the best choice among them on this machine.
    3  artifacts that went on running for minutes (`sustained`).
    4  threads and batch of every candidate, SHA-256 of its files, memory before it was opened, two
       precisions of a pair; figures recorded at export; what other programs took of the processor;
       warnings in two halves, what was seen and what to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.environment import Environment
from benchmarks.report_parts import (
    CandidateReport,
    FitnessWarning,
    LatencyStatistics,
    Part,
    RecordedLatency,
    ReferenceRecord,
    Settings,
    SkippedGroup,
    Speedup,
    SustainedRecord,
)
from vae_edge import codec
from vae_edge.errors import UsageError
from vae_edge.manifest import LatencyRecord, ModelRecord, SelectionRecord
from vae_edge.verdict import Verdict

__all__ = [
    "SCHEMA_VERSION",
    "BenchmarkReport",
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
    "latency_records",
    "read_report",
    "report_schema",
    "write_report",
]

SCHEMA_VERSION = 4


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
        recorded: what the manifest says of latency at export, on the machine named there; never
            measured in this run, and empty where the Keras model was.
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
    recorded: tuple[RecordedLatency, ...] = ()

    @property
    def base(self) -> tuple[CandidateReport, ...]:
        """What verdicts and the best choice go by: one setting of every candidate.

        The first number of threads that was asked for, and the smallest batch.
        """
        smallest: dict[object, CandidateReport] = {}
        for candidate in self.candidates:
            if candidate.threads == self.settings.threads:
                rival = smallest.get(candidate.what)
                if rival is None or candidate.batch < rival.batch:
                    smallest[candidate.what] = candidate
        return tuple(c for c in self.candidates if smallest.get(c.what) is c)

    @property
    def is_sweep(self) -> bool:
        """Whether anything was measured in several settings of threads and batch."""
        return len(self.candidates) > len(self.base)


def latency_records(report: BenchmarkReport) -> Mapping[str, LatencyRecord]:
    """Give each measured artifact's figures as the manifest keeps them, by file name."""
    return {
        candidate.files[0]: LatencyRecord(
            machine=report.machine,
            runtime=candidate.runtime,
            threads=candidate.threads,
            batch=candidate.batch,
            median_ms=candidate.latency.median_ms,
            p95_ms=candidate.latency.p95_ms,
            times_faster_than_keras=_value(candidate.times_faster_than_keras),
            times_faster_than_float32=_value(candidate.times_faster_than_float32),
        )
        for candidate in report.base
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
