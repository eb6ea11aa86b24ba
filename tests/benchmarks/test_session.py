from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.protocol import GroupTask, Memory, Request, Sampled
from benchmarks.report import Part
from benchmarks.session import Opened, Session, make_input, peak_rss_bytes
from benchmarks.timer import Calibration
from vae_edge.keras_vae import KerasCall
from vae_edge.runners.base import RunnerBase
from vae_edge.terms import Component, FloatArray, Format, Precision, TensorSpec

ALL = (Part.ENCODER, Part.DECODER, Part.BOTH)
Z_MEAN = np.array([[1.0, 2.0]], np.float32)


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class FakeRunner(RunnerBase):
    """A component that takes `cost_ns` on the clock, and three times that when run first."""

    def __init__(self, component: Component, clock: Clock, cost_ns: int) -> None:
        encoder = component is Component.ENCODER
        super().__init__(
            name="fake",
            runtime="fake 1.0",
            inputs=(
                TensorSpec(
                    name="image" if encoder else "z",
                    shape=(None, 4, 4, 1) if encoder else (1, 2),
                    dtype="float32",
                ),
            ),
            outputs=(),
        )
        self.component, self.clock, self.cost_ns = component, clock, cost_ns
        self.fed: list[dict[str, FloatArray]] = []
        self.closed = False

    def run(self, feeds: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        self.clock.now_ns += self.cost_ns * (1 if self.fed else 3)
        self.fed.append(dict(feeds))
        if self.component is Component.ENCODER:
            return {"z_mean": Z_MEAN, "z_log_var": np.zeros((1, 2), np.float32)}
        return {"reconstruction": np.zeros((1, 4, 4, 1), np.float32)}

    def close(self) -> None:
        self.closed = True


class Bench:
    """A session over fake runners, and every runner that was ever opened."""

    def __init__(
        self,
        parts: tuple[Part, ...] = ALL,
        calls: tuple[KerasCall | None, ...] = (None,),
        batch: int = 1,
        alone: bool = False,
    ) -> None:
        self.clock, self.opened = Clock(), list[FakeRunner]()
        self.calls = calls
        self.task = GroupTask(
            name="int8 tflite",
            source="s",
            format=Format.TFLITE,
            precision=Precision.INT8,
            parts=parts,
            threads=1,
            batches=(batch,),
            alone=alone,
            seed=5,
        )
        self.imported = True
        self.session = Session(self.task, self._open, self.clock, lambda task: self.imported)

    def _open(self, task: GroupTask) -> Iterator[Opened]:
        wanted = {
            Part.ENCODER: [Component.ENCODER],
            Part.DECODER: [Component.DECODER],
        }
        components = wanted[task.parts[0]] if len(task.parts) == 1 else list(Component)
        for call in self.calls:
            for component in components:
                cost_ns = 100 if component is Component.ENCODER else 1000
                self.opened.append(FakeRunner(component, self.clock, cost_ns))
                yield Opened(
                    component=component,
                    keras_call=call,
                    runner=self.opened[-1],
                    load_ns=2_000_000 if component is Component.ENCODER else 3_000_000,
                )


def test_preparing_opens_and_closes_everything() -> None:
    bench = Bench()
    assert bench.session.answer(Request(operation="prepare")).workloads == ()
    assert [runner.closed for runner in bench.opened] == [True, True]


def test_alone_nothing_is_opened_before_its_load_is_timed() -> None:
    bench = Bench(parts=(Part.DECODER,), alone=True)
    assert bench.session.answer(Request(operation="prepare")).workloads == ()
    assert bench.opened == []
    memory = bench.session.answer(Request(operation="memory"))
    assert memory.base_rss_bytes is None or memory.base_rss_bytes > 1_000_000


def test_a_runtime_that_cannot_be_imported_is_found_out_by_opening() -> None:
    bench = Bench(parts=(Part.DECODER,), alone=True)
    bench.imported = False
    bench.session.answer(Request(operation="prepare"))
    assert [runner.closed for runner in bench.opened] == [True]


def test_keras_has_every_batch_in_one_process() -> None:
    bench = Bench(parts=(Part.ENCODER,), calls=(KerasCall.CALL,), batch=4)
    bench.session = Session(
        replace(bench.task, batches=(1, 4)), bench._open, bench.clock, lambda task: True
    )
    loaded = bench.session.answer(Request(operation="load")).workloads
    assert [workload.batch for workload in loaded] == [1, 4]
    assert [len(feed["image"]) for feed in bench.opened[0].fed] == [1, 4]


def test_load_times_and_first_inferences() -> None:
    bench = Bench()
    loaded = bench.session.answer(Request(operation="load")).workloads
    assert [workload.part for workload in loaded] == list(ALL)
    assert [workload.load_ms for workload in loaded] == [2.0, 3.0, 5.0]
    # First runs take three times as long; the two in a row are the first of either.
    assert [workload.first_inference_ms for workload in loaded] == pytest.approx(
        [300e-6, 3000e-6, 3300e-6]
    )
    assert {workload.runtime for workload in loaded} == {"fake 1.0"}


def test_only_the_parts_that_were_asked_for() -> None:
    bench = Bench(parts=(Part.DECODER,))
    loaded = bench.session.answer(Request(operation="load")).workloads
    assert [workload.part for workload in loaded] == [Part.DECODER]


def test_keras_has_every_part_per_call_and_is_loaded_once() -> None:
    bench = Bench(calls=tuple(KerasCall))
    loaded = bench.session.answer(Request(operation="load")).workloads
    assert [(workload.keras_call, workload.part) for workload in loaded] == [
        (call, part) for call in KerasCall for part in ALL
    ]
    assert loaded[2].load_ms == 3.0


def test_keras_is_named_with_the_tensorflow_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(__version__="2.99"))
    for call, runtime in ((KerasCall.CALL, "fake 1.0, tensorflow 2.99"), (None, "fake 1.0")):
        loaded = Bench(calls=(call,)).session.answer(Request(operation="load")).workloads
        assert {workload.runtime for workload in loaded} == {runtime}


