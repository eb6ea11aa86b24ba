"""An emulated Raspberry Pi with vae-edge installed from its wheel, as a user would install it.

QEMU's user mode runs an arm64 Debian's Python from a directory. In it stands a virtual environment
whose `python` is a script that starts the emulator. `sys.executable` is that script, so processes
that Python starts are emulated too, with no entry in the kernel's binfmt_misc and no root rights.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.emulation import Cpu, find_emulator, version_of, write_view
from vae_edge.errors import ArtifactError, RuntimeMissingError, VaeEdgeError

__all__ = ["CHECKOUT", "Device", "Finished", "Package", "UnavailableError", "build_wheel", "run"]

CHECKOUT = Path(__file__).resolve().parents[1]
_TIMEOUT_S = 3600.0
_SHIPPED = ("pyproject.toml", "README.md", "LICENSE")
# What pip writes where an index cannot be reached, as opposed to one that lacks a package.
_NETWORK = re.compile(
    r"Retrying \(|connection broken|ConnectionError|NewConnectionError|Max retries exceeded|"
    r"ReadTimeout|Read timed out|Temporary failure in name resolution|Name or service not known|"
    r"\b(?:403|407|429|5\d\d) (?:Client|Server) Error",
    re.IGNORECASE,
)


class UnavailableError(VaeEdgeError):
    """Something outside the project is missing, so that nothing could be proven or refuted."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that is installed on the device."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a program left behind.

    Attributes:
        code: its exit code; None where it did not end in time.
        out: what it printed on stdout.
        err: what it printed on stderr.
        seconds: how long it took.
    """

    code: int | None
    out: str
    err: str
    seconds: float

    def last_words(self) -> str:
        """Give the end of what it printed, in one line."""
        words = (self.err.strip() or self.out.strip() or "it printed nothing").split()
        return f"exit code {self.code}: {' '.join(words[-60:])}"


def run(
    command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, timeout_s: float
) -> Finished:
    """Run a program to its end, or to the end of its time.

    Raises:
        UnavailableError: it cannot be started.
    """
    started = time.perf_counter()
    try:
        done = subprocess.run(  # noqa: S603  pip, and our own package
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=dict(env),
            cwd=cwd,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        err = error.stderr if isinstance(error.stderr, bytes) else b""
        text = err.decode("utf-8", "replace") + f"\nstopped after {timeout_s:g} s"
        return Finished(code=None, out="", err=text, seconds=timeout_s)
    except OSError as error:
        raise UnavailableError(f"{command[0]}: cannot be started: {error.strerror}.") from error
    seconds = time.perf_counter() - started
    return Finished(code=done.returncode, out=done.stdout, err=done.stderr, seconds=seconds)


def build_wheel(folder: Path, checkout: Path = CHECKOUT) -> Path:
    """Build the wheel of a checkout, as it is now.

    Args:
        folder: where to; empty.
        checkout: sources. They are copied first: pip builds inside them, and puts into the wheel
            what a former build left there.

    Raises:
        RuntimeMissingError: `checkout` is none.
        UnavailableError: pip cannot reach what it builds with.
        ArtifactError: it cannot be built.
    """
    if not (checkout / "pyproject.toml").is_file():
        raise RuntimeMissingError(
            f"{checkout}: has no pyproject.toml. The proof needs a checkout of vae-edge, not the "
            "installed package alone."
        )
    sources = folder / "sources"
    sources.mkdir(parents=True)
    for path in checkout.iterdir():
        if path.name in _SHIPPED or path.suffix == ".py":
            shutil.copy(path, sources)
        elif (path / "__init__.py").is_file():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, sources / path.name, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    done = run(
        [*command, "--wheel-dir", folder, sources],
        env=_pip_environment(),
        cwd=folder,
        timeout_s=_TIMEOUT_S,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.code == 0 and len(wheels) == 1:
        return wheels[0]
    raise _pip_failure(done, "the wheel cannot be built")


@dataclass(frozen=True, kw_only=True)
class Device:
    """A prepared directory, and the emulator that runs it.

    Attributes:
        root: directory of the Debian system and, under `device`, of the virtual environment.
        qemu: path of the emulator's program.
    """

    root: Path
    qemu: str

    @classmethod
    def prepare(cls, root: Path, qemu: str = "qemu-aarch64") -> Device:
        """Make what is missing of the Debian system, and describe the processors.

        Args:
            root: directory to keep it in, about 400 MB with what is installed later.
            qemu: the emulator's program.

        Raises:
            UnavailableError: no emulator, or Debian's packages cannot be had.
        """
        try:
            found = find_emulator(qemu, "The proof")
        except RuntimeMissingError as error:
            raise UnavailableError(str(error)) from None
        root = root.absolute()
        if not (root / ".system").exists():
            script = Path(__file__).parent / "arm64" / "setup.sh"
            env = {**os.environ, "QEMU": found}
            command = ("bash", str(script), "--system", str(root))
            done = run(command, env=env, cwd=Path.cwd(), timeout_s=_TIMEOUT_S)
            if done.code != 0:
                raise UnavailableError(f"{root}: cannot be prepared: {done.last_words()}")
        device = cls(root=root, qemu=found)
        for cpu in Cpu:
            device._describe(cpu)
        return device

    @property
    def prefix(self) -> Path:
        """The virtual environment."""
        return self.root / "device"

    @property
    def site(self) -> Path:
        """Where its packages are."""
        return self.prefix / "lib" / self._python.name / "site-packages"

    @property
    def emulator(self) -> str:
        """Name and version of the emulator."""
        return version_of(self.qemu)

    def python(self, cpu: Cpu) -> Path:
        """Give the program that runs Python on an emulated processor."""
        return self.prefix / "bin" / f"python-{cpu}"

    @property
    def _python(self) -> Path:
        return (self.root / "usr/bin/python3").resolve()

    def _describe(self, cpu: Cpu) -> None:
        view = self.root / "views" / str(cpu)
        shutil.rmtree(view, ignore_errors=True)
        view.parent.mkdir(exist_ok=True)
        write_view(view, self.root, cpu)
        program = self.python(cpu)
        program.parent.mkdir(parents=True, exist_ok=True)
        emulator = (self.qemu, "-cpu", f"cortex-{cpu}", "-L", str(view))
        # Python finds its environment, and sys.executable, by the name that it was started with.
        program.write_text(
            f'#!/bin/sh\nexec {shlex.join(emulator)} -0 "$0" {shlex.quote(str(self._python))} '
            '"$@"\n',
            encoding="utf-8",
        )
        program.chmod(0o755)

    def install(self, wheel: Path, work: Path) -> tuple[Package, ...]:
        """Install the wheel with the emulated pip, and give all that came along.

        Dependencies of a former run are kept where the wheel still asks for the same.

        Raises:
            UnavailableError: the package index cannot be reached.
            ArtifactError: pip cannot install it, or its dependencies clash.
        """
        wanted = json.dumps([self._python.name, *_requirements(wheel)])
        stamp = self.prefix / "requirements.json"
        kept = stamp.exists() and stamp.read_text(encoding="utf-8") == wanted
        if not kept:
            shutil.rmtree(self.prefix / "lib", ignore_errors=True)
            stamp.unlink(missing_ok=True)
        self.site.mkdir(parents=True, exist_ok=True)
        (self.prefix / "pyvenv.cfg").write_text(
            f"home = {self._python.parent}\ninclude-system-site-packages = false\n",
            encoding="utf-8",
        )
        again = ("--no-deps", "--force-reinstall") if kept else ()
        # --no-compile: what is imported is compiled then, and most of it never is.
        options = ("--no-compile", "--only-binary=:all:", "--progress-bar=off", *again)
        self._pip(work, "install", *options, str(wheel))
        self._pip(work, "check")
        stamp.write_text(wanted, encoding="utf-8")
        found = {
            distribution.metadata["Name"]: distribution.version
            for distribution in distributions(path=[str(self.site)])
        }
        return tuple(
            Package(name=name, version=found[name]) for name in sorted(found, key=str.lower)
        )

    def _pip(self, work: Path, *arguments: str) -> None:
        # Debian's own pip, from the wheel that its venv module copies into new environments.
        wheels = sorted((self.root / "usr/share/python-wheels").glob("pip-*.whl"))
        if not wheels:
            raise UnavailableError(f"{self.root}: holds no pip. Remove it, and start again.")
        command = (str(self.python(Cpu.A76)), str(wheels[-1] / "pip"), *arguments)
        done = run(command, env=_pip_environment(), cwd=work, timeout_s=_TIMEOUT_S)
        if done.code != 0:
            raise _pip_failure(done, f"pip {arguments[0]} failed on the emulated device")

    def run(self, cpu: Cpu, work: Path, *arguments: str | Path) -> Finished:
        """Run Python on an emulated processor; nothing of the caller's environment is seen there.

        Args:
            cpu: which.
            work: working directory, and home.
            arguments: of Python.
        """
        env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(work),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "120",
            "PYTHONHASHSEED": "0",
        }
        return run((self.python(cpu), *arguments), env=env, cwd=work, timeout_s=_TIMEOUT_S)

    def vae_edge(self, cpu: Cpu, work: Path, *arguments: str | Path) -> Finished:
        """Run the installed command on an emulated processor."""
        return self.run(cpu, work, self.prefix / "bin" / "vae-edge", *arguments)


def _requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"))
    return sorted(metadata.get_all("Requires-Dist", []))


def _pip_environment() -> dict[str, str]:
    """Keep the caller's index, proxies and certificates, and leave out his packages."""
    left_out = ("PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


def _pip_failure(done: Finished, what: str) -> VaeEdgeError:
    if _NETWORK.search(done.err):
        return UnavailableError(f"{what}, and pip had no network: {done.last_words()}")
    return ArtifactError(f"{what}: {done.last_words()}")
