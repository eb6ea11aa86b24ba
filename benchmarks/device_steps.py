"""What has to hold on an emulated device: one function per step, each giving what it saw."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from benchmarks.device_machine import CHECKOUT, Finished, Package, run
from benchmarks.emulation import Cpu
from benchmarks.report import read_report
from vae_edge import codec
from vae_edge.bundle import Bundle
from vae_edge.errors import ArtifactError, UsageError, VaeEdgeError
from vae_edge.images import tile
from vae_edge.parity import ParityReport, SubjectParity
from vae_edge.terms import Format, Precision

__all__ = [
    "Machine",
    "Seen",
    "check_benchmark",
    "check_doctor",
    "check_imports",
    "check_packages",
    "check_parity",
    "check_picture",
    "host_parity",
    "install",
]

# What a device must not need; a name's first part, as `tensorflow` of `tensorflow-cpu`.
_HEAVY = re.compile(
    r"(tensorflow|tf-nightly|tf-keras|tf2onnx|keras|onnx|onnxscript|scikit|scipy|matplotlib|torch|"
    r"jax|h5py|pandas)(?:[-_].*)?",
    re.IGNORECASE,
)
_IMAGES = 16
_COLUMNS = 4
# Grey levels of 255 between the darkest and the brightest pixel: less than this is a blank sheet.
_MIN_CONTRAST = 64
_ROUNDS = 2


class Machine(Protocol):
    """What the steps need of a device, or of a fake in tests."""

    @property
    def prefix(self) -> Path:
        """Directory that vae-edge is installed under."""

    def install(self, wheel: Path, work: Path) -> tuple[Package, ...]:
        """Install the wheel, and give all that is installed then."""

    def run(self, cpu: Cpu, work: Path, *arguments: str | Path) -> Finished:
        """Run Python on an emulated processor."""

    def vae_edge(self, cpu: Cpu, work: Path, *arguments: str | Path) -> Finished:
        """Run the installed command on an emulated processor."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How a step ended.

    Attributes:
        passed: whether it held.
        detail: what was seen, in one line.
        printed: what the program printed, where a reader may want all of it.
        packages: what is installed, after `install`.
        subjects: verdicts of parity, after `check_parity`.
    """

    passed: bool
    detail: str
    printed: str = ""
    packages: tuple[Package, ...] = ()
    subjects: tuple[SubjectParity, ...] = ()


def _refuse(*complaints: str | None) -> str:
    return "; ".join(complaint for complaint in complaints if complaint)


def install(machine: Machine, wheel: Path, work: Path) -> Seen:
    """Install the wheel, and look at what came along.

    Raises:
        UnavailableError: pip cannot reach its index.
        ArtifactError: it cannot be installed.
    """
    packages = machine.install(wheel, work)
    return replace(check_packages(packages), packages=packages)


def check_packages(packages: Sequence[Package]) -> Seen:
    """Expect the runtimes, and nothing that only a host needs."""
    names = {package.name.lower().replace("_", "-") for package in packages}
    heavy = [package.name for package in packages if _HEAVY.fullmatch(package.name)]
    lacking = {"vae-edge", "numpy", "typer", "ai-edge-litert", "onnxruntime"} - names
    wrong = _refuse(
        f"came along and should not: {', '.join(heavy)}" if heavy else None,
        f"not installed: {', '.join(sorted(lacking))}" if lacking else None,
    )
    listed = ", ".join(f"{package.name} {package.version}" for package in packages)
    return Seen(passed=not wrong, detail=wrong or f"{len(packages)} packages: {listed}")


def check_imports(machine: Machine, cpu: Cpu, work: Path) -> Seen:
    """Import every module that a device uses, from the wheel and nothing else."""
    script = Path(__file__).parent / "arm64" / "imports.py"
    done = machine.run(cpu, work, "-I", "-c", script.read_text(encoding="utf-8"))
    if done.code != 0:
        return Seen(passed=False, detail=done.last_words())
    found = json.loads(done.out.splitlines()[-1])
    elsewhere = [
        origin
        for origin in found["origins"].values()
        if not Path(origin).is_relative_to(machine.prefix)
    ]
    failed = [f"{name} ({reason})" for name, reason in found["failed"].items()]
    wrong = _refuse(
        f"not imported: {', '.join(failed)}" if failed else None,
        f"imported along: {', '.join(found['heavy'])}" if found["heavy"] else None,
        f"not from the wheel: {', '.join(elsewhere)}" if elsewhere else None,
        None if found["machine"] == "aarch64" else f"ran on {found['machine']}",
        None
        if found["child_machine"] == "aarch64"
        else f"a process that it started ran on {found['child_machine'] or 'nothing'}",
    )
    detail = (
        f"{found['imported']} modules on {found['machine']}, Python {found['python']}; processes "
        "that it starts are emulated too"
    )
    return Seen(passed=not wrong, detail=wrong or detail)


def check_doctor(machine: Machine, cpu: Cpu, work: Path) -> Seen:
    """Expect a healthy 64-bit Arm machine."""
    done = machine.vae_edge(cpu, work, "doctor")
    if done.code != 0:
        return Seen(passed=False, detail=done.last_words())
    expected = ("aarch64", "ai-edge-litert", "onnxruntime")
    lacking = [word for word in expected if word not in done.out]
    detail = f"does not mention {', '.join(lacking)}" if lacking else "exit 0"
    return Seen(passed=not lacking, detail=detail, printed=done.out)


def check_parity(machine: Machine, cpu: Cpu, work: Path, bundle: Bundle, jobs: int) -> Seen:
    """Expect every artifact, and every pair, to be the Keras model still.

    Args:
        machine: the device.
        cpu: processor that is emulated.
        work: directory to run in.
        bundle: what to prove.
        jobs: formats to run at once.
    """
    formats = [each for each in Format if any(bundle.select(formats=(each,)))]

    def of_format(format: Format) -> Finished:
        return machine.vae_edge(cpu, work, "parity", bundle.path, "--format", str(format), "--json")

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        runs = list(pool.map(of_format, formats))
    try:
        subjects = tuple(subject for done in runs for subject in _parity_of(done).subjects)
    except ArtifactError as error:
        return Seen(passed=False, detail=str(error))
    wanted = {record.file for record in bundle.manifest.artifacts}
    missing = wanted - {subject.file for subject in subjects}
    failed = [
        f"{subject.subject} {subject.precisions} {subject.format}"
        + (f" ({subject.failure})" if subject.failure else "")
        for subject in subjects
        if not subject.passed
    ]
    wrong = _refuse(
        f"not the Keras model any more: {', '.join(failed)}" if failed else None,
        f"not checked: {', '.join(sorted(missing))}" if missing else None,
    )
    margins = [m.margin for s in subjects for m in s.metrics if m.margin is not None]
    closest = f"; errors fit {min(margins):.2g} times or more into their limits" if margins else ""
    detail = f"{len(wanted)} artifacts and {len(subjects) - len(wanted)} pairs passed{closest}"
    return Seen(passed=not wrong, detail=wrong or detail, subjects=subjects)


def host_parity(bundle: Bundle, work: Path) -> ParityReport:
    """Compare the bundle with its golden vectors here.

    Raises:
        ArtifactError: it cannot be compared here.
        UsageError: it fails here already, so that a failure on a device would say nothing of it.
    """
    command = (sys.executable, "-m", "vae_edge", "parity", str(bundle.path), "--json")
    report = _parity_of(_on_host(command, work))
    if not report.passed:
        failed = [f"{s.subject} {s.precisions} {s.format}" for s in report.subjects if not s.passed]
        raise UsageError(
            f"{bundle.path}: fails on the host already, on {bundle.manifest.golden.images} golden "
            f"images: {', '.join(failed)}. Limits on averages need enough of them: take more with "
            "--images, or export the bundle again."
        )
    return report


def check_picture(machine: Machine, cpu: Cpu, work: Path, bundle: Bundle) -> Seen:
    """Have images drawn, and look at the picture: its size, its contrast, and the host's."""
    out = work / f"generated-{cpu}.png"
    arguments = ("--count", str(_IMAGES), "--seed", "7", "--out")
    done = machine.vae_edge(cpu, work, "generate", bundle.path, *arguments, out)
    if done.code != 0:
        return Seen(passed=False, detail=done.last_words())
    if not out.is_file():
        return Seen(passed=False, detail=f"exit code 0, and no {out.name}")
    shape = bundle.manifest.model.image_shape
    sheet = tile(np.zeros((_IMAGES, *shape), np.float32), _COLUMNS).shape
    try:
        with Image.open(out) as picture:
            size, levels = picture.size, np.asarray(picture.convert("L"), np.int16)
    except OSError as error:
        return Seen(passed=False, detail=f"{out.name}: no picture: {error}")
    if size != (sheet[1], sheet[0]):
        wanted = f"{sheet[1]} x {sheet[0]}"
        return Seen(passed=False, detail=f"{size[0]} x {size[1]} pixels; expected {wanted}")
    contrast = int(np.ptp(levels))
    if contrast < _MIN_CONTRAST:
        return Seen(passed=False, detail=f"blank: its grey levels span {contrast} of 255")
    beside = work / "generated-host.png"
    command = (sys.executable, "-m", "vae_edge", "generate", str(bundle.path), *arguments)
    detail = f"{_IMAGES} images, {size[0]} x {size[1]} pixels, grey levels span {contrast} of 255"
    if _on_host((*command, str(beside)), work).code == 0:
        with Image.open(beside) as picture:
            other = np.asarray(picture.convert("L"), np.int16)
        detail += f"; at most {np.abs(levels - other).max()} of 255 from the host's"
    return Seen(passed=True, detail=detail)


