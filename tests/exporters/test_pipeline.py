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


IMPOSSIBLE = (parse_override("float32:reconstruction.psnr_db=500"),)


def test_what_fails_parity_is_left_out_with_the_reason(tmp_path, tiny_vae, tiny_representative):
    from exporters.pipeline import export_bundle

    plan = plan_for(tmp_path / "out", Precision.FLOAT32, Precision.FLOAT16, overrides=IMPOSSIBLE)
    result = export_bundle(tiny_vae, plan, tiny_representative)

    published = {record.file for record in result.bundle.manifest.artifacts}
    assert published == {
        "encoder.float32.tflite",
        "encoder.float16.tflite",
        "decoder.float16.tflite",
    }
    assert names_in(tmp_path / "out") == published | {"manifest.json", "golden.npz"}
    assert result.parity.passed
    assert all(record.parity.passed for record in result.bundle.manifest.artifacts)
    (left_out,) = result.left_out
    assert left_out.file == "decoder.float32.tflite"
    assert "parity failed: reconstruction psnr_db" in left_out.reason
    assert "(limit 500)" in left_out.reason


def test_nothing_is_published_where_everything_is_left_out(tmp_path, tiny_vae, tiny_representative):
    from exporters.pipeline import export_bundle

    plan = plan_for(tmp_path / "out", overrides=IMPOSSIBLE, components=(Component.DECODER,))
    with pytest.raises(
        ExportError, match=r"decoder\.float32\.tflite: parity failed: .*\(limit 500\)"
    ):
        export_bundle(tiny_vae, plan, tiny_representative)
    assert names_in(tmp_path) == set()


def test_what_fails_parity_is_published_where_that_is_asked(
    tmp_path, tiny_vae, tiny_representative
):
    from exporters.pipeline import export_bundle

    plan = plan_for(tmp_path / "out", overrides=IMPOSSIBLE, keep_failing=True)
    kept = export_bundle(tiny_vae, plan, tiny_representative)

    verdicts = {a.component: a.parity for a in kept.bundle.manifest.artifacts}
    assert not verdicts[Component.DECODER].passed
    assert verdicts[Component.ENCODER].passed
    assert kept.left_out == ()


def test_what_cannot_be_converted_does_not_lose_the_others(
    tmp_path, tiny_vae, tiny_representative, monkeypatch
):
    from exporters import pipeline

    real = pipeline._export_one

    def refuse_int8(writer, file, format, request):
        if request.precision is Precision.INT8:
            raise ExportError(f"{request.component}: no operator for it")
        return real(writer, file, format, request)

    monkeypatch.setattr(pipeline, "_export_one", refuse_int8)
    plan = plan_for(tmp_path / "out", Precision.FLOAT32, Precision.INT8)
    result = pipeline.export_bundle(tiny_vae, plan, tiny_representative)

    assert [(each.file, each.reason) for each in result.left_out] == [
        (
            "encoder.int8.tflite",
            "encoder: no operator for it. What could be: encoder.float32.tflite.",
        ),
        (
            "decoder.int8.tflite",
            "decoder: no operator for it. What could be: decoder.float32.tflite.",
        ),
    ]
    assert len(result.bundle.manifest.artifacts) == 2


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
