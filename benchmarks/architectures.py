"""Every architecture of the zoo through every format and precision, with parity.

    python -m benchmarks.architectures                         # all; an hour on two cores
    python -m benchmarks.architectures --only signal --only dense
    python -m benchmarks.architectures --markdown matrix.md

Prints a table: passed or not, with the worst of the artifact's signal-to-noise ratios (of `z_mean`
and `z_log_var`, or of the reconstruction) in dB, and who wrote it, then what failed and why.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.zoo import ZOO, build, data_for
from vae_edge.errors import VaeEdgeError
from vae_edge.manifest import ArtifactRecord, ParityRecord
from vae_edge.terms import Component, Format, Precision

__all__ = ["Outcome", "main", "measure"]

_PRECISIONS = (Precision.FLOAT32, Precision.FLOAT16, Precision.DYNAMIC, Precision.INT8)
_GOLDEN = 128


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One artifact.

    Attributes:
        file: its name, `encoder.int8.onnx`.
        passed: whether it could be converted and is the Keras model.
        psnr_db: the worst of its outputs, infinite where they are the Keras model's exactly;
            None where it could not be converted.
        converter: a standard converter wrote it.
        reason: what failed; empty where nothing did.
    """

    file: str
    passed: bool
    psnr_db: float | None
    converter: bool
    reason: str


def measure(name: str, destination: Path) -> tuple[Outcome, ...]:
    """Build, train and export one architecture.

    Args:
        name: in the zoo.
        destination: where the bundle is written.
    """
    from exporters.interpretation import Declared, interpret
    from exporters.pipeline import ExportPlan, export_bundle
    from exporters.representative import apart

    architecture = ZOO[name]
    vae = build(name)
    found = interpret(vae, Declared(value_range=(architecture.low, architecture.high)))
    vae = dataclasses.replace(vae, preprocessing=found.preprocessing)
    data = data_for(architecture)
    representative = apart(
        source=data.source,
        seed=0,
        preprocessing=found.preprocessing,
        calibration=data.train_images,
        golden=data.test_images[:_GOLDEN],
    )
    formats = tuple(Format)
    plan = ExportPlan(
        destination=destination,
        formats=formats,
        precisions=dict.fromkeys(formats, _PRECISIONS),
        keep_failing=True,
    )
    result = export_bundle(vae, plan, representative)
    made = [_outcome(record) for record in result.bundle.manifest.artifacts]
    refused = [
        Outcome(file=each.file, passed=False, psnr_db=None, converter=True, reason=each.reason)
        for each in result.left_out
    ]
    return (*made, *refused)


def _outcome(record: ArtifactRecord) -> Outcome:
    parity = record.parity
    if parity is None:
        raise VaeEdgeError(f"{record.file}: was not compared.")
    return Outcome(
        file=record.file,
        passed=parity.passed,
        psnr_db=_worst(parity),
        converter="written by" in record.lowering.note,
        reason="; ".join(
            f"{m.output}.{m.metric} {m.value:.3g} (limit {m.limit:g})"
            for m in parity.metrics
            if not m.passed and m.value is not None and m.limit is not None
        ),
    )


def _worst(parity: ParityRecord) -> float:
    # JSON has no infinity: where nothing differs there is no value.
    values = [m.value for m in parity.metrics if m.metric == "psnr_db" and m.value is not None]
    return min(values, default=math.inf)


def _rows(name: str, outcomes: tuple[Outcome, ...]) -> Iterator[str]:
    by_file = {each.file: each for each in outcomes}
    for component in Component:
        cells = [name, str(component)]
        cells += [
            _cell(by_file[f"{component}.{precision}.{format}"])
            for format in Format
            for precision in _PRECISIONS
        ]
        yield f"| {' | '.join(cells)} |"


def _cell(outcome: Outcome) -> str:
    if outcome.psnr_db is None:
        return "refused"
    mark = "" if outcome.passed else " failed"
    ratio = "exact" if math.isinf(outcome.psnr_db) else f"{outcome.psnr_db:.0f}"
    return f"{ratio}{' c' if outcome.converter else ''}{mark}"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; exit code 1 where an artifact failed or was refused."""
    parser = ArgumentParser(prog="python -m benchmarks.architectures", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(ZOO), default=[])
    parser.add_argument("--markdown", type=Path)
    asked = parser.parse_args(arguments)
    columns = [f"{format} {precision}" for format in Format for precision in _PRECISIONS]
    head = ["architecture", "half", *columns]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    reasons = []
    for name in asked.only or ZOO:
        with tempfile.TemporaryDirectory(prefix="vae-edge-zoo-") as directory:
            outcomes = measure(name, Path(directory) / "bundle")
        rows = list(_rows(name, outcomes))
        lines += rows
        sys.stderr.write("\n".join(rows) + "\n")
        reasons += [f"- {name} {each.file}: {each.reason}" for each in outcomes if not each.passed]
    text = "\n".join([*lines, "", *reasons]) + "\n"
    sys.stdout.write(text)
    if asked.markdown is not None:
        asked.markdown.write_text(text, encoding="utf-8")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
