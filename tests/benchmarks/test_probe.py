from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.probe import probe, probe_key
from benchmarks.protocol import GroupTask, Loaded, LoadedWorkload, Memory
from benchmarks.report import Part
from benchmarks.timer import Calibration
from vae_edge.errors import ArtifactError, RuntimeMissingError
from vae_edge.terms import Format, Precision

TASK = GroupTask(
    name="int8 tflite",
    source="s",
    format=Format.TFLITE,
    precision=Precision.INT8,
    parts=(Part.ENCODER, Part.DECODER, Part.BOTH),
    threads=1,
    batches=(1,),
    alone=False,
    seed=0,
)
KERAS = replace(TASK, name="keras", format=None)


class FakeProcess:
    """A worker that holds one part; the n-th that starts takes n ms to load."""

    def __init__(self, task: GroupTask, number: int, fail: dict[str, Exception]) -> None:
        self.task, self.number, self.fail = task, number, fail
        self.closed = False

    def wait_prepared(self) -> None:
        self._do("prepare")

    def _do(self, what: str) -> None:
        if what in self.fail:
            raise self.fail[what]

    def load(self) -> Loaded:
        self._do("load")
        (part,) = self.task.parts
        workload = LoadedWorkload(
            part=part,
            keras_call=None,
            batch=1,
            runtime="fake 1.0",
            load_ms=float(self.number),
            first_inference_ms=0.5,
        )
        return Loaded(workloads=(workload,))

    def calibrate(self, workload: int, min_sample_ns: int) -> Calibration:
        raise AssertionError(f"nothing is measured here: {workload}, {min_sample_ns}")

    def sample(self, workload: int, loops: int, settle: int) -> float:
        assert (workload, settle) == (0, 0)
        return float(loops)

    def memory(self) -> Memory:
        return Memory(peak_rss_bytes=1000 * self.number, base_rss_bytes=900)

    def close(self) -> None:
        self.closed = True


class Processes:
    def __init__(self, **fail: Exception) -> None:
        self.started: list[FakeProcess] = []
        self.fail = fail

    def start(self, task: GroupTask) -> FakeProcess:
        assert task.alone
        self.started.append(FakeProcess(task, len(self.started) + 1, self.fail))
        return self.started[-1]


def test_every_part_has_a_process_of_its_own_that_is_ended() -> None:
    processes, steps = Processes(), list[int]()
    found = probe([KERAS, TASK], processes.start, lambda: steps.append(1))
    assert [process.task.parts for process in processes.started] == [(part,) for part in TASK.parts]
    assert all(process.closed for process in processes.started)
    assert len(steps) == 3
    decoder = found[probe_key(TASK, Part.DECODER, 1)]
    assert (decoder.loaded.load_ms, decoder.memory.peak_rss_bytes) == (2.0, 2000)


def test_what_is_alone_anyway_is_not_opened_twice() -> None:
    processes = Processes()
    assert probe([replace(TASK, alone=True)], processes.start) == {}
    assert processes.started == []


def test_a_missing_runtime_is_left_to_the_run_to_report() -> None:
    processes = Processes(prepare=RuntimeMissingError("pip install it"))
    assert probe([TASK], processes.start) == {}
    assert all(process.closed for process in processes.started)


@pytest.mark.parametrize("step", ["prepare", "load"])
def test_a_failure_ends_all_that_were_started(step: str) -> None:
    processes: Processes = Processes(**{step: ArtifactError("it fell over")})
    start: Callable[[GroupTask], FakeProcess] = processes.start
    with pytest.raises(ArtifactError, match="it fell over"):
        probe([TASK], start)
    assert processes.started
    assert all(process.closed for process in processes.started)
