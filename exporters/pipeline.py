"""The export: convert every artifact, prove it, measure it, and only then publish the bundle."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from exporters.base import ExportRequest
from exporters.progress import listening
from exporters.registry import check_combinations, exporter_of
from exporters.representative import (
    Representative,
    calibration_latents,
    make_golden,
    scored_latents,
)
from vae_edge._version import __version__
from vae_edge.allocator import give_memory_back
from vae_edge.bundle import Bundle, sha256_of
from vae_edge.bundle_writer import BundleWriter, check_destination, check_replacement
from vae_edge.errors import ArtifactError, ExportError
from vae_edge.golden import GoldenVectors
from vae_edge.keras_vae import KerasVAE
from vae_edge.manifest import (
    SCHEMA_VERSION,
    ArtifactRecord,
    CalibrationRecord,
    GoldenRecord,
    LatencyRecord,
    Manifest,
    ModelRecord,
    SelectionRecord,
)
from vae_edge.parity import ParityReport, SubjectParity, check_parity, golden_reference
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import COMPONENT_OUTPUTS, Component, Format, Precision, Target
from vae_edge.tolerances import Override

__all__ = ["ExportPlan", "ExportResult", "LeftOut", "export_bundle", "tool_versions"]

GOLDEN_NAME = "golden.npz"
_PARITY_FAILED = "parity failed"
Measure = Callable[[Path], Mapping[str, LatencyRecord]]
Select = Callable[[Manifest], SelectionRecord]
OnStep = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What to make, and where.

    Attributes:
        destination: directory that the bundle shall become.
        formats: at least one.
        precisions: by format, at least one each.
        components: at least one.
        batch: rows per inference; None for any number.
        replace: replace a bundle at the destination that holds other artifacts too.
        target: processors that graph forms are chosen for.
        lowering: rewrite graphs; otherwise the standard converters' are published.
        integer_io: 8-bit inputs and outputs too; with int8 alone.
        keep_failing: publish the bundle even where parity fails.
        overrides: limits that replace the built-in ones.
    """

    destination: Path
    formats: tuple[Format, ...]
    precisions: Mapping[Format, tuple[Precision, ...]]
    components: tuple[Component, ...] = tuple(Component)
    batch: int | None = 1
    target: Target = Target.ANY
    lowering: bool = True
    integer_io: bool = False
    replace: bool = False
    keep_failing: bool = False
    overrides: tuple[Override, ...] = ()

    def check(self) -> None:
        """Refuse, before any work, what cannot be made or would lose something.

        Raises:
            ExportError: a format does not support a precision.
            BundleError: the destination cannot be written, or holds what would be lost.
        """
        for format in self.formats:
            check_combinations((format,), self.precisions[format])
        check_destination(self.destination)
        check_replacement(self.destination, {name for name, *_ in self.files()}, self.replace)

    def files(self) -> Iterator[tuple[str, Component, Format, Precision]]:
        """Give the artifacts that will be made: file name, component, format, precision."""
        for format in self.formats:
            for component in self.components:
                for precision in self.precisions[format]:
                    yield f"{component}.{precision}.{format}", component, format, precision


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An artifact that was asked for and is not in the bundle, and why."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """A published bundle.

    Attributes:
        bundle: as published.
        parity: the verdict on it.
        left_out: what could not be converted, or failed parity.
        notes: what was assumed of the model, a sentence each, where the caller asked for it.
    """

    bundle: Bundle
    parity: ParityReport
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


def export_bundle(
    vae: KerasVAE,
    plan: ExportPlan,
    representative: Representative,
    *,
    measure: Measure | None = None,
    select: Select | None = None,
    on_step: OnStep = lambda step: None,
    on_detail: OnStep = lambda detail: None,
) -> ExportResult:
    """Make a bundle of what can be converted and proven: complete and measured, or not at all.

    Args:
        vae: the Keras model, taken apart.
        plan: what to make.
        representative: images to calibrate on and to take golden vectors from.
        measure: benchmarks the staged bundle; None leaves latency out of the manifest.
        select: chooses which artifacts are published, once all are proven and measured; those that
            fail parity are then no error.
        on_step: told what is about to be done: once per artifact, then for parity and latency.
        on_detail: told within a step of minutes what of it is being done; what it raises ends the
            export.

    Raises:
        ExportError: a combination cannot be made, or every artifact was left out.
        BundleError: the bundle cannot be written.
    """
    plan.check()
    with BundleWriter(plan.destination) as writer:
        inputs = {
            Component.ENCODER: representative.calibration,
            Component.DECODER: calibration_latents(vae, representative),
        }
        scored = {Component.DECODER: scored_latents(vae, representative)}
        golden = make_golden(vae, representative)
        edges = {
            Component.ENCODER: golden.edge_images(vae.preprocessing),
            Component.DECODER: golden.edge_z,
        }
        records, left_out = [], []
        for file, component, format, precision in plan.files():
            step = f"{component} {precision} {format}"
            on_step(step)
            request = ExportRequest(
                vae=vae,
                component=component,
                precision=precision,
                batch=plan.batch,
                calibration=inputs[component],
                target=plan.target,
                lowering=plan.lowering,
                integer_io=plan.integer_io,
                seed=representative.seed,
                scored=scored.get(component),
                edges=edges[component],
            )
            try:
                with listening(partial(_within, step, on_detail)):
                    records.append(_export_one(writer, file, format, request))
            # What a converter wrote and the runtime does not open is as good as not converted.
            except (ExportError, ArtifactError) as error:
                left_out.append(LeftOut(file=file, reason=str(error)))
            # Compiled graphs refer to themselves, and hold all weights.
            gc.collect()
            give_memory_back()
        left_out = [_beside(each, records) for each in left_out]
        if not records:
            raise ExportError(_nothing_left(left_out))
        manifest = _manifest(vae, plan, representative, tuple(records), golden, writer)
        on_step("parity")
        parity = _check(writer, manifest, plan)
        while not (parity.passed or plan.keep_failing or select is not None):
            # What is left may be another pair, so it is checked again.
            failed = _failed(parity)
            kept = tuple(r for r in manifest.artifacts if r.file not in failed)
            for file in failed:
                left_out.append(LeftOut(file=file, reason=failed[file]))
                writer.drop(file)
            if not kept:
                raise ExportError(_nothing_left(left_out))
            manifest = dataclasses.replace(manifest, artifacts=kept)
            parity = _check(writer, manifest, plan)
        latency: Mapping[str, LatencyRecord] = {}
        if measure is not None:
            on_step("latency")
            latency = measure(writer.staging)
        manifest = _with_results(manifest, parity, latency)
        if select is not None:
            manifest = _selected(manifest, select(manifest), writer)
        writer.stage(manifest)
        return ExportResult(bundle=writer.publish(), parity=parity, left_out=tuple(left_out))


def _within(step: str, on_detail: OnStep, detail: str) -> None:
    on_detail(f"{step}: {detail}")


def _beside(left_out: LeftOut, records: Iterable[ArtifactRecord]) -> LeftOut:
    """Say which of the same half could be converted."""
    half = left_out.file.partition(".")[0]
    made = [record.file for record in records if record.component == half]
    if not made:
        return left_out
    reason = left_out.reason.rstrip(".")
    return dataclasses.replace(left_out, reason=f"{reason}. What could be: {', '.join(made)}.")


def _check(writer: BundleWriter, manifest: Manifest, plan: ExportPlan) -> ParityReport:
    bundle = writer.stage(manifest)
    return check_parity(bundle, golden_reference(bundle), overrides=plan.overrides)


def tool_versions(formats: tuple[Format, ...]) -> dict[str, str]:
    """Give the packages that take part in exporting to these formats, and their versions."""
    tools = {"vae-edge": __version__, "numpy": version("numpy")}
    for format in formats:
        tools.update(exporter_of(format).tools())
    return dict(sorted(tools.items()))


def _export_one(
    writer: BundleWriter, file: str, format: Format, request: ExportRequest
) -> ArtifactRecord:
    artifact = exporter_of(format).export(request)
    # The boundary is taken from the runtime that will run it, not from the converter.
    with open_artifact_bytes(artifact.content, format, name=file) as runner:
        inputs, outputs = runner.inputs, runner.outputs
    names = tuple(spec.name for spec in outputs)
    if names != COMPONENT_OUTPUTS[request.component]:
        raise ExportError(
            f"{file}: the converted model's outputs are {', '.join(names)}; expected "
            f"{', '.join(COMPONENT_OUTPUTS[request.component])}."
        )
    random = [name for name in artifact.operators if "random" in name.lower()]
    if random:
        raise ExportError(
            f"{file}: holds the random operator {', '.join(random)}. The sampling must stand "
            "outside the encoder and the decoder."
        )
    writer.add(file, artifact.content)
    return ArtifactRecord(
        file=file,
        size_bytes=len(artifact.content),
        sha256=sha256_of(artifact.content),
        component=request.component,
        format=format,
        precision=request.precision,
        quantization=artifact.quantization,
        lowering=artifact.lowering,
        inputs=inputs,
        outputs=outputs,
        oldest_runtime=artifact.oldest_runtime,
        operators=artifact.operators,
        float_operators=artifact.float_operators,
        parity=None,
        latency=None,
    )


def _manifest(
    vae: KerasVAE,
    plan: ExportPlan,
    representative: Representative,
    records: tuple[ArtifactRecord, ...],
    golden: GoldenVectors,
    writer: BundleWriter,
) -> Manifest:
    content = golden.to_bytes()
    writer.add(GOLDEN_NAME, content)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=ModelRecord(
            name=vae.name,
            source_sha256=vae.source_sha256,
            latent_dim=vae.latent_dim,
            image_shape=vae.image_shape,
            preprocessing=vae.preprocessing,
        ),
        artifacts=records,
        calibration=CalibrationRecord(
            source=representative.source,
            count=len(representative.calibration),
            seed=representative.seed,
        ),
        golden=GoldenRecord(
            file=GOLDEN_NAME,
            size_bytes=len(content),
            sha256=sha256_of(content),
            source=representative.source,
            images=len(golden.image),
            latents=len(golden.z),
        ),
        tools=tool_versions(plan.formats),
    )


def _with_results(
    manifest: Manifest, parity: ParityReport, latency: Mapping[str, LatencyRecord]
) -> Manifest:
    verdicts = {subject.file: subject.record() for subject in parity.subjects if subject.file}
    return dataclasses.replace(
        manifest,
        artifacts=tuple(
            dataclasses.replace(
                record, parity=verdicts[record.file], latency=latency.get(record.file)
            )
            for record in manifest.artifacts
        ),
    )


def _selected(manifest: Manifest, selection: SelectionRecord, writer: BundleWriter) -> Manifest:
    """Drop what was not chosen."""
    kept = tuple(record for record in manifest.artifacts if record.file in selection.chosen)
    for record in manifest.artifacts:
        if record not in kept:
            writer.drop(record.file)
    return dataclasses.replace(manifest, artifacts=kept, selection=selection)


def _failed(parity: ParityReport) -> dict[str, str]:
    """Give the files that failed, and why; of a pair that failed with sound halves, both."""
    failed = {s.file: _reason(s) for s in parity.subjects if s.file is not None and not s.passed}
    for subject in parity.subjects:
        if subject.file is not None or subject.passed:
            continue
        halves = [
            f"{component}.{precision}.{subject.format}"
            for component, precision in (
                (Component.ENCODER, subject.encoder_precision or subject.precision),
                (Component.DECODER, subject.precision),
            )
        ]
        if not failed.keys() & set(halves):
            reason = f"sound alone, but not encoder and decoder in a row: {_reason(subject)}"
            failed.update(dict.fromkeys(halves, reason))
    return failed


def _reason(subject: SubjectParity) -> str:
    beyond = [
        f"{m.output} {m.metric} {m.value:.4g} (limit {m.limit:g})"
        for m in subject.metrics
        if not m.passed and m.value is not None and m.limit is not None
    ]
    return f"{_PARITY_FAILED}: {subject.failure or '; '.join(beyond) or 'nothing was judged'}"


def _nothing_left(left_out: list[LeftOut]) -> str:
    reasons = " | ".join(f"{each.file}: {each.reason}" for each in left_out)
    advice = (
        " Leave those precisions out, calibrate on data like yours (--calibration), set a limit "
        "of your own (--tolerance), or publish it all the same with --keep-failing."
    )
    proven = any(each.reason.startswith(_PARITY_FAILED) for each in left_out)
    return f"No bundle was written. {reasons}{'.' + advice if proven else ''}"
