from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.environment import MachineState
from benchmarks.neighbours import CpuTimes, Neighbours
from benchmarks.process import Worker
from benchmarks.protocol import GroupTask, Loaded, Memory
from benchmarks.report import BenchmarkReport, Part, read_report, write_report
from benchmarks.statistics import Interval
from benchmarks.sustained import sustain, targets, with_sustained
from benchmarks.timer import Calibration
from vae_edge.errors import ArtifactError, UsageError
from vae_edge.keras_vae import KerasCall
from vae_edge.manifest import CandidateRecord, QualityBudget, SelectionRecord
from vae_edge.terms import Format, Precision

MakeReport = Callable[[], BenchmarkReport]


class FakeDevice:
    """A worker, its clock and its machine: every sample takes `step_s` of that clock."""

    def __init__(self, step_s: float, cost_ns: Callable[[float], float]) -> None:
        self.now, self.step_s, self.cost_ns = 1000.0, step_s, cost_ns
        self.min_sample_ns, self.closed, self.states = 0, 0, 0
        self.started: list[GroupTask] = []
        self.failure: Exception | None = None

    @property
    def task(self) -> GroupTask:
        return self.started[-1]

    def start(self, task: GroupTask) -> Worker:
        self.started.append(task)
        return self

    def clock(self) -> float:
        return self.now

    def state(self) -> MachineState:
        self.states += 1
        return MachineState(
            governor=None,
            clock_mhz=None,
            temperature_c=40.0 + self.states,
            load_average=None,
            throttled=None,
        )

    def wait_prepared(self) -> None:
        pass

    def load(self) -> Loaded:
        return Loaded(workloads=())

    def calibrate(self, workload: int, min_sample_ns: int) -> Calibration:
        assert workload == 0
        self.min_sample_ns = min_sample_ns
        return Calibration(loops=7, sample_ns=min_sample_ns)

    def sample(self, workload: int, loops: int, settle: int) -> float:
        assert (workload, loops, settle) == (0, 7, 0)
        if self.failure is not None:
            raise self.failure
        cost = self.cost_ns(self.now - 1000.0)
        self.now += self.step_s
        return cost

    def memory(self) -> Memory:
        return Memory(peak_rss_bytes=None, base_rss_bytes=None)

    def close(self) -> None:
        self.closed += 1


