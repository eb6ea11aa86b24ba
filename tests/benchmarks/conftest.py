from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.environment import Environment, MachineState
from benchmarks.report import SCHEMA_VERSION as REPORT_SCHEMA_VERSION
from benchmarks.report import (
    BenchmarkReport,
    CandidateReport,
    LatencyStatistics,
    Part,
    ReferenceRecord,
    Settings,
)
from vae_edge.bundle import Bundle
from vae_edge.manifest import (
    SCHEMA_VERSION,
    ArtifactRecord,
    GoldenRecord,
    LoweringRecord,
    Manifest,
    ModelRecord,
    QuantizationRecord,
    RuntimeRequirement,
)
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.terms import Component, Format, Precision, TensorSpec

MakeRecord = Callable[..., ArtifactRecord]
MakeManifest = Callable[..., Manifest]
MakeBundle = Callable[..., Bundle]


def _record(
    component: str,
    format: str,
    precision: str,
    *,
    batch: int | None = 1,
    size_bytes: int = 100,
    sha256: str = "a" * 64,
    inputs: tuple[TensorSpec, ...] | None = None,
    outputs: tuple[TensorSpec, ...] = (),
) -> ArtifactRecord:
    name = "image" if component == "encoder" else "z"
    return ArtifactRecord(
        file=f"{component}.{precision}.{format}",
        size_bytes=size_bytes,
        sha256=sha256,
        component=Component(component),
        format=Format(format),
        precision=Precision(precision),
        quantization=QuantizationRecord(
            weights="float32",
            weight_granularity="none",
            weights_symmetric=None,
            activations="float32",
            activations_symmetric=None,
            note="",
        ),
        lowering=LoweringRecord(target=None, applied=(), refused=(), note=""),
        inputs=inputs or (TensorSpec(name=name, shape=(batch, 2), dtype="float32"),),
        outputs=outputs,
        oldest_runtime=RuntimeRequirement(name="onnxruntime", version="1.18", detail="opset 17"),
        operators={},
        float_operators={},
        parity=None,
        latency=None,
    )


def _manifest(
    *records: ArtifactRecord,
    source_sha256: str = "b" * 64,
    golden_size_bytes: int = 0,
    golden_sha256: str = "c" * 64,
) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=ModelRecord(
            name="tiny",
            source_sha256=source_sha256,
            latent_dim=2,
            image_shape=(4, 4, 1),
            preprocessing=PLAIN_PICTURES,
        ),
        artifacts=records,
        calibration=None,
        golden=GoldenRecord(
            file="golden.npz",
            size_bytes=golden_size_bytes,
            sha256=golden_sha256,
            source="made up",
            images=1,
            latents=2,
        ),
        tools={},
    )


@pytest.fixture
def make_record() -> MakeRecord:
    return _record


@pytest.fixture
def make_manifest() -> MakeManifest:
    return _manifest


@pytest.fixture
def make_bundle() -> MakeBundle:
    """A bundle whose files do not exist: for what reads the manifest only."""

    def make(*records: ArtifactRecord, source_sha256: str = "b" * 64) -> Bundle:
        return Bundle(
            path=Path("somewhere/tiny"), manifest=_manifest(*records, source_sha256=source_sha256)
        )

    return make


@pytest.fixture
def make_report() -> Callable[[], BenchmarkReport]:
    """A report of one artifact, to be altered with `dataclasses.replace`."""
    state = MachineState(
        governor=None, clock_mhz=None, temperature_c=None, load_average=None, throttled=None
    )
    candidate = CandidateReport(
        name="encoder int8 tflite",
        part=Part.ENCODER,
        format=Format.TFLITE,
        precision=Precision.INT8,
        keras_call=None,
        files=("encoder.int8.tflite",),
        sha256=("a" * 64,),
        size_bytes=100,
        runtime="fake 1.0",
        threads=1,
        batch=1,
        loops=4,
        alone=True,
        load_ms=1.0,
        first_inference_ms=2.0,
        warmup_ns=(1e6,),
        samples_ns=(1e6, 1e6),
        latency=LatencyStatistics(median_ms=1.0, p95_ms=1.0, p99_ms=1.0, mad_ms=0.0),
        throughput_per_s=1000.0,
        peak_rss_bytes=None,
        base_rss_bytes=None,
        times_faster_than_keras=None,
        times_faster_than_float32=None,
    )
    report = BenchmarkReport(
        schema_version=REPORT_SCHEMA_VERSION,
        vae_edge_version="0.1.0",
        started_utc="2030-01-01T00:00:00+00:00",
        machine="a board",
        model=_manifest(_record("encoder", "tflite", "int8")).model,
        settings=Settings(threads=1, rounds=2, warmup_rounds=1, min_sample_ms=2.0, seed=0),
        environment=Environment(
            cpu_model=None,
            cores=4,
            architecture=None,
            system="Linux",
            python="3.11",
            numpy="2.0",
            emulated=False,
            before=state,
            after=state,
        ),
        reference=ReferenceRecord(measured=False, note="none", sha256=None, matches_bundle=None),
        candidates=(candidate,),
        skipped=(),
        warnings=(),
    )
    return lambda: report
