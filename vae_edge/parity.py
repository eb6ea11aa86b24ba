"""Does an artifact still compute what the Keras model computes?

Each artifact is run on the golden inputs and compared, output by output, with the golden outputs
(or with a live Keras model's), and with itself: run again, with two threads, in a batch. Encoder
and decoder of one format and precision are also run in a row, which is what a user's reconstruction
goes through; where a format has none of one precision, the most exact of both. No sampling is in
an artifact; where the ELBO needs it, every candidate gets the reference's noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from vae_edge.bundle import Bundle
from vae_edge.comparison import (
    ALL_METRICS,
    Figure,
    Reference,
    compare_decoder,
    compare_encoder,
    compare_pair,
    compare_runs,
)
from vae_edge.errors import ArtifactError, ParityError, RuntimeMissingError
from vae_edge.golden import sample_posterior
from vae_edge.manifest import ArtifactRecord, MetricRecord
from vae_edge.metrics import check_comparable, rmse
from vae_edge.parity_report import (
    PAIR,
    REPORT_SCHEMA_VERSION,
    NotRun,
    ParityReport,
    Share,
    SubjectParity,
)
from vae_edge.references import data_reference, golden_reference, live_reference
from vae_edge.runners.base import Runner
from vae_edge.runners.batching import run_batched
from vae_edge.terms import (
    COMPONENT_INPUT,
    COMPONENT_OUTPUTS,
    EXACTNESS,
    Component,
    FloatArray,
    Format,
    Precision,
)
from vae_edge.tolerances import Override, limits_for
from vae_edge.vae_metrics import Posterior

__all__ = [
    "PAIR",
    "REPORT_SCHEMA_VERSION",
    "NotRun",
    "ParityReport",
    "Reference",
    "Share",
    "SubjectParity",
    "check_parity",
    "data_reference",
    "golden_reference",
    "live_reference",
    "pairs",
]

# Rows that an artifact is compared with itself on, and the batch that it is given at once.
_REPEATED = 32


def check_parity(
    bundle: Bundle,
    reference: Reference,
    *,
    formats: tuple[Format, ...] | None = None,
    precisions: tuple[Precision, ...] = tuple(Precision),
    overrides: tuple[Override, ...] = (),
    threads: int = 1,
    partial: bool = False,
    on_subject: Callable[[str], None] | None = None,
) -> ParityReport:
    """Compare every artifact, and every pair of them, with the reference.

    Args:
        bundle: verified bundle.
        reference: from `golden_reference` or `live_reference`.
        formats: which to check; by default all that it holds.
        precisions: which to check.
        overrides: limits that replace the built-in ones.
        threads: threads each runtime may use.
        partial: judge what can run here, and list the rest in the report, where one runtime of
            several is not installed.
        on_subject: told what has been checked, for progress.

    Raises:
        ParityError: nothing matches, so nothing could be checked.
        RuntimeMissingError: a runtime that is needed is not installed; with `partial`, all are
            missing. Names each with the command that adds it.
    """
    subjects: list[SubjectParity] = []
    not_run: list[NotRun] = []
    check = _Check(bundle, reference, overrides, threads)
    for format in Format:
        records = tuple(bundle.select(formats=(format,), precisions=precisions))
        for found in check.format(records) if formats is None or format in formats else ():
            if isinstance(found, NotRun):
                if not partial:
                    raise RuntimeMissingError(found.reason)
                not_run.append(found)
                continue
            subjects.append(found)
            if on_subject is not None:
                on_subject(f"{found.subject} {found.precisions} {found.format}")
    if not_run and not subjects:
        raise RuntimeMissingError(" ".join(dict.fromkeys(each.reason for each in not_run)))
    if not subjects:
        raise ParityError(
            f"{bundle.path}: no artifact matches, so nothing was compared. It holds: "
            f"{', '.join(record.label for record in bundle.manifest.artifacts)}."
        )
    return ParityReport(
        schema_version=REPORT_SCHEMA_VERSION,
        model=bundle.manifest.model.name,
        source_sha256=bundle.manifest.model.source_sha256,
        reference=reference.source,
        passed=not not_run and all(subject.passed for subject in subjects),
        subjects=tuple(subjects),
        not_run=tuple(not_run),
    )


def pairs(records: Iterable[ArtifactRecord]) -> tuple[tuple[ArtifactRecord, ArtifactRecord], ...]:
    """Give the encoders and decoders of one format that are run in a row.

    Those of one precision; where there are none, the most exact encoder and the most exact decoder,
    which is what `EdgeVAE` opens.
    """
    halves: dict[Component, dict[Precision, ArtifactRecord]] = {c: {} for c in Component}
    for record in records:
        halves[record.component][record.precision] = record
    encoders, decoders = halves[Component.ENCODER], halves[Component.DECODER]
    alike = tuple((encoders[p], decoders[p]) for p in Precision if p in encoders and p in decoders)
    if alike or not encoders or not decoders:
        return alike
    return ((_most_exact(encoders), _most_exact(decoders)),)


def _most_exact(records: Mapping[Precision, ArtifactRecord]) -> ArtifactRecord:
    return records[min(records, key=EXACTNESS.index)]


def _not_run(record: ArtifactRecord, reason: str) -> NotRun:
    return NotRun(
        subject=str(record.component),
        format=record.format,
        precision=record.precision,
        file=record.file,
        reason=reason,
    )


@dataclass(frozen=True)
class _Ran:
    """What an artifact made of the golden inputs, or why it did not."""

    runtime: str
    outputs: Mapping[str, FloatArray]
    edges: Mapping[str, FloatArray]
    repeats: tuple[Figure, ...]
    failure: str | None = None


@dataclass(frozen=True)
class _Check:
    """What every comparison of a run has in common."""

    bundle: Bundle
    reference: Reference
    overrides: tuple[Override, ...]
    threads: int

    def format(self, records: tuple[ArtifactRecord, ...]) -> Iterator[SubjectParity | NotRun]:
        """Judge the artifacts of one format by precision, each pair as soon as both have run."""
        waiting = list(pairs(records))
        ran: dict[str, _Ran] = {}
        floats: dict[Component, _Ran] = {}
        for precision in Precision:
            for record in records:
                if record.precision is not precision:
                    continue
                try:
                    this = ran[record.file] = self._run(record)
                except RuntimeMissingError as error:
                    yield _not_run(record, str(error))
                    continue
                if precision is Precision.FLOAT32 and this.failure is None:
                    floats[record.component] = this
                yield self._artifact(record, this, floats.get(record.component))
                if record.component is Component.DECODER:
                    # Pairs need what encoders made.
                    ran[record.file] = replace(this, outputs={}, edges={})
            for pair in [p for p in waiting if all(half.file in ran for half in p)]:
                waiting.remove(pair)
                subject = self._pair(*pair, ran)
                if subject is not None:
                    yield subject

    def _run(self, record: ArtifactRecord) -> _Ran:
        """Run an artifact on everything; one that does not load or run is a failed verdict."""
        encoder = record.component is Component.ENCODER
        rows = self.reference.images if encoder else self.reference.z
        edges = self.reference.edge_images if encoder else self.reference.edge_z
        runtime = "none"
        try:
            with self.bundle.open_runner(record, self.threads) as runner:
                runtime = runner.runtime
                outputs, at_edges = run_batched(runner, rows), run_batched(runner, edges)
                missing = [n for n in COMPONENT_OUTPUTS[record.component] if n not in outputs]
                if missing:
                    raise ParityError(f"{record.file}: the output '{missing[0]}' is missing.")
                once = run_batched(runner, rows[:_REPEATED])
                repeats = tuple(self._repeats(record, runner, rows[:_REPEATED], once))
            # Opened again only now: each holds all weights, some runtimes several times.
            threads = self._on_other_threads(record, rows[:_REPEATED], once)
            return _Ran(runtime, outputs, at_edges, (*repeats, threads))
        except RuntimeMissingError:
            raise
        except (ArtifactError, ParityError) as error:
            return _Ran(runtime, {}, {}, (), str(error))

    def _repeats(
        self,
        record: ArtifactRecord,
        runner: Runner,
        rows: FloatArray,
        once: Mapping[str, FloatArray],
    ) -> Iterator[Figure]:
        """Compare an artifact with itself."""
        yield compare_runs("again_error", once, run_batched(runner, rows))
        name = COMPONENT_INPUT[record.component]
        if runner.inputs[0].batch is None:
            each = [runner.run({name: row[np.newaxis]}) for row in rows]
            single = {key: np.concatenate([part[key] for part in each]) for key in once}
            yield compare_runs("batch_error", single, once)

    def _on_other_threads(
        self, record: ArtifactRecord, rows: FloatArray, once: Mapping[str, FloatArray]
    ) -> Figure:
        """Compare an artifact with itself on another number of threads."""
        with self.bundle.open_runner(record, 2 if self.threads == 1 else 1) as other:
            return compare_runs("threads_error", once, run_batched(other, rows))

    def _artifact(self, record: ArtifactRecord, ran: _Ran, as_float: _Ran | None) -> SubjectParity:
        compare = compare_encoder if record.component is Component.ENCODER else compare_decoder

        def figures() -> Iterator[Figure]:
            yield from compare(self.reference, ran.outputs, ran.edges)
            yield from ran.repeats

        judged = self._judge(str(record.component), record, None, ran, figures)
        if as_float is None or as_float is ran or judged.failure is not None:
            return judged
        return replace(judged, shares=tuple(self._shares(record, ran, as_float)))

    def _shares(self, record: ArtifactRecord, ran: _Ran, as_float: _Ran) -> Iterator[Share]:
        for name in COMPONENT_OUTPUTS[record.component]:
            wanted = self.reference.outputs[name]
            yield Share(
                output=name,
                conversion_rmse=rmse(wanted, as_float.outputs[name]),
                precision_rmse=rmse(as_float.outputs[name], ran.outputs[name]),
                total_rmse=rmse(wanted, ran.outputs[name]),
            )

    def _pair(
        self, encoder: ArtifactRecord, decoder: ArtifactRecord, ran: Mapping[str, _Ran]
    ) -> SubjectParity | None:
        first = ran[encoder.file]
        if first.failure is not None or ran[decoder.file].failure is not None:
            return None  # their own verdicts say it
        try:
            for name in ("z_mean", "z_log_var"):
                check_comparable(self.reference.outputs[name], first.outputs[name], f"'{name}'")
        except ParityError:
            return None  # the encoder's own verdict says it
        posterior = Posterior(z_mean=first.outputs["z_mean"], z_log_var=first.outputs["z_log_var"])
        noise = self.reference.epsilon
        sample = sample_posterior(posterior.z_mean, posterior.z_log_var, noise)
        runtime, failure, decoded = "none", None, np.empty(0, np.float32)
        try:
            with self.bundle.open_runner(decoder, self.threads) as runner:
                runtime = runner.runtime
                z = np.concatenate([posterior.z_mean, sample])
                decoded = run_batched(runner, z)["reconstruction"]
        except RuntimeMissingError:
            raise
        except (ArtifactError, KeyError) as error:
            failure = str(error)
        count = len(posterior.z_mean)

        def figures() -> Iterator[Figure]:
            return compare_pair(self.reference, posterior, decoded[:count], decoded[count:])

        row = _Ran(runtime, {}, {}, (), failure)
        return self._judge(PAIR, decoder, encoder, row, figures)

    def _judge(
        self,
        subject: str,
        record: ArtifactRecord,
        encoder: ArtifactRecord | None,
        ran: _Ran,
        figures: Callable[[], Iterator[Figure]],
    ) -> SubjectParity:
        precisions = (record.precision, encoder.precision if encoder else record.precision)
        looser = max(precisions, key=EXACTNESS.index)
        metrics: list[MetricRecord] = []
        failure = ran.failure
        if failure is None:
            try:
                both = (record, encoder or record)
                integer_io = any(
                    spec.scale is not None
                    for half in both
                    for spec in (*half.inputs, *half.outputs)
                )
                metrics.extend(self._record(each, looser, integer_io) for each in figures())
            except ParityError as error:
                failure = f"{record.file}: {error}"
        rows = self.reference.images if record.component is Component.ENCODER or encoder else None
        judged = [metric for metric in metrics if metric.limit is not None]
        return SubjectParity(
            subject=subject,
            format=record.format,
            precision=record.precision,
            encoder_precision=precisions[1] if precisions[1] is not record.precision else None,
            file=None if encoder else record.file,
            passed=failure is None and bool(judged) and all(m.passed for m in judged),
            samples=len(self.reference.z if rows is None else rows),
            runtime=ran.runtime,
            metrics=tuple(metrics),
            failure=failure,
        )

    def _record(self, figure: Figure, precision: Precision, integer_io: bool) -> MetricRecord:
        metric = ALL_METRICS[figure.metric]
        limits = limits_for(
            precision,
            figure.output,
            self.overrides,
            integer_io=integer_io,
            scale=self.reference.scale,
        )
        limit = limits.get(figure.metric)
        finite = bool(np.isfinite(figure.value))
        return MetricRecord(
            output=figure.output,
            metric=figure.metric,
            value=figure.value if finite else None,
            limit=limit,
            passed=limit is None or metric.passes(figure.value, limit),
            margin=None if limit is None else metric.margin(figure.value, limit),
            tightest=metric.tightest(figure.value) if finite else None,
        )
