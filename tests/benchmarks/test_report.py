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
    RecordedLatency,
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
from vae_edge.terms import Component, Format, Precision

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
    sha256=("a" * 64,),
    size_bytes=100,
    runtime="ai-edge-litert 2.3.0",
    threads=2,
    batch=4,
    loops=8,
    alone=True,
    load_ms=1.5,
    first_inference_ms=2.5,
    warmup_ns=(3e6,),
    samples_ns=(1e6, 2e6, None),
    latency=LatencyStatistics(median_ms=1.5, p95_ms=1.95, p99_ms=1.99, mad_ms=0.5),
    throughput_per_s=2666.6,
    peak_rss_bytes=None,
    base_rss_bytes=None,
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
    sha256=(),
    size_bytes=None,
    times_faster_than_keras=None,
)
BOTH = replace(
    ARTIFACT, name="both", part=Part.BOTH, files=("e.tflite", "d.tflite"), sha256=("a", "b")
)
REPORT = BenchmarkReport(
    schema_version=4,
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
    warnings=(FitnessWarning(code="load", seen="busy", remedy="wait"),),
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


@pytest.mark.parametrize("version", [0, 3, 5, True, "1", None])
def test_another_version_is_refused(version: object) -> None:
    text = json.dumps({**document(), "schema_version": version})
    with pytest.raises(UsageError, match=r"r\.json: schema_version must be 4; received"):
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


def test_one_setting_of_each_is_what_verdicts_go_by() -> None:
    more = replace(ARTIFACT, name="more", batch=8)
    four = replace(ARTIFACT, name="four", threads=4, batch=1)
    report = replace(REPORT, candidates=(KERAS, four, more, ARTIFACT))
    assert [c.name for c in report.base] == ["encoder keras call", "encoder int8 tflite"]
    assert report.is_sweep
    assert not REPORT.is_sweep
    assert latency_records(report)["encoder.int8.tflite"].batch == 4


def test_memory_of_its_own_is_what_the_process_grew_by() -> None:
    found = replace(ARTIFACT, peak_rss_bytes=50_000, base_rss_bytes=44_000)
    assert found.own_rss_bytes == 6_000
    assert replace(found, base_rss_bytes=None).own_rss_bytes is None
    assert replace(found, peak_rss_bytes=None).own_rss_bytes is None


def test_a_pair_of_two_precisions_names_both() -> None:
    assert ARTIFACT.precisions == "int8"
    assert replace(BOTH, encoder_precision=Precision.FLOAT16).precisions == "float16+int8"


def test_recorded_figures_give_what_keras_took_there() -> None:
    latency = latency_records(REPORT)["encoder.int8.tflite"]
    recorded = RecordedLatency(
        file="encoder.int8.tflite",
        component=Component.ENCODER,
        format=Format.TFLITE,
        precision=Precision.INT8,
        latency=latency,
    )
    assert recorded.keras_ms == 12.0  # 1.5 ms, 8 times faster
    without = replace(latency, times_faster_than_keras=None)
    assert replace(recorded, latency=without).keras_ms is None
    report = replace(REPORT, recorded=(recorded,))
    assert read_report(write_report(report), "r.json") == report
