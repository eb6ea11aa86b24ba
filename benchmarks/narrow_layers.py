"""Layers to few channels, whole and split: `python -m benchmarks.narrow_layers`.

`SplitNarrowConv` pays for some kernels and channels and not for others. This times, in turns, a
convolution behind a small layer of an image of 32x32, in float32, whole and as maps; then, for
ONNX, one behind a transposed convolution, with the maps of single pixels and of blocks, as
`--target x86` and as `arm64` writes it. It prints how many times faster the second of each is. The
files stay in `--out`, for `python -m benchmarks.instructions` to count: those in `whole`, then
those of the same names in `split`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.contestants import Contestant, Engine
from benchmarks.engines import open_bare
from benchmarks.interleaved import time_in_turns
from benchmarks.latency import WARMUP_ROUNDS
from benchmarks.statistics import taken
from vae_edge.errors import VaeEdgeError
from vae_edge.terms import Component, Format, Precision

if TYPE_CHECKING:
    from exporters.narrow_layers import NarrowLayer

__all__ = ["main"]

_FORMS = ("tflite", "onnx x86", "onnx arm64")


def _calls(case: NarrowLayer, out: Path) -> list[Callable[[], object]]:
    engine = {Format.TFLITE: Engine.LITERT, Format.ONNX: Engine.ONNXRUNTIME}[case.format]
    calls: list[Callable[[], object]] = []
    for directory, content in (("whole", case.first), ("split", case.second)):
        words = "-".join(f"{case.form} {case.name}".replace(",", "").split())
        path = out / directory / f"decoder.{words}.{case.format}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        contestant = Contestant(
            tool=directory,
            component=Component.DECODER,
            format=case.format,
            precision=Precision.FLOAT32,
            engine=engine,
            baseline=directory == "whole",
            path=path,
        )
        bare = open_bare(contestant, case.shape, batch=1)
        calls.append(bare.prepare(np.ones((1, *case.shape), np.float32)))
    return calls


def _times_faster(case: NarrowLayer, out: Path, rounds: int) -> float:
    first, second = time_in_turns(
        _calls(case, out),
        rounds=rounds,
        warmup_rounds=WARMUP_ROUNDS,
        min_sample_ms=1.0,
        seed=0,
    )
    pairs = zip(first.samples_ns, second.samples_ns, strict=True)
    ratios = [None if a is None or b is None else a / b for a, b in pairs]
    return float(np.median(taken(ratios)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; a Markdown table on stdout.

    Returns:
        0; 2 where it could not run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.narrow_layers", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("--kernel", type=int, action="append", metavar="N", help="default: 2, 3 and 5")
    add("--channels-in", type=int, action="append", metavar="N", help="default: 8, 16, 24, 32, 64")
    add("--channels-out", type=int, action="append", metavar="N", help="default: 1, 2, 3 and 4")
    add("--rounds", type=int, default=15, help="samples of each, 2 or more")
    add("--out", type=Path, default=Path("build/narrow-layers"), metavar="DIR")
    given = parser.parse_args(argv)
    numbers = [*(given.kernel or ()), *(given.channels_in or ()), *(given.channels_out or ())]
    if given.rounds < 2 or any(number < 1 for number in numbers):
        parser.error("--rounds must be 2 or more, and the others 1 or more")
    from exporters.narrow_layers import narrow_layers

    columns = _FORMS
    sys.stdout.write(f"| layer | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}\n")
    rows: dict[str, dict[str, float]] = {}
    try:
        for case in narrow_layers(
            given.kernel or (2, 3, 5),
            given.channels_in or (8, 16, 24, 32, 64),
            given.channels_out or (1, 2, 3, 4),
        ):
            row = rows.setdefault(case.name, {})
            row[case.form] = _times_faster(case, given.out, given.rounds)
            if case.form == columns[-1]:
                cells = [f"{row[c]:.2f}x" if c in row else "" for c in columns]
                sys.stdout.write(f"| {case.name} | {' | '.join(cells)} |\n")
                sys.stdout.flush()
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or given.out}: {error.strerror}.\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
