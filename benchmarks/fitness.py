"""Reasons to doubt a run's figures, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.environment import Environment
from benchmarks.report import FitnessWarning

__all__ = ["find_warnings"]

# pyperf's limit for the standard deviation of a benchmark that it calls unstable.
_MAX_SPREAD = 0.10
_LISTED = 4


def find_warnings(
    environment: Environment, *, threads: int, spreads: Mapping[str, float]
) -> tuple[FitnessWarning, ...]:
    """Judge a run.

    Args:
        environment: the machine before and after.
        threads: threads that the runtimes were given.
        spreads: per candidate, the relative spread of its samples.
    """
    return (
        *_machine_warnings(environment, threads),
        *_state_warnings(environment),
        *_spread_warnings(spreads),
    )


def _machine_warnings(environment: Environment, threads: int) -> Iterator[FitnessWarning]:
    if environment.emulated:
        yield FitnessWarning(
            code="emulated",
            text=f"This {environment.architecture} system is emulated on another CPU: the figures "
            "say nothing of a real device. Measure on the device itself.",
        )
    if environment.cores is not None and threads > environment.cores:
        yield FitnessWarning(
            code="threads",
            text=f"{threads} threads on {environment.cores} usable cores wait for each other. "
            f"Use --threads {environment.cores} or fewer.",
        )


def _state_warnings(environment: Environment) -> Iterator[FitnessWarning]:
    before, after = environment.before, environment.after
    if before.governor not in (None, "performance"):
        yield FitnessWarning(
            code="governor",
            text=f"The CPU's frequency governor is '{before.governor}', so its clock changes while "
            "it measures. Fix it: echo performance | sudo tee "
            "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )
    load, cores = before.load_average, environment.cores
    if load is not None and cores is not None and load > cores / 2:
        yield FitnessWarning(
            code="load",
            text=f"Other programs were running: load average {load:.1f} on {cores} cores at the "
            "start. Stop them, wait a minute, and measure again.",
        )
    flags = dict.fromkeys((*(before.throttled or ()), *(after.throttled or ())))
    if flags:
        yield FitnessWarning(
            code="throttled",
            text=f"The Raspberry Pi's firmware reports {', '.join(flags)}. Use a power supply that "
            "is strong enough and cool the board, reboot to clear the record, and measure again.",
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
        text=f"The rounds differ by more than {_MAX_SPREAD:.0%} for {shown}{more}. Close other "
        "programs, or measure longer: --rounds 100.",
    )
