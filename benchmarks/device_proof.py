"""The proof on an emulated Raspberry Pi: `python -m benchmarks.device_proof ROOT [BUNDLE]`.

Builds the wheel of this checkout and installs it with its dependencies on an emulated arm64
Debian, with that system's own pip. From the wheel alone it then imports everything that a device
uses, and runs doctor, parity of every artifact, generate, and a short benchmark that says that it
is emulated.

Exit code 0: proven; 1: the proof failed; 2: it was asked for in a wrong way; 3: the emulator,
Debian's packages or the package index cannot be had, so nothing is known. See docs/arm64.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import device_steps
from benchmarks.device_bundle import choose_bundle, thinned
from benchmarks.device_machine import Device, UnavailableError, build_wheel
from benchmarks.device_report import (
    MEANING,
    SCHEMA_VERSION,
    DeviceProof,
    Step,
    figures_of,
    markdown,
)
from benchmarks.device_steps import Seen
from benchmarks.emulation import Cpu
from vae_edge.bundle import Bundle
from vae_edge.errors import ArtifactError, VaeEdgeError
from vae_edge.files import write_json
from vae_edge.parity import SubjectParity

__all__ = ["Exit", "main", "prove"]

DEFAULT_IMAGES = 32


class Exit:
    """What the command ends with."""

    PROVEN = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    INTERRUPTED = 130


def prove(
    device: Device,
    bundle: Bundle,
    *,
    cpus: Sequence[Cpu],
    work: Path,
    jobs: int,
    on_step: Callable[[Step], None] = lambda step: None,
) -> DeviceProof:
    """Install the wheel, and have everything run that a device has to.

    Args:
        device: a prepared one.
        bundle: what to prove there.
        cpus: processors to emulate.
        work: directory for all that is written.
        jobs: emulators at once.
        on_step: told of every step, for progress.

    Raises:
        UnavailableError: pip cannot reach its index.
        ArtifactError: the wheel cannot be built or installed, or the bundle does not run here.
        UsageError: the bundle fails on the host already.
    """
    steps: list[Step] = []

    def take(name: str, cpu: Cpu | None, check: Callable[[], Seen]) -> Seen:
        started = time.perf_counter()
        seen = check()
        seconds = time.perf_counter() - started
        steps.append(
            Step(name=name, cpu=cpu, passed=seen.passed, detail=seen.detail, seconds=seconds)
        )
        on_step(steps[-1])
        return seen

    here = device_steps.host_parity(bundle, work)
    wheels = work / "wheel"
    wheels.mkdir()
    wheel = build_wheel(wheels)
    installed = take("install", None, partial(device_steps.install, device, wheel, work))
    subjects: dict[Cpu, tuple[SubjectParity, ...]] = {}
    printed: dict[str, str] = {}
    for cpu in cpus:
        on_it = (device, cpu, work)
        take("imports", cpu, partial(device_steps.check_imports, *on_it))
        take("doctor", cpu, partial(device_steps.check_doctor, *on_it))
        compared = take("parity", cpu, partial(device_steps.check_parity, *on_it, bundle, jobs))
        take("generate", cpu, partial(device_steps.check_picture, *on_it, bundle))
        measured = take("benchmark", cpu, partial(device_steps.check_benchmark, *on_it, bundle))
        subjects[cpu], printed[str(cpu)] = compared.subjects, measured.printed
    return DeviceProof(
        schema_version=SCHEMA_VERSION,
        meaning=MEANING,
        emulated=True,
        passed=all(step.passed for step in steps),
        emulator=device.emulator,
        host=platform.machine(),
        wheel=wheel.name,
        bundle=str(bundle.path),
        golden_images=bundle.manifest.golden.images,
        packages=installed.packages,
        steps=tuple(steps),
        figures=figures_of(here, subjects),
        benchmark=printed,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.device_proof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "root", type=Path, metavar="ROOT", help="directory of the emulated system; made if missing"
    )
    parser.add_argument(
        "bundle",
        nargs="?",
        type=Path,
        metavar="BUNDLE",
        help="default: build/mnist-vae if quickstart left it, else the shipped model's export",
    )
    parser.add_argument(
        "--cpu",
        action="append",
        type=Cpu,
        choices=list(Cpu),
        help="emulate only this one; repeatable (default: both)",
    )
    parser.add_argument(
        "--images",
        type=_positive,
        default=DEFAULT_IMAGES,
        metavar="N",
        help="golden images for parity; a large number: all (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=os.cpu_count() or 1,
        help="emulators at once (default: %(default)s, one for each core)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything found there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep pictures and reports there")
    parser.add_argument("--qemu", default="qemu-aarch64", help="(default: %(default)s)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of 1 or more; received {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; the tables on stdout, progress on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="vae-edge-device-") as folder:
            work = _work(arguments.keep) if arguments.keep else Path(folder)
            proof = _prove(arguments, work)
        # The tables first: what took minutes is not lost to a file that cannot be written.
        sys.stdout.write(markdown(proof) + "\n")
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(arguments.json, proof)
    except UnavailableError as error:
        sys.stderr.write(f"not proven, and not refuted: {error}\n")
        return Exit.UNAVAILABLE
    except ArtifactError as error:
        sys.stderr.write(f"failed: {error}\n")
        return Exit.FAILED
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return Exit.USAGE
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {error.strerror}.\n")
        return Exit.USAGE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was proven. What is installed is kept.\n")
        return Exit.INTERRUPTED
    for step in proof.steps:
        if not step.passed:
            where = f" on an emulated {step.cpu.label}" if step.cpu else ""
            sys.stderr.write(f"failed: {step.name}{where}: {step.detail}\n")
    return Exit.PROVEN if proof.passed else Exit.FAILED


def _prove(arguments: argparse.Namespace, work: Path) -> DeviceProof:
    # First what may be missing here: an export would be for nothing.
    device = Device.prepare(arguments.root, arguments.qemu)
    whole = choose_bundle(arguments.bundle, work)
    return prove(
        device,
        thinned(whole, arguments.images, work / "thinned"),
        cpus=tuple(dict.fromkeys(arguments.cpu or Cpu)),
        work=work,
        jobs=arguments.jobs,
        on_step=_show,
    )


def _work(folder: Path) -> Path:
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise OSError(None, "is not empty; expected a new directory for --keep", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _show(step: Step) -> None:
    where = f" on an emulated {step.cpu.label}" if step.cpu else ""
    verdict = "passed" if step.passed else "FAILED"
    sys.stderr.write(f"{verdict} {step.name}{where}, {step.seconds:.0f} s\n")


if __name__ == "__main__":
    sys.exit(main())
