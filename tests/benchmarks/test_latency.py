from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.latency import measure, run_benchmark
from benchmarks.protocol import GroupTask, Loaded, LoadedWorkload, Memory
from benchmarks.report import Part, Settings
from benchmarks.timer import Calibration
from vae_edge.errors import ArtifactError, RuntimeMissingError, UsageError
from vae_edge.keras_vae import KerasCall
from vae_edge.terms import Format, Precision

SETTINGS = Settings(threads=1, rounds=4, warmup_rounds=2, min_sample_ms=2.0, seed=3)
Log = list[tuple[str, str]]


class FakeWorker:
    """A worker whose n-th sample of a workload takes n nanoseconds more than its cost."""

    def __init__(
        self, name: str, log: Log, *, costs_ns: tuple[int, ...], format: Format | None
    ) -> None:
        self._task = GroupTask(
            name=name,
            source="s",
            format=format,
            precision=Precision.FLOAT32,
            parts=(Part.ENCODER,),
            threads=1,
            batches=(1,),
            alone=False,
            seed=0,
        )
        self.log, self.costs_ns, self.closed = log, costs_ns, 0
        self.samples = [0 for _ in costs_ns]
        self.failure: tuple[str, BaseException] | None = None
        self.settled: list[int] = []
        self.part, self.parts, self.load_ms = Part.ENCODER, list[Part](), 1.0

    @property
    def task(self) -> GroupTask:
        return self._task

    def _do(self, what: str) -> None:
        self.log.append((what, self._task.name))
        if self.failure is not None and self.failure[0] == what:
            raise self.failure[1]

    def wait_prepared(self) -> None:
        self._do("prepare")

    def load(self) -> Loaded:
        self._do("load")
        workload = LoadedWorkload(
            part=self.part,
            keras_call=KerasCall.CALL if self._task.format is None else None,
            batch=1,
            runtime="fake 1.0",
            load_ms=self.load_ms,
            first_inference_ms=2.0,
        )
        parts = self.parts or [self.part for _ in self.costs_ns]
        return Loaded(workloads=tuple(replace(workload, part=part) for part in parts))

    def calibrate(self, workload: int, min_sample_ns: int) -> Calibration:
        self._do("calibrate")
        loops = max(1, -(-min_sample_ns // self.costs_ns[workload]))
        return Calibration(loops=loops, sample_ns=loops * self.costs_ns[workload])

    def sample(self, workload: int, loops: int, settle: int) -> float:
        self._do("sample")
        assert loops == (3 if self._task.alone else self.calibrate_loops(workload))
        self.settled.append(settle)
        self.samples[workload] += 1
        return float(self.costs_ns[workload] + self.samples[workload])

    def calibrate_loops(self, workload: int) -> int:
        return max(1, -(-2_000_000 // self.costs_ns[workload]))

    def memory(self) -> Memory:
        self._do("memory")
        return Memory(peak_rss_bytes=4096, base_rss_bytes=None)

    def close(self) -> None:
        self.closed += 1


class Fakes:
    """Starts fake workers by the name of their task."""

    def __init__(self) -> None:
        self.log: Log = []
        self.workers: dict[str, FakeWorker] = {}

    def add(self, name: str, *costs_ns: int, format: Format | None = Format.TFLITE) -> FakeWorker:
        self.workers[name] = FakeWorker(name, self.log, costs_ns=costs_ns, format=format)
        return self.workers[name]

    def tasks(self) -> list[GroupTask]:
        return [worker.task for worker in self.workers.values()]

    def start(self, task: GroupTask) -> FakeWorker:
        return self.workers[task.name]

    def sampled(self) -> list[str]:
        return [name for what, name in self.log if what == "sample"]


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


def test_warmup_is_stored_apart_and_rounds_in_order(fakes: Fakes) -> None:
    fakes.add("a", 1000)
    (measured,), skipped = measure(fakes.tasks(), SETTINGS, fakes.start)
    assert measured.warmup_ns == (1001.0, 1002.0)
    assert measured.samples_ns == (1003.0, 1004.0, 1005.0, 1006.0)
    assert (measured.loops, measured.memory.peak_rss_bytes, skipped) == (2000, 4096, ())


def test_every_round_visits_every_candidate_once(fakes: Fakes) -> None:
    for name in "abcd":
        fakes.add(name, 1000)
    measure(fakes.tasks(), SETTINGS, fakes.start)
    order = fakes.sampled()
    rounds = [tuple(order[i : i + 4]) for i in range(0, len(order), 4)]
    assert len(rounds) == 6
    assert all(sorted(visited) == list("abcd") for visited in rounds)
    assert len(set(rounds)) > 1


def test_the_seed_decides_the_order() -> None:
    def order(seed: int) -> list[str]:
        fakes = Fakes()
        for name in "abcd":
            fakes.add(name, 1000)
        measure(fakes.tasks(), replace(SETTINGS, seed=seed), fakes.start)
        return fakes.sampled()

    assert order(seed=3) == order(seed=3)
    assert order(seed=3) != order(seed=4)


def test_a_slow_candidate_leaves_rounds_out(fakes: Fakes) -> None:
    slow, fast = fakes.add("slow", 50_000_000), fakes.add("fast", 1000)
    (measured, other), _ = measure(fakes.tasks(), SETTINGS, fakes.start)
    assert measured.warmup_ns == (50_000_001.0, None)
    assert measured.samples_ns == (50_000_002.0, None, None, 50_000_003.0)
    assert None not in other.samples_ns
    assert set(slow.settled) == {0}
    assert set(fast.settled) == {10}


def test_all_are_prepared_before_any_is_loaded_and_loaded_before_any_is_sampled(
    fakes: Fakes,
) -> None:
    fakes.add("a", 1000)
    fakes.add("b", 1000, 1000)
    measure(fakes.tasks(), SETTINGS, fakes.start)
    steps = [what for what, _ in fakes.log]
    assert steps[:2] == ["prepare"] * 2
    assert "sample" not in steps[:7]
    assert steps[2:7] == ["load", "calibrate", "load", "calibrate", "calibrate"]


def test_progress_ends_at_its_total(fakes: Fakes) -> None:
    fakes.add("a", 1000)
    fakes.add("b", 1000)
    seen: list[tuple[int, int]] = []
    measure(fakes.tasks(), SETTINGS, fakes.start, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 10) for done in range(1, 11)]  # 2 prepare, 2 load, 6 rounds


@pytest.mark.parametrize("step", ["prepare", "load", "calibrate", "sample", "memory"])
def test_a_failure_ends_the_run_and_every_worker(fakes: Fakes, step: str) -> None:
    fakes.add("a", 1000)
    fakes.add("b", 1000).failure = (step, ArtifactError("b.tflite: broken"))
    with pytest.raises(ArtifactError, match=r"b\.tflite: broken"):
        measure(fakes.tasks(), SETTINGS, fakes.start)
    assert [worker.closed for worker in fakes.workers.values()] == [1, 1]


def test_an_interruption_ends_every_worker(fakes: Fakes) -> None:
    fakes.add("a", 1000).failure = ("sample", KeyboardInterrupt())
    fakes.add("b", 1000)
    with pytest.raises(KeyboardInterrupt):
        measure(fakes.tasks(), SETTINGS, fakes.start)
    assert [worker.closed for worker in fakes.workers.values()] == [1, 1]


def test_workers_that_started_are_ended_when_a_later_one_does_not_start(fakes: Fakes) -> None:
    fakes.add("a", 1000)
    fakes.add("b", 1000)

    def start(task: GroupTask) -> FakeWorker:
        if task.name == "b":
            raise OSError("no more processes")
        return fakes.start(task)

    with pytest.raises(OSError, match="no more processes"):
        measure(fakes.tasks(), SETTINGS, start)
    assert fakes.workers["a"].closed == 1


def test_a_missing_runtime_is_skipped_while_another_works(fakes: Fakes) -> None:
    fakes.add("int8 tflite", 1000)
    onnx = fakes.add("int8 onnx", 1000, format=Format.ONNX)
    onnx.failure = ("prepare", RuntimeMissingError("pip install onnxruntime"))
    seen: list[tuple[int, int]] = []
    measured, skipped = measure(
        fakes.tasks(), SETTINGS, fakes.start, lambda done, total: seen.append((done, total))
    )
    assert [item.task.name for item in measured] == ["int8 tflite"]
    assert [(item.name, item.reason) for item in skipped] == [
        ("int8 onnx", "pip install onnxruntime")
    ]
    assert seen[-1] == (10, 10)


def test_no_runtime_at_all_is_an_error_even_where_keras_runs(fakes: Fakes) -> None:
    fakes.add("keras", 1000, format=None)
    onnx = fakes.add("int8 onnx", 1000, format=Format.ONNX)
    onnx.failure = ("prepare", RuntimeMissingError("pip install onnxruntime"))
    for precision in ("float32", "int8"):
        tflite = fakes.add(f"{precision} tflite", 1000)
        tflite.failure = ("prepare", RuntimeMissingError("pip install ai-edge-litert"))
    # Each runtime that could have run something, once.
    with pytest.raises(
        RuntimeMissingError, match=r"^pip install onnxruntime pip install ai-edge-litert$"
    ):
        measure(fakes.tasks(), SETTINGS, fakes.start)


def test_a_reference_without_tensorflow_is_an_error(fakes: Fakes) -> None:
    keras = fakes.add("keras", 1000, format=None)
    keras.failure = ("prepare", RuntimeMissingError("needs tensorflow"))
    fakes.add("int8 tflite", 1000)
    with pytest.raises(RuntimeMissingError, match="needs tensorflow"):
        measure(fakes.tasks(), SETTINGS, fakes.start)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": (0,)}, "threads must be 1 or more; received 0"),
        ({"threads": ()}, "at least one number of threads"),
        ({"threads": (2, 2)}, "threads must differ from each other; received 2, 2"),
        ({"batches": (8, 0)}, "batches must be 1 or more; received 0"),
        ({"rounds": 1}, "rounds must be 2 or more; received 1"),
        ({"seed": -1}, "seed must be 0 or more; received -1"),
        ({"min_sample_ms": 0.0}, "min_sample_ms must be more than 0"),
        ({"min_sample_ms": float("nan")}, "min_sample_ms must be more than 0"),
    ],
)
def test_settings_out_of_range_are_refused_before_the_bundle_is_opened(
    settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    run: Callable[..., object] = run_benchmark
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "none", reference=None, **settings)


def test_what_a_process_of_its_own_found_replaces_the_shared_ones(fakes: Fakes) -> None:
    shared = fakes.add("a", 1000, 1000)
    shared._task = replace(shared.task, parts=(Part.ENCODER, Part.DECODER))

    def start(task: GroupTask) -> FakeWorker:
        if not task.alone:
            return fakes.start(task)
        lone = FakeWorker("lone", fakes.log, costs_ns=(1000,), format=Format.TFLITE)
        lone._task, lone.part, lone.load_ms = task, task.parts[0], 7.0
        return lone

    shared.parts = [Part.ENCODER, Part.DECODER]
    seen: list[tuple[int, int]] = []
    measured, _ = measure(
        fakes.tasks(), SETTINGS, start, lambda done, total: seen.append((done, total)), alone=True
    )
    assert [(item.loaded.load_ms, item.alone) for item in measured] == [(7.0, True), (7.0, True)]
    assert seen[-1] == (10, 10)  # 2 opened alone, 1 prepare, 1 load, 6 rounds
    measured, _ = measure(fakes.tasks(), SETTINGS, start)
    assert [(item.loaded.load_ms, item.alone) for item in measured] == [(1.0, False), (1.0, False)]
