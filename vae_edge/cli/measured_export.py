"""What happens to a staged bundle before it is published: it is measured, and chosen from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vae_edge.errors import ExportError
from vae_edge.files import replaced_file
from vae_edge.split_options import SplitOptions

if TYPE_CHECKING:
    from benchmarks.report import BenchmarkReport
    from vae_edge.manifest import LatencyRecord, Manifest, QualityBudget, SelectionRecord
    from vae_edge.tolerances import Override
    from vae_edge.verdict import Verdict

__all__ = ["MeasuredExport"]

_FOUND = SplitOptions()


class MeasuredExport:
    """The hooks of one export, and what they found."""

    def __init__(
        self,
        reference: Path | None,
        budget: QualityBudget | None,
        *,
        split: SplitOptions = _FOUND,
        overrides: tuple[Override, ...] = (),
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Take what the hooks go by.

        Args:
            reference: the Keras model to measure against; None to measure the artifacts alone, or
                where `split` names its halves.
            budget: of the choice; None where none is made.
            split: how the Keras model is taken apart.
            overrides: limits that replace the built-in ones.
            on_progress: told of the measurement.
        """
        self._reference = reference
        self._split = split
        self._budget = budget
        self._overrides = overrides
        self._on_progress = on_progress
        self._path: Path | None = None
        self._report: BenchmarkReport | None = None
        self._staged: Manifest | None = None

    def measure(self, bundle: Path) -> Mapping[str, LatencyRecord]:
        """Benchmark a staged bundle; give what the manifest keeps of it."""
        from benchmarks.latency import run_benchmark
        from benchmarks.report import latency_records

        self._path = bundle
        self._report = run_benchmark(
            bundle,
            reference=self._reference,
            split=self._split,
            alone=False,
            on_progress=self._on_progress,
        )
        return latency_records(self._report)

    def select(self, staged: Manifest) -> SelectionRecord:
        """Choose one artifact per component and format from what was measured.

        Raises:
            ExportError: none of a component and format keeps the budget, or those that were chosen
                are not the Keras model when they are run in a row.
        """
        from benchmarks.verdicts import alike_by_samples, candidates_of
        from vae_edge.selection import DEFAULT_BUDGET, by_component_and_format, choose

        measured = self._report.candidates if self._report else ()
        self._staged = staged
        record = choose(
            candidates_of(staged, measured),
            self._budget or DEFAULT_BUDGET,
            group=by_component_and_format,
            alike=alike_by_samples(measured),
        )
        _check_complete(staged, record)
        if self._path is not None:
            _check_in_a_row(self._path, _only(staged, record), self._overrides)
        return record

    def verdicts(self, published: Manifest) -> tuple[Verdict, ...]:
        """Judge what was published, beside everything that was measured."""
        from benchmarks.verdicts import ratios
        from vae_edge.verdict import verdicts

        measured = ratios(self._report.candidates) if self._report else {}
        kept = {record.file for record in published.artifacts}
        return tuple(v for v in verdicts(self._staged or published, measured) if v.file in kept)

    def write_report(self, path: Path, published: Manifest) -> None:
        """Write the whole benchmark report, with what is known since the artifacts were proven."""
        from benchmarks.report import write_report
        from benchmarks.verdicts import with_verdicts
        from vae_edge.selection import DEFAULT_BUDGET

        if self._report is None:
            return
        report = with_verdicts(
            self._report, self._staged or published, self._budget or DEFAULT_BUDGET
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as part:
            part.write_text(write_report(report), encoding="utf-8")


def _only(staged: Manifest, selection: SelectionRecord) -> Manifest:
    kept = tuple(record for record in staged.artifacts if record.file in selection.chosen)
    return dataclasses.replace(staged, artifacts=kept)


def _check_in_a_row(path: Path, chosen: Manifest, overrides: tuple[Override, ...]) -> None:
    """Halves that are good enough alone, and of different precisions, were not yet run together."""
    from vae_edge.bundle import Bundle
    from vae_edge.parity import check_parity, golden_reference

    bundle = Bundle(path=path, manifest=chosen)
    report = check_parity(bundle, golden_reference(bundle), overrides=overrides)
    failed = [
        f"{subject.subject} {subject.precisions} {subject.format}"
        for subject in report.subjects
        if not subject.passed
    ]
    if failed:
        raise ExportError(
            f"what was chosen fails parity: {', '.join(failed)}. No bundle was written. Tighten "
            "the budget with --min-psnr or --max-error, or name the precisions yourself."
        )


def _check_complete(staged: Manifest, selection: SelectionRecord) -> None:
    """A bundle that lacks a half, or a format that was asked for, must not be published."""
    fates = {candidate.file: candidate for candidate in selection.candidates}
    groups = dict.fromkeys((record.component, record.format) for record in staged.artifacts)
    empty = []
    for component, format in groups:
        rivals = [
            fates[record.file]
            for record in staged.artifacts
            if (record.component, record.format) == (component, format)
        ]
        if not any(rival.chosen for rival in rivals):
            told = ", ".join(f"{rival.file}: {rival.reason}" for rival in rivals)
            empty.append(f"no {format} {component} is within the budget ({told})")
    if empty:
        raise ExportError(
            f"{'; '.join(empty)}. No bundle was written. Widen the budget with --min-psnr or "
            "--max-error, or name the precisions yourself."
        )