def check_benchmark(machine: Machine, cpu: Cpu, work: Path, bundle: Bundle) -> Seen:
    """Expect figures that say everywhere that they are emulated, and a refusal to call them fit."""
    held = [record.precision for record in bundle.manifest.artifacts]
    precision = Precision.INT8 if Precision.INT8 in held else held[0]
    out = work / f"benchmark-{cpu}.json"
    done = machine.vae_edge(
        cpu,
        work,
        *("benchmark", bundle.path, "--precision", str(precision)),
        *("--rounds", str(_ROUNDS), "--require-quiet", "--out", out),
    )
    if done.code != 1 or not out.is_file():
        return Seen(
            passed=False,
            detail=f"--require-quiet has to end with 1 under emulation; {done.last_words()}",
        )
    try:
        report = read_report(out.read_text(encoding="utf-8"), out.name)
    except VaeEdgeError as error:
        return Seen(passed=False, detail=str(error))
    marks: dict[str, Callable[[], bool]] = {
        "its JSON": lambda: report.environment.emulated,
        "the machine's line": lambda: "(emulated)" in report.machine,
        "its warnings": lambda: any(each.code == "emulated" for each in report.warnings),
        "the table's title": lambda: "under emulation" in done.out,
        "the table's head": lambda: re.search(r"emulated (us|ms)", done.out) is not None,
        "a choice that rests on times": lambda: "Best choice for this device" not in done.out,
    }
    wrong = [where for where, holds in marks.items() if not holds()]
    if wrong:
        detail = f"not marked as emulated: {', '.join(wrong)}"
        return Seen(passed=False, detail=detail, printed=done.out)
    detail = f"{len(report.candidates)} candidates, marked as emulated; --require-quiet refuses"
    return Seen(passed=True, detail=detail, printed=done.out)


def _parity_of(done: Finished) -> ParityReport:
    if done.code not in (0, 1):
        raise ArtifactError(f"vae-edge parity: {done.last_words()}")
    try:
        return codec.decode(ParityReport, codec.loads(done.out.splitlines()[-1]))
    except (codec.DecodeError, IndexError) as error:
        raise ArtifactError(f"vae-edge parity: printed no report: {error}") from error


def _on_host(command: Sequence[str], work: Path) -> Finished:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(work), "PYTHONPATH": str(CHECKOUT)}
    return run(command, env=env, cwd=work, timeout_s=3600.0)
