from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.report import BenchmarkReport, CandidateReport, Part, Speedup
from benchmarks.statistics import Interval
from benchmarks.verdicts import (
    alike_by_samples,
    best_in_one_format,
    candidates_of,
    ratios,
    with_verdicts,
)
from vae_edge.manifest import ArtifactRecord, Manifest, MetricRecord, ParityRecord, QualityBudget
from vae_edge.selection import Candidate
from vae_edge.terms import Format, Precision
from vae_edge.verdict import Ratio

MakeRecord = Callable[..., ArtifactRecord]
MakeManifest = Callable[..., Manifest]
BUDGET = QualityBudget(min_psnr_db=40.0, max_error=0.01)
PASSED = ParityRecord(
    passed=True,
    samples=1,
    runtime="r",
    metrics=tuple(
        MetricRecord(output="o", metric=name, value=value, limit=1.0, passed=True)
        for name, value in (("psnr_db", 50.0), ("rmse", 0.003), ("max_abs_error", 0.01))
    ),
)


@pytest.fixture
def make(make_report: Callable[[], BenchmarkReport]) -> Callable[..., CandidateReport]:
    """`make("encoder.int8.onnx", 2.0, faster=(1.5, 1.4, 1.6))`: median ms, and its ratio."""
    model = make_report().candidates[-1]

    def candidate(
        file: str,
        median_ms: float,
        *,
        samples: tuple[float | None, ...] | None = None,
        faster: tuple[float, float, float] | None = None,
    ) -> CandidateReport:
        component, precision, format = file.split(".")
        speedup = faster and Speedup(
            against="float32",
            interval=Interval(value=faster[0], low=faster[1], high=faster[2], confidence=0.95),
        )
        return replace(
            model,
            name=file,
            part=Part(component),
            format=Format(format),
            precision=Precision(precision),
            files=(file,),
            samples_ns=samples or (median_ms * 1e6,) * 3,
            latency=replace(model.latency, median_ms=median_ms),
            times_faster_than_float32=speedup or None,
        )

    return candidate


def both(candidate: CandidateReport) -> CandidateReport:
    return replace(candidate, part=Part.BOTH, files=("e.onnx", "d.onnx"))


def test_ratios_are_those_of_single_artifacts_with_their_interval(
    make: Callable[..., CandidateReport],
) -> None:
    fast = make("encoder.int8.onnx", 1.0, faster=(1.5, 1.25, 1.75))

    assert ratios([make("encoder.float32.onnx", 1.5), fast, both(fast)]) == {
        "encoder.int8.onnx": Ratio(value=1.5, low=1.25, high=1.75)
    }


def test_candidates_are_the_manifests_artifacts_with_the_medians_measured(
    make: Callable[..., CandidateReport], make_record: MakeRecord, make_manifest: MakeManifest
) -> None:
    records = [make_record("encoder", "onnx", "int8"), make_record("encoder", "onnx", "float32")]
    measured = [make("encoder.float32.onnx", 1.5), both(make("encoder.int8.onnx", 9.0))]
    manifest = make_manifest(*records)

    assert candidates_of(manifest, measured) == (
        Candidate(record=records[0], median_ms=None),
        Candidate(record=records[1], median_ms=1.5),
    )
    assert candidates_of(manifest, measured, {"encoder.float32.onnx"}) == (
        Candidate(record=records[1], median_ms=1.5),
    )


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        # 10 % slower by the median, but not in every round.
        ((9.0, 11.0, 13.0, 9.0, 12.0), (10.0, 13.0, 9.0, 12.0, 8.0), True),
        # 10 % slower in every round.
        ((11.0,) * 5, (10.0,) * 5, False),
        # 2 % slower in every round: sure, and not worth a larger file.
        ((10.2,) * 5, (10.0,) * 5, True),
        # No round in common.
        ((11.0, None), (None, 10.0), False),
    ],
)
def test_ties_are_told_by_the_rounds_that_two_share(
    make: Callable[..., CandidateReport],
    make_record: MakeRecord,
    one: tuple[float | None, ...],
    other: tuple[float | None, ...],
    alike: bool,
) -> None:
    files = {"int8": one, "float32": other}
    reports = [make(f"encoder.{p}.onnx", 1.0, samples=rounds) for p, rounds in files.items()]
    first, second = (
        Candidate(
            record=make_record("encoder", "onnx", precision),
            median_ms=statistics.median(s for s in rounds if s is not None),
        )
        for precision, rounds in files.items()
    )

    assert alike_by_samples(reports)(first, second) is alike


def test_what_was_not_measured_is_no_tie(make_record: MakeRecord) -> None:
    one = Candidate(record=make_record("encoder", "onnx", "int8"), median_ms=2.0)
    other = Candidate(record=make_record("encoder", "onnx", "float32"), median_ms=1.0)

    assert alike_by_samples([])(one, other) is False


