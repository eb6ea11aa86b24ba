"""What other programs, and other virtual machines, took of the processor during a run.

The load average of the last minute also counts what ran before, a benchmark of our own included,
and does not see what began later. The kernel's counters over the run itself do (Linux only).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuTimes", "Neighbours", "neighbours_between", "read_cpu_times"]

# Fields of a line of /proc/stat: man 5 proc_stat. Guests' time is part of user and nice.
_BUSY = (0, 1, 2, 5, 6)
_STEAL = 7
_TICKS = 100
_NAMED = 2
# A program that took less is not worth a name.
_LEAST_CORES = 0.05


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Means over a run, in cores: 0.5 is half of one core all the time.

    Attributes:
        seconds: how long the run took.
        others: what other programs used of the cores that this process may use.
        stolen: what a hypervisor gave to other machines although it was wanted here.
        busiest: the programs that took most, e.g. `make (pid 123): 0.98 cores`.
    """

    seconds: float
    others: float
    stolen: float
    busiest: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Counters at one moment, in seconds since any moment.

    Attributes:
        at_s: the moment.
        busy_s: work of all programs on the cores that this process may use.
        stolen_s: what a hypervisor took of these cores.
        own_s: work of this process and of its children that have ended.
        programs: per process, its name and its work; without this one.
    """

    at_s: float
    busy_s: float
    stolen_s: float
    own_s: float
    programs: Mapping[int, tuple[str, float]]


def read_cpu_times(root: Path = Path("/")) -> CpuTimes | None:
    """Read the counters; None where the system does not keep them.

    Args:
        root: where `proc` is.
    """
    ticks = _ticks_per_second()
    try:
        text = (root / "proc/stat").read_text(encoding="utf-8")
        rows = [line.split() for line in text.splitlines() if line.startswith("cpu")]
        cores = {f"cpu{core}" for core in _usable_cores()}
        counts = [[int(field) for field in row[1:]] for row in rows if row[0] in cores]
        busy = sum(row[field] for row in counts for field in _BUSY)
        stolen = sum(row[_STEAL] for row in counts)
    except (OSError, ValueError, IndexError):
        return None
    if not counts:
        return None
    own = os.times()
    return CpuTimes(
        at_s=time.monotonic(),
        busy_s=busy / ticks,
        stolen_s=stolen / ticks,
        own_s=own.user + own.system + own.children_user + own.children_system,
        programs=_programs(root, ticks),
    )


def neighbours_between(before: CpuTimes | None, after: CpuTimes | None) -> Neighbours | None:
    """Give what others took between two readings.

    All our workers must have ended before the second one, or they count as others.
    """
    if before is None or after is None or after.at_s <= before.at_s:
        return None
    seconds = after.at_s - before.at_s
    ours = after.own_s - before.own_s
    grown = [
        (worked - before.programs.get(pid, (name, 0.0))[1], name, pid)
        for pid, (name, worked) in after.programs.items()
    ]
    busiest = [entry for entry in sorted(grown, reverse=True) if entry[0] / seconds > _LEAST_CORES]
    return Neighbours(
        seconds=round(seconds, 3),
        others=round(max(after.busy_s - before.busy_s - ours, 0.0) / seconds, 4),
        stolen=round(max(after.stolen_s - before.stolen_s, 0.0) / seconds, 4),
        busiest=tuple(
            f"{name} (pid {pid}): {worked / seconds:.2f} cores"
            for worked, name, pid in busiest[:_NAMED]
        ),
    )


def _ticks_per_second() -> int:
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return max(os.sysconf("SC_CLK_TCK"), 1)
    return _TICKS


def _usable_cores() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except (AttributeError, OSError):
        return set(range(os.cpu_count() or 1))


def _programs(root: Path, ticks: int) -> Mapping[int, tuple[str, float]]:
    found: dict[int, tuple[str, float]] = {}
    for path in (root / "proc").glob("[0-9]*/stat"):
        # A process may end at any moment, and its name may hold blanks and brackets.
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = path.read_text(encoding="utf-8", errors="replace")
            name = text[text.index("(") + 1 : text.rindex(")")]
            fields = text[text.rindex(")") + 1 :].split()
            worked = (int(fields[11]) + int(fields[12])) / ticks
            pid = int(path.parent.name)
            if pid != os.getpid():
                found[pid] = ("".join(c if c.isprintable() else "?" for c in name), worked)
    return found
