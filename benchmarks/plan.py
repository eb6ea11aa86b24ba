"""Which worker processes a run needs, and what each measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.protocol import GroupTask
from benchmarks.report import Part
from vae_edge.bundle import Bundle
from vae_edge.errors import UsageError
from vae_edge.manifest import ArtifactRecord
from vae_edge.terms import Component, Format, Precision

__all__ = ["Selection", "plan"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which artifacts and parts to measure; everything by default."""

    formats: tuple[Format, ...] = tuple(Format)
    precisions: tuple[Precision, ...] = tuple(Precision)
    parts: tuple[Part, ...] = tuple(Part)


def plan(
    bundle: Bundle, reference: Path | None, selection: Selection, *, threads: int, seed: int
) -> tuple[GroupTask, ...]:
    """Give one task per format and precision, after one for Keras per batch size.

    Raises:
        UsageError: the bundle holds nothing of what was selected.
    """
    groups: dict[tuple[Format, Precision], list[ArtifactRecord]] = {}
    for record in bundle.select(formats=selection.formats, precisions=selection.precisions):
        groups.setdefault((record.format, record.precision), []).append(record)
    tasks = [
        GroupTask(
            name=f"{precision} {format}",
            source=str(bundle.path),
            format=format,
            precision=precision,
            parts=parts,
            threads=threads,
            batch=batch,
            seed=seed,
        )
        for (format, precision), records in groups.items()
        for batch, parts in _parts_by_batch(records, selection.parts)
    ]
    if not tasks:
        held = ", ".join(record.label for record in bundle.manifest.artifacts)
        raise UsageError(
            f"{bundle.path}: holds nothing of what --format, --precision and --component select. "
            f"It holds: {held}."
        )
    return (*_keras_tasks(reference, tasks), *tasks)


def _parts_by_batch(
    records: list[ArtifactRecord], wanted: tuple[Part, ...]
) -> Iterator[tuple[int, tuple[Part, ...]]]:
    """Group the parts by batch size; the two in a row need the same."""
    components: dict[int, list[Component]] = {}
    for record in records:
        # an artifact that takes any batch is measured with one image
        components.setdefault(record.inputs[0].batch or 1, []).append(record.component)
    for batch, present in components.items():
        available = {Part(component.value) for component in present}
        if len(present) == len(Component):
            available.add(Part.BOTH)
        parts = tuple(part for part in Part if part in available and part in wanted)
        if parts:
            yield batch, parts


def _keras_tasks(reference: Path | None, tasks: list[GroupTask]) -> Iterator[GroupTask]:
    if reference is None:
        return
    for batch in sorted({task.batch for task in tasks}):
        measured = {part for task in tasks if task.batch == batch for part in task.parts}
        yield GroupTask(
            name="keras",
            source=str(reference),
            format=None,
            precision=Precision.FLOAT32,
            parts=tuple(part for part in Part if part in measured),
            threads=tasks[0].threads,
            batch=batch,
            seed=tasks[0].seed,
        )
