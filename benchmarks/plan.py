"""Which worker processes a run needs, and what each measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.protocol import GroupTask
from benchmarks.report_parts import Part, SkippedGroup
from vae_edge.bundle import Bundle
from vae_edge.errors import UsageError
from vae_edge.manifest import ArtifactRecord
from vae_edge.split_options import SplitOptions
from vae_edge.terms import Component, Format, Precision

__all__ = ["Plan", "Selection", "plan", "probes"]

_FOUND = SplitOptions()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which artifacts and parts to measure; everything by default."""

    formats: tuple[Format, ...] | None = None
    precisions: tuple[Precision, ...] = tuple(Precision)
    parts: tuple[Part, ...] = tuple(Part)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run.

    Attributes:
        tasks: one per worker process; Keras first.
        skipped: batches that artifacts do not take.
    """

    tasks: tuple[GroupTask, ...]
    skipped: tuple[SkippedGroup, ...]


def plan(
    bundle: Bundle,
    reference: Path | None,
    selection: Selection,
    *,
    threads: Sequence[int],
    batches: Sequence[int] = (),
    seed: int,
    split: SplitOptions = _FOUND,
) -> Plan:
    """Give the workers of a run: for every number of threads, Keras and then the artifacts.

    At one thread the artifacts of a format and precision share a process. With more, each has one
    of its own: a pool of threads that waits for work takes the cores from whatever runs beside it.

    Args:
        bundle: what to measure.
        reference: Keras model to measure beside it; None for none, or where `split` names its
            halves.
        selection: which of it.
        threads: numbers of threads.
        batches: rows per inference; empty for the batch that each artifact was made for, which is
            one row where it takes any.
        seed: of the inputs.
        split: how the Keras model is taken apart.

    Raises:
        UsageError: the bundle holds nothing of what was selected, or nothing that takes a batch of
            these.
    """
    records = list(bundle.select(formats=selection.formats, precisions=selection.precisions))
    groups = [group for format in Format for group in _groups(records, format)]
    first = [
        task
        for group in groups
        for task in _tasks(bundle, group, selection.parts, batches, (threads[0], seed))
    ]
    if not any(_parts(group, selection.parts, None) for group in groups):
        held = ", ".join(record.label for record in bundle.manifest.artifacts)
        raise UsageError(
            f"{bundle.path}: holds nothing of what --format, --precision and --component select. "
            f"It holds: {held}."
        )
    skipped = tuple(_skipped(records, batches, selection.parts))
    if not first:
        raise UsageError(
            f"no artifact takes a batch of {' or '.join(map(str, batches))}. {skipped[0].reason}"
        )
    measured = {part for group in groups for part in _parts(group, selection.parts, None)}
    tasks: list[GroupTask] = []
    for count in threads:
        if reference is not None or split.encoder is not None:
            keras = _keras_tasks(reference, first, batches, measured, count)
            tasks += [replace(task, split=split) for task in keras]
        same = [replace(task, threads=count) for task in first]
        tasks += same if count == 1 else [one for task in same for one in _split(task)]
    return Plan(tasks=tuple(tasks), skipped=skipped)


def probes(task: GroupTask) -> tuple[GroupTask, ...]:
    """Give a task for every part of one that shares a process: to load it in one of its own.

    None for Keras, which takes seconds to import and is one model whatever part of it runs.
    """
    if task.format is None or task.alone:
        return ()
    return _split(task)


def _split(task: GroupTask) -> tuple[GroupTask, ...]:
    return tuple(replace(task, parts=(part,), alone=True) for part in task.parts)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Artifacts of one format that belong together: of one precision, or a pair of two."""

    format: Format
    precision: Precision
    encoder_precision: Precision | None
    records: tuple[ArtifactRecord, ...]


