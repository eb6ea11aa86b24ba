from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.environment import Environment, MachineState
from benchmarks.fitness import find_warnings
from benchmarks.neighbours import Neighbours

FIT_STATE = MachineState(
    governor="performance", clock_mhz=1800.0, temperature_c=45.0, load_average=0.5, throttled=()
)
FIT = Environment(
    cpu_model="Raspberry Pi 4",
    cores=4,
    architecture="aarch64",
    system="Linux 6.1",
    python="3.11.2",
    numpy="2.0",
    emulated=False,
    before=FIT_STATE,
    after=FIT_STATE,
)
UNKNOWN = MachineState(
    governor=None, clock_mhz=None, temperature_c=None, load_average=None, throttled=None
)


def warn(
    environment: Environment = FIT, threads: int = 1, spreads: dict[str, float] | None = None
) -> dict[str, str]:
    found = find_warnings(environment, threads=threads, spreads=spreads or {})
    return {warning.code: warning.text for warning in found}


def before(**changes: object) -> Environment:
    return replace(FIT, before=replace(FIT_STATE, **changes))  # type: ignore[arg-type]


def test_a_fit_machine_gives_no_warning() -> None:
    assert warn(threads=4, spreads={"a": 0.02}) == {}


def test_what_is_unknown_gives_no_warning() -> None:
    assert warn(replace(FIT, before=UNKNOWN, after=UNKNOWN, cores=None), threads=64) == {}


@pytest.mark.parametrize("governor", ["ondemand", "performance, powersave"])
def test_governor(governor: str) -> None:
    found = warn(before(governor=governor))
    assert list(found) == ["governor"]
    assert f"'{governor}'" in found["governor"]
    assert "echo performance | sudo tee" in found["governor"]


def test_load_above_half_the_cores_at_the_start() -> None:
    assert warn(before(load_average=2.0)) == {}
    found = warn(before(load_average=2.1))
    assert list(found) == ["load"]
    assert "load average 2.1 on 4 cores" in found["load"]


def test_what_others_took_during_the_run_is_named_and_counts_before_the_load_average() -> None:
    quiet = Neighbours(seconds=20.0, others=0.39, stolen=0.07, busiest=())
    busy = replace(quiet, others=0.41, busiest=("make (pid 7): 0.40 cores",))
    high = replace(FIT_STATE, load_average=9.0)
    assert warn(replace(FIT, before=high, neighbours=quiet)) == {}
    found = warn(replace(FIT, neighbours=busy))
    assert list(found) == ["load"]
    assert "used 0.41 of 4 cores during the run (make (pid 7): 0.40 cores)" in found["load"]
    assert "Stop them" in found["load"]


def test_on_many_cores_half_of_one_is_too_much() -> None:
    def others(cores: int, share: float) -> dict[str, str]:
        neighbours = Neighbours(seconds=20.0, others=share, stolen=0.0, busiest=())
        return warn(replace(FIT, cores=cores, neighbours=neighbours))

    assert others(64, 0.5) == {}
    assert list(others(64, 0.51)) == ["load"]
    assert list(others(1, 0.11)) == ["load"]


def test_time_that_the_host_gave_to_others() -> None:
    taken = Neighbours(seconds=20.0, others=0.0, stolen=0.09, busiest=())
    found = warn(replace(FIT, neighbours=taken))
    assert list(found) == ["steal"]
    assert "0.09 of its 4 cores" in found["steal"]


def test_our_own_load_at_the_end_is_none_of_it() -> None:
    assert warn(replace(FIT, after=replace(FIT_STATE, load_average=9.0))) == {}


def test_throttling_that_began_during_the_run() -> None:
    found = warn(replace(FIT, after=replace(FIT_STATE, throttled=("throttled now",))))
    assert list(found) == ["throttled"]
    assert "throttled now" in found["throttled"]
    assert "heat sink or a fan" in found["throttled"]


def test_under_voltage_has_a_remedy_of_its_own() -> None:
    flags = ("under-voltage now", "clock capped now", "under-voltage since boot")
    found = warn(before(throttled=flags))
    assert list(found) == ["under-voltage", "throttled"]
    assert "reports under-voltage now, under-voltage since boot" in found["under-voltage"]
    assert "power supply" in found["under-voltage"]
    assert "reports clock capped now." in found["throttled"]


def test_heat() -> None:
    assert warn(before(temperature_c=79.9)) == {}
    found = warn(replace(FIT, after=replace(FIT_STATE, temperature_c=80.0)))
    assert list(found) == ["temperature"]
    assert "at 80 degrees" in found["temperature"]
    assert "cool" in found["temperature"]


def test_a_clock_that_falls_although_it_is_held() -> None:
    assert warn(replace(FIT, after=replace(FIT_STATE, clock_mhz=1620.0))) == {}
    fallen = replace(FIT_STATE, clock_mhz=1600.0)
    found = warn(replace(FIT, after=fallen))
    assert list(found) == ["clock"]
    assert "from 1800 to 1600 MHz" in found["clock"]
    free = replace(FIT_STATE, governor=None), replace(fallen, governor=None)
    assert warn(replace(FIT, before=free[0], after=free[1])) == {}


def test_a_governor_that_was_changed_during_the_run() -> None:
    found = warn(replace(FIT, after=replace(FIT_STATE, governor="powersave")))
    assert "'powersave'" in found["governor"]


def test_every_warning_says_what_was_seen_and_what_to_do() -> None:
    worst = replace(
        FIT_STATE, governor="ondemand", temperature_c=90.0, throttled=("under-voltage now", "x")
    )
    neighbours = Neighbours(seconds=1.0, others=3.0, stolen=1.0, busiest=())
    environment = replace(FIT, emulated=True, before=worst, after=worst, neighbours=neighbours)
    found = find_warnings(environment, threads=9, spreads={"a": 1.0})
    codes = ["emulated", "threads", "governor", "load", "steal", "under-voltage", "throttled"]
    assert [warning.code for warning in found] == [*codes, "temperature", "spread"]
    for warning in found:
        assert warning.text == f"{warning.seen} {warning.remedy}"
        assert warning.seen.endswith(".")
        assert warning.remedy


def test_more_threads_than_cores() -> None:
    found = warn(threads=5)
    assert list(found) == ["threads"]
    assert "--threads 4" in found["threads"]


def test_emulation() -> None:
    assert "say nothing of a real device" in warn(replace(FIT, emulated=True))["emulated"]


def test_spread_above_a_tenth_names_the_widest_first() -> None:
    assert warn(spreads={"a": 0.10}) == {}
    text = warn(spreads={"a": 0.11, "b": 0.5, "c": 0.01})["spread"]
    assert "b (50%), a (11%)" in text
    assert "c (" not in text
    assert "--rounds" in text


def test_a_long_list_of_spreads_is_cut() -> None:
    text = warn(spreads=dict.fromkeys("abcdefg", 0.2))["spread"]
    assert "and 3 more" in text
