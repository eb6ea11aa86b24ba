"""Turns and ratios on a clock that stands still unless a call moves it."""

from __future__ import annotations

import pytest

from benchmarks.interleaved import Timed, check_threads, difference_us, time_in_turns
from benchmarks.statistics import speedup_interval
from vae_edge.errors import UsageError


class FakeTime:
    """A clock, and calls that take a known time on it."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.called: list[str] = []

    def clock(self) -> int:
        return self.now_ns

    def call(self, name: str, cost_ns: int) -> object:
        def run() -> None:
            self.now_ns += cost_ns
            self.called.append(name)

        return run


def turns(rounds: int = 6, **costs_ns: int) -> tuple[FakeTime, tuple[Timed, ...]]:
    fake = FakeTime()
    calls = [fake.call(name, cost) for name, cost in costs_ns.items()]
    timed = time_in_turns(
        calls,  # type: ignore[arg-type]
        rounds=rounds,
        warmup_rounds=2,
        min_sample_ms=0.002,
        seed=1,
        clock=fake.clock,
    )
    return fake, timed


def test_a_sample_is_the_time_of_one_call() -> None:
    _, (short, long) = turns(short=300, long=1500)
    # 300, 600, 1200, 2400 ns: eight loops are the first to last 2,000 ns
    assert (short.loops, long.loops) == (8, 2)
    assert short.samples_ns == (300.0,) * 6
    assert long.samples_ns == (1500.0,) * 6
    assert len(short.warmup_ns) == 2


def test_the_ratio_of_two_calls() -> None:
    _, (short, long) = turns(short=300, long=1500)
    interval = speedup_interval(long.samples_ns, short.samples_ns, seed=0)
    assert (interval.value, interval.low, interval.high) == (5.0, 5.0, 5.0)


def test_every_call_has_its_turn_in_every_round() -> None:
    fake, _ = turns(rounds=1, a=2000, b=2000)
    # once to begin with, once to calibrate; then three rounds of one settling call and one timed
    # loop each
    assert (fake.called.count("a"), fake.called.count("b")) == (8, 8)
    blocks = ["".join(fake.called[4 + 4 * i : 8 + 4 * i]) for i in range(3)]
    assert set(blocks) <= {"aabb", "bbaa"}


def test_the_order_changes() -> None:
    fake, _ = turns(rounds=20, a=2000, b=2000)
    assert {"".join(fake.called[4 + 4 * i : 8 + 4 * i]) for i in range(22)} == {"aabb", "bbaa"}


def test_a_slow_call_is_measured_in_every_third_round() -> None:
    _, (slow, quick) = turns(slow=20_000, quick=1000)
    assert slow.samples_ns == (20_000.0, None, None, 20_000.0, None, None)
    assert None not in quick.samples_ns


def timed(*samples_ns: float | None) -> Timed:
    return Timed(loops=1, warmup_ns=(), samples_ns=samples_ns)


def test_a_difference_is_that_of_paired_rounds() -> None:
    # differences 1000, 3000, 2000 ns; the medians alone would differ by 3,000
    assert difference_us(timed(5000, 13_000, 8000), timed(4000, 10_000, 6000)) == 2.0
    assert difference_us(timed(5000, None, 8000), timed(4000, 1000, 5000)) == 2.0


def test_more_than_one_thread_is_refused_with_the_way_out() -> None:
    check_threads(1)
    with pytest.raises(UsageError, match=r"vae-edge benchmark BUNDLE --threads 2"):
        check_threads(2)
