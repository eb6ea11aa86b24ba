"""What this machine can do, what it lacks, and the exact command that puts it right."""

from __future__ import annotations

import importlib
import platform
import struct
import sys
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version

__all__ = ["Finding", "Status", "examine"]


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


# Module, package, what needs it, command that adds it.
_RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert", "running .tflite artifacts"),
    ("onnxruntime", "onnxruntime", "running .onnx artifacts"),
)
_HOST = (
    ("tensorflow", "tensorflow"),
    ("keras", "keras"),
    ("onnx", "onnx"),
    ("tf2onnx", "tf2onnx"),
    ("sklearn", "scikit-learn"),
    ("matplotlib", "matplotlib"),
)
_NEWEST_PYTHON = (3, 13)


def examine() -> list[Finding]:
    """Look at Python, the processor, the runtimes and the host packages.

    Host packages are looked up, not imported: TensorFlow alone would take seconds.
    """
    return [_python(), _architecture(), _numpy(), *_runtimes(), *_host()]


def _python() -> Finding:
    current = sys.version_info[:2]
    fits = (3, 10) <= current <= _NEWEST_PYTHON
    return Finding(
        what="Python",
        status=Status.OK if fits else Status.BROKEN,
        detail=platform.python_version(),
        needed_for="everything",
        remedy=None if fits else "use Python 3.10 to 3.13: the runtimes have wheels for those",
    )


def _architecture() -> Finding:
    bits = struct.calcsize("P") * 8
    detail = f"{platform.machine()}, {bits}-bit Python, {platform.system()}"
    if bits == 64:
        return Finding(
            what="processor", status=Status.OK, detail=detail, needed_for="everything", remedy=None
        )
    return Finding(
        what="processor",
        status=Status.BROKEN if sys.version_info >= (3, 12) else Status.OPTIONAL,
        detail=detail + ": LiteRT and ONNX Runtime have no 32-bit wheels",
        needed_for="LiteRT and ONNX Runtime",
        remedy="install a 64-bit system, or use Python 3.10 or 3.11 and: "
        "pip install tflite-runtime 'numpy<2'",
    )


def _numpy() -> Finding:
    import numpy as np

    clash = _version("tflite-runtime") and int(np.__version__.split(".")[0]) >= 2
    # With LiteRT there, tflite-runtime is not used.
    harm = Status.OPTIONAL if _version("ai-edge-litert") else Status.BROKEN
    return Finding(
        what="numpy",
        status=harm if clash else Status.OK,
        detail=np.__version__ + (": tflite-runtime was built for numpy 1" if clash else ""),
        needed_for="everything",
        remedy="pip install 'numpy<2', or pip uninstall tflite-runtime" if clash else None,
    )


def _runtimes() -> list[Finding]:
    findings = []
    for module, package, purpose in _RUNTIMES:
        try:
            importlib.import_module(module)
        except ImportError as error:
            findings.append(_missing_runtime(package, purpose, error))
        else:
            findings.append(
                Finding(
                    what=package,
                    status=Status.OK,
                    detail=_version(package) or "version unknown",
                    needed_for=purpose,
                    remedy=None,
                )
            )
    return findings


def _missing_runtime(package: str, purpose: str, error: ImportError) -> Finding:
    installed = _version(package)
    if struct.calcsize("P") * 8 == 32 and not installed:
        older_32 = _version("tflite-runtime") if package == "ai-edge-litert" else None
        return Finding(
            what=package,
            status=Status.OPTIONAL if older_32 else Status.MISSING,
            detail="has no 32-bit wheel"
            + (f"; tflite-runtime {older_32} serves instead" if older_32 else ""),
            needed_for=purpose,
            remedy=None
            if older_32
            else "install a 64-bit system"
            + (", or: pip install tflite-runtime 'numpy<2'" if "litert" in package else ""),
        )
    older = _version("tflite-runtime") if package == "ai-edge-litert" else None
    if older:
        return Finding(
            what=package,
            status=Status.OPTIONAL,
            detail=f"not installed; tflite-runtime {older} serves instead",
            needed_for=purpose,
            remedy=f"pip install {package}  (64-bit systems)",
        )
    return Finding(
        what=package,
        status=Status.BROKEN if installed else Status.MISSING,
        detail=f"{installed} cannot be imported: {error}" if installed else "not installed",
        needed_for=purpose,
        remedy=f"pip install --force-reinstall {package}"
        if installed
        else f"pip install {package}",
    )


def _host() -> list[Finding]:
    found = {package: _version(package) for _, package in _HOST}
    lacking = [package for package, installed in found.items() if installed is None]
    present = ", ".join(f"{package} {v}" for package, v in found.items() if v)
    absent = f"not installed: {', '.join(lacking)}" if lacking else ""
    return [
        Finding(
            what="host packages",
            status=Status.OPTIONAL if lacking else Status.OK,
            detail="; ".join(part for part in (present, absent) if part),
            needed_for="train, export, and parity --reference (not for running a bundle)",
            remedy="pip install 'vae-edge[host]'" if lacking else None,
        )
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
