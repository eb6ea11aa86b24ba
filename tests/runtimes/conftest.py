"""Virtual environments that hold one runtime at one version, and what a device needs besides.

They need a package index and Python 3.11, the last one that all runtimes have wheels for, and are
made only when these tests are asked for: `pytest -m runtimes`. Where either is missing the tests
are skipped, and fail where `VAE_EDGE_REQUIRE_RUNTIMES=1` says that they have to run. Environments
are kept in `VAE_EDGE_RUNTIME_ENVS`, or in pytest's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from vae_edge.bundle import Bundle

ROOT = Path(__file__).parents[2]
MARKER = "runtimes"
PYTHON = "python3.11"
# What a device installs besides numpy and a runtime.
DEVICE = ("typer", "rich", "pillow")
# Built against numpy 1: with numpy 2 they cannot be imported.
FIRST_ONNXRUNTIME_FOR_NUMPY_2 = (1, 19)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}: builds virtual environments with old runtimes (needs a package index)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a network unless it is asked for by name, whatever else `-m` says."""
    if MARKER in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker(MARKER)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("VAE_EDGE_REQUIRE_RUNTIMES") == "1":
        pytest.fail(f"VAE_EDGE_REQUIRE_RUNTIMES=1, but {reason}")
    pytest.skip(reason)


def without_python_settings(**more: str) -> dict[str, str]:
    """Give the environment without what would let other packages, or MNIST, be found."""
    left_out = ("PYTHON", "VAE_EDGE_DATA_DIR", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    return kept | more


def run(*command: object, check: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=without_python_settings(**more),
        timeout=900,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


@dataclass(frozen=True)
class Runtime:
    """A runtime's package; `wanted` is a version or the start of one, None the newest."""

    package: str
    wanted: str | None = None

    def __str__(self) -> str:
        return f"{self.package}-{self.wanted or 'newest'}"

    def requirements(self) -> list[str]:
        release = tuple(int(n) for n in (self.wanted or "").split(".") if n)
        old = self.package == "tflite-runtime" or (
            self.package == "onnxruntime" and () < release < FIRST_ONNXRUNTIME_FOR_NUMPY_2
        )
        version = f"=={self.wanted}.*" if self.wanted else ""
        return [self.package + version, "numpy<2" if old else "numpy", *DEVICE]


@dataclass(frozen=True)
class Environment:
    """A virtual environment with one runtime, and the version that is in it."""

    python: Path
    runtime: Runtime
    version: str

    @property
    def format(self) -> str:
        return "onnx" if self.runtime.package == "onnxruntime" else "tflite"

    def parity(self, bundle: Path) -> Parity:
        """Run `vae-edge parity` there, from source: no package of this project is installed."""
        command = ("-s", "-m", "vae_edge", "parity", bundle, "--format", self.format, "--json")
        done = run(self.python, *command, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 1), done.stderr
        return Parity(done.returncode, json.loads(done.stdout))


@dataclass(frozen=True)
class Parity:
    exit_code: int
    report: dict[str, Any]

    def of(self, file: str) -> dict[str, Any]:
        (subject,) = (s for s in self.report["subjects"] if s["file"] == file)
        return subject

    def pairs(self) -> list[dict[str, Any]]:
        return [s for s in self.report["subjects"] if s["file"] is None]


@pytest.fixture(scope="session")
def python311() -> Path:
    """The first on PATH that works and can make virtual environments.

    Version managers put a stand-in on PATH that fails, and Debian's has no ensurepip unless asked.
    """
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(PYTHON, path=folder)
        if found and run(found, "-c", "import ensurepip, venv").returncode == 0:
            return Path(found)
    unavailable(f"no {PYTHON} that can make virtual environments was found on PATH")


@pytest.fixture(scope="session")
def environments(request: pytest.FixtureRequest) -> Path:
    named = os.environ.get("VAE_EDGE_RUNTIME_ENVS")
    if named:
        return Path(named).absolute()
    return request.config.cache.mkdir("vae-edge-runtimes")


MakeEnvironment = Callable[[str, str | None], Environment]


@pytest.fixture(scope="session")
def make_environment(python311: Path, environments: Path) -> MakeEnvironment:
    """`make(package, version)` gives an environment; None stands for the newest version."""
    made: dict[Runtime, Environment] = {}

    def make(package: str, version: str | None) -> Environment:
        runtime = Runtime(package, version)
        if runtime not in made:
            made[runtime] = build(python311, environments / str(runtime), runtime)
        return made[runtime]

    return make


def build(python311: Path, folder: Path, runtime: Runtime) -> Environment:
    """Make an environment, or take the one that a former run left."""
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(runtime.requirements()) + "\n"
    kept = stamp.exists() and stamp.read_text() == wanted
    if not kept:
        run(python311, "-m", "venv", "--clear", folder, check=True)
    # What is newest is looked up every time. Where that fails, what was newest then has to do.
    if not kept or runtime.wanted is None:
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        done = run(*pip, "--upgrade", "--only-binary=:all:", *runtime.requirements())
        if done.returncode != 0 and not kept:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            unavailable(f"pip cannot install {runtime}: {last[0]}")
        # Written last: an environment that is only half made has none, and is made anew.
        stamp.write_text(wanted)
    show = f"from importlib.metadata import version; print(version({runtime.package!r}))"
    return Environment(python, runtime, run(python, "-c", show, check=True).stdout.strip())


@pytest.fixture(scope="session")
def shipped_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shipped model in both formats, at every precision."""
    out = tmp_path_factory.mktemp("runtimes") / "bundle"
    formats = ("--format", "tflite", "--format", "onnx")
    precisions = [f"--precision={p}" for p in ("float32", "float16", "dynamic", "int8")]
    export = (sys.executable, "-m", "vae_edge", "export", "--no-benchmark", *formats)
    run(*export, *precisions, "--out", out, check=True)
    return Bundle.open(out)
