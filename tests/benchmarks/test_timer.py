from __future__ import annotations

import gc

import pytest

from benchmarks.timer import Calibration, Pace, calibrate, elapsed_ns, pace
from vae_edge.errors import ArtifactError


class FakeWork:
    """A call that takes `cost_ns` on its own clock."""

    def __init__(self, cost_ns: int) -> None:
        self.cost_ns, self.now_ns, self.calls = cost_ns, 1_000, 0

    def __call__(self) -> None:
        self.calls += 1
        self.now_ns += self.cost_ns

    def clock(self) -> int:
        return self.now_ns


def test_elapsed_is_the_time_of_all_loops() -> None:
    work = FakeWork(cost_ns=300)
    assert elapsed_ns(work, 5, work.clock) == 1500
    assert work.calls == 5


def test_loops_double_until_a_sample_is_long_enough() -> None:
    work = FakeWork(cost_ns=300)
    # 300, 600, 1200, 2400
    assert calibrate(work, 2000, work.clock) == Calibration(loops=8, sample_ns=2400)
    assert work.calls == 1 + 2 + 4 + 8


def test_a_sample_of_exactly_the_minimum_is_long_enough() -> None:
    work = FakeWork(cost_ns=500)
    assert calibrate(work, 2000, work.clock) == Calibration(loops=4, sample_ns=2000)


def test_a_long_call_needs_one_loop() -> None:
    work = FakeWork(cost_ns=50_000_000)
    assert calibrate(work, 2_000_000, work.clock).loops == 1


def test_a_clock_that_stands_still_is_an_error() -> None:
    with pytest.raises(ArtifactError, match=r"clock of this machine cannot be used"):
        calibrate(lambda: None, 2000, lambda: 7)


def test_the_garbage_collector_is_off_during_a_sample_only() -> None:
    seen = []
    assert gc.isenabled()
    elapsed_ns(lambda: seen.append(gc.isenabled()), 1)
    assert seen == [False]
    assert gc.isenabled()


def test_the_garbage_collector_comes_back_after_a_failure() -> None:
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        elapsed_ns(fail, 1)
    assert gc.isenabled()


def test_a_garbage_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        elapsed_ns(lambda: None, 1)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("loops", "sample_ns", "expected"),
    [
        (128, 2_100_000, Pace(settle=10, every=1)),  # short: no more than ten calls settle it
        (16, 2_100_000, Pace(settle=4, every=1)),
        (1, 4_000_000, Pace(settle=1, every=1)),
        (1, 19_999_999, Pace(settle=1, every=1)),
        (1, 20_000_000, Pace(settle=0, every=3)),  # ten times the shortest sample: slow
    ],
)
def test_pace(loops: int, sample_ns: int, expected: Pace) -> None:
    assert pace(Calibration(loops=loops, sample_ns=sample_ns), 2_000_000) == expected
