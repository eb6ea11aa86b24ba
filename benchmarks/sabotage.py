"""Does parity notice a broken artifact? `python -m benchmarks.sabotage [BUNDLE]`.

Damages one artifact of a good bundle at a time, in every way of `benchmarks.sabotage_damage`,
writes sizes and hashes that agree with the damaged file, so that only its numbers are wrong, and
lets the parity check judge it. Prints what was caught, by which check, and what was not. It runs
where models are exported, not on a device.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.export_process import export_in_process
from benchmarks.sabotage_damage import DAMAGES, Damage
from vae_edge.bundle import Bundle, sha256_of
from vae_edge.errors import UsageError, VaeEdgeError
from vae_edge.files import write_json
from vae_edge.keras_vae import KerasVAE, load_keras_vae, shipped_model_path
from vae_edge.manifest import MANIFEST_NAME, ArtifactRecord, MetricRecord, write_manifest
from vae_edge.parity import ParityReport, Reference, check_parity, golden_reference
from vae_edge.terms import Component, Format, Precision, Target

__all__ = [
    "CONTROL",
    "NOISE",
    "Outcome",
    "SabotageReport",
    "exceeded",
    "export_shipped",
    "main",
    "noise_calibrated",
    "sabotage",
    "summary",
    "table",
]

CONTROL = "nothing"
NOISE = "calibrated on noise"
_NAME = "sabotage"
_PRECISIONS = (Precision.FLOAT32, Precision.FLOAT16, Precision.DYNAMIC, Precision.INT8)
_NOISE_IMAGES = 512
Recalibrate = Callable[[ArtifactRecord], bytes]
OnStep = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What parity said of one damaged artifact.

    Attributes:
        damage: what was done; `nothing` for the artifact as it was exported.
        gross: parity must not pass it.
        caught: parity failed.
        check: output and metric that came furthest beyond its limit, or nearest to it; for a file
            that does not run, the reason.
        factor: how many times its limit that error was; None for a file that does not run.
    """

    damage: str
    gross: bool
    component: Component
    format: Format
    precision: Precision
    caught: bool
    check: str
    factor: float | None


@dataclass(frozen=True, kw_only=True)
class SabotageReport:
    """The outcomes of one run."""

    model: str
    source_sha256: str
    outcomes: tuple[Outcome, ...]


def sabotage(
    bundle: Bundle,
    damages: Sequence[Damage] = DAMAGES,
    *,
    recalibrate: Recalibrate | None = None,
    on_step: OnStep = lambda step: None,
) -> tuple[Outcome, ...]:
    """Damage every artifact of a bundle in every way, and judge each.

    Args:
        bundle: good; it is not touched.
        damages: to do.
        recalibrate: exports an int8 artifact anew on images that are noise; None leaves that out.
        on_step: told which artifact is about to be damaged.

    Returns:
        For every artifact one outcome without damage, then one per damage that applies.
    """
    reference = golden_reference(bundle)
    outcomes: list[Outcome] = []
    for record in bundle.manifest.artifacts:
        on_step(record.label)
        content = bundle.read(record)
        for name, gross, damaged in _damaged(record, content, damages, recalibrate):
            report = _judged(bundle, reference, record, damaged)
            outcomes.append(_outcome(record, name, gross, report))
    return tuple(outcomes)


def _damaged(
    record: ArtifactRecord,
    content: bytes,
    damages: Sequence[Damage],
    recalibrate: Recalibrate | None,
) -> Iterator[tuple[str, bool, bytes]]:
    yield CONTROL, False, content
    for damage in damages:
        changed = damage.of(content, record)
        if changed is not None:
            yield damage.name, damage.gross, changed
    if recalibrate is not None and record.precision is Precision.INT8:
        yield NOISE, False, recalibrate(record)


def _judged(
    bundle: Bundle, reference: Reference, record: ArtifactRecord, content: bytes
) -> ParityReport:
    """Check a bundle of the damaged artifact and of the other half that goes with it."""
    manifest = bundle.manifest
    files, records = {manifest.golden.file: bundle.read(manifest.golden)}, []
    for each in bundle.select(formats=(record.format,), precisions=(record.precision,)):
        files[each.file] = content if each == record else bundle.read(each)
        records.append(
            replace(each, size_bytes=len(files[each.file]), sha256=sha256_of(files[each.file]))
        )
    alone = replace(manifest, artifacts=tuple(records), selection=None)
    files[MANIFEST_NAME] = write_manifest(alone).encode()
    with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
        for file, part in files.items():
            (Path(directory) / file).write_bytes(part)
        return check_parity(Bundle.open(directory), reference)


def _outcome(record: ArtifactRecord, damage: str, gross: bool, report: ParityReport) -> Outcome:
    check, factor = "", -1.0
    for subject in report.subjects:
        for metric in subject.metrics:
            beyond = exceeded(metric)
            if beyond > factor:
                check, factor = f"{metric.output} {metric.metric}", beyond
    failures = [subject.failure for subject in report.subjects if subject.failure]
    return Outcome(
        damage=damage,
        gross=gross,
        component=record.component,
        format=record.format,
        precision=record.precision,
        caught=not report.passed,
        check=failures[0] if failures else check,
        factor=None if failures else factor,
    )


def exceeded(metric: MetricRecord) -> float:
    """Give how many times its limit an error is: above 1 it is too large; 0 without a limit."""
    if metric.margin is None:
        return 0.0
    return 1 / metric.margin if metric.margin else math.inf


