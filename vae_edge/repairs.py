"""An installed package that cannot be imported: what that means, and the command against it."""

from __future__ import annotations

import re

from vae_edge.installing import install_command, system_package_command
from vae_edge.machine import Machine

__all__ = ["repair"]

# Library, by the start of its name, and Debian's package that holds it.
_LIBRARIES = {"libstdc++": "libstdc++6", "libgomp": "libgomp1", "libatomic": "libatomic1"}
_MISSING_LIBRARY = re.compile(r"(lib[\w+.-]+?)\.so[\w.]*: cannot open shared object")
_MISSING_SYMBOLS = re.compile(r"(lib[\w+.-]+)\.so[\w.]*: version [`']?(\w+)")
# What the C extension of a package that was built for numpy 1 says under numpy 2.
_NUMPY_1 = ("_ARRAY_API not found", "compiled using NumPy 1", "numpy.core.multiarray failed")


def repair(machine: Machine, package: str) -> str:
    """Give the command that makes an installed package importable again.

    Args:
        machine: its `failures` say why the package is not.
        package: which.
    """
    reason = machine.failures[package]
    again = install_command(machine, package, force=True)
    if library := _MISSING_LIBRARY.search(reason):
        known = next((d for start, d in _LIBRARIES.items() if library[1].startswith(start)), None)
        return system_package_command(machine, known) if known else f"install {library[1]}"
    older = install_command(machine, f"{package}<{machine.installed[package]}")
    if "SIGILL" in reason:
        return f"this processor lacks instructions that it uses. An older release: {older}"
    if any(sign in reason for sign in _NUMPY_1):
        if package == "tflite-runtime":
            return install_command(machine, "numpy<2")
        return install_command(machine, package, upgrade=True)
    if symbols := _MISSING_SYMBOLS.search(reason):
        return f"the system's {symbols[1]} is too old for it. An older release: {older}"
    return again
