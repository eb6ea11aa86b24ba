"""Reasons to doubt a run's figures, each with what was seen and what to do about it.

Codes: `emulated`, `threads`, `governor`, `load`, `steal`, `under-voltage`, `throttled`,
`temperature`, `clock`, `spread`. `docs/benchmark.md` explains them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.environment import Environment
from benchmarks.neighbours import Neighbours
from benchmarks.report_parts import FitnessWarning

__all__ = ["find_warnings", "neighbour_warnings"]

# pyperf's limit for the standard deviation of a benchmark that it calls unstable.
_MAX_SPREAD = 0.10
_LISTED = 4
# Other programs may use this share of all cores, and on many cores half of one.
_MAX_OTHERS_SHARE, _MAX_OTHERS = 0.10, 0.5
# A hypervisor may take this share: more is another machine that competes, and not bookkeeping.
_MAX_STOLEN_SHARE = 0.02
# A Raspberry Pi 4 or 5 lowers its clock from here on ("Raspberry Pi hardware": frequency management
# and thermal control); other boards and laptops are close to it.
_HOT_C = 80.0
# A clock that a governor holds still does not fall by more.
_MAX_CLOCK_LOSS = 0.10
_VOLTAGE = "under-voltage"


def find_warnings(
    environment: Environment, *, threads: int, spreads: Mapping[str, float]
) -> tuple[FitnessWarning, ...]:
    """Judge a run.

    Args:
        environment: the machine before and after.
        threads: most threads that the runtimes were given.
        spreads: per candidate, the relative spread of its samples.
    """
    return (
        *_machine_warnings(environment, threads),
        *_governor_warnings(environment),
        *_load_warnings(environment),
        *_firmware_warnings(environment),
        *_heat_warnings(environment),
        *_spread_warnings(spreads),
    )


def _machine_warnings(environment: Environment, threads: int) -> Iterator[FitnessWarning]:
    if environment.emulated:
        yield FitnessWarning(
            code="emulated",
            seen=f"This {environment.architecture} system is emulated on another CPU: the figures "
            "say nothing of a real device.",
            remedy="Measure on the device itself.",
        )
    if environment.cores is not None and threads > environment.cores:
        cores = _cores(environment.cores, "usable ")
        yield FitnessWarning(
            code="threads",
            seen=f"{threads} threads on {cores} wait for each other.",
            remedy=f"Use --threads {environment.cores} or fewer.",
        )


def _governor_warnings(environment: Environment) -> Iterator[FitnessWarning]:
    states = (environment.before, environment.after)
    governors = dict.fromkeys(s.governor for s in states if s.governor not in (None, "performance"))
    if governors:
        named = ", then ".join(f"'{governor}'" for governor in governors)
        yield FitnessWarning(
            code="governor",
            seen=f"The CPU's frequency governor is {named}, so its clock changes while it "
            "measures.",
            remedy="Fix it: echo performance | sudo tee "
            "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )


def _load_warnings(environment: Environment) -> Iterator[FitnessWarning]:
    cores = environment.cores
    if environment.neighbours is None and cores is not None:
        load = environment.before.load_average
        if load is not None and load > cores / 2:
            yield FitnessWarning(
                code="load",
                seen=f"Other programs were running: load average {load:.1f} on {_cores(cores)} at "
                "the start.",
                remedy="Stop them, wait a minute, and measure again.",
            )
    yield from neighbour_warnings(environment.neighbours, cores, "the run")


def neighbour_warnings(
    found: Neighbours | None, cores: int | None, during: str
) -> Iterator[FitnessWarning]:
    """Judge what others took of the processor.

    Args:
        found: what they took; None where that is not known.
        cores: cores that this process may use.
        during: what was measured meanwhile, e.g. `the run`.
    """
    if found is None or cores is None:
        return
    if found.others > min(_MAX_OTHERS_SHARE * cores, _MAX_OTHERS):
        named = f" ({'; '.join(found.busiest)})" if found.busiest else ""
        yield FitnessWarning(
            code="load",
            seen=f"Other programs used {found.others:.2f} of {_cores(cores)} during "
            f"{during}{named}.",
            remedy="Stop them and measure again.",
        )
    if found.stolen > _MAX_STOLEN_SHARE * cores:
        yield FitnessWarning(
            code="steal",
            seen=f"The host of this virtual machine gave {found.stolen:.2f} of its {_cores(cores)} "
            f"to other machines during {during}.",
            remedy="Measure when they are idle, or on a machine that is not shared.",
        )


def _firmware_warnings(environment: Environment) -> Iterator[FitnessWarning]:
    flags = dict.fromkeys(
        (*(environment.before.throttled or ()), *(environment.after.throttled or ()))
    )
    voltage = [flag for flag in flags if flag.startswith(_VOLTAGE)]
    slowed = [flag for flag in flags if flag not in voltage]
    # A flag "since boot" stays up: whether it happened again during the run cannot be told.
    record = "reboot to clear the record, and measure again."
    if voltage:
        yield FitnessWarning(
            code="under-voltage",
            seen=f"The Raspberry Pi's firmware reports {', '.join(voltage)}: it lowers the clock.",
            remedy=f"Use the board's own power supply and a short, thick cable, {record}",
        )
    if slowed:
        yield FitnessWarning(
            code="throttled",
            seen=f"The Raspberry Pi's firmware reports {', '.join(slowed)}.",
            remedy=f"Cool the board with a heat sink or a fan, {record}",
        )


def _heat_warnings(environment: Environment) -> Iterator[FitnessWarning]:
    before, after = environment.before, environment.after
    hottest = max(
        (s.temperature_c for s in (before, after) if s.temperature_c is not None), default=0
    )
    if hottest >= _HOT_C:
        yield FitnessWarning(
            code="temperature",
            seen=f"The CPU was at {hottest:.0f} degrees Celsius: from about {_HOT_C:.0f} on it "
            "slows itself down.",
            remedy="Let it cool down, cool it with a heat sink or a fan, and measure again.",
        )
    steady = before.governor == after.governor == "performance"
    if not steady or before.clock_mhz is None or after.clock_mhz is None:
        return
    if after.clock_mhz < (1 - _MAX_CLOCK_LOSS) * before.clock_mhz:
        yield FitnessWarning(
            code="clock",
            seen=f"The clock fell from {before.clock_mhz:.0f} to {after.clock_mhz:.0f} MHz, "
            "although the governor is 'performance': heat or a power limit.",
            remedy="Cool it, connect its power supply, and measure again.",
        )


def _spread_warnings(spreads: Mapping[str, float]) -> Iterator[FitnessWarning]:
    wide = sorted(
        ((name, spread) for name, spread in spreads.items() if spread > _MAX_SPREAD),
        key=lambda item: -item[1],
    )
    if not wide:
        return
    shown = ", ".join(f"{name} ({spread:.0%})" for name, spread in wide[:_LISTED])
    more = f" and {len(wide) - _LISTED} more" if len(wide) > _LISTED else ""
    yield FitnessWarning(
        code="spread",
        seen=f"The rounds differ by more than {_MAX_SPREAD:.0%} for {shown}{more}.",
        remedy="Close other programs, or measure longer: --rounds 100.",
    )


def _cores(count: int, kind: str = "") -> str:
    return f"{count} {kind}core{'' if count == 1 else 's'}"
