"""Does an artifact still compute what the Keras model computes?

Each artifact is run on the golden inputs and compared, output by output, with the golden outputs
(or with a live Keras model's). Encoder and decoder of one format and precision are also run in a
row, which is what a user's reconstruction goes through; where a format has none of one precision,
the most exact of both. The random sampling is left out: it is in no artifact, and it would hide
small errors.

`schema_version` history of the report:
    1  first version.
    2  pairs of an encoder and a decoder that differ in precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vae_edge.bundle import Bundle
from vae_edge.errors import ArtifactError, ParityError, RuntimeMissingError
from vae_edge.golden import GoldenVectors
from vae_edge.manifest import ArtifactRecord, MetricRecord, ParityRecord
from vae_edge.metrics import METRICS, check_comparable
from vae_edge.runners.base import Runner
from vae_edge.runners.batching import run_batched
from vae_edge.terms import (
    COMPONENT_OUTPUTS,
    EXACTNESS,
    Component,
    FloatArray,
    Format,
    Precision,
)
from vae_edge.tolerances import Override, limits_for

__all__ = ["PAIR", "ParityReport", "SubjectParity", "check_parity", "golden_reference", "pairs"]

PAIR = "encoder+decoder"
REPORT_SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the Keras model makes of the inputs that artifacts are compared on.

    Attributes:
        source: where the reference outputs come from.
        images: float32 (images, height, width, channels), the encoder's input.
        z: float32 (latents, latent_dim), the decoder's input; z_mean of every image comes first.
        outputs: by output name; `reconstruction` belongs to z.
    """

    source: str
    images: FloatArray
    z: FloatArray
    outputs: Mapping[str, FloatArray]


@dataclass(frozen=True, kw_only=True)
class SubjectParity:
    """The verdict on one artifact, or on encoder and decoder in a row.

    Attributes:
        subject: `encoder`, `decoder` or `encoder+decoder`.
        precision: of the artifact; of a pair the decoder's.
        encoder_precision: of a pair the encoder's, where that is another one; the looser of the two
            has set the limits. None otherwise.
        file: the artifact's file; None for a pair.
        passed: every metric is within its limit and nothing else was wrong.
        samples: rows compared.
        runtime: name and version of the runtime.
        metrics: value and limit of every metric of every output.
        failure: why no comparison was possible, else None.
    """

    subject: str
    format: Format
    precision: Precision
    encoder_precision: Precision | None = None
    file: str | None
    passed: bool
    samples: int
    runtime: str
    metrics: tuple[MetricRecord, ...]
    failure: str | None

    @property
    def precisions(self) -> str:
        """The precision, for people: `int8`, or `dynamic+int8` where a pair has two."""
        encoder = f"{self.encoder_precision}+" if self.encoder_precision else ""
        return f"{encoder}{self.precision}"

    def record(self) -> ParityRecord:
        """Give the form that the manifest keeps."""
        return ParityRecord(
            passed=self.passed, samples=self.samples, runtime=self.runtime, metrics=self.metrics
        )


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """The verdict on a bundle."""

    schema_version: int
    model: str
    source_sha256: str
    reference: str
    passed: bool
    subjects: tuple[SubjectParity, ...]


def golden_reference(bundle: Bundle) -> Reference:
    """Give the golden vectors of a bundle as the reference.

    Raises:
        BundleError: the golden file is damaged or does not fit the manifest's model.
        ParityError: it holds vectors of another model's shape.
    """
    record = bundle.manifest.golden
    golden = GoldenVectors.from_bytes(bundle.read(record), str(bundle.path / record.file))
    model = bundle.manifest.model
    if (
        golden.image_u8.shape[1:] != model.image_shape
        or golden.z.shape[1] != model.latent_dim
        or len(golden.image_u8) != record.images
        or len(golden.z) != record.latents
    ):
        raise ParityError(
            f"{bundle.path / record.file}: holds vectors of another model than the manifest "
            "describes. Export the bundle again."
        )
    return Reference(
        source=f"golden vectors ({record.source})",
        images=golden.images,
        z=golden.z,
        outputs={
            "z_mean": golden.z_mean,
            "z_log_var": golden.z_log_var,
            "reconstruction": golden.reconstruction,
        },
    )


def live_reference(bundle: Bundle, encoder: Runner, decoder: Runner) -> Reference:
    """Give a live model's outputs on the golden inputs as the reference.

    The golden z stay as they are, so that the decoder is judged apart from the encoder.
    """
    golden = golden_reference(bundle)
    return Reference(
        source=f"live model: {encoder.name}, {decoder.name}",
        images=golden.images,
        z=golden.z,
        outputs={**run_batched(encoder, golden.images), **run_batched(decoder, golden.z)},
    )


