"""The hooks of an export, on a made-up measurement."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from vae_edge.bundle import Bundle
from vae_edge.cli.measured_export import MeasuredExport
from vae_edge.errors import ExportError
from vae_edge.manifest import MetricRecord, ParityRecord, QualityBudget
from vae_edge.tolerances import parse_override
from vae_edge.verdict import Speed

BUDGET = QualityBudget(min_psnr_db=40.0, max_error=0.01)
MS = {
    "encoder.float32.onnx": 1.0,
    "encoder.int8.onnx": 2.0,
    "decoder.float32.onnx": 3.0,
    "decoder.int8.onnx": 1.0,
}


def parity(psnr: float) -> ParityRecord:
    metrics = tuple(
        MetricRecord(output="o", metric=name, value=value, limit=1.0, passed=True)
        for name, value in (("psnr_db", psnr), ("rmse", 0.001), ("max_abs_error", 0.01))
    )
    return ParityRecord(passed=True, samples=5, runtime="r", metrics=metrics)


@pytest.fixture
def bundle(make_tiny_bundle):
    return make_tiny_bundle(MS)


@pytest.fixture
def staged(bundle):
    manifest = Bundle.open(bundle).manifest
    artifacts = tuple(replace(a, parity=parity(45.0)) for a in manifest.artifacts)
    return replace(manifest, artifacts=artifacts)


@dataclass(frozen=True)
class FakeReport:
    """What of a benchmark report decides."""

    candidates: tuple[SimpleNamespace, ...]
    settings: SimpleNamespace
    machine: str = "m"
    verdicts: tuple[object, ...] = ()
    best: object = None

    @property
    def base(self) -> tuple[SimpleNamespace, ...]:
        return self.candidates


@pytest.fixture
def hooks(monkeypatch, tmp_path, bundle):
    """`make(budget)` gives hooks that have measured `MS`."""
    import benchmarks.latency

    def candidate(file: str) -> SimpleNamespace:
        component, precision, format = file.split(".")
        ratio = MS[f"{component}.float32.{format}"] / MS[file]
        interval = SimpleNamespace(value=ratio, low=ratio - 0.1, high=ratio + 0.1)
        return SimpleNamespace(
            files=(file,),
            runtime="r 1",
            threads=1,
            batch=1,
            samples_ns=(MS[file] * 1e6,) * 4,
            latency=SimpleNamespace(median_ms=MS[file], p95_ms=MS[file]),
            times_faster_than_keras=None,
            times_faster_than_float32=(
                None if precision == "float32" else SimpleNamespace(interval=interval)
            ),
        )

    asked = {}

    def run_benchmark(path, **options):
        asked.update(options, bundle=path)
        return FakeReport(tuple(map(candidate, MS)), settings=SimpleNamespace(threads=1))

    monkeypatch.setattr(benchmarks.latency, "run_benchmark", run_benchmark)

    def make(budget=BUDGET, **options):
        made = MeasuredExport(tmp_path / "m.keras", budget, **options)
        records = made.measure(bundle)
        assert asked["bundle"] == bundle
        assert asked["reference"] == tmp_path / "m.keras"
        assert {file: record.median_ms for file, record in records.items()} == MS
        return made

    return make


def published(staged, selection):
    kept = tuple(a for a in staged.artifacts if a.file in selection.chosen)
    return replace(staged, artifacts=kept, selection=selection)


def test_each_component_gets_what_is_fastest_for_it(hooks, staged):
    selection = hooks().select(staged)

    assert selection.chosen == ("encoder.float32.onnx", "decoder.int8.onnx")
    assert [c.file for c in selection.candidates] == list(MS)


def test_what_is_published_is_judged_beside_the_float32_that_is_not(hooks, staged):
    made = hooks()

    (verdict,) = made.verdicts(published(staged, made.select(staged)))

    assert (verdict.file, verdict.paid, verdict.speed) == ("decoder.int8.onnx", True, Speed.FASTER)
    sizes = {a.file: a.size_bytes for a in staged.artifacts}
    smaller = sizes["decoder.float32.onnx"] / sizes["decoder.int8.onnx"]
    assert (verdict.times_faster, verdict.times_smaller) == (3.0, smaller)
    assert (verdict.low, verdict.high) == (pytest.approx(2.9), pytest.approx(3.1))


def test_without_a_choice_everything_is_judged(hooks, staged):
    assert [(v.file, v.paid) for v in hooks(None).verdicts(staged)] == [
        ("encoder.int8.onnx", False),
        ("decoder.int8.onnx", True),
    ]


def test_without_a_measurement_only_sizes_are_known(staged, tmp_path):
    found = MeasuredExport(tmp_path / "m.keras", None).verdicts(staged)

    assert [(v.file, v.speed, v.paid) for v in found] == [
        ("encoder.int8.onnx", None, None),
        ("decoder.int8.onnx", None, None),
    ]
    assert all(v.times_smaller for v in found)


def test_budget_that_nothing_keeps_names_every_candidate_and_the_way_out(hooks, staged):
    strict = QualityBudget(min_psnr_db=46.0, max_error=0.01)

    with pytest.raises(ExportError) as caught:
        hooks(strict).select(staged)

    assert str(caught.value) == (
        "no onnx decoder is within the budget (decoder.float32.onnx: below 46 dB, "
        "decoder.int8.onnx: below 46 dB). No bundle was written. Widen the budget with "
        "--min-psnr or --max-error, or name the precisions yourself."
    )


def test_no_report_is_written_where_nothing_was_measured(staged, tmp_path):
    MeasuredExport(tmp_path / "m.keras", None).write_report(tmp_path / "r.json", staged)

    assert not (tmp_path / "r.json").exists()


def test_halves_that_fail_together_are_not_published(hooks, staged):
    """Each passes alone: of the pair alone the reconstruction is held to int8's limit here."""
    limit = parse_override("int8:reconstruction.psnr_db=500")
    strict = hooks(overrides=(limit,))

    with pytest.raises(ExportError) as caught:
        strict.select(staged)

    assert "what was chosen fails parity: " in str(caught.value)
    assert "encoder+decoder float32+int8 onnx" in str(caught.value)
    assert "No bundle was written." in str(caught.value)


def test_report_holds_what_is_known_once_the_artifacts_are_proven(
    hooks, staged, tmp_path, monkeypatch
):
    import benchmarks.report
    from vae_edge.codec import encode

    monkeypatch.setattr(
        benchmarks.report,
        "write_report",
        lambda report: json.dumps(encode([report.verdicts, report.best])),
    )
    hooks().write_report(tmp_path / "deep" / "r.json", staged)

    verdicts, best = json.loads((tmp_path / "deep" / "r.json").read_text())
    assert [v["psnr_db"] for v in verdicts] == [45.0, 45.0]
    assert [c["file"] for c in best["candidates"] if c["chosen"]] == [
        "encoder.float32.onnx",
        "decoder.int8.onnx",
    ]
