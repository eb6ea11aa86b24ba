from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.environment import Environment, MachineState
from benchmarks.fitness import find_warnings

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


def test_our_own_load_at_the_end_is_none_of_it() -> None:
    assert warn(replace(FIT, after=replace(FIT_STATE, load_average=9.0))) == {}


def test_throttling_that_began_during_the_run() -> None:
    found = warn(replace(FIT, after=replace(FIT_STATE, throttled=("throttled now",))))
    assert list(found) == ["throttled"]
    assert "throttled now" in found["throttled"]
    assert "power supply" in found["throttled"]


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
