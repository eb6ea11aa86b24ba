"""Which package can be installed on a machine, and the exact command that does it there."""

from __future__ import annotations

import shlex
from collections.abc import Set
from dataclasses import dataclass

from vae_edge.machine import Machine

__all__ = [
    "SUPPORTED_PYTHONS",
    "environment_command",
    "host_command",
    "install_command",
    "is_mixed",
    "obtainable",
    "processor_of",
    "system_package_command",
    "uninstall_command",
    "why_unobtainable",
]

SUPPORTED_PYTHONS = ((3, 10), (3, 13))
_FOLDER = "~/vae-edge"


@dataclass(frozen=True, kw_only=True)
class _Wheel:
    """A released file for Linux: what pip installs it by, and the machines that it is for."""

    package: str
    requirement: str
    processors: Set[str]
    glibc: tuple[int, int]
    pythons: tuple[tuple[int, int], tuple[int, int]] = SUPPORTED_PYTHONS


_64_BIT = frozenset({"x86_64", "aarch64"})
_TFLITE = "tflite-runtime numpy<2"
_OLD_PYTHONS = ((3, 10), (3, 11))
# From the platform tags of the released files; the newest that fits stands first.
# `pip download --no-deps --python-version 3.11 --platform manylinux_2_27_aarch64 PACKAGE` asks.
_WHEELS = (
    _Wheel(
        package="ai-edge-litert",
        requirement="ai-edge-litert",
        processors=_64_BIT,
        glibc=(2, 27),
    ),
    # 1.4.0 is the last one for the glibc of manylinux2014.
    _Wheel(
        package="ai-edge-litert",
        requirement="ai-edge-litert<2",
        processors=_64_BIT,
        glibc=(2, 17),
        pythons=((3, 10), (3, 12)),
    ),
    _Wheel(package="onnxruntime", requirement="onnxruntime", processors=_64_BIT, glibc=(2, 27)),
    _Wheel(
        package="tflite-runtime",
        requirement=_TFLITE,
        processors=frozenset({"x86_64"}),
        glibc=(2, 17),
        pythons=_OLD_PYTHONS,
    ),
    _Wheel(
        package="tflite-runtime",
        requirement=_TFLITE,
        processors=frozenset({"aarch64", "armv7l"}),
        glibc=(2, 34),
        pythons=_OLD_PYTHONS,
    ),
)
# On a 32-bit Python pip takes the files of the 32-bit processor, whatever the kernel says.
_AS_32_BIT = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}


def is_mixed(machine: Machine) -> bool:
    """Tell whether a 32-bit Python runs on a 64-bit kernel, as on some Raspberry Pi images."""
    return machine.bits == 32 and machine.architecture in ("aarch64", "arm64", "x86_64")


def processor_of(machine: Machine) -> str:
    """Give the processor that pip chooses files for, e.g. `armv7l` on a 32-bit system."""
    if machine.bits == 32:
        return _AS_32_BIT.get(machine.architecture, machine.architecture)
    return {"arm64": "aarch64", "AMD64": "x86_64"}.get(machine.architecture, machine.architecture)


def obtainable(machine: Machine, package: str) -> str | None:
    """Give what to ask pip for to get a runtime here, or None where no released file fits.

    Args:
        machine: where it is to run.
        package: `ai-edge-litert`, `onnxruntime` or `tflite-runtime`.
    """
    if machine.system != "Linux":
        new_intel_mac = machine.architecture == "x86_64" and machine.python >= (3, 13, 0)
        litert_left_out = package == "ai-edge-litert" and new_intel_mac
        none = machine.bits == 32 or package == "tflite-runtime" or litert_left_out
        return None if none else package
    if machine.libc.name == "musl":
        return None
    for wheel in _WHEELS:
        oldest, newest = wheel.pythons
        if (
            wheel.package == package
            and processor_of(machine) in wheel.processors
            and oldest <= machine.python[:2] <= newest
            and wheel.glibc <= (machine.libc.version or wheel.glibc)
        ):
            return wheel.requirement
    return None


