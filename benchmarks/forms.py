"""Chosen forms and recipes beside their alternatives: `python -m benchmarks.forms`.

Exports the model that ships with every profile and recipe of `exporters.alternatives`, times all
of them in turns in one run, judges them on test images that nothing was chosen on, and prints a
table per case. It runs where models are exported, not on a device. The artifacts stay in `--out`,
for `python -m benchmarks.instructions ROOT OUT` to count.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.contestants import Contestant, Engine
from benchmarks.head_to_head_quality import Subject
from benchmarks.head_to_head_report import HeadToHead, write_head_to_head
from benchmarks.head_to_head_run import run_head_to_head
from benchmarks.head_to_head_tables import case_table
from benchmarks.latency import WARMUP_ROUNDS
from benchmarks.quality import keras_reference
from benchmarks.report import Settings
from vae_edge.errors import VaeEdgeError
from vae_edge.files import replaced_file
from vae_edge.keras_vae import KerasVAE, load_keras_vae, open_keras_runner, shipped_model_path
from vae_edge.runners.batching import run_batched
from vae_edge.terms import Component, Format

__all__ = ["export_forms", "main", "tables"]

_ENGINES = {Format.TFLITE: Engine.LITERT, Format.ONNX: Engine.ONNXRUNTIME}
_NAME = "forms"


def export_forms(vae: KerasVAE, data: object, out: Path) -> tuple[Contestant, ...]:
    """Export every choice that `exporters.alternatives` lists.

    Args:
        vae: the Keras model.
        data: a data set, as `exporters.representative` takes it; its training part calibrates.
        out: directory for the artifacts.

    Returns:
        One contestant each; the first of its case is what the others are compared with.

    Raises:
        VaeEdgeError: the data set does not go with the model, or an export failed.
    """
    from exporters.alternatives import all_choices
    from exporters.base import ExportRequest
    from exporters.registry import EXPORTERS
    from exporters.representative import calibration_latents, from_images, scored_latents

    representative = from_images(data, vae.image_shape, seed=0)  # type: ignore[arg-type]
    rows = {
        Component.ENCODER: representative.calibration,
        Component.DECODER: calibration_latents(vae, representative),
    }
    scored = {Component.DECODER: scored_latents(vae, representative)}
    out.mkdir(parents=True, exist_ok=True)
    contestants: list[Contestant] = []
    for choice in all_choices():
        case = choice.component, choice.format, choice.precision
        artifact = EXPORTERS[choice.format].export(
            ExportRequest(
                vae=vae,
                component=choice.component,
                precision=choice.precision,
                batch=1,
                calibration=rows[choice.component],
                scored=scored.get(choice.component),
                profile=choice.profile,
                recipe=choice.recipe,
            )
        )
        words = "-".join(choice.name.replace(",", "").split())
        path = out / f"{choice.component}.{choice.precision}.{words}.{choice.format}"
        path.write_bytes(artifact.content)
        contestants.append(
            Contestant(
                tool=choice.name,
                component=choice.component,
                format=choice.format,
                precision=choice.precision,
                engine=_ENGINES[choice.format],
                baseline=case not in {(c.component, c.format, c.precision) for c in contestants},
                path=path,
            )
        )
    return tuple(contestants)


def tables(report: HeadToHead) -> str:
    """Give one Markdown table per component, format and precision."""
    cases = dict.fromkeys((row.component, row.format, row.precision) for row in report.rows)
    heading = (
        f"{report.model} on {report.machine}: batch {report.batch}, one thread, bare runtime "
        f"calls, medians ± MAD of {report.settings.rounds} interleaved rounds."
    )
    blocks = [heading]
    for component, format, precision in cases:
        rows = [
            r
            for r in report.rows
            if (r.component, r.format, r.precision) == (component, format, precision)
        ]
        blocks.append(f"### {format} {precision} {component}\n\n{case_table(component, rows)}")
    return "\n\n".join(blocks) + "\n"


def _measure(arguments: argparse.Namespace) -> HeadToHead:
    from vae_edge.cli.console import note, quiet
    from vae_edge.training.data import load_dataset

    with quiet():
        vae = load_keras_vae(arguments.model or shipped_model_path())
        data = load_dataset(arguments.dataset, arguments.data_dir)
        contestants = export_forms(vae, data, arguments.out)
        with open_keras_runner(vae, Component.DECODER) as decoder:
            subject = Subject(
                vae=vae,
                reference=keras_reference(vae, data.test_images[: arguments.images], seed=0),
                keras_decode=partial(run_batched, decoder),
                dataset=data.name,
            )
            return run_head_to_head(
                subject,
                contestants,
                (),
                settings=Settings(
                    threads=1,
                    rounds=arguments.rounds,
                    warmup_rounds=WARMUP_ROUNDS,
                    min_sample_ms=2.0,
                    seed=0,
                ),
                on_step=note,
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; Markdown on stdout, progress on stderr.

    Returns:
        0; 2 where it could not run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forms", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("model", nargs="?", type=Path, metavar="MODEL", help="default: the model that ships")
    add("--dataset", default="mnist", help="a name or a path, as `vae-edge train` takes it")
    add("--data-dir", type=Path, default=os.environ.get("VAE_EDGE_DATA_DIR"), metavar="DIR")
    add("--out", type=Path, default=Path("build") / _NAME, metavar="DIR", help="results go here")
    add("--rounds", type=int, default=40, help="samples per artifact, 2 or more")
    add("--images", type=int, metavar="N", help="judge on the first N test images; default: all")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 2 or (arguments.images is not None and arguments.images < 1):
        parser.error("--rounds must be 2 or more and --images 1 or more")
    try:
        report = _measure(arguments)
        text = tables(report)
        for suffix, content in ((".json", write_head_to_head(report)), (".md", text)):
            with replaced_file(arguments.out / f"{_NAME}{suffix}") as part:
                part.write_text(content, encoding="utf-8")
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or arguments.out}: {error.strerror}.\n")
        return 2
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
