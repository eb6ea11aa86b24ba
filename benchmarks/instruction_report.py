"""What was counted, on which artifacts, and the table of it. See `benchmarks.instructions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.emulation import Cpu
from vae_edge.bundle import Bundle
from vae_edge.errors import UsageError
from vae_edge.manifest import MANIFEST_NAME
from vae_edge.terms import Component, Format, Precision

__all__ = [
    "MEANING",
    "SCHEMA_VERSION",
    "InstructionCount",
    "InstructionReport",
    "Subject",
    "find_subjects",
    "markdown",
]

SCHEMA_VERSION = 1
MEANING = (
    "Instructions on an emulated processor: a stand-in for the time on a Raspberry Pi, not that "
    "time."
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A file to count, and what it is; None where neither manifest nor name says."""

    path: Path
    component: Component | None
    precision: Precision | None
    format: Format

    @classmethod
    def from_name(cls, path: Path) -> Subject:
        """Read a name such as `decoder.int8.tflite`.

        Raises:
            UsageError: the name ends in no known format.
        """
        try:
            format = Format(path.suffix.removeprefix("."))
        except ValueError:
            known = ", ".join(f".{member}" for member in Format)
            raise UsageError(
                f"{path}: not an artifact; expected a file ending in {known}."
            ) from None
        try:
            component_name, precision_name = path.stem.split(".")
            component, precision = Component(component_name), Precision(precision_name)
        except ValueError:
            return cls(path=path, component=None, precision=None, format=format)
        return cls(path=path, component=component, precision=precision, format=format)


@dataclass(frozen=True, kw_only=True)
class InstructionCount:
    """One artifact on one processor, per inference.

    Attributes:
        artifact: its path.
        cpu: the emulated processor.
        runtime: name and version of the runtime.
        instructions: median over the repeats.
        simd_instructions: how many of them are SIMD and floating-point arithmetic; their median.
        repeats: instructions of each run.
        times_fewer_than_stock: the stock export's instructions over these; None where there is no
            stock export of the same component, format and precision.
        times_fewer_than_float32: those of the float32 artifact beside it, of the same component
            and format, over these; None for itself and where there is none.
    """

    artifact: str
    component: Component | None
    format: Format
    precision: Precision | None
    cpu: Cpu
    runtime: str
    instructions: float
    simd_instructions: float
    repeats: tuple[float, ...]
    times_fewer_than_stock: float | None
    times_fewer_than_float32: float | None

    @property
    def spread(self) -> float:
        """Largest minus smallest repeat, as a share of the median."""
        return (max(self.repeats) - min(self.repeats)) / self.instructions


@dataclass(frozen=True, kw_only=True)
class InstructionReport:
    """What was counted, and how."""

    schema_version: int
    meaning: str
    emulator: str
    batch: int
    threads: int
    warmup: int
    inferences: int
    counts: tuple[InstructionCount, ...]
    stock: tuple[InstructionCount, ...]


def find_subjects(target: Path) -> list[Subject]:
    """Give the artifacts of a bundle or of a directory, or the one file.

    Raises:
        UsageError: nothing there, or nothing that is an artifact.
        BundleError: a bundle that is damaged.
    """
    if target.is_file():
        return [Subject.from_name(target)]
    if not target.is_dir():
        raise UsageError(f"{target}: does not exist; expected an artifact or a bundle.")
    if (target / MANIFEST_NAME).exists():
        return [
            Subject(
                path=target / record.file,
                component=record.component,
                precision=record.precision,
                format=record.format,
            )
            for record in Bundle.open(target).manifest.artifacts
        ]
    found = [
        Subject.from_name(path) for format in Format for path in sorted(target.glob(f"*.{format}"))
    ]
    if not found:
        known = ", ".join(f".{member}" for member in Format)
        raise UsageError(f"{target}: holds no artifact; expected files ending in {known}.")
    return found


def markdown(report: InstructionReport) -> str:
    """Give a report as a Markdown table, in thousands of instructions per inference."""
    cpus = list(dict.fromkeys(count.cpu for count in report.counts))
    paths = list(dict.fromkeys(count.artifact for count in report.counts))
    several = len({Path(path).parent for path in paths}) > 1
    with_stock = bool(report.stock)
    columns = ["artifact"]
    for cpu in cpus:
        columns += [f"{cpu.label}, thousands", "SIMD"]
        columns += ["fewer than stock"] if with_stock else []
        columns += ["fewer than float32"]
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    by_key = {(count.artifact, count.cpu): count for count in report.counts}
    for path in paths:
        cells = [f"{Path(path).parent.name}/{Path(path).name}" if several else Path(path).name]
        for cpu in cpus:
            cells += _cells(by_key[path, cpu], with_stock=with_stock)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _caption(report, cpus)])


def _cells(count: InstructionCount, *, with_stock: bool) -> list[str]:
    def times(ratio: float | None) -> str:
        return "" if ratio is None else f"{ratio:.2f}x"

    cells = [
        f"{count.instructions / 1000:,.0f}",
        f"{count.simd_instructions / count.instructions:.0%}",
    ]
    cells += [times(count.times_fewer_than_stock)] if with_stock else []
    return [*cells, times(count.times_fewer_than_float32)]


def _caption(report: InstructionReport, cpus: Sequence[Cpu]) -> str:
    counts = (*report.counts, *report.stock)
    runtimes = ", ".join(sorted({count.runtime for count in counts}))
    boards = ", ".join(f"{cpu.label}: {cpu.board}" for cpu in cpus)
    repeats = max(len(count.repeats) for count in counts)
    largest = max(count.spread for count in counts)
    steady = f" Largest difference between {repeats} runs: {largest:.1%}." if repeats > 1 else ""
    return (
        f"{report.meaning} Batch {report.batch}, one thread; {boards}. {runtimes}; "
        f"{report.emulator}.{steady}"
    )
