from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import benchmarks.report
from benchmarks.environment import Environment, MachineState
from benchmarks.report import (
    BenchmarkReport,
    CandidateReport,
    FitnessWarning,
    LatencyStatistics,
    Part,
    ReferenceRecord,
    Settings,
    SkippedGroup,
    Speedup,
    latency_records,
    read_report,
    report_schema,
    write_report,
)
from benchmarks.statistics import Interval
from vae_edge.errors import UsageError
from vae_edge.keras_vae import KerasCall
from vae_edge.manifest import LatencyRecord, ModelRecord
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.terms import Format, Precision

STATE = MachineState(
    governor=None, clock_mhz=600.0, temperature_c=None, load_average=0.5, throttled=("a", "b")
)
ARTIFACT = CandidateReport(
    name="encoder int8 tflite",
    part=Part.ENCODER,
    format=Format.TFLITE,
    precision=Precision.INT8,
    keras_call=None,
    files=("encoder.int8.tflite",),
    size_bytes=100,
    runtime="ai-edge-litert 2.3.0",
    batch=4,
    loops=8,
    load_ms=1.5,
    first_inference_ms=2.5,
    warmup_ns=(3e6,),
    samples_ns=(1e6, 2e6, None),
    latency=LatencyStatistics(median_ms=1.5, p95_ms=1.95, p99_ms=1.99, mad_ms=0.5),
    throughput_per_s=2666.6,
    peak_rss_bytes=None,
    times_faster_than_keras=Speedup(
        against="encoder keras call",
        interval=Interval(value=8.0, low=7.0, high=9.0, confidence=0.95),
    ),
    times_faster_than_float32=None,
)
KERAS = replace(
    ARTIFACT,
    name="encoder keras call",
    format=None,
    precision=Precision.FLOAT32,
    keras_call=KerasCall.CALL,
    files=(),
    size_bytes=None,
    times_faster_than_keras=None,
)
BOTH = replace(ARTIFACT, name="both", part=Part.BOTH, files=("e.tflite", "d.tflite"))
REPORT = BenchmarkReport(
    schema_version=3,
    vae_edge_version="0.1.0",
    started_utc="2030-01-01T00:00:00+00:00",
    machine="a machine",
    model=ModelRecord(
        name="m",
        source_sha256="a" * 64,
        latent_dim=2,
        image_shape=(28, 28, 1),
        preprocessing=PLAIN_PICTURES,
    ),
    settings=Settings(threads=2, rounds=3, warmup_rounds=1, min_sample_ms=2.0, seed=0),
    environment=Environment(
        cpu_model="cpu",
        cores=4,
        architecture="aarch64",
        system="Linux",
        python="3.11",
        numpy="2.0",
        emulated=False,
        before=STATE,
        after=STATE,
    ),
    reference=ReferenceRecord(measured=True, note="m.keras", sha256="a" * 64, matches_bundle=True),
    candidates=(KERAS, ARTIFACT, BOTH),
    skipped=(SkippedGroup(name="int8 onnx", reason="no runtime"),),
    warnings=(FitnessWarning(code="load", text="busy"),),
)


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(write_report(REPORT))
    return loaded


def test_a_report_reads_back_as_it_was_written() -> None:
    assert read_report(write_report(REPORT), "r.json") == REPORT


def test_the_published_schema_is_the_generated_one() -> None:
    published = Path(benchmarks.report.__file__).with_name("report.schema.json")
    assert json.loads(published.read_text()) == report_schema(), (
        "write json.dumps(report_schema(), indent=2) and a newline to benchmarks/report.schema.json"
    )


def test_the_schema_accepts_a_report_and_refuses_another_key() -> None:
    jsonschema.validate(document(), report_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document(), "speed": 1}, report_schema())


@pytest.mark.parametrize("version", [0, 2, 4, True, "1", None])
def test_another_version_is_refused(version: object) -> None:
    text = json.dumps({**document(), "schema_version": version})
    with pytest.raises(UsageError, match=r"r\.json: schema_version must be 3; received"):
        read_report(text, "r.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema_version": 1, "schema_version": 1}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"r\.json: "):
        read_report(text, "r.json")


def test_an_unknown_key_is_refused_and_named() -> None:
    broken = document()
    broken["candidates"][1]["speed"] = 3
    with pytest.raises(UsageError, match=r"unknown key 'candidates\[1\]\.speed'"):
        read_report(json.dumps(broken), "r.json")


def test_latency_records_are_those_of_single_artifacts() -> None:
    assert latency_records(REPORT) == {
        "encoder.int8.tflite": LatencyRecord(
            machine="a machine",
            runtime="ai-edge-litert 2.3.0",
            threads=2,
            batch=4,
            median_ms=1.5,
            p95_ms=1.95,
            times_faster_than_keras=8.0,
            times_faster_than_float32=None,
        )
    }