def check_parity(
    bundle: Bundle,
    reference: Reference,
    *,
    formats: tuple[Format, ...] = tuple(Format),
    precisions: tuple[Precision, ...] = tuple(Precision),
    overrides: tuple[Override, ...] = (),
    threads: int = 1,
    on_subject: Callable[[str], None] | None = None,
) -> ParityReport:
    """Compare every artifact, and every pair of them, with the reference.

    Args:
        bundle: verified bundle.
        reference: from `golden_reference` or `live_reference`.
        formats: which to check.
        precisions: which to check.
        overrides: limits that replace the built-in ones.
        threads: threads each runtime may use.
        on_subject: told what has been checked, for progress.

    Raises:
        ParityError: nothing matches, so nothing could be checked.
        RuntimeMissingError: a runtime that is needed is not installed.
    """
    subjects = []
    check = _Check(bundle, reference, overrides, threads)
    for format in Format:
        records = tuple(bundle.select(formats=(format,), precisions=precisions))
        for subject in check.format(records) if format in formats else ():
            subjects.append(subject)
            if on_subject is not None:
                on_subject(f"{subject.subject} {subject.precisions} {subject.format}")
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
        passed=all(subject.passed for subject in subjects),
        subjects=tuple(subjects),
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


@dataclass(frozen=True)
class _Check:
    """What every comparison of a run has in common."""

    bundle: Bundle
    reference: Reference
    overrides: tuple[Override, ...]
    threads: int

    def format(self, records: tuple[ArtifactRecord, ...]) -> Iterator[SubjectParity]:
        """Judge the artifacts of one format by precision, each pair as soon as both have run."""
        waiting = list(pairs(records))
        ran: dict[str, Mapping[str, FloatArray]] = {}
        for precision in Precision:
            for record in records:
                if record.precision is precision:
                    yield self._artifact(record, ran)
            for pair in [p for p in waiting if all(half.file in ran for half in p)]:
                waiting.remove(pair)
                subject = self._pair(*pair, ran)
                if subject is not None:
                    yield subject

    def _artifact(
        self, record: ArtifactRecord, ran: dict[str, Mapping[str, FloatArray]]
    ) -> SubjectParity:
        encoder = record.component is Component.ENCODER
        wanted = {
            name: self.reference.outputs[name] for name in COMPONENT_OUTPUTS[record.component]
        }
        rows = self.reference.images if encoder else self.reference.z
        runtime, outputs, failure = _run(self.bundle, record, rows, self.threads)
        if outputs is not None:
            ran[record.file] = outputs
        subject = str(record.component)
        return _judge(subject, record, None, runtime, wanted, outputs, failure, self.overrides)

    def _pair(
        self,
        encoder: ArtifactRecord,
        decoder: ArtifactRecord,
        ran: Mapping[str, Mapping[str, FloatArray]],
    ) -> SubjectParity | None:
        z_mean = ran[encoder.file].get("z_mean")
        if z_mean is None:
            return None
        runtime, outputs, failure = _run(self.bundle, decoder, z_mean, self.threads)
        # The first latents of the reference are z_mean of the same images.
        wanted = {"reconstruction": self.reference.outputs["reconstruction"][: len(z_mean)]}
        return _judge(PAIR, decoder, encoder, runtime, wanted, outputs, failure, self.overrides)


def _run(
    bundle: Bundle, record: ArtifactRecord, rows: FloatArray, threads: int
) -> tuple[str, Mapping[str, FloatArray] | None, str | None]:
    """An artifact that does not load or run is a failed verdict; a missing runtime is not."""
    try:
        with bundle.open_runner(record, threads) as runner:
            return runner.runtime, run_batched(runner, rows), None
    except RuntimeMissingError:
        raise
    except ArtifactError as error:
        return "none", None, str(error)


def _judge(
    subject: str,
    record: ArtifactRecord,
    encoder: ArtifactRecord | None,
    runtime: str,
    wanted: Mapping[str, FloatArray],
    outputs: Mapping[str, FloatArray] | None,
    failure: str | None,
    overrides: tuple[Override, ...],
) -> SubjectParity:
    precisions = (record.precision, encoder.precision if encoder else record.precision)
    looser = max(precisions, key=EXACTNESS.index)
    metrics: list[MetricRecord] = []
    for name, expected in wanted.items() if outputs is not None else ():
        try:
            if outputs is None or name not in outputs:
                raise ParityError(f"{record.file}: the output '{name}' is missing.")
            limits = limits_for(looser, name, overrides)
            metrics += _compare(f"{record.file}: '{name}'", name, expected, outputs[name], limits)
        except ParityError as error:
            failure = str(error)
    return SubjectParity(
        subject=subject,
        format=record.format,
        precision=record.precision,
        encoder_precision=precisions[1] if precisions[1] is not record.precision else None,
        file=None if encoder else record.file,
        passed=failure is None and bool(metrics) and all(metric.passed for metric in metrics),
        samples=len(next(iter(wanted.values()))),
        runtime=runtime,
        metrics=tuple(metrics),
        failure=failure,
    )


def _compare(
    where: str,
    name: str,
    reference: FloatArray,
    candidate: FloatArray,
    limits: Mapping[str, float],
) -> Iterator[MetricRecord]:
    check_comparable(reference, candidate, where)
    span = float(np.ptp(reference))
    peak = 1.0 if name == "reconstruction" or span == 0 else span
    for metric_name, limit in limits.items():
        metric = METRICS[metric_name]
        value = metric.function(reference, candidate, peak)
        yield MetricRecord(
            output=name,
            metric=metric_name,
            value=value if np.isfinite(value) else None,
            limit=limit,
            passed=metric.passes(value, limit),
        )