def _groups(records: Sequence[ArtifactRecord], format: Format) -> Iterator[_Group]:
    """Group a format's artifacts by precision.

    Where no precision has both components, as `export --precision auto` may choose, the pairs of
    unlike precision come after them: an application would run those in a row.
    """
    by_precision: dict[Precision, list[ArtifactRecord]] = {}
    for record in records:
        if record.format is format:
            by_precision.setdefault(record.precision, []).append(record)
    for precision, members in by_precision.items():
        yield _Group(
            format=format,
            precision=precision,
            encoder_precision=None,
            records=tuple(members),
        )
    if any(len(members) == len(Component) for members in by_precision.values()):
        return
    alone = [record for members in by_precision.values() for record in members]
    for encoder in alone:
        for decoder in alone:
            if (encoder.component, decoder.component) == (Component.ENCODER, Component.DECODER):
                yield _Group(
                    format=format,
                    precision=decoder.precision,
                    encoder_precision=encoder.precision,
                    records=(encoder, decoder),
                )


def _tasks(
    bundle: Bundle,
    group: _Group,
    wanted: tuple[Part, ...],
    batches: Sequence[int],
    settings: tuple[int, int],
) -> Iterator[GroupTask]:
    threads, seed = settings
    # An artifact that takes any batch is measured with one row, unless asked otherwise.
    own = [record.inputs[0].batch or 1 for record in group.records]
    encoder = f"{group.encoder_precision}+" if group.encoder_precision else ""
    for batch in batches or dict.fromkeys(own):
        parts = _parts(group, wanted, batch)
        if parts:
            yield GroupTask(
                name=f"{encoder}{group.precision} {group.format}",
                source=str(bundle.path),
                format=group.format,
                precision=group.precision,
                encoder_precision=group.encoder_precision,
                parts=parts,
                threads=threads,
                batches=(batch,),
                alone=len(parts) == 1,
                seed=seed,
            )


def _parts(group: _Group, wanted: tuple[Part, ...], batch: int | None) -> tuple[Part, ...]:
    """Say what of a group can be measured with a batch; the two in a row need the same."""
    present = {
        record.component
        for record in group.records
        if batch is None or record.inputs[0].batch in (None, batch)
    }
    available = {Part(component.value) for component in present}
    if len(present) == len(Component):
        available.add(Part.BOTH)
    if group.encoder_precision is not None:
        available &= {Part.BOTH}  # each alone is in the group of its own precision
    return tuple(part for part in Part if part in available and part in wanted)


def _skipped(
    records: Sequence[ArtifactRecord], batches: Sequence[int], wanted: tuple[Part, ...]
) -> Iterator[SkippedGroup]:
    """Name the artifacts whose batch is fixed at another one than was asked for."""
    for record in records:
        fixed = record.inputs[0].batch
        refused = [str(batch) for batch in batches if fixed not in (None, batch)]
        concerned = {Part(record.component.value), Part.BOTH} & set(wanted)
        if refused and concerned:
            yield SkippedGroup(
                name=f"{record.file} at batch {' and '.join(refused)}",
                reason=f"Its batch is fixed at {fixed}: more rows go through it {fixed} at a time, "
                f"at the throughput of batch {fixed}. For others: vae-edge export --batch dynamic.",
            )


def _keras_tasks(
    reference: Path | None,
    tasks: Sequence[GroupTask],
    batches: Sequence[int],
    measured: set[Part],
    threads: int,
) -> Iterator[GroupTask]:
    """Give one process for every batch that was asked for: the model takes any.

    Without a wish, it is measured at what the artifacts are, part by part.
    """
    by_batch: dict[int, set[Part]] = dict.fromkeys(batches, measured)
    if not batches:
        for task in tasks:
            by_batch.setdefault(task.batches[0], set()).update(task.parts)
    by_parts: dict[tuple[Part, ...], list[int]] = {}
    for batch in sorted(by_batch):
        parts = tuple(part for part in Part if part in by_batch[batch])
        by_parts.setdefault(parts, []).append(batch)
    for parts, shared in by_parts.items():
        yield GroupTask(
            name="keras",
            source="" if reference is None else str(reference),
            format=None,
            precision=Precision.FLOAT32,
            encoder_precision=None,
            parts=parts,
            threads=threads,
            batches=tuple(shared),
            alone=False,
            seed=tasks[0].seed,
        )