def test_calibrating_and_sampling_use_the_workload_that_was_named() -> None:
    bench = Bench()
    bench.session.answer(Request(operation="load"))
    answer = bench.session.answer
    # The decoder takes 1000 ns: 1, 2, 4 loops. Both take 1100.
    assert answer(Request(operation="calibrate", workload=1, min_sample_ns=4000)) == Calibration(
        loops=4, sample_ns=4000
    )
    assert answer(Request(operation="sample", workload=2, loops=3)) == Sampled(sample_ns=3300)
    assert answer(Request(operation="sample", workload=0, loops=1)) == Sampled(sample_ns=100)


def test_settling_calls_are_made_and_not_timed() -> None:
    bench = Bench()
    bench.session.answer(Request(operation="load"))
    encoder = bench.opened[0]
    before = len(encoder.fed)
    answer = bench.session.answer(Request(operation="sample", workload=0, loops=2, settle=5))
    assert answer == Sampled(sample_ns=200)
    assert len(encoder.fed) - before == 7


def test_in_a_row_the_decoder_gets_the_encoders_z_mean() -> None:
    bench = Bench()
    bench.session.answer(Request(operation="load"))
    bench.session.answer(Request(operation="sample", workload=2, loops=1))
    encoder, decoder = bench.opened
    assert list(encoder.fed[-1]) == ["image"]
    np.testing.assert_array_equal(decoder.fed[-1]["z"], Z_MEAN)


def test_inputs_have_the_batch_and_are_the_same_for_the_same_seed() -> None:
    encoder = FakeRunner(Component.ENCODER, Clock(), 1)
    images = make_input(encoder, Component.ENCODER, 8, 5)
    assert (images.shape, images.dtype) == ((8, 4, 4, 1), np.float32)
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(images, make_input(encoder, Component.ENCODER, 8, 5))
    assert not np.array_equal(images, make_input(encoder, Component.ENCODER, 8, 6))


def test_latents_are_from_the_prior() -> None:
    decoder = FakeRunner(Component.DECODER, Clock(), 1)
    latents = make_input(decoder, Component.DECODER, 5000, 5)
    assert latents.shape == (5000, 2)
    assert latents.mean() == pytest.approx(0, abs=0.05)
    assert latents.std() == pytest.approx(1, abs=0.05)


def test_memory_is_the_kernels_high_water_mark(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmRSS:\t     100 kB\nVmHWM:\t     200 kB\n")
    assert peak_rss_bytes(status) == 204_800


@pytest.mark.parametrize("text", ["", "VmHWM:\n", "VmHWM:\tmuch kB\n"])
def test_memory_where_the_kernel_does_not_say(tmp_path: Path, text: str) -> None:
    status = tmp_path / "status"
    status.write_text(text)
    peak = peak_rss_bytes(status)
    assert peak is not None
    assert peak > 1_000_000  # this process holds Python and numpy


def test_memory_is_answered() -> None:
    memory = Bench().session.answer(Request(operation="memory"))
    assert isinstance(memory, Memory)
    assert memory.base_rss_bytes is None
