"""A machine as the doctor sees it: plain facts, so that any machine can be described in a test."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

__all__ = ["DEVICE_PACKAGES", "HOST_PACKAGES", "Libc", "Machine", "this_machine"]

# Package, and the module that shows whether it can be imported.
DEVICE_PACKAGES: Mapping[str, str] = {
    "numpy": "numpy",
    "pillow": "PIL.Image",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "onnxruntime": "onnxruntime",
}
HOST_PACKAGES = ("tensorflow", "keras", "onnx", "tf2onnx", "scikit-learn", "matplotlib")

_PROBE_SECONDS = 120
_MINORS = (13, 12, 11, 10)


@dataclass(frozen=True, kw_only=True)
class Libc:
    """The C library: `glibc`, `musl`, or an empty name where there is neither (macOS, Windows)."""

    name: str
    version: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}".strip()


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides which packages can be installed and run here.

    Attributes:
        python: version of the running interpreter.
        executable: its path.
        system: `Linux`, `Darwin` or `Windows`.
        architecture: of the kernel, e.g. `aarch64`; a 32-bit Python may run on it.
        bits: of the running interpreter, 32 or 64.
        libc: its C library.
        installed: version of every package of interest that is installed.
        failures: why an installed package of `DEVICE_PACKAGES` cannot be imported.
        lower_bounds: oldest version of a package that vae-edge supports.
        source: what a new environment gets vae-edge from: its name, or the file or folder that
            this copy was installed from.
        in_environment: whether the interpreter is a virtual environment's.
        externally_managed: whether pip refuses to install for this interpreter (PEP 668).
        pip: whether it has pip; `pip_on_path`: whether `pip` in the shell is that one.
        ensurepip: whether it can give a new environment its pip.
        package_manager: `apt-get`, `apk`, `dnf`, or None.
        other_pythons: of 3.10 to 3.13, those found on PATH; looked for only where another one than
            the running one is needed.
        memory_bytes: of the machine (not of a container), None where unknown.
        keras_backend: the one that Keras will take.
        keras_backend_from: what chose it, None where nothing did.
    """

    python: tuple[int, int, int]
    executable: str
    system: str
    architecture: str
    bits: int
    libc: Libc
    installed: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    lower_bounds: Mapping[str, str] = field(default_factory=dict)
    source: str = "vae-edge"
    in_environment: bool = True
    externally_managed: bool = False
    pip: bool = True
    pip_on_path: bool = True
    ensurepip: bool = True
    package_manager: str | None = None
    other_pythons: tuple[str, ...] = ()
    memory_bytes: int | None = None
    keras_backend: str = "tensorflow"
    keras_backend_from: str | None = None


