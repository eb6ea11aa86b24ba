"""The machine that figures were measured on, and the state it was in.

Everything is read where the system keeps it, and is None where the system does not say: in a
container, under emulation, on a kernel without cpufreq, or on macOS. Nothing here fails.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.neighbours import Neighbours

__all__ = ["Environment", "MachineState", "read_environment", "read_state"]

_TIMEOUT_S = 5
# Bits of `vcgencmd get_throttled`: Raspberry Pi documentation, "Raspberry Pi OS: vcgencmd".
_THROTTLE_BITS = {
    0: "under-voltage now",
    1: "clock capped now",
    2: "throttled now",
    3: "soft temperature limit now",
    16: "under-voltage since boot",
    17: "clock capped since boot",
    18: "throttled since boot",
    19: "soft temperature limit since boot",
}
_THROTTLED_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_CPU_ZONES = ("cpu", "soc", "pkg", "core", "k10temp")
# What `benchmarks.emulation` writes behind the board's name, where Linux has that on a Pi.
_EMULATED = " (emulated)"


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """What changes while a machine works; each None where the system does not say.

    Attributes:
        governor: frequency governor; several, joined by commas, where cores differ.
        clock_mhz: mean clock of the cores, MHz.
        temperature_c: hottest CPU sensor, degrees Celsius.
        load_average: runnable processes, mean of the last minute.
        throttled: what a Raspberry Pi's firmware complains of; empty if of nothing.
    """

    governor: str | None
    clock_mhz: float | None
    temperature_c: float | None
    load_average: float | None
    throttled: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The machine and its state before and after a run.

    Attributes:
        cpu_model: name of the CPU or of the board.
        cores: cores that this process may use.
        architecture: e.g. `x86_64` or `aarch64`.
        system: operating system and kernel.
        python: version of Python.
        numpy: version of numpy.
        emulated: an ARM system that runs on an x86 CPU.
        before: its state before the run.
        after: its state after it.
        neighbours: what others took of the processor during the run; None where the system does
            not say.
    """

    cpu_model: str | None
    cores: int | None
    architecture: str | None
    system: str
    python: str
    numpy: str
    emulated: bool
    before: MachineState
    after: MachineState
    neighbours: Neighbours | None = None

    @property
    def machine(self) -> str:
        """One line that tells this machine from others."""
        cores = f"{self.cores} core{'' if self.cores == 1 else 's'}" if self.cores else None
        parts = (self.cpu_model or "unknown CPU", cores, self.system, self.architecture)
        line = ", ".join(part for part in parts if part)
        return line + (_EMULATED if self.emulated and _EMULATED not in line else "")


def read_environment(
    before: MachineState, after: MachineState, root: Path = Path("/")
) -> Environment:
    """Describe this machine.

    Args:
        before: its state before the run, from `read_state`.
        after: its state after the run.
        root: where `proc` and `sys` are.
    """
    cpuinfo = _read(root / "proc/cpuinfo") or ""
    architecture = platform.machine() or None
    return Environment(
        cpu_model=_cpu_model(root, cpuinfo),
        cores=_cores(),
        architecture=architecture,
        system=f"{platform.system()} {platform.release()}".strip() or sys.platform,
        python=platform.python_version(),
        numpy=np.__version__,
        emulated=_is_emulated(root, cpuinfo, architecture or ""),
        before=before,
        after=after,
    )


def read_state(root: Path = Path("/")) -> MachineState:
    """Read governor, clock, temperature, load and throttling as they are now."""
    load = None
    with contextlib.suppress(OSError, AttributeError):
        load = os.getloadavg()[0]
    governors = {
        text
        for path in _glob(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
        if (text := _read(path))
    }
    return MachineState(
        governor=", ".join(sorted(governors)) or None,
        clock_mhz=_clock_mhz(root),
        temperature_c=_temperature_c(root),
        load_average=load,
        throttled=_throttled(root),
    )


def _read(path: Path) -> str | None:
    try:
        # The firmware ends its strings with a zero byte.
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except (OSError, ValueError):
        return None


def _glob(root: Path, pattern: str) -> list[Path]:
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def _number(text: str | None, parse: Callable[[str], float] = float) -> float | None:
    try:
        return None if text is None else parse(text)
    except ValueError:
        return None


def _run(*command: str) -> str | None:
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603  fixed commands, found on PATH
            [program, *command[1:]],
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cores() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count()


def _cpuinfo_values(cpuinfo: str, key: str) -> list[str]:
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    return [value.strip() for name, _, value in pairs if name.strip() == key and value.strip()]


def _cpu_model(root: Path, cpuinfo: str) -> str | None:
    # A board's name ("Model", the device tree) says more than its core's ("ARMv7 Processor").
    for found in (
        _cpuinfo_values(cpuinfo, "Model"),
        [_read(root / "proc/device-tree/model")],
        _cpuinfo_values(cpuinfo, "model name"),
        _cpuinfo_values(cpuinfo, "Hardware"),
    ):
        if found and found[0]:
            return found[0]
    if sys.platform == "darwin":
        return _run("sysctl", "-n", "machdep.cpu.brand_string")
    return platform.processor() or None


def _is_emulated(root: Path, cpuinfo: str, architecture: str) -> bool:
    """Tell an ARM system on an x86 CPU by what its emulator says, or does not hide, of the CPU."""
    if not architecture.startswith(("arm", "aarch")):
        return False
    if any(model.endswith(_EMULATED) for model in _cpuinfo_values(cpuinfo, "Model")):
        return True
    # Only x86 kernels write a vendor_id. Newer emulators hide it, but leave the rest of /sys and
    # /proc as they are: the kernel's name for the CPU, and a line that only x86 has a use for.
    modalias = _read(root / "sys/devices/system/cpu/modalias") or ""
    status = _read(root / "proc/self/status") or ""
    return (
        "vendor_id" in cpuinfo
        or modalias.startswith("cpu:type:x86")
        or "x86_Thread_features" in status
    )


def _clock_mhz(root: Path) -> float | None:
    paths = _glob(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    khz = [value for path in paths if (value := _number(_read(path))) is not None]
    if khz:
        return sum(khz) / len(khz) / 1000
    texts = _cpuinfo_values(_read(root / "proc/cpuinfo") or "", "cpu MHz")
    mhz = [value for text in texts if (value := _number(text)) is not None]
    return sum(mhz) / len(mhz) if mhz else None


def _temperature_c(root: Path) -> float | None:
    zones: dict[str, float] = {}
    for path in _glob(root, "sys/class/thermal/thermal_zone*"):
        millidegrees = _number(_read(path / "temp"))
        if millidegrees is not None:
            kind = (_read(path / "type") or "").lower()
            zones[kind] = max(zones.get(kind, -273.0), millidegrees / 1000)
    of_cpu = [value for kind, value in zones.items() if any(word in kind for word in _CPU_ZONES)]
    return max(of_cpu or zones.values(), default=None)


def _throttled(root: Path) -> tuple[str, ...] | None:
    text = _run("vcgencmd", "get_throttled") or _read(root / _THROTTLED_FILE)
    if text is None:
        return None
    bits = _number(text.removeprefix("throttled="), lambda digits: int(digits, 16))
    if bits is None:
        return None
    return tuple(flag for bit, flag in _THROTTLE_BITS.items() if int(bits) >> bit & 1)