def why_unobtainable(machine: Machine, package: str) -> str:
    """Say why no released file of a runtime fits this machine, in a few words."""
    wheels = [wheel for wheel in _WHEELS if wheel.package == package]
    processor = processor_of(machine)
    if machine.system == "Linux" and machine.libc.name == "musl":
        return "has no wheel for musl (Alpine), only for glibc"
    if not any(processor in wheel.processors for wheel in wheels):
        return "has no 32-bit wheel" if machine.bits == 32 else f"has no wheel for {processor}"
    fitting = [wheel for wheel in wheels if processor in wheel.processors]
    newest = max(wheel.pythons[1] for wheel in fitting)
    oldest = min(wheel.pythons[0] for wheel in fitting)
    if not oldest <= machine.python[:2] <= newest:
        return f"has wheels for Python 3.{oldest[1]} to 3.{newest[1]} only"
    if machine.system != "Linux":
        return f"has no wheel for {machine.system} on {machine.architecture}"
    needed = min(wheel.glibc for wheel in fitting)
    return "needs glibc {}.{} or newer; here is {}".format(*needed, machine.libc)


def install_command(
    machine: Machine, *requirements: str, upgrade: bool = False, force: bool = False
) -> str:
    """Give the command that installs packages for the running interpreter.

    Where its packages belong to the system (PEP 668), and pip would refuse, a virtual environment
    is made for vae-edge and them.

    Args:
        machine: where it is to be typed.
        requirements: what pip is asked for, e.g. `onnxruntime` or `numpy<2`.
        upgrade: replace what is there and too old.
        force: write what is there anew.
    """
    if machine.externally_managed and not machine.in_environment:
        return environment_command(machine, machine.executable, *requirements)
    words = ["install"]
    words += ["--upgrade"] * upgrade + ["--force-reinstall"] * force
    return _pip(machine, *words, *_parts(requirements))


def uninstall_command(machine: Machine, package: str) -> str:
    """Give the command that removes a package from the running interpreter."""
    return _pip(machine, "uninstall", package)


def _pip(machine: Machine, *words: str) -> str:
    python, typed = shlex.quote(machine.executable), " ".join(map(shlex.quote, words))
    if not machine.pip:
        return f"{python} -m ensurepip && {python} -m pip {typed}"
    return f"pip {typed}" if machine.pip_on_path else f"{python} -m pip {typed}"


def environment_command(machine: Machine, python: str, *requirements: str) -> str:
    """Give the command that makes an environment of `python` with vae-edge in it.

    Args:
        machine: where it is to be typed.
        python: name or path of the interpreter.
        requirements: what pip is asked for besides.
    """
    return _environment(machine, python, machine.source, *requirements)


def _environment(machine: Machine, python: str, vae_edge: str, *requirements: str) -> str:
    pip = f"{_FOLDER}/bin/pip install"
    vae_edge, others = shlex.quote(vae_edge), " ".join(map(shlex.quote, _parts(requirements)))
    if is_mixed(machine):
        # Its kernel says aarch64, for which vae-edge requires LiteRT, and pip would stop at that.
        install = f"{pip} --no-deps {vae_edge} && {pip} typer rich pillow {others}"
    else:
        install = f"{pip} {vae_edge} {others}"
    make = f"{shlex.quote(python)} -m venv {_FOLDER} && {install.strip()}"
    # Debian keeps what gives an environment its pip in a package of its own.
    if python == machine.executable and not machine.ensurepip and machine.package_manager:
        return f"{system_package_command(machine, 'python3-venv')} && {make}"
    return make


def host_command(machine: Machine) -> str:
    """Give the command that adds what training and exporting need."""
    if machine.externally_managed and not machine.in_environment:
        return _environment(machine, machine.executable, f"{machine.source}[host]")
    # vae-edge itself is there, and pip takes its extra from it.
    return install_command(machine, "vae-edge[host]")


def system_package_command(machine: Machine, package: str) -> str:
    """Give the command that adds a package of the system, named as Debian names it."""
    names = {
        ("apk", "libstdc++6"): "libstdc++",
        ("apk", "libgomp1"): "libgomp",
        ("dnf", "libstdc++6"): "libstdc++",
        ("dnf", "libgomp1"): "libgomp",
        ("dnf", "python3-venv"): "python3",
        ("apk", "python3-venv"): "python3",
    }
    manager = machine.package_manager or "apt-get"
    verb = "add" if manager == "apk" else "install"
    return f"sudo {manager} {verb} {names.get((manager, package), package)}"


def _parts(requirements: tuple[str, ...]) -> list[str]:
    """Take two packages that belong together apart, but no path with a blank in it."""
    return [
        part
        for requirement in requirements
        for part in ([requirement] if "/" in requirement else requirement.split())
    ]
