from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import benchmarks.compare
from benchmarks.compare import Change, compare, compare_schema, load_report
from benchmarks.report import BenchmarkReport, FitnessWarning, Part, Speedup, write_report
from benchmarks.statistics import Interval
from vae_edge import codec
from vae_edge.errors import UsageError
from vae_edge.keras_vae import KerasCall
from vae_edge.terms import Format, Precision

MakeReport = Callable[[], BenchmarkReport]


def timed(report: BenchmarkReport, *samples_ns: float | None, **changes: Any) -> BenchmarkReport:
    """The report with other samples of its artifact, and with another file of that name."""
    latency = replace(report.candidates[0].latency, median_ms=(samples_ns[0] or 0) / 1e6)
    changes = {"samples_ns": samples_ns, "latency": latency, "sha256": ("f" * 64,), **changes}
    return replace(report, candidates=(replace(report.candidates[0], **changes),))


def run(report: BenchmarkReport, **micros: float) -> BenchmarkReport:
    """A run of several artifacts that all have ten rounds with the same slight disturbance.

    `keras=` is the Keras model; of `changed_...=` the file is another one in every run.
    """
    model = report.candidates[0]
    candidates = []
    for name, value in micros.items():
        samples = tuple(value * 1e3 * (1 + 0.01 * (turn % 5)) for turn in range(10))
        keras = name == "keras"
        nothing = Interval(value=1, low=1, high=1, confidence=0.95)
        candidates.append(
            replace(
                model,
                name=name,
                part=Part.ENCODER if keras else Part.DECODER,
                keras_call=KerasCall.CALL if keras else None,
                encoder_precision=None,
                precision=list(Precision)[len(candidates)],
                files=() if keras else (f"{name}.tflite",),
                sha256=() if keras else (f"{name} {value if 'changed' in name else ''}",),
                samples_ns=samples,
                times_faster_than_keras=None
                if keras
                else Speedup(against="keras", interval=nothing),
            )
        )
    sha256 = "a" * 64 if "keras" in micros else None
    reference = replace(report.reference, measured=sha256 is not None, sha256=sha256)
    return replace(report, candidates=tuple(candidates), reference=reference)


@pytest.mark.parametrize(
    ("samples_ns", "change"),
    [
        ((2e6, 2e6, None), Change.SLOWER),
        ((5e5, 5e5), Change.FASTER),
        ((1e6, 1e6), Change.NONE),
        ((5e5, 2e6), Change.NONE),
        ((1.02e6, 1.02e6), Change.NONE),  # sure, and as much as two runs of one file differ
        ((1.04e6, 1.04e6), Change.SLOWER),
    ],
)
def test_the_interval_decides(
    make_report: MakeReport, samples_ns: tuple[float | None, ...], change: Change
) -> None:
    before = make_report()
    (found,) = compare(before, timed(before, *samples_ns)).differences
    assert found.change is change
    assert (found.name, found.before_files) == ("encoder int8 tflite", ("encoder.int8.tflite",))
    assert (found.part, found.format, found.precision) == (Part.ENCODER, Format.TFLITE, "int8")


def test_ratio_is_second_over_first_and_sizes_are_kept(make_report: MakeReport) -> None:
    before = make_report()
    comparison = compare(before, timed(before, 1.2e6, 1.2e6, size_bytes=150))
    (found,) = comparison.differences
    assert (found.ratio.value, found.ratio.low) == pytest.approx((1.2, 1.2))
    assert (found.before_ms, found.after_ms) == (1.0, 1.2)
    assert (found.before_bytes, found.after_bytes) == (100, 150)
    assert not found.same_files
    assert found.slower_than(0.1)
    assert not found.slower_than(0.25)
    # Nothing tells whether the machine was slower as a whole.
    assert (comparison.shift, found.beside_shift) == (None, None)
    assert "cannot be told from slower artifacts" in comparison.notes[0]


def test_slower_than_allowed_counts_the_whole_interval(make_report: MakeReport) -> None:
    before = make_report()
    (found,) = compare(before, timed(before, 1.05e6, 1.3e6)).differences
    assert found.ratio.value > 1.1
    assert not found.slower_than(0.1)


def test_the_same_file_under_another_name_and_another_file_under_the_same(
    make_report: MakeReport,
) -> None:
    before = make_report()
    renamed = replace(before.candidates[0], name="x", files=("other.tflite",))
    (found,) = compare(before, replace(before, candidates=(renamed,))).differences
    assert (found.same_files, found.after_files) == (True, ("other.tflite",))
    (found,) = compare(before, timed(before, 1e6)).differences
    assert not found.same_files


def test_a_machine_that_was_slower_as_a_whole_is_no_change(make_report: MakeReport) -> None:
    before = run(make_report(), keras=900, a=100, b=200, changed_c=300)
    after = run(make_report(), keras=1170, a=130, b=260, changed_c=390)
    found = compare(before, after)
    assert found.shift is not None
    assert found.shift.moved
    assert found.shift.ratio.value == pytest.approx(1.3)
    assert found.shift.rests_on == ("a", "b", "keras")
    for difference in found.differences:
        assert difference.ratio.value == pytest.approx(1.3)
        assert difference.beside_shift is not None
        assert difference.beside_shift.value == pytest.approx(1)
        assert difference.change is Change.NONE
        assert not difference.slower_than(0.1)


def test_what_became_slower_beside_the_rest_is_found_on_a_slower_machine(
    make_report: MakeReport,
) -> None:
    before = run(make_report(), keras=900, changed_a=100, changed_b=200)
    after = run(make_report(), keras=1170, changed_a=169, changed_b=260)
    slower, same = compare(before, after).differences
    assert (slower.change, same.change) == (Change.SLOWER, Change.NONE)
    assert slower.beside_shift is not None
    assert slower.beside_shift.value == pytest.approx(1.3)
    assert slower.slower_than(0.2)


