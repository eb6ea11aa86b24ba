"""The export as a whole: a bundle that was proven and measured, or none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vae_edge.bundle import Bundle
from vae_edge.errors import BundleError, ExportError
from vae_edge.manifest import LatencyRecord
from vae_edge.terms import Component, Format, Precision
from vae_edge.tolerances import parse_override

pytestmark = [pytest.mark.host, pytest.mark.slow]


def plan_for(destination: Path, *precisions: Precision, **changes):
    from exporters.pipeline import ExportPlan

    plan = ExportPlan(
        destination=destination,
        formats=(Format.TFLITE,),
        precisions={Format.TFLITE: precisions or (Precision.FLOAT32,)},
        # Noise through an untrained model quantizes badly; what is tested here is the road.
        overrides=tuple(
            parse_override(f"int8:{output}.{metric}={limit}")
            for output in ("z_mean", "z_log_var", "reconstruction")
            for metric, limit in (
                ("max_abs_error", 1),
                ("rmse", 1),
                ("cosine_similarity", 0.9),
                ("psnr_db", 10),
            )
        ),
    )
    return dataclasses.replace(plan, **changes)


def latency(times: float) -> LatencyRecord:
    return LatencyRecord(
        machine="fake",
        runtime="fake 1",
        threads=1,
        batch=1,
        median_ms=0.5,
        p95_ms=0.6,
        times_faster_than_keras=times,
        times_faster_than_float32=None,
    )


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_bundle_holds_what_its_manifest_says(tmp_path, tiny_vae, tiny_representative):
    from exporters.pipeline import export_bundle

    measured: list[Path] = []

    def measure(staged: Path):
        measured.append(staged)
        Bundle.open(staged)  # a whole bundle, before it is published
        return {"decoder.int8.tflite": latency(7.5)}

    steps: list[str] = []
    plan = plan_for(tmp_path / "out", Precision.FLOAT32, Precision.INT8)
    result = export_bundle(
        tiny_vae, plan, tiny_representative, measure=measure, on_step=steps.append
    )
    manifest = Bundle.open(tmp_path / "out").manifest
    assert result.parity.passed
    assert names_in(tmp_path) == {"out"}
    assert measured[0].parent == tmp_path
    files = {f"{c}.{p}.tflite" for c in ("encoder", "decoder") for p in ("float32", "int8")}
    assert names_in(tmp_path / "out") == files | {"manifest.json", "golden.npz"}
    assert {record.file for record in manifest.artifacts} == files
    assert all(record.parity and record.parity.passed for record in manifest.artifacts)
    found = {record.file: record.latency for record in manifest.artifacts}
    assert found["decoder.int8.tflite"] == latency(7.5)
    assert found["encoder.int8.tflite"] is None
    assert (manifest.model.name, manifest.model.latent_dim) == ("tiny", 3)
    assert manifest.model.image_shape == (16, 16, 1)
    assert manifest.calibration is not None
    assert (manifest.calibration.source, manifest.calibration.count) == ("noise", 64)
    assert {"tensorflow", "keras", "numpy", "vae-edge"} <= set(manifest.tools)
    assert steps[-2:] == ["parity", "latency"]
    assert len(steps) == len(files) + 2


def test_failed_parity_publishes_nothing_and_says_what_failed(
    tmp_path, tiny_vae, tiny_representative
):
    from exporters.pipeline import export_bundle

    plan = plan_for(tmp_path / "out", overrides=(parse_override("reconstruction.psnr_db=500"),))
    with pytest.raises(ExportError, match=r"decoder float32 tflite: reconstruction psnr_db .* 500"):
        export_bundle(tiny_vae, plan, tiny_representative)
    assert names_in(tmp_path) == set()
    kept = export_bundle(
        tiny_vae, dataclasses.replace(plan, keep_failing=True), tiny_representative
    )
    verdicts = {a.component: a.parity for a in kept.bundle.manifest.artifacts}
    assert not verdicts[Component.DECODER].passed
    assert verdicts[Component.ENCODER].passed


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_export_leaves_the_old_bundle(tmp_path, tiny_vae, tiny_representative, error):
    from exporters.pipeline import export_bundle

    plan = plan_for(tmp_path / "out")
    export_bundle(tiny_vae, plan, tiny_representative)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def measure(_staged: Path):
        raise error

    with pytest.raises(error):
        export_bundle(tiny_vae, plan, tiny_representative, measure=measure)
    assert names_in(tmp_path) == {"out"}
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_bundle_with_other_artifacts_is_replaced_only_when_told(
    tmp_path, tiny_vae, tiny_representative
):
    from exporters.pipeline import export_bundle

    one = plan_for(tmp_path / "out", Precision.FLOAT16, components=(Component.DECODER,))
    export_bundle(tiny_vae, one, tiny_representative)
    other = plan_for(tmp_path / "out", components=(Component.DECODER,))
    with pytest.raises(BundleError, match=r"decoder\.float16\.tflite.*would be lost"):
        export_bundle(tiny_vae, other, tiny_representative)
    export_bundle(tiny_vae, dataclasses.replace(other, replace=True), tiny_representative)
    assert [a.file for a in Bundle.open(tmp_path / "out").manifest.artifacts] == [
        "decoder.float32.tflite"
    ]


def test_one_component_alone_can_be_exported_and_used(tmp_path, tiny_vae, tiny_representative):
    from exporters.pipeline import export_bundle
    from vae_edge import EdgeVAE

    plan = plan_for(tmp_path / "out", components=(Component.DECODER,))
    export_bundle(tiny_vae, plan, tiny_representative)
    with EdgeVAE.open(tmp_path / "out") as vae:
        assert vae.generate(2, seed=0).shape == (2, 16, 16, 1)
        with pytest.raises(BundleError, match="without its encoder"):
            vae.encode(tiny_representative.golden)


def test_same_export_twice_gives_the_same_artifacts(tmp_path, tiny_vae, tiny_representative):
    from exporters.pipeline import export_bundle

    hashes = []
    for name in ("a", "b"):
        plan = plan_for(tmp_path / name, Precision.INT8, components=(Component.DECODER,))
        bundle = export_bundle(tiny_vae, plan, tiny_representative).bundle
        hashes.append([bundle.manifest.golden.sha256, bundle.manifest.artifacts[0].sha256])
    assert hashes[0] == hashes[1]
