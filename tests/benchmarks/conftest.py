from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
            name="tiny", source_sha256=source_sha256, latent_dim=2, image_shape=(4, 4, 1)
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