def this_machine(*, imports: bool = True) -> Machine:
    """Look at the machine that this runs on.

    Args:
        imports: whether to try the imports too, each in a process of its own, because a library
            built for another processor ends the process that loads it. Takes a second or two.
    """
    packages = (*DEVICE_PACKAGES, *HOST_PACKAGES)
    installed = {name: found for name in packages if (found := _version(name))}
    backend, backend_from = _keras_backend()
    executable = sys.executable or "python3"
    return Machine(
        python=(sys.version_info.major, sys.version_info.minor, sys.version_info.micro),
        executable=executable,
        system=platform.system(),
        architecture=platform.machine(),
        bits=struct.calcsize("P") * 8,
        libc=_libc(),
        installed=installed,
        failures=_failures(installed) if imports else {},
        lower_bounds=_lower_bounds(),
        source=_source(),
        in_environment=sys.prefix != sys.base_prefix,
        externally_managed=Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").is_file(),
        pip=_has("pip"),
        pip_on_path=_is_beside(shutil.which("pip"), executable),
        ensurepip=_has("ensurepip"),
        package_manager=next((m for m in ("apt-get", "apk", "dnf") if shutil.which(m)), None),
        other_pythons=_other_pythons() if imports and _needs_another_python() else (),
        memory_bytes=_memory_bytes(),
        keras_backend=backend,
        keras_backend_from=backend_from,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _is_beside(command: str | None, executable: str) -> bool:
    # Not resolved: an environment's Python is a link to the one that it was made from.
    return command is not None and Path(command).parent == Path(executable).parent


def _libc() -> Libc:
    name, number = platform.libc_ver()
    if name == "glibc":
        return Libc(name=name, version=tuple(int(part) for part in number.split(".")[:2]))
    # Python 3.10 to 3.12 do not recognise musl; its loader stands where it is linked from.
    if any(Path("/lib").glob("ld-musl-*")):
        return Libc(name="musl")
    return Libc(name="")


def _failures(installed: Iterable[str]) -> dict[str, str]:
    probed = {
        name: _failure(DEVICE_PACKAGES[name]) for name in DEVICE_PACKAGES if name in installed
    }
    return {name: reason for name, reason in probed.items() if reason is not None}


def _failure(module: str) -> str | None:
    """Import a module in a process of its own; gives why that failed, None where it did not."""
    # As this process sees modules, whatever PYTHONPATH or the folder it was started in.
    code = f"import sys; sys.path[:] = {sys.path!r}; import {module}"
    try:
        ran = subprocess.run(  # noqa: S603  our own interpreter
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())
    if ran.returncode == 0:
        return None
    if ran.returncode < 0:
        return f"importing it ended the process ({_signal(-ran.returncode)})"
    lines = [line for line in ran.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"importing it ended with {ran.returncode}"


def _signal(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _lower_bounds() -> dict[str, str]:
    """From the package's own metadata, so that they are stated in one place."""
    bounds: dict[str, str] = {}
    try:
        requirements = distribution("vae-edge").requires or []
    except PackageNotFoundError:
        return bounds
    for requirement in requirements:
        # An extra's bounds are for the host.
        found = re.match(r"([A-Za-z0-9_.-]+)\s*>=\s*([0-9.]+)", requirement)
        if found and "extra ==" not in requirement:
            bounds[found[1].lower().replace("_", "-")] = found[2]
    return bounds


def _source() -> str:
    """Give where pip installed vae-edge from, if that was no index and is still there."""
    try:
        origin = distribution("vae-edge").read_text("direct_url.json")
    except PackageNotFoundError:
        return "vae-edge"
    if origin is None:
        return "vae-edge"
    url = str(json.loads(origin).get("url", ""))
    path = url.removeprefix("file://")
    return path if url.startswith("file://") and Path(path).exists() else "vae-edge"


def _needs_another_python() -> bool:
    # tflite-runtime, the only runtime for 32 bits, is for old ones.
    newest = _MINORS[0] if struct.calcsize("P") == 8 else 11
    return not (3, _MINORS[-1]) <= sys.version_info[:2] <= (3, newest)


def _other_pythons() -> tuple[str, ...]:
    found = []
    for name in (f"python3.{minor}" for minor in _MINORS):
        path = shutil.which(name)
        if path is None:
            continue
        # Version managers put stand-ins on PATH that fail.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            ran = subprocess.run(  # noqa: S603
                [path, "-c", "import venv, ensurepip"],
                capture_output=True,
                timeout=_PROBE_SECONDS,
                check=False,
            )
            if ran.returncode == 0:
                found.append(name)
    return tuple(found)


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _keras_backend() -> tuple[str, str | None]:
    """Give the backend and what chose it, by Keras's own rules (keras/src/backend/config.py)."""
    if named := os.environ.get("KERAS_BACKEND"):
        return named, "KERAS_BACKEND"
    home = os.environ.get("KERAS_HOME")
    try:
        path = (Path(home) if home else Path.home() / ".keras") / "keras.json"
        chosen = json.loads(path.read_text(encoding="utf-8"))["backend"]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return "tensorflow", None
    return str(chosen), str(path)
