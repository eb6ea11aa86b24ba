"""What a machine can do, what it lacks, and the exact command that puts it right.

Each check looks at one thing of a described machine and gives what it found, or nothing where it
does not concern that machine. A new one is a function and a line in `CHECKS`.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from vae_edge.installing import (
    SUPPORTED_PYTHONS,
    environment_command,
    host_command,
    install_command,
    is_mixed,
    obtainable,
    processor_of,
    uninstall_command,
    why_unobtainable,
)
from vae_edge.machine import HOST_PACKAGES, Machine, this_machine
from vae_edge.repairs import repair

__all__ = ["CHECKS", "Check", "Finding", "Status", "examine", "is_fit", "runtime_remedy"]


class Status(str, Enum):
    """How a finding bears on using vae-edge."""

    OK = "ok"
    MISSING = "missing"
    BROKEN = "broken"
    OPTIONAL = "optional"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: package or property.
        status: how it bears on using vae-edge.
        detail: version or reason.
        needed_for: what does not work without it.
        remedy: command that puts it right; None where nothing has to be done.
    """

    what: str
    status: Status
    detail: str
    needed_for: str
    remedy: str | None


Check = Callable[[Machine], Finding | None]

_EVERYTHING = "everything"
_RUNNING = {"ai-edge-litert": "running .tflite artifacts", "onnxruntime": "running .onnx artifacts"}
_64_BIT_SYSTEM = "install a 64-bit system (on a Raspberry Pi: Raspberry Pi OS (64-bit))"
_GLIBC_SYSTEM = (
    "use a system with glibc (Debian, Ubuntu, Raspberry Pi OS; as a container: "
    "docker run -it python:3.11-slim)"
)
# `/usr/bin/time -v vae-edge parity` of the shipped model's twelve artifacts takes 125 MB; the
# system and a desktop need theirs beside it, and other models are larger.
_LITTLE_MEMORY = 512_000_000


def examine(machine: Machine | None = None) -> list[Finding]:
    """Make every check on a machine, by default this one.

    Runtimes are imported in processes of their own; host packages are only looked up, because
    TensorFlow alone would take seconds.
    """
    seen = this_machine() if machine is None else machine
    return [finding for check in CHECKS if (finding := check(seen)) is not None]


def is_fit(findings: list[Finding]) -> bool:
    """Tell whether a bundle can be run at all: nothing basic is broken, and one runtime works."""
    basics = [f for f in findings if f.needed_for == _EVERYTHING]
    runtimes = [f for f in findings if f.needed_for in _RUNNING.values()]
    usable = any(f.status in (Status.OK, Status.OPTIONAL) for f in runtimes)
    return usable and not any(f.status in (Status.MISSING, Status.BROKEN) for f in basics)


def runtime_remedy(package: str, failure: str) -> str:
    """Give the command that makes a runtime usable on this machine.

    Args:
        package: `ai-edge-litert` or `onnxruntime`.
        failure: why importing it failed.
    """
    machine = this_machine(imports=False)
    if package in machine.installed:
        return repair(dataclasses.replace(machine, failures={package: failure}), package)
    wanted = obtainable(machine, package)
    return install_command(machine, wanted) if wanted else _instead(machine, package)


def _python(machine: Machine) -> Finding:
    oldest, newest = SUPPORTED_PYTHONS
    fits = oldest <= machine.python[:2] <= newest
    return Finding(
        what="Python",
        status=Status.OK if fits else Status.BROKEN,
        detail=".".join(map(str, machine.python))
        + ("" if fits else f": too {'new' if machine.python[:2] > newest else 'old'}"),
        needed_for=_EVERYTHING,
        remedy=None if fits else _with_python(machine, newest),
    )


def _with_python(machine: Machine, newest: tuple[int, int]) -> str:
    """Give the command that makes an environment with the newest Python up to `newest`."""
    names = [f"python3.{minor}" for minor in range(newest[1], SUPPORTED_PYTHONS[0][1] - 1, -1)]
    found = next((name for name in names if name in machine.other_pythons), None)
    command = environment_command(machine, found or names[0])
    return command if found else f"install Python 3.10 to 3.{newest[1]}, then: {command}"


def _processor(machine: Machine) -> Finding:
    detail = f"{machine.architecture}, {machine.bits}-bit Python, {machine.system}"
    if _can_run_something(machine):
        status, remedy = Status.OK, None
        if machine.bits == 32:
            status, remedy = Status.OPTIONAL, _64_BIT_SYSTEM
            detail += _on_32_bits(machine) + ", but tflite-runtime has"
    elif machine.bits == 32:
        status, remedy = Status.BROKEN, _on_32_bits_remedy(machine)
        detail += _on_32_bits(machine)
    elif machine.libc.name == "musl" or processor_of(machine) in ("x86_64", "aarch64"):
        status, remedy = Status.OK, None  # Python or the C library is at fault, not the processor.
    else:
        status, remedy = Status.BROKEN, "use x86_64 or aarch64 (arm64)"
        detail += f": no runtime has a wheel for {processor_of(machine)}"
    return Finding(
        what="processor", status=status, detail=detail, needed_for=_EVERYTHING, remedy=remedy
    )