def noise_calibrated(vae: KerasVAE, target: Target = Target.ANY) -> Recalibrate:
    """Give a function that exports an int8 artifact with its ranges taken from noise.

    The encoder is calibrated on images whose pixels are uniform noise, the decoder on the latents
    that the encoder makes of them.
    """
    from exporters.base import ExportRequest
    from exporters.registry import EXPORTERS
    from exporters.representative import Representative, calibration_latents

    rng = np.random.default_rng(0)
    images, held_out = rng.random((2, _NOISE_IMAGES, *vae.image_shape), dtype=np.float32)
    noise = Representative(source="noise", seed=0, calibration=images, golden=held_out)
    rows = {Component.ENCODER: images, Component.DECODER: calibration_latents(vae, noise)}

    def export(record: ArtifactRecord) -> bytes:
        request = ExportRequest(
            vae=vae,
            component=record.component,
            precision=record.precision,
            batch=record.inputs[0].batch,
            calibration=rows[record.component],
            target=record.lowering.target or target,
        )
        return EXPORTERS[record.format].export(request).content

    return export


def table(outcomes: Sequence[Outcome]) -> str:
    """Give Markdown: per component a row for each damage and a column per format and precision."""
    blocks = []
    for component in Component:
        mine = [each for each in outcomes if each.component is component]
        columns = list(dict.fromkeys((each.format, each.precision) for each in mine))
        cells = {(each.damage, each.format, each.precision): each for each in mine}
        gross: Mapping[str, bool] = {each.damage: each.gross for each in mine}
        ordered = [CONTROL, *(d.name for d in DAMAGES), NOISE]
        heads = [f"{format} {precision}" for format, precision in columns]
        lines = [
            f"| damage to the {component} | gross | {' | '.join(heads)} |",
            "| --- | --- |" + " --- |" * len(heads),
        ]
        for name in sorted(gross, key=ordered.index):
            row = [_cell(cells.get((name, *column))) for column in columns]
            lines.append(f"| {name} | {'yes' if gross[name] else ''} | {' | '.join(row)} |")
        if mine:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    verdict = "caught" if outcome.caught else "**missed**"
    if outcome.damage == CONTROL:
        verdict = "**failed**" if outcome.caught else "passed"
    if outcome.factor is None:
        return f"{verdict}: does not run"
    return f"{verdict} {_times(outcome.factor)} ({outcome.check})"


def _times(factor: float) -> str:
    if factor >= 1000:
        return "> 1000"
    return f"{factor:.2g}" if factor < 100 else f"{factor:.0f}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Say in a sentence or two what matters of a table."""
    done = [each for each in outcomes if each.damage != CONTROL]
    gross = [each for each in done if each.gross]
    slight = [each for each in done if not each.gross]
    failed = [each for each in outcomes if each.damage == CONTROL and each.caught]
    text = (
        f"Gross damages caught: {sum(each.caught for each in gross)} of {len(gross)}. "
        f"Slight ones: {sum(each.caught for each in slight)} of {len(slight)}.\n"
    )
    for each in failed:
        text += f"{_label(each)}: fails undamaged, so that its other verdicts say nothing.\n"
    for each in gross:
        if not each.caught:
            text += f"{_label(each)}: MISSED {each.damage}; nearest: {each.check}.\n"
    return text


def _label(outcome: Outcome) -> str:
    return f"{outcome.component} {outcome.precision} {outcome.format}"


def _sound(outcomes: Sequence[Outcome]) -> bool:
    """No gross damage was missed, and nothing was caught that had no damage."""
    return all(
        not each.caught if each.damage == CONTROL else each.caught or not each.gross
        for each in outcomes
    )


def export_shipped(out: Path, data_dir: Path | None) -> Path:
    """Export the model that ships at every precision, in a process of its own; give the bundle."""
    # The same images wherever it runs: on others another channel may be one that never fires.
    images = "--calibration=digits+samples" if data_dir is None else f"--data-dir={data_dir}"
    precisions = [f"--precision={precision}" for precision in _PRECISIONS]
    export_in_process([*precisions, images, f"--out={out}"])
    return out


def _run(arguments: argparse.Namespace) -> SabotageReport:
    from vae_edge.cli.console import note, quiet

    with quiet():
        bundle = Bundle.open(
            arguments.bundle or export_shipped(Path("build") / _NAME, arguments.data_dir)
        )
        model = arguments.model or shipped_model_path()
        recalibrate = None
        if sha256_of(model) == bundle.manifest.model.source_sha256:
            recalibrate = noise_calibrated(load_keras_vae(model))
        elif arguments.model is not None:
            raise UsageError(
                f"{bundle.path}: was exported from another model than {model}. Name the model it "
                "is from, or leave --model out to do without calibration on noise."
            )
        return SabotageReport(
            model=bundle.manifest.model.name,
            source_sha256=bundle.manifest.model.source_sha256,
            outcomes=sabotage(bundle, recalibrate=recalibrate, on_step=note),
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sabotage", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("bundle", nargs="?", type=Path, metavar="BUNDLE", help="default: export the shipped model")
    add("--model", type=Path, metavar="MODEL", help="of the bundle, to calibrate it on noise")
    add("--data-dir", type=Path, metavar="DIR", help="MNIST, to export with it")
    add("--json", type=Path, metavar="FILE", help="write every outcome there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; Markdown on stdout, progress on stderr.

    Returns:
        0; 1 where a gross damage was missed or a sound artifact failed; 2 where it could not run.
    """
    arguments = _parser().parse_args(argv)
    try:
        report = _run(arguments)
        if arguments.json is not None:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(arguments.json, report)
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or arguments.bundle}: {error.strerror}.\n")
        return 2
    sys.stdout.write(f"{table(report.outcomes)}\n{summary(report.outcomes)}")
    return 0 if _sound(report.outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