def test_the_first_minute_stands_beside_the_last(make_report: MakeReport) -> None:
    # Every minute 1 ms slower; ten minutes, a sample each second.
    device = FakeDevice(1.0, lambda passed: (1 + passed // 60) * 1e6)
    (target,) = make_report().candidates
    found = sustain(target, device, 600, clock=device.clock, state=device.state)
    assert (found.file, found.duration_s, found.window_s) == ("encoder.int8.tflite", 600, 60)
    assert (found.first_ms, found.last_ms, found.samples) == (1.0, 10.0, 600)
    assert found.last_over_first == Interval(value=10.0, low=10.0, high=10.0, confidence=0.95)
    assert found.windows_ms == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
    assert (found.before.temperature_c, found.after.temperature_c) == (41.0, 42.0)
    assert device.min_sample_ns == 100_000_000


def test_the_last_minute_ends_with_the_run_although_no_window_does(make_report: MakeReport) -> None:
    device = FakeDevice(10.0, lambda passed: passed * 1e6 + 1)
    (target,) = make_report().candidates
    found = sustain(target, device, 150, clock=device.clock, state=device.state)
    # samples begin at 90, 100 ... 140 s; the windows at 0, 60 and 120 s
    assert found.last_ms == pytest.approx(115.0)
    assert found.windows_ms == pytest.approx((25.0, 85.0, 130.0))


def test_a_short_run_is_halved_and_sampled_finely(make_report: MakeReport) -> None:
    device = FakeDevice(0.25, lambda passed: 1e6 if passed < 1 else 3e6)
    (target,) = make_report().candidates
    found = sustain(target, device, 2, clock=device.clock, state=device.state)
    assert (found.window_s, found.samples) == (1.0, 8)
    assert (found.first_ms, found.last_ms) == (1.0, 3.0)
    assert device.min_sample_ns == 40_000_000


def test_an_inference_longer_than_the_run_is_still_measured(make_report: MakeReport) -> None:
    device = FakeDevice(500.0, lambda _: 500e9)
    (target,) = make_report().candidates
    found = sustain(target, device, 120, clock=device.clock, state=device.state)
    assert (found.samples, found.last_over_first.value) == (1, 1.0)
    assert found.windows_ms == (500_000.0, None)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_time_is_refused(make_report: MakeReport, seconds: float) -> None:
    device = FakeDevice(1.0, lambda _: 1e6)
    with pytest.raises(UsageError, match="more than 0 s"):
        sustain(make_report().candidates[0], device, seconds, clock=device.clock)


def test_target_is_the_choice_else_the_fastest_of_each_component(make_report: MakeReport) -> None:
    report = make_report()
    slow = report.candidates[0]
    fast = replace(
        slow,
        name="fast",
        files=("encoder.int8.onnx",),
        format=Format.ONNX,
        latency=replace(slow.latency, median_ms=0.5),
    )
    both = replace(fast, name="both", part=Part.BOTH, files=("a", "b"))
    keras = replace(fast, name="keras", keras_call=KerasCall.CALL, files=())
    report = replace(report, candidates=(keras, slow, fast, both))
    assert targets(report) == (fast,)
    record = CandidateRecord(
        file="encoder.int8.tflite",
        size_bytes=100,
        median_ms=1.0,
        psnr_db=None,
        rmse=None,
        eligible=True,
        chosen=True,
        reason="",
    )
    budget = QualityBudget(min_psnr_db=40.0, max_error=0.01)
    best = SelectionRecord(budget=budget, candidates=(record,))
    assert targets(replace(report, best=best)) == (slow,)


def test_the_report_holds_it_and_the_worker_is_ended(make_report: MakeReport) -> None:
    device = FakeDevice(0.5, lambda _: 1e6)
    seen: list[tuple[str, float]] = []
    report = with_sustained(
        make_report(),
        Path("somewhere"),
        2,
        device.start,
        on_progress=lambda file, passed: seen.append((file, passed)),
        clock=device.clock,
        state=device.state,
    )
    (task,) = device.started
    assert (task.source, task.parts, task.precision) == (
        "somewhere",
        (Part.ENCODER,),
        Precision.INT8,
    )
    assert device.closed == 1
    assert seen[-1] == ("encoder.int8.tflite", 2.0)
    assert read_report(write_report(report), "r.json") == report
    assert len(report.sustained) == 1


def test_other_programs_during_it_are_a_warning(
    make_report: MakeReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = FakeDevice(0.5, lambda _: 1e6)

    def times() -> CpuTimes:
        # The worker has ended by the second reading; else its work would count as another's.
        done = device.closed
        return CpuTimes(at_s=done * 10.0, busy_s=done * 25.0, stolen_s=0, own_s=0, programs={})

    monkeypatch.setattr("benchmarks.sustained.read_cpu_times", times)
    report = with_sustained(
        make_report(), Path("x"), 2, device.start, clock=device.clock, state=device.state
    )
    (record,) = report.sustained
    assert record.neighbours == Neighbours(seconds=10.0, others=2.5, stolen=0.0, busiest=())
    (warning,) = report.warnings
    assert warning.code == "load"
    assert "2.50 of 4 cores during the sustained run of encoder.int8.tflite" in warning.seen
    assert read_report(write_report(report), "r.json") == report


def test_a_worker_that_fails_is_ended_too(make_report: MakeReport) -> None:
    device = FakeDevice(0.5, lambda _: 1e6)
    device.failure = ArtifactError("it fell over")
    with pytest.raises(ArtifactError, match="it fell over"):
        with_sustained(make_report(), Path("x"), 2, device.start, clock=device.clock)
    assert device.closed == 1


def test_without_an_artifact_there_is_nothing_to_run(make_report: MakeReport) -> None:
    device = FakeDevice(0.5, lambda _: 1e6)
    with pytest.raises(UsageError, match="no encoder or decoder artifact"):
        with_sustained(replace(make_report(), candidates=()), Path("x"), 2, device.start)
