from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import Change, compare, load_report
from benchmarks.report import BenchmarkReport, FitnessWarning, Part, write_report
from benchmarks.statistics import Interval
from vae_edge.errors import UsageError
from vae_edge.keras_vae import KerasCall

MakeReport = Callable[[], BenchmarkReport]


def timed(report: BenchmarkReport, *samples_ns: float | None, **changes: Any) -> BenchmarkReport:
    """The report with other samples of its artifact."""
    latency = replace(report.candidates[0].latency, median_ms=(samples_ns[0] or 0) / 1e6)
    changes = {"samples_ns": samples_ns, "latency": latency, **changes}
    return replace(report, candidates=(replace(report.candidates[0], **changes),))


@pytest.mark.parametrize(
    ("samples_ns", "change"),
    [
        ((2e6, 2e6, None), Change.SLOWER),
        ((5e5, 5e5), Change.FASTER),
        ((1e6, 1e6), Change.NONE),
        ((5e5, 2e6), Change.NONE),
    ],
)
def test_the_interval_decides(
    make_report: MakeReport, samples_ns: tuple[float | None, ...], change: Change
) -> None:
    before = make_report()
    (found,) = compare(before, timed(before, *samples_ns)).differences
    assert found.change is change
    assert (found.name, found.files) == ("encoder int8 tflite", ("encoder.int8.tflite",))


def test_ratio_is_second_over_first_and_sizes_are_kept(make_report: MakeReport) -> None:
    before = make_report()
    (found,) = compare(before, timed(before, 1.2e6, 1.2e6, size_bytes=150)).differences
    assert found.ratio == Interval(value=1.2, low=1.2, high=1.2, confidence=0.95)
    assert (found.before_ms, found.after_ms) == (1.0, 1.2)
    assert (found.before_bytes, found.after_bytes) == (100, 150)
    assert found.slower_than(0.1)
    assert not found.slower_than(0.25)


def test_slower_than_allowed_counts_the_whole_interval(make_report: MakeReport) -> None:
    before = make_report()
    (found,) = compare(before, timed(before, 1.05e6, 1.3e6)).differences
    assert found.change is Change.SLOWER
    assert found.ratio.value > 1.1
    assert not found.slower_than(0.1)


def test_keras_is_left_out_and_what_only_one_has_is_named(make_report: MakeReport) -> None:
    before = make_report()
    artifact = before.candidates[0]
    keras = replace(artifact, name="keras", keras_call=KerasCall.CALL, files=(), size_bytes=None)
    gone = replace(artifact, name="gone", part=Part.DECODER, files=("decoder.int8.tflite",))
    new = replace(artifact, name="new", part=Part.DECODER, files=("decoder.float16.tflite",))
    found = compare(
        replace(before, candidates=(keras, artifact, gone)),
        replace(before, candidates=(keras, artifact, new)),
    )
    assert [difference.name for difference in found.differences] == ["encoder int8 tflite"]
    assert (found.only_before, found.only_after) == (("gone",), ("new",))


def test_nothing_in_common_is_an_error(make_report: MakeReport) -> None:
    before = make_report()
    other = replace(
        before, candidates=(replace(before.candidates[0], name="x", files=("x.int8.tflite",)),)
    )
    with pytest.raises(UsageError, match=r"first measured encoder int8 tflite; the second x\."):
        compare(before, other)


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
    threads = replace(before, settings=replace(before.settings, threads=2))
    assert compare(before, threads).obstacles == ("threads: 1 and 2",)
    runtime = timed(before, 1e6, runtime="fake 2.0")
    assert compare(before, runtime).obstacles == ("runtime: fake 1.0 and fake 2.0",)
    batch = compare(before, timed(before, 1e6, batch=8))
    assert batch.obstacles == ("batch of encoder.int8.tflite: 1 and 8",)
    assert batch.differences == ()


def test_unfit_machines_models_and_systems_are_notes(make_report: MakeReport) -> None:
    before = make_report()
    assert compare(before, before).notes == ()
    after = replace(
        before,
        warnings=(FitnessWarning(code="load", text="busy"),),
        model=replace(before.model, source_sha256="f" * 64),
        environment=replace(before.environment, python="3.12"),
    )
    found = compare(before, after)
    assert found.obstacles == ()
    first, second, third = found.notes
    assert "second report was measured on a machine that was not fit (load)" in first
    assert "different models" in second
    assert third == "The versions of Python differ: 3.11 and 3.12."


def test_reports_are_read_and_others_refused(make_report: MakeReport, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(write_report(make_report()))
    assert load_report(path) == make_report()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"r\.json: not a text file"):
        load_report(path)
