"""Does an artifact still compute what the Keras model computes?

Each artifact is run on the golden inputs and compared, output by output, with the golden outputs
(or with a live Keras model's). Encoder and decoder of one format and precision are also run in a
row, which is what a user's reconstruction goes through. The random sampling is left out: it is in
no artifact, and it would hide small errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    Component,
    FloatArray,
    Format,
    Precision,
)
from vae_edge.tolerances import Override, limits_for

__all__ = ["PAIR", "ParityReport", "SubjectParity", "check_parity", "golden_reference"]

PAIR = "encoder+decoder"
REPORT_SCHEMA_VERSION = 1


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
    file: str | None
    passed: bool
    samples: int
    runtime: str
    metrics: tuple[MetricRecord, ...]
    failure: str | None

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
    for group in _groups(bundle, formats, precisions):
        for subject in _check_group(bundle, group, reference, overrides, threads):
            subjects.append(subject)
            if on_subject is not None:
                on_subject(f"{subject.subject} {subject.precision} {subject.format}")
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


def _groups(
    bundle: Bundle, formats: tuple[Format, ...], precisions: tuple[Precision, ...]
) -> Iterator[dict[Component, ArtifactRecord]]:
    """Artifacts that belong together: one format and precision, by component."""
    for format in Format:
        for precision in Precision:
            if format in formats and precision in precisions:
                group = {
                    record.component: record
                    for record in bundle.select(formats=(format,), precisions=(precision,))
                }
                if group:
                    yield group


def _check_group(
    bundle: Bundle,
    group: Mapping[Component, ArtifactRecord],
    reference: Reference,
    overrides: tuple[Override, ...],
    threads: int,
) -> Iterator[SubjectParity]:
    results: dict[Component, Mapping[str, FloatArray]] = {}
    inputs = {Component.ENCODER: reference.images, Component.DECODER: reference.z}
    for component, record in group.items():
        wanted = {name: reference.outputs[name] for name in COMPONENT_OUTPUTS[component]}
        runtime, outputs, failure = _run(bundle, record, inputs[component], threads)
        if outputs is not None:
            results[component] = outputs
        yield _judge(
            str(component), record, record.file, runtime, wanted, outputs, failure, overrides
        )
    z_mean = results.get(Component.ENCODER, {}).get("z_mean")
    if z_mean is not None and Component.DECODER in results:
        record = group[Component.DECODER]
        runtime, outputs, failure = _run(bundle, record, z_mean, threads)
        # The first latents of the reference are z_mean of the same images.
        wanted = {"reconstruction": reference.outputs["reconstruction"][: len(z_mean)]}
        yield _judge(PAIR, record, None, runtime, wanted, outputs, failure, overrides)


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
    file: str | None,
    runtime: str,
    wanted: Mapping[str, FloatArray],
    outputs: Mapping[str, FloatArray] | None,
    failure: str | None,
    overrides: tuple[Override, ...],
) -> SubjectParity:
    metrics: list[MetricRecord] = []
    for name, expected in wanted.items() if outputs is not None else ():
        try:
            if outputs is None or name not in outputs:
                raise ParityError(f"{record.file}: the output '{name}' is missing.")
            metrics += _compare(record, name, expected, outputs[name], overrides)
        except ParityError as error:
            failure = str(error)
    return SubjectParity(
        subject=subject,
        format=record.format,
        precision=record.precision,
        file=file,
        passed=failure is None and bool(metrics) and all(metric.passed for metric in metrics),
        samples=len(next(iter(wanted.values()))),
        runtime=runtime,
        metrics=tuple(metrics),
        failure=failure,
    )


def _compare(
    record: ArtifactRecord,
    name: str,
    reference: FloatArray,
    candidate: FloatArray,
    overrides: tuple[Override, ...],
) -> Iterator[MetricRecord]:
    check_comparable(reference, candidate, f"{record.file}: '{name}'")
    span = float(np.ptp(reference))
    peak = 1.0 if name == "reconstruction" or span == 0 else span
    for metric_name, limit in limits_for(record.precision, name, overrides).items():
        metric = METRICS[metric_name]
        value = metric.function(reference, candidate, peak)
        yield MetricRecord(
            output=name,
            metric=metric_name,
            value=value if np.isfinite(value) else None,
            limit=limit,
            passed=metric.passes(value, limit),
        )
