from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.neighbours import CpuTimes, Neighbours, neighbours_between, read_cpu_times

# user nice system idle iowait irq softirq steal guest guest_nice, in hundredths of a second
STAT = """\
cpu  999999 0 0 0 0 0 0 0 0 0
cpu0 100 20 30 5000 70 4 6 8 50 0
cpu1 200 0 0 5000 0 0 0 2 0 0
cpu2 999999 0 0 0 0 0 0 0 0 0
intr 1
"""


def write(root: Path, stat: str, programs: Mapping[int, str] | None = None) -> Path:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/stat").write_text(stat)
    for pid, text in (programs or {}).items():
        (root / f"proc/{pid}").mkdir(exist_ok=True)
        (root / f"proc/{pid}/stat").write_text(text)
    return root


@pytest.fixture(autouse=True)
def _two_of_three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr("os.sysconf", lambda _: 100, raising=False)


def test_work_is_counted_on_the_cores_that_may_be_used(tmp_path: Path) -> None:
    times = read_cpu_times(write(tmp_path, STAT))
    assert times is not None
    # (100 + 20 + 30 + 4 + 6) + 200; guests are in user already, waiting is no work
    assert times.busy_s == pytest.approx(3.6)
    assert times.stolen_s == pytest.approx(0.1)
    assert times.own_s > 0
    assert times.programs == {}


def test_programs_have_names_with_blanks_and_brackets(tmp_path: Path) -> None:
    fields = "S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0"
    programs = {7: f"7 (a (b) c) {fields}", 8: "8 (broken", os.getpid(): f"1 (we) {fields}"}
    times = read_cpu_times(write(tmp_path, STAT, programs))
    assert times is not None
    assert times.programs == {7: ("a (b) c", 3.0)}


@pytest.mark.parametrize(
    "stat", ["", "cpu0 1 2\n", "cpu0 a b c d e f g h\n", "cpu7 1 1 1 1 1 1 1 1\n"]
)
def test_counters_that_are_not_there_are_unknown(tmp_path: Path, stat: str) -> None:
    assert read_cpu_times(write(tmp_path, stat)) is None
    assert read_cpu_times(tmp_path / "none") is None


def at(second: float, busy: float, own: float, stolen: float = 0.0, **programs: float) -> CpuTimes:
    return CpuTimes(
        at_s=second,
        busy_s=busy,
        stolen_s=stolen,
        own_s=own,
        programs={int(name[1:]): (name, worked) for name, worked in programs.items()},
    )


def test_what_is_not_ours_is_others() -> None:
    before = at(100.0, busy=50.0, own=1.0, stolen=2.0, p1=5.0, p2=9.0, p3=1.0)
    after = at(110.0, busy=68.0, own=9.0, stolen=3.0, p1=9.0, p2=9.0, p3=1.4, p4=8.0)
    assert neighbours_between(before, after) == Neighbours(
        seconds=10.0,
        others=1.0,
        stolen=0.1,
        busiest=("p4 (pid 4): 0.80 cores", "p1 (pid 1): 0.40 cores"),
    )


def test_rounding_of_the_counters_is_never_less_than_nothing() -> None:
    found = neighbours_between(at(0.0, busy=1.0, own=1.0), at(1.0, busy=1.5, own=1.6))
    assert found is not None
    assert found.others == 0.0


def test_without_two_readings_nothing_is_known() -> None:
    reading = at(1.0, busy=1.0, own=1.0)
    assert neighbours_between(None, reading) is None
    assert neighbours_between(reading, None) is None
    assert neighbours_between(reading, reading) is None
