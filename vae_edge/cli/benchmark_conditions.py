"""`vae-edge benchmark`: the state of the machine and the versions that figures hold for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.report import BenchmarkReport

__all__ = ["change", "conditions"]


def conditions(report: BenchmarkReport) -> str:
    """Give in one line what the system says of itself, before > after, and the runtimes."""
    environment = report.environment
    before, after = environment.before, environment.after
    said = [
        ("governor", change(before.governor, after.governor)),
        ("MHz", change(before.clock_mhz, after.clock_mhz, 0)),
        ("deg C", change(before.temperature_c, after.temperature_c, 1)),
        ("load average", change(before.load_average, after.load_average, 1)),
        ("firmware", _flags(before.throttled, after.throttled)),
    ]
    parts = [f"{name} {value}" for name, value in said if value != "-"]
    if environment.neighbours is not None:
        parts.append(f"other programs {environment.neighbours.others:.2f} cores")
    runtimes = dict.fromkeys(candidate.runtime for candidate in report.candidates)
    versions = (*runtimes, f"numpy {environment.numpy}", f"Python {environment.python}")
    return "; ".join((*parts, ", ".join(versions)))


def change(before: float | str | None, after: float | str | None, digits: int = 0) -> str:
    """Write what was before and after, once where it is the same; a dash where it is unknown."""
    shown = []
    for value in (before, after):
        text = f"{value:.{digits}f}" if isinstance(value, (int, float)) else value
        shown.append("-" if text is None else text)
    return shown[0] if shown[0] == shown[1] else " > ".join(shown)


def _flags(before: tuple[str, ...] | None, after: tuple[str, ...] | None) -> str:
    if before is None and after is None:
        return "-"
    flags = dict.fromkeys((*(before or ()), *(after or ())))
    return ", ".join(flags) or "ok"
