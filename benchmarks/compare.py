"""Two benchmark reports beside each other: what became slower, and may they be compared?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmarks.report import BenchmarkReport, CandidateReport, read_report
from benchmarks.statistics import Interval, median_ratio_interval
from vae_edge.errors import UsageError

__all__ = ["Change", "Comparison", "Difference", "compare", "load_report"]

SCHEMA_VERSION = 1

_Key = tuple[tuple[str, ...], int]


class Change(str, Enum):
    """What the interval of a ratio of latencies says; no difference where it contains 1."""

    FASTER = "faster"
    SLOWER = "slower"
    NONE = "no difference"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An artifact, or two in a row, in both reports.

    Attributes:
        name: as in the first report.
        files: artifacts that ran.
        batch: images or latents per inference.
        before_threads: threads of its runtime in the first report.
        after_threads: threads of its runtime in the second.
        before_ms: median in the first report, milliseconds per inference.
        after_ms: median in the second.
        ratio: second median / first median, with its interval; above 1 is slower.
        change: what the interval says.
        before_bytes: size of the files in the first report; None where it does not say.
        after_bytes: size of the files in the second.
    """

    name: str
    files: tuple[str, ...]
    batch: int
    before_threads: int
    after_threads: int
    before_ms: float
    after_ms: float
    ratio: Interval
    change: Change
    before_bytes: int | None
    after_bytes: int | None

    def slower_than(self, share: float) -> bool:
        """Whether the whole interval is above 1 + share."""
        return self.ratio.low > 1 + share


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two reports say together.

    Attributes:
        schema_version: of this document.
        obstacles: why their latencies should not be compared; empty where they may be.
        notes: what else to know when reading the figures.
        differences: artifacts that both measured, in the order of the first report.
        only_before: names of what only the first measured.
        only_after: names of what only the second measured.
    """

    schema_version: int
    obstacles: tuple[str, ...]
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


def load_report(path: Path) -> BenchmarkReport:
    """Read a report that `vae-edge benchmark --out` wrote.

    Raises:
        UsageError: not such a report, or one of another version.
        OSError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not a text file. Expected a file that `vae-edge benchmark --out FILE` wrote."
        ) from error
    return read_report(text, str(path))


def compare(before: BenchmarkReport, after: BenchmarkReport, *, seed: int = 0) -> Comparison:
    """Compare what both measured of a bundle's artifacts; the Keras model is left out.

    Args:
        before: the report that ratios are relative to.
        after: the other one.
        seed: of the bootstrap.

    Raises:
        UsageError: they have no artifact in common, or a sample is not longer than 0.
    """
    first, second = _artifacts(before), _artifacts(after)
    common = [key for key in first if key in second]
    obstacles = tuple(_obstacles(before, after, first, second))
    if not common and not obstacles:
        raise UsageError(
            "the reports have no artifact in common. The first measured "
            f"{_listed(first)}; the second {_listed(second)}."
        )
    threads = before.settings.threads, after.settings.threads
    return Comparison(
        schema_version=SCHEMA_VERSION,
        obstacles=obstacles,
        notes=tuple(_notes(before, after)),
        differences=tuple(_difference(first[key], second[key], threads, seed) for key in common),
        only_before=tuple(first[key].name for key in first if key not in second),
        only_after=tuple(second[key].name for key in second if key not in first),
    )


def _artifacts(report: BenchmarkReport) -> dict[_Key, CandidateReport]:
    return {(c.files, c.batch): c for c in report.candidates if c.files}


def _listed(candidates: dict[_Key, CandidateReport]) -> str:
    return ", ".join(candidate.name for candidate in candidates.values()) or "none"


def _difference(
    before: CandidateReport, after: CandidateReport, threads: tuple[int, int], seed: int
) -> Difference:
    ratio = median_ratio_interval(after.samples_ns, before.samples_ns, seed=seed)
    change = Change.FASTER if ratio.high < 1 else Change.SLOWER if ratio.low > 1 else Change.NONE
    return Difference(
        name=before.name,
        files=before.files,
        batch=before.batch,
        before_threads=threads[0],
        after_threads=threads[1],
        before_ms=before.latency.median_ms,
        after_ms=after.latency.median_ms,
        ratio=ratio,
        change=change,
        before_bytes=before.size_bytes,
        after_bytes=after.size_bytes,
    )


def _obstacles(
    before: BenchmarkReport,
    after: BenchmarkReport,
    first: dict[_Key, CandidateReport],
    second: dict[_Key, CandidateReport],
) -> Iterator[str]:
    one, other = before.environment, after.environment
    for what, left, right in (
        ("CPU model", one.cpu_model, other.cpu_model),
        ("cores", one.cores, other.cores),
        ("architecture", one.architecture, other.architecture),
        ("emulation", one.emulated, other.emulated),
        ("threads", before.settings.threads, after.settings.threads),
    ):
        if left != right:
            yield f"{what}: {_said(left)} and {_said(right)}"
    runtimes = {(first[key].runtime, second[key].runtime): None for key in first if key in second}
    yield from (f"runtime: {left} and {right}" for left, right in runtimes if left != right)
    for files, batch in first:
        others = [size for also, size in second if also == files]
        if others and batch not in others:
            sizes = ", ".join(map(str, others))
            yield f"batch of {' and '.join(files)}: {batch} and {sizes}"


def _said(value: object) -> str:
    return "unknown" if value is None else str(value)


def _notes(before: BenchmarkReport, after: BenchmarkReport) -> Iterator[str]:
    for which, report in (("first", before), ("second", after)):
        if report.warnings:
            codes = ", ".join(dict.fromkeys(warning.code for warning in report.warnings))
            yield (
                f"The {which} report was measured on a machine that was not fit ({codes}), so its "
                "figures may be off by more than their intervals say."
            )
    if before.model.source_sha256 != after.model.source_sha256:
        yield "The bundles were exported from different models."
    one, other = before.environment, after.environment
    for what, left, right in (
        ("systems", one.system, other.system),
        ("versions of Python", one.python, other.python),
        ("versions of numpy", one.numpy, other.numpy),
    ):
        if left != right:
            yield f"The {what} differ: {left} and {right}."
