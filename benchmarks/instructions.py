"""Instructions per inference on emulated Raspberry Pis: `python -m benchmarks.instructions`.

Runs artifacts on an emulated Cortex-A76 (Raspberry Pi 5) and Cortex-A72 (Raspberry Pi 4), batch 1,
one thread, and prints a Markdown table. The counts are the same however busy the machine is, so
they tell two exports of a model apart where no Pi is at hand. They are a stand-in for a Pi's time,
not that time. See docs/arm64.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.emulation import INFERENCES, WARMUP, Count, Cpu, Emulator, InstructionCounter
from benchmarks.instruction_report import (
    MEANING,
    SCHEMA_VERSION,
    InstructionCount,
    InstructionReport,
    Subject,
    find_subjects,
    markdown,
)
from vae_edge.errors import VaeEdgeError
from vae_edge.files import write_json
from vae_edge.terms import Component, Format, Precision

__all__ = ["count_instructions", "main"]

# Beyond this share between repeats, a ratio of the table is not worth its second decimal.
_STEADY = 0.01


def count_instructions(
    counter: InstructionCounter,
    subjects: Sequence[Subject],
    *,
    stock: Sequence[Subject] = (),
    cpus: Sequence[Cpu] = tuple(Cpu),
    repeat: int = 1,
    jobs: int = 1,
) -> InstructionReport:
    """Count every artifact on every processor.

    Args:
        counter: the emulator.
        subjects: artifacts to count.
        stock: what to compare them with, by component, format and precision; those that no subject
            is compared with are left out.
        cpus: emulated processors.
        repeat: runs of each, each in a process of its own.
        jobs: how many run at once.

    Raises:
        ArtifactError: one does not run; the others are given up.
    """
    # Named twice, as a file and in its bundle, is one artifact still.
    subjects = tuple(dict.fromkeys(subjects))
    compared = {_identity(subject) for subject in subjects if subject.component is not None}
    stock = [subject for subject in stock if _identity(subject) in compared]
    runs = [
        (subject, cpu, repetition)
        for cpu in cpus
        for subject in (*subjects, *stock)
        for repetition in range(repeat)
    ]
    measured: dict[tuple[Path, Cpu], list[Count]] = {}
    for (subject, cpu, _), count in zip(runs, _run(counter, runs, jobs), strict=True):
        measured.setdefault((subject.path, cpu), []).append(count)

    def instructions(subject: Subject | None, cpu: Cpu) -> float | None:
        counts = measured[subject.path, cpu] if subject is not None else ()
        return median(count.instructions for count in counts) if counts else None

    def summary(subject: Subject, cpu: Cpu, against: Sequence[Subject]) -> InstructionCount:
        counts = measured[subject.path, cpu]
        own = median(count.instructions for count in counts)
        return InstructionCount(
            artifact=str(subject.path),
            component=subject.component,
            format=subject.format,
            precision=subject.precision,
            cpu=cpu,
            runtime=counts[0].runtime,
            instructions=own,
            simd_instructions=median(count.simd_instructions for count in counts),
            repeats=tuple(count.instructions for count in counts),
            times_fewer_than_stock=_ratio(
                instructions(_twin(subject, against, subject.precision), cpu), own
            ),
            times_fewer_than_float32=_ratio(
                instructions(_float32_beside(subject, (*subjects, *stock)), cpu), own
            ),
        )

    return InstructionReport(
        schema_version=SCHEMA_VERSION,
        meaning=MEANING,
        emulator=counter.version(),
        batch=1,
        threads=1,
        warmup=WARMUP,
        inferences=INFERENCES,
        counts=tuple(summary(subject, cpu, stock) for subject in subjects for cpu in cpus),
        stock=tuple(summary(subject, cpu, ()) for subject in stock for cpu in cpus),
    )


def _run(
    counter: InstructionCounter, runs: Sequence[tuple[Subject, Cpu, int]], jobs: int
) -> list[Count]:
    """Count in several emulators at once; the first that fails ends it."""
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = [pool.submit(counter.count, subject.path, cpu) for subject, cpu, _ in runs]
        try:
            counts = []
            for (subject, cpu, _), future in zip(runs, futures, strict=True):
                counts.append(future.result())
                done = f"{len(counts)}/{len(runs)}"
                sys.stderr.write(f"{done} {subject.path.name} on an emulated {cpu.label}\n")
            return counts
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _identity(subject: Subject) -> tuple[Component | None, Format, Precision | None]:
    return subject.component, subject.format, subject.precision


def _twin(
    subject: Subject, others: Iterable[Subject], precision: Precision | None
) -> Subject | None:
    """Give the other export of the same component and format, at a precision."""
    if subject.component is None:
        return None
    wanted = (subject.component, subject.format, precision)
    return next((other for other in others if _identity(other) == wanted), None)


def _float32_beside(subject: Subject, others: Iterable[Subject]) -> Subject | None:
    if subject.precision is Precision.FLOAT32:
        return None
    beside = (other for other in others if other.path.parent == subject.path.parent)
    return _twin(subject, beside, Precision.FLOAT32)


def _ratio(reference: float | None, own: float) -> float | None:
    return None if reference is None else reference / own


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument(
        "root", type=Path, metavar="ROOT", help="directory made by benchmarks/arm64/setup.sh"
    )
    parser.add_argument(
        "targets",
        nargs="+",
        type=Path,
        metavar="ARTIFACT_OR_BUNDLE",
        help="a .tflite or .onnx file, or a directory of them",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR_OF_STOCK",
        help="other exports to compare with, e.g. decoder.int8.tflite of the stock converter",
    )
    parser.add_argument(
        "--cpu",
        action="append",
        type=Cpu,
        choices=list(Cpu),
        help="emulate only this one; repeatable (default: both)",
    )
    parser.add_argument(
        "--repeat", type=_positive, default=2, help="runs of each (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=os.cpu_count() or 1,
        help="how many to run at once (default: %(default)s, one for each core)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--qemu", default="qemu-aarch64", help="(default: %(default)s)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of 1 or more; received {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; the table on stdout, progress on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        report = _count(arguments)
        # The table first: what took minutes is not lost to a file that cannot be written.
        sys.stdout.write(markdown(report) + "\n")
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(arguments.json, report)
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {error.strerror}.\n")
        return 2
    for count in (*report.counts, *report.stock):
        if count.spread > _STEADY:
            sys.stderr.write(
                f"note: {count.artifact} on {count.cpu.label}: runs differ by {count.spread:.1%}; "
                "repeat more often (--repeat) before trusting its ratios.\n"
            )
    return 0


def _count(arguments: argparse.Namespace) -> InstructionReport:
    emulator = Emulator.open(arguments.root, arguments.qemu)
    subjects = [subject for target in arguments.targets for subject in find_subjects(target)]
    return count_instructions(
        emulator,
        subjects,
        stock=find_subjects(arguments.against) if arguments.against else (),
        cpus=tuple(dict.fromkeys(arguments.cpu or Cpu)),
        repeat=arguments.repeat,
        jobs=arguments.jobs,
    )


if __name__ == "__main__":
    sys.exit(main())