def test_artifacts_that_all_became_slower_are_no_slower_machine(make_report: MakeReport) -> None:
    before = run(make_report(), keras=900, changed_a=100, changed_b=200)
    after = run(make_report(), keras=900, changed_a=130, changed_b=260)
    found = compare(before, after)
    assert found.shift is not None
    assert not found.shift.moved
    assert [difference.change for difference in found.differences] == [Change.SLOWER] * 2


def test_another_model_or_runtime_tells_nothing_of_the_machine(make_report: MakeReport) -> None:
    before = run(make_report(), keras=900, changed_a=100)
    other = replace(before.reference, sha256="b" * 64)
    assert compare(before, replace(before, reference=other)).shift is not None  # the artifact
    after = run(make_report(), keras=900, changed_a=101)
    assert compare(before, replace(after, reference=other)).shift is None
    newer = tuple(replace(c, runtime="fake 2.0") for c in before.candidates)
    assert compare(before, replace(before, candidates=newer)).shift is None


def test_keras_is_no_difference_and_what_only_one_has_is_named(make_report: MakeReport) -> None:
    before = make_report()
    artifact = before.candidates[0]
    keras = replace(artifact, name="keras", keras_call=KerasCall.CALL, files=(), size_bytes=None)
    gone = replace(artifact, name="gone", part=Part.DECODER, files=("decoder.int8.tflite",))
    new = replace(gone, name="new", precision=Precision.FLOAT16, files=("decoder.float16.tflite",))
    found = compare(
        replace(before, candidates=(keras, artifact, gone)),
        replace(before, candidates=(keras, artifact, new)),
    )
    assert [difference.name for difference in found.differences] == ["encoder int8 tflite"]
    assert (found.only_before, found.only_after) == (("gone",), ("new",))


def test_settings_of_a_sweep_are_matched_one_by_one(make_report: MakeReport) -> None:
    report = make_report()
    one = report.candidates[0]
    two, eight = replace(one, name="two", threads=2), replace(one, name="eight", batch=8)
    found = compare(
        replace(report, candidates=(one, two, eight)), replace(report, candidates=(eight, two))
    )
    assert found.obstacles == ()
    assert [difference.name for difference in found.differences] == ["two", "eight"]
    assert found.only_before == ("encoder int8 tflite",)


def test_nothing_in_common_is_an_error(make_report: MakeReport) -> None:
    before = make_report()
    other = replace(before.candidates[0], name="x", part=Part.DECODER, files=("x.int8.tflite",))
    with pytest.raises(UsageError, match=r"first measured encoder int8 tflite; the second x\."):
        compare(before, replace(before, candidates=(other,)))


def test_the_published_schema_is_the_generated_one(make_report: MakeReport) -> None:
    published = Path(benchmarks.compare.__file__).with_name("compare.schema.json")
    assert published.read_text() == json.dumps(compare_schema(), indent=2) + "\n"
    document = json.loads(json.dumps(codec.encode(compare(make_report(), make_report()))))
    assert document["schema_version"] == 2
    jsonschema.validate(document, compare_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "speed": 1}, compare_schema())


@pytest.mark.parametrize(
    ("changes", "obstacle"),
    [
        ({"cpu_model": "Cortex-A72"}, "CPU model: unknown and Cortex-A72"),
        ({"cores": 2}, "cores: 4 and 2"),
        ({"architecture": "aarch64"}, "architecture: unknown and aarch64"),
        ({"emulated": True}, "emulation: False and True"),
    ],
)
def test_another_device_is_an_obstacle(
    make_report: MakeReport, changes: dict[str, Any], obstacle: str
) -> None:
    before = make_report()
    after = replace(before, environment=replace(before.environment, **changes))
    found = compare(before, after)
    assert found.obstacles == (obstacle,)
    assert len(found.differences) == 1


def test_other_threads_runtime_and_batch_are_obstacles(make_report: MakeReport) -> None:
    before = make_report()
    threads = compare(before, timed(before, 1e6, threads=2))
    assert threads.obstacles == ("threads: 1 and 2",)
    (found,) = threads.differences
    assert (found.before_threads, found.after_threads) == (1, 2)
    runtime = timed(before, 1e6, runtime="fake 2.0")
    assert compare(before, runtime).obstacles == ("runtime: fake 1.0 and fake 2.0",)
    batch = compare(before, timed(before, 1e6, batch=8))
    assert batch.obstacles == ("batch of encoder.int8.tflite: 1 and 8",)
    assert batch.differences == ()


def test_unfit_machines_are_doubts_and_models_and_systems_notes(make_report: MakeReport) -> None:
    before = make_report()
    assert compare(before, before).notes == ()
    after = replace(
        before,
        warnings=(FitnessWarning(code="load", seen="busy", remedy="wait"),),
        model=replace(before.model, source_sha256="f" * 64),
        environment=replace(before.environment, python="3.12"),
    )
    found = compare(before, after)
    assert found.obstacles == ()
    (doubt,) = found.doubts
    assert "second report was measured on a machine that was not fit (load)" in doubt
    first, second = found.notes
    assert "different models" in first
    assert second == "The versions of Python differ: 3.11 and 3.12."


def test_reports_are_read_and_others_refused(make_report: MakeReport, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(write_report(make_report()))
    assert load_report(path) == make_report()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"r\.json: not a text file"):
        load_report(path)