def test_report_gets_a_verdict_on_what_was_measured_and_the_best_of_it(
    make: Callable[..., CandidateReport],
    make_report: Callable[[], BenchmarkReport],
    make_record: MakeRecord,
    make_manifest: MakeManifest,
) -> None:
    sizes = {"float32": 400, "float16": 200, "int8": 100}
    records = [
        replace(make_record("encoder", format, precision, size_bytes=size), parity=PASSED)
        for format in ("onnx", "tflite")
        for precision, size in sizes.items()
    ]
    report = replace(
        make_report(),
        candidates=(
            make("encoder.float32.onnx", 1.0),
            make("encoder.int8.onnx", 2.0, faster=(0.5, 0.4, 0.6)),
            make("encoder.float32.tflite", 1.2),
            make("encoder.int8.tflite", 0.6, faster=(2.0, 1.9, 2.1)),
        ),
    )

    judged = with_verdicts(report, make_manifest(*records), BUDGET)

    assert [(v.file, v.paid, v.times_smaller, v.low) for v in judged.verdicts] == [
        ("encoder.int8.onnx", False, 4.0, 0.4),
        ("encoder.int8.tflite", True, 4.0, 1.9),
    ]
    assert judged.best is not None
    assert judged.best.budget == BUDGET
    assert [c.file for c in judged.best.candidates] == [
        "encoder.float32.onnx",
        "encoder.int8.onnx",
        "encoder.float32.tflite",
        "encoder.int8.tflite",
    ]
    assert judged.best.chosen == ("encoder.int8.tflite",)
    assert replace(judged, verdicts=(), best=None) == report


@pytest.fixture
def two_formats(
    make: Callable[..., CandidateReport],
    make_report: Callable[[], BenchmarkReport],
    make_record: MakeRecord,
    make_manifest: MakeManifest,
) -> Callable[..., tuple[BenchmarkReport, Manifest]]:
    """`make({file: ms}, {file: psnr})` gives a judged report, and the manifest."""

    def judged(
        medians: dict[str, float], psnr: dict[str, float] | None = None
    ) -> tuple[BenchmarkReport, Manifest]:
        records = []
        for file in medians:
            component, precision, format = file.split(".")
            metrics = tuple(
                replace(m, value=(psnr or {}).get(file, 50.0)) if m.metric == "psnr_db" else m
                for m in PASSED.metrics
            )
            records.append(
                replace(
                    make_record(component, format, precision),
                    parity=replace(PASSED, metrics=metrics),
                )
            )
        manifest = make_manifest(*records)
        candidates = tuple(make(file, ms) for file, ms in medians.items())
        return with_verdicts(
            replace(make_report(), candidates=candidates), manifest, BUDGET
        ), manifest

    return judged


def test_where_the_best_are_of_two_formats_the_better_format_is_found(
    two_formats: Callable[..., tuple[BenchmarkReport, Manifest]],
) -> None:
    report, manifest = two_formats(
        {
            "encoder.int8.tflite": 1.0,
            "decoder.int8.tflite": 5.0,
            "encoder.int8.onnx": 2.0,
            "encoder.float32.onnx": 9.0,
            "decoder.int8.onnx": 3.0,
        }
    )

    assert report.best is not None
    assert report.best.chosen == ("encoder.int8.tflite", "decoder.int8.onnx")
    # 1 + 5 in TFLite, 2 + 3 in ONNX.
    assert [c.file for c in best_in_one_format(report, manifest)] == [
        "encoder.int8.onnx",
        "decoder.int8.onnx",
    ]


def test_where_the_best_are_of_one_format_there_is_nothing_to_add(
    two_formats: Callable[..., tuple[BenchmarkReport, Manifest]],
) -> None:
    report, manifest = two_formats(
        {"encoder.int8.tflite": 1.0, "decoder.int8.tflite": 1.0, "decoder.int8.onnx": 3.0}
    )

    assert best_in_one_format(report, manifest) == ()
    assert best_in_one_format(replace(report, best=None), manifest) == ()


def test_format_without_a_good_half_is_no_choice(
    two_formats: Callable[..., tuple[BenchmarkReport, Manifest]],
) -> None:
    medians = {
        "encoder.int8.tflite": 1.0,
        "decoder.int8.tflite": 1.5,
        "encoder.int8.onnx": 2.0,
        "decoder.int8.onnx": 3.0,
    }
    report, manifest = two_formats(medians, {"decoder.int8.tflite": 30.0})

    # TFLite's decoder is fast and not good enough.
    assert [c.file for c in best_in_one_format(report, manifest)] == [
        "encoder.int8.onnx",
        "decoder.int8.onnx",
    ]
