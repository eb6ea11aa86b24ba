"""Stock exports against ours, in one run: `python -m benchmarks.head_to_head [MODEL]`.

Every standard tool exports the Keras model's halves at its defaults. All of them and vae-edge's own
artifacts are then timed in turns, compared with the Keras model on the data set's test images, and
written down: as JSON with every sample, as Markdown, and as a picture.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.contestants import from_bundle
from benchmarks.export_process import export_in_process
from benchmarks.head_to_head_check import check_targets, passed, verdict_table
from benchmarks.head_to_head_plot import write_plot
from benchmarks.head_to_head_quality import Subject
from benchmarks.head_to_head_report import HeadToHead, write_head_to_head
from benchmarks.head_to_head_run import run_head_to_head
from benchmarks.head_to_head_tables import markdown
from benchmarks.interleaved import check_threads
from benchmarks.latency import WARMUP_ROUNDS
from benchmarks.quality import keras_reference
from benchmarks.report import Settings
from benchmarks.stock import STOCK
from benchmarks.stock_job import StockTool, build_stock, stock_jobs
from vae_edge.bundle import Bundle
from vae_edge.errors import UsageError, VaeEdgeError
from vae_edge.files import replaced_file
from vae_edge.keras_vae import load_keras_vae, open_keras_runner, shipped_model_path
from vae_edge.runners.batching import run_batched
from vae_edge.terms import Component, Precision, Target

__all__ = ["compare", "main"]

_NAME = "head-to-head"
# Dynamic too, which is exported only when asked for, because the stock one is in the run.
_PRECISIONS = (Precision.FLOAT32, Precision.FLOAT16, Precision.DYNAMIC, Precision.INT8)


def compare(arguments: argparse.Namespace, tools: Sequence[StockTool] = STOCK) -> HeadToHead:
    """Export, measure and judge, as the command line asks.

    Args:
        arguments: what `main` parsed.
        tools: the stock exports to make.

    Raises:
        VaeEdgeError: the model, the data set, the bundle or an option cannot be used.
    """
    from vae_edge.cli.console import note, quiet
    from vae_edge.training.data import load_dataset

    settings = Settings(
        threads=arguments.threads,
        rounds=_at_least(2, "rounds", arguments.rounds),
        warmup_rounds=WARMUP_ROUNDS,
        min_sample_ms=2.0,
        seed=0,
    )
    batch = _at_least(1, "batch", arguments.batch)
    if arguments.images is not None:
        _at_least(1, "images", arguments.images)
    check_threads(settings.threads)
    model = arguments.model or shipped_model_path()
    out: Path = arguments.out
    with quiet():
        _limit_tensorflow(settings.threads)
        vae = load_keras_vae(model)
        data = load_dataset(arguments.dataset, arguments.data_dir)
        bundle = Bundle.open(arguments.bundle or _export(model, arguments))
        if bundle.manifest.model.source_sha256 != vae.source_sha256:
            raise UsageError(
                f"{bundle.path}: was exported from another model than {model}. Name the model it "
                "is from, or leave --bundle out to export this one."
            )
        jobs = stock_jobs(vae, data.train_images, out / "stock", seed=settings.seed)
        stock, failures = build_stock(jobs, tools, on_step=note)
        images = data.test_images[: arguments.images]
        with open_keras_runner(vae, Component.DECODER) as decoder:
            subject = Subject(
                vae=vae,
                reference=keras_reference(vae, images, seed=settings.seed),
                keras_decode=partial(run_batched, decoder),
                dataset=data.name,
            )
            return run_head_to_head(
                subject,
                (*stock, *from_bundle(bundle)),
                failures,
                settings=settings,
                batch=batch,
                on_step=note,
            )


def _limit_tensorflow(threads: int) -> None:
    """Hold TensorFlow to as many threads as the other runtimes get, before it is imported."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(threads))


def _export(model: Path, arguments: argparse.Namespace) -> Path:
    """Export a bundle as a user would, in a process of its own."""
    bundle: Path = arguments.out / "bundle"
    options = [f"--precision={precision}" for precision in arguments.precision or _PRECISIONS]
    if arguments.data_dir is not None:
        options.append(f"--data-dir={arguments.data_dir}")
    options.append(f"--target={arguments.target or _target()}")
    # Parity is judged here, on more images; what misses its limits is to be shown as well.
    calibration = f"--calibration={arguments.dataset}"
    export_in_process(
        [str(model), calibration, f"--batch={arguments.batch}", f"--out={bundle}", *options]
    )
    return bundle


def _target() -> Target:
    """Give the processors of this machine, where graphs have a form of their own for them."""
    arm = platform.machine().lower() in ("aarch64", "arm64")
    return Target.ARM64 if arm else Target.X86


def _at_least(least: int, name: str, value: int) -> int:
    if value < least:
        raise UsageError(f"--{name} must be {least} or more; received {value}.")
    return value


def _write(report: HeadToHead, out: Path, json_file: Path | None) -> str:
    """Write JSON, Markdown and picture; give the Markdown."""
    text = markdown(report)
    for path, content in (
        (json_file or out / f"{_NAME}.json", write_head_to_head(report)),
        (out / f"{_NAME}.md", text),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as part:
            part.write_text(content, encoding="utf-8")
    write_plot(report, out / f"{_NAME}.png")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.head_to_head", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("model", nargs="?", type=Path, metavar="MODEL", help="default: the model that ships")
    add("--bundle", type=Path, metavar="DIR", help="of that model; default: export one")
    add("--dataset", default="mnist", help="a name or a path, as `vae-edge train` takes it")
    add("--data-dir", type=Path, default=os.environ.get("VAE_EDGE_DATA_DIR"), metavar="DIR")
    add("--out", type=Path, default=Path("build") / _NAME, metavar="DIR", help="results go here")
    add("--json", type=Path, metavar="FILE", help=f"default: {_NAME}.json in --out")
    add("--precision", action="append", default=[], help="to export; repeatable")
    add("--target", type=Target, choices=list(Target), help="default: this machine's processors")
    add("--rounds", type=int, default=40, help="samples per export")
    add("--threads", type=int, default=1, help="only 1 can be measured fairly")
    add("--batch", type=int, default=1, help="rows per call")
    add("--images", type=int, metavar="N", help="judge on the first N test images; default: all")
    add("--check", action="store_true", help="compare with benchmarks/targets.py; exit 1 if missed")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; Markdown on stdout, progress on stderr.

    Returns:
        0; 1 where `--check` found a requirement that is not met; 2 where it could not run.
    """
    arguments = _parser().parse_args(argv)
    try:
        report = compare(arguments)
        sys.stdout.write(_write(report, arguments.out, arguments.json))
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or arguments.out}: {error.strerror}.\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Results of an earlier run are untouched.\n")
        return 130
    if not arguments.check:
        return 0
    verdicts = check_targets(report)
    sys.stdout.write(f"\n{verdict_table(verdicts)}\n")
    return 0 if passed(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