def _can_run_something(machine: Machine) -> bool:
    runtimes = ("ai-edge-litert", "onnxruntime", "tflite-runtime")
    return any(
        obtainable(machine, name) or (name in machine.installed and name not in machine.failures)
        for name in runtimes
    )


def _on_32_bits(machine: Machine) -> str:
    why = " on a 64-bit kernel" if is_mixed(machine) else ""
    return f"{why}: LiteRT and ONNX Runtime have no 32-bit wheels"


def _on_32_bits_remedy(machine: Machine) -> str:
    """A 64-bit system; or an older Python, where that is all that tflite-runtime lacks."""
    if processor_of(machine) != "armv7l" or machine.libc.name == "musl":
        return _64_BIT_SYSTEM
    older = next(
        (name for name in ("python3.11", "python3.10") if name in machine.other_pythons), ""
    )
    command = environment_command(machine, older or "python3.11", "tflite-runtime numpy<2")
    return f"{_64_BIT_SYSTEM}, or with Python 3.10 or 3.11: {command}"


def _libc(machine: Machine) -> Finding | None:
    if machine.system != "Linux" or not machine.libc.name:
        return None
    lacking = [
        f"{name} {why_unobtainable(machine, name)}"
        for name in _RUNNING
        if obtainable(machine, name) is None and name not in machine.installed
    ]
    musl = machine.libc.name == "musl"
    old = machine.libc.version < (2, 27)
    if not lacking or not (musl or old):
        status, detail, remedy = Status.OK, str(machine.libc), None
    else:
        detail = f"{machine.libc}: {'; '.join(lacking)}"
        status = Status.OPTIONAL if _can_run_something(machine) else Status.BROKEN
        remedy = _GLIBC_SYSTEM if musl else "use a newer system: Debian 10, Ubuntu 18.04 or later"
    return Finding(
        what="C library", status=status, detail=detail, needed_for=_EVERYTHING, remedy=remedy
    )


def _memory(machine: Machine) -> Finding | None:
    if machine.memory_bytes is None:
        return None
    little = machine.memory_bytes < _LITTLE_MEMORY
    return Finding(
        what="memory",
        status=Status.OPTIONAL if little else Status.OK,
        detail=f"{machine.memory_bytes / 1e6:,.0f} MB"
        + (": parity and benchmark may run out of it" if little else ""),
        needed_for="parity and benchmark",
        remedy="close other programs, and take one format at a time: "
        "vae-edge parity BUNDLE --format tflite"
        if little
        else None,
    )


def _numpy(machine: Machine) -> Finding:
    finding = _package(machine, "numpy", _EVERYTHING)
    installed = machine.installed.get("numpy")
    clash = installed and "tflite-runtime" in machine.installed and _is_older("1", installed, 1)
    if finding.status is not Status.OK or not clash:
        return finding
    # Where LiteRT works, tflite-runtime is not used.
    harmless = _works(machine, "ai-edge-litert")
    numpy_1 = install_command(machine, "numpy<2")
    drop = uninstall_command(machine, "tflite-runtime")
    return Finding(
        what="numpy",
        status=Status.OPTIONAL if harmless else Status.BROKEN,
        detail=f"{installed}: tflite-runtime was built for numpy 1",
        needed_for=finding.needed_for,
        remedy=drop if harmless else numpy_1,
    )


def _pillow(machine: Machine) -> Finding:
    return _package(machine, "pillow", _EVERYTHING)


def _package(machine: Machine, package: str, needed_for: str) -> Finding:
    installed, bound = machine.installed.get(package), machine.lower_bounds.get(package)
    status, remedy = Status.OK, None
    detail = installed or "not installed"
    if installed is None:
        status, remedy = Status.MISSING, install_command(machine, package)
    elif package in machine.failures:
        reason = machine.failures[package]
        status = Status.BROKEN
        detail, remedy = f"{installed} cannot be imported: {reason}", repair(machine, package)
    elif bound and _is_older(installed, bound):
        status, remedy = Status.BROKEN, install_command(machine, package, upgrade=True)
        detail = f"{installed}: older than {bound}, the oldest that is supported"
    return Finding(what=package, status=status, detail=detail, needed_for=needed_for, remedy=remedy)


def _is_older(installed: str, bound: str, parts: int = 3) -> bool:
    """Compare the leading numbers; what is no number (`rc1`) counts as 0."""

    def numbers(text: str) -> list[int]:
        found = [int(part) if part.isdigit() else 0 for part in text.split(".")[:parts]]
        return found + [0] * (parts - len(found))

    return numbers(installed) < numbers(bound)


def _works(machine: Machine, package: str) -> bool:
    return package in machine.installed and package not in machine.failures


def _litert(machine: Machine) -> Finding:
    return _stand_in(machine) or _runtime(machine, "ai-edge-litert")


