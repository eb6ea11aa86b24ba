"""Two benchmark reports beside each other: what became slower, and may they be compared?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmarks.report import BenchmarkReport, CandidateReport, Part, read_report
from benchmarks.shift import Pair, RunRatios, Shift, run_ratios
from benchmarks.statistics import Interval
from vae_edge import codec
from vae_edge.errors import UsageError
from vae_edge.terms import Format
from vae_edge.verdict import ALIKE

__all__ = ["Change", "Comparison", "Difference", "compare", "compare_schema", "load_report"]

# 1: first version. 2: matched by what an artifact is and not by its name; whether its file is the
# same; the shift of the whole run, and ratios beside it; doubts.
SCHEMA_VERSION = 2

_Key = tuple[object, ...]


class Change(str, Enum):
    """What a ratio of latencies says, after all of them were looked at.

    A difference is one that is surely not 1 and is more than 3 %: medians of two runs of the same
    file differ by that much, and of many ratios some are off by chance.
    """

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
        part: what of the VAE.
        format: of the artifact.
        precision: of the artifact; `int8+float16` for a pair of two.
        batch: images or latents per inference.
        same_files: whether SHA-256 of all files is the same in both.
        before_files: artifacts that ran in the first report.
        after_files: artifacts that ran in the second.
        before_threads: threads of its runtime in the first report.
        after_threads: threads of its runtime in the second.
        before_ms: median in the first report, milliseconds per inference.
        after_ms: median in the second.
        ratio: second median / first median, with its interval; above 1 is slower.
        beside_shift: that over the shift of the whole run; None where nothing tells that shift.
        change: what is said of it, by `beside_shift` where that is known.
        before_bytes: size of the files in the first report; None where it does not say.
        after_bytes: size of the files in the second.
    """

    name: str
    part: Part
    format: Format | None
    precision: str
    batch: int
    same_files: bool
    before_files: tuple[str, ...]
    after_files: tuple[str, ...]
    before_threads: int
    after_threads: int
    before_ms: float
    after_ms: float
    ratio: Interval
    beside_shift: Interval | None
    change: Change
    before_bytes: int | None
    after_bytes: int | None

    @property
    def judged(self) -> Interval:
        """The ratio that counts: beside the shift of the whole run, where that is known."""
        return self.beside_shift or self.ratio

    def slower_than(self, share: float) -> bool:
        """Whether the whole interval of the ratio that counts is above 1 + share."""
        return self.judged.low > 1 + share


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two reports say together.

    Attributes:
        schema_version: of this document.
        obstacles: why their latencies should not be compared; empty where they may be.
        doubts: why they cannot be compared with confidence: a machine that was not fit.
        notes: what else to know when reading the figures.
        shift: how the runs differ as a whole, by what cannot have changed; None where all has.
        differences: artifacts that both measured, in the order of the first report.
        only_before: names of what only the first measured.
        only_after: names of what only the second measured.
    """

    schema_version: int
    obstacles: tuple[str, ...]
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    shift: Shift | None
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


def compare_schema() -> dict[str, object]:
    """Give the JSON Schema of a comparison, as published in `benchmarks/compare.schema.json`."""
    return codec.schema(Comparison, title=f"vae-edge comparison, version {SCHEMA_VERSION}")


def compare(before: BenchmarkReport, after: BenchmarkReport, *, seed: int = 0) -> Comparison:
    """Compare what both measured of a bundle's artifacts.

    They are matched by component, format, precision, batch and threads. The Keras model is no
    difference of its own: where it is the same in both, it tells how the runs differ as a whole.

    Args:
        before: the report that ratios are relative to.
        after: the other one.
        seed: of the bootstrap.

    Raises:
        UsageError: they have no artifact in common, or a sample is not longer than 0.
    """
    any_threads = _one_each(before, after)
    first, second = (_by_key(report, any_threads) for report in (before, after))
    common = [key for key in first if key in second and first[key].files]
    obstacles = tuple(_obstacles(before, after, first, second))
    if not common and not obstacles:
        raise UsageError(
            "the reports have no artifact in common. The first measured "
            f"{_listed(first)}; the second {_listed(second)}."
        )
    same_keras = before.reference.sha256 == after.reference.sha256 is not None
    pairs = [
        Pair(
            before=first[key],
            after=second[key],
            unchanged=_is_unchanged(first[key], second[key], same_keras),
        )
        for key in (*common, *_keras_keys(before, first, second))
    ]
    shift, ratios = run_ratios(pairs, seed=seed)
    return Comparison(
        schema_version=SCHEMA_VERSION,
        obstacles=obstacles,
        doubts=tuple(_doubts(before, after)),
        notes=tuple(_notes(before, after, shift)),
        shift=shift,
        differences=tuple(
            _difference(pair, found)
            for pair, found in zip(pairs, ratios, strict=True)
            if pair.before.files
        ),
        only_before=_only(first, second),
        only_after=_only(second, first),
    )


def _one_each(before: BenchmarkReport, after: BenchmarkReport) -> bool:
    """Whether both were measured with one number of threads, which may differ (an obstacle)."""
    counts = [{c.threads for c in report.candidates} for report in (before, after)]
    return all(len(threads) == 1 for threads in counts)


def _by_key(report: BenchmarkReport, any_threads: bool) -> Mapping[_Key, CandidateReport]:
    return {(*c.what, c.batch, None if any_threads else c.threads): c for c in report.candidates}


def _keras_keys(
    before: BenchmarkReport,
    first: Mapping[_Key, CandidateReport],
    second: Mapping[_Key, CandidateReport],
) -> Iterator[_Key]:
    """Give the fastest call of every part and setting.

    The slower ones spend their time in Python, over many turns of the scheduler: a busy neighbour
    slows them down far more than it does an artifact.
    """
    fastest = {
        ratio.against
        for candidate in before.candidates
        for ratio in (candidate.times_faster_than_keras,)
        if ratio is not None
    }
    for key, candidate in first.items():
        if candidate.name in fastest and not candidate.files and key in second:
            yield key


def _is_unchanged(before: CandidateReport, after: CandidateReport, same_keras: bool) -> bool:
    if (before.runtime, before.threads) != (after.runtime, after.threads):
        return False
    return before.sha256 == after.sha256 if before.files else same_keras


def _only(
    these: Mapping[_Key, CandidateReport], those: Mapping[_Key, CandidateReport]
) -> tuple[str, ...]:
    return tuple(c.name for key, c in these.items() if key not in those and c.files)


def _listed(candidates: Mapping[_Key, CandidateReport]) -> str:
    return ", ".join(c.name for c in candidates.values() if c.files) or "none"


def _difference(pair: Pair, found: RunRatios) -> Difference:
    before, after, sure = pair.before, pair.after, found.sure
    change = Change.NONE
    if abs(sure.value - 1) > ALIKE and not sure.low <= 1 <= sure.high:
        change = Change.SLOWER if sure.value > 1 else Change.FASTER
    return Difference(
        name=before.name,
        part=before.part,
        format=before.format,
        precision=before.precisions,
        batch=before.batch,
        same_files=before.sha256 == after.sha256,
        before_files=before.files,
        after_files=after.files,
        before_threads=before.threads,
        after_threads=after.threads,
        before_ms=before.latency.median_ms,
        after_ms=after.latency.median_ms,
        ratio=found.plain,
        beside_shift=found.beside,
        change=change,
        before_bytes=before.size_bytes,
        after_bytes=after.size_bytes,
    )


def _obstacles(
    before: BenchmarkReport,
    after: BenchmarkReport,
    first: Mapping[_Key, CandidateReport],
    second: Mapping[_Key, CandidateReport],
) -> Iterator[str]:
    one, other = before.environment, after.environment
    for what, left, right in (
        ("CPU model", one.cpu_model, other.cpu_model),
        ("cores", one.cores, other.cores),
        ("architecture", one.architecture, other.architecture),
        ("emulation", one.emulated, other.emulated),
    ):
        if left != right:
            yield f"{what}: {_said(left)} and {_said(right)}"
    counts = [dict.fromkeys(c.threads for c in report.candidates) for report in (before, after)]
    if not set(counts[0]) & set(counts[1]):
        yield f"threads: {' and '.join(', '.join(map(str, threads)) for threads in counts)}"
    runtimes = {
        (first[key].runtime, second[key].runtime): None
        for key in first
        if key in second and first[key].files
    }
    yield from (f"runtime: {left} and {right}" for left, right in runtimes if left != right)
    batches = [_batches(candidates) for candidates in (first, second)]
    for files, sizes in batches[0].items():
        others = batches[1].get(files, {})
        if others and not set(sizes) & set(others):
            told = " and ".join(", ".join(map(str, each)) for each in (sizes, others))
            yield f"batch of {' and '.join(files)}: {told}"


def _batches(
    candidates: Mapping[_Key, CandidateReport],
) -> Mapping[tuple[str, ...], Mapping[int, None]]:
    found: dict[tuple[str, ...], dict[int, None]] = {}
    for candidate in candidates.values():
        if candidate.files:
            found.setdefault(candidate.files, {})[candidate.batch] = None
    return found


def _said(value: object) -> str:
    return "unknown" if value is None else str(value)


def _doubts(before: BenchmarkReport, after: BenchmarkReport) -> Iterator[str]:
    for which, report in (("first", before), ("second", after)):
        if report.warnings:
            codes = ", ".join(dict.fromkeys(warning.code for warning in report.warnings))
            yield (
                f"the {which} report was measured on a machine that was not fit ({codes}), so its "
                "figures may be off by more than their intervals say"
            )


def _notes(before: BenchmarkReport, after: BenchmarkReport, shift: Shift | None) -> Iterator[str]:
    if shift is None:
        yield (
            "Nothing in both reports is surely the same (the Keras model, or an artifact of the "
            "same SHA-256 and runtime), so a machine that was slower as a whole cannot be told "
            "from slower artifacts."
        )
    if before.model.source_sha256 != after.model.source_sha256:
        yield "The bundles were exported from different models."
    one, other = before.environment, after.environment
    for what, left, right in (
        ("systems", one.system, other.system),
        ("versions of Python", one.python, other.python),
        ("versions of numpy", one.numpy, other.numpy),
        ("versions of vae-edge", before.vae_edge_version, after.vae_edge_version),
    ):
        if left != right:
            yield f"The {what} differ: {left} and {right}."
