"""Runs inside the emulator: imports all that a device uses, and prints what came of it as JSON.

Only the installed wheel may be found: run it with `python -I -c`, from its text.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import subprocess
import sys

_HEAVY = ("tensorflow", "keras", "onnx", "tf2onnx", "sklearn", "matplotlib", "exporters")
# What a host trains with, and what pytest loads where it is installed.
_ELSEWHERE = ("vae_edge.training", "vae_edge.parity_suite")
_CHILD = "import platform; print(platform.machine())"


def _main() -> None:
    imported, failed, origins = [], {}, {}
    for name in ("vae_edge", "benchmarks"):
        package = importlib.import_module(name)
        origins[name] = package.__file__
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if module.name.startswith(_ELSEWHERE) or module.name.endswith("__main__"):
                continue
            try:
                importlib.import_module(module.name)
                imported.append(module.name)
            except Exception as error:  # noqa: BLE001  all of them are to be named
                failed[module.name] = f"{type(error).__name__}: {error}"
    child = subprocess.run(  # noqa: S603  this interpreter
        [sys.executable, "-I", "-c", _CHILD], capture_output=True, text=True, check=False
    )
    found = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "child_machine": child.stdout.strip(),
        "imported": len(imported),
        "failed": failed,
        "heavy": sorted({name.partition(".")[0] for name in sys.modules} & set(_HEAVY)),
        "origins": origins,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _main()