def _onnxruntime(machine: Machine) -> Finding:
    return _runtime(machine, "onnxruntime")


def _stand_in(machine: Machine) -> Finding | None:
    """Where LiteRT does not work, tflite-runtime takes its place."""
    if _works(machine, "ai-edge-litert") or not _works(machine, "tflite-runtime"):
        return None
    reason = "not installed"
    if obtainable(machine, "ai-edge-litert") is None:
        reason = why_unobtainable(machine, "ai-edge-litert")
    if "ai-edge-litert" in machine.installed:
        reason = f"cannot be imported ({machine.failures['ai-edge-litert']})"
    wanted = obtainable(machine, "ai-edge-litert")
    return Finding(
        what="ai-edge-litert",
        status=Status.OPTIONAL,
        detail=f"{reason}; tflite-runtime {machine.installed['tflite-runtime']} serves instead",
        needed_for=_RUNNING["ai-edge-litert"],
        remedy=install_command(machine, wanted) if wanted else None,
    )


def _runtime(machine: Machine, package: str) -> Finding:
    if package in machine.installed:
        return _package(machine, package, _RUNNING[package])
    wanted, detail = obtainable(machine, package), "not installed"
    if wanted is not None:
        remedy = install_command(machine, wanted)
    else:
        detail, remedy = why_unobtainable(machine, package), _instead(machine, package)
    return Finding(
        what=package,
        status=Status.MISSING,
        detail=detail,
        needed_for=_RUNNING[package],
        remedy=remedy,
    )


def _instead(machine: Machine, package: str) -> str:
    """What to do where a runtime cannot be had."""
    oldest, newest = SUPPORTED_PYTHONS
    stand_in = obtainable(machine, "tflite-runtime") if package == "ai-edge-litert" else None
    if stand_in is not None:
        return install_command(machine, stand_in)
    if machine.bits == 32:
        return _64_BIT_SYSTEM
    if machine.libc.name == "musl":
        return _GLIBC_SYSTEM
    if not oldest <= machine.python[:2] <= newest:
        return _with_python(machine, newest)
    other = "onnxruntime" if package == "ai-edge-litert" else "ai-edge-litert"
    wanted = obtainable(machine, other)
    if wanted is None:
        return "use another machine: x86_64 or aarch64 (arm64), Debian 10 or later"
    other_format = ".onnx" if other == "onnxruntime" else ".tflite"
    return f"use the {other_format} artifacts, with: {install_command(machine, wanted)}"


def _tflite_runtime(machine: Machine) -> Finding | None:
    """Speak of it only where it is installed and does harm."""
    installed = machine.installed.get("tflite-runtime")
    if installed is None or _works(machine, "tflite-runtime"):
        return None
    new = machine.python >= (3, 12, 0)
    reason = machine.failures["tflite-runtime"]
    wanted = obtainable(machine, "ai-edge-litert")
    return Finding(
        what="tflite-runtime",
        status=Status.OPTIONAL if _works(machine, "ai-edge-litert") else Status.BROKEN,
        detail=f"{installed} cannot be imported: {reason}"
        + ("; it has wheels for Python 3.10 and 3.11 only" if new else ""),
        needed_for="nothing where LiteRT works",
        remedy=install_command(machine, wanted) if wanted else repair(machine, "tflite-runtime"),
    )


def _host(machine: Machine) -> Finding:
    found = {package: machine.installed.get(package) for package in HOST_PACKAGES}
    lacking = [package for package, installed in found.items() if installed is None]
    present = ", ".join(f"{package} {v}" for package, v in found.items() if v)
    absent = f"not installed: {', '.join(lacking)}" if lacking else ""
    return Finding(
        what="host packages",
        status=Status.OPTIONAL if lacking else Status.OK,
        detail="; ".join(part for part in (present, absent) if part),
        needed_for="train, export, and parity --reference (not for running a bundle)",
        remedy=host_command(machine) if lacking else None,
    )


def _keras_backend(machine: Machine) -> Finding | None:
    if "keras" not in machine.installed or machine.keras_backend == "tensorflow":
        return None
    chosen_by = machine.keras_backend_from
    if chosen_by == "KERAS_BACKEND":
        remedy = "export KERAS_BACKEND=tensorflow"
    else:
        edit = f's/"backend": *"{machine.keras_backend}"/"backend": "tensorflow"/'
        remedy = f"sed -i {shlex.quote(edit)} {shlex.quote(chosen_by or '~/.keras/keras.json')}"
    return Finding(
        what="Keras backend",
        status=Status.BROKEN,
        detail=f"{machine.keras_backend}, by {chosen_by}; only tensorflow can be exported",
        needed_for="train, export, and parity --reference (not for running a bundle)",
        remedy=remedy,
    )


CHECKS: tuple[Check, ...] = (
    _python,
    _processor,
    _libc,
    _memory,
    _numpy,
    _pillow,
    _litert,
    _tflite_runtime,
    _onnxruntime,
    _host,
    _keras_backend,
)
