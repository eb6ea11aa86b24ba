"""Layers to few channels, whole and split: `python -m benchmarks.narrow_layers`.

`SplitNarrowConv` pays for some kernels and channels and not for others. This times, in turns, a
convolution behind a small layer of an image of 32x32, in float32, whole and as maps; then, for
ONNX, one behind a transposed convolution, with the maps of single pixels and of blocks, as
`--target x86` and as `arm64` writes it. It prints how many times faster the second of each is. The
files stay in `--out`, for `python -m benchmarks.instructions ROOT OUT/split --against OUT/whole`
to count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.contestants import Contestant, Engine
from benchmarks.engines import open_bare
from benchmarks.interleaved import time_in_turns
from benchmarks.latency import WARMUP_ROUNDS
from benchmarks.statistics import taken
from exporters.graph import Activation, Conv, ConvTranspose, Graph, Node, Op
from exporters.lowering.base import LoweringPass, run_passes
from exporters.lowering.channels_first import ChannelsFirst, RemoveTransposes
from exporters.lowering.conv_as_product import ConvAsProduct
from exporters.lowering.interleave_by_concat import InterleaveByConcat
from exporters.lowering.lower_conv_transpose import LowerConvTranspose
from exporters.lowering.simplify_shapes import SimplifyShapes
from exporters.lowering.split_narrow_conv import SplitNarrowConv
from exporters.lowering.sum_by_convolution import SumByConvolution
from exporters.onnx_writer import write_onnx
from exporters.quantization.plan import QuantizationPlan
from exporters.tflite_writer import write_tflite
from vae_edge.errors import VaeEdgeError
from vae_edge.terms import Component, Format, Precision

__all__ = ["Case", "cases", "main"]

_SIZE, _SMALL = 32, 16
_TO_ONNX = (SimplifyShapes(), ChannelsFirst(), RemoveTransposes(), SimplifyShapes())
_SPLIT = SplitNarrowConv(max_maps=10_000)
_BLOCKS = SplitNarrowConv(max_maps=10_000, block_growth=1e9)
_FORMS: dict[str, tuple[Format, tuple[LoweringPass, ...], tuple[LoweringPass, ...]]] = {
    "tflite": (Format.TFLITE, (), (_SPLIT, SumByConvolution())),
    "onnx x86": (Format.ONNX, _TO_ONNX, (_SPLIT, *_TO_ONNX)),
    "onnx arm64": (
        Format.ONNX,
        (ConvAsProduct(), *_TO_ONNX),
        (_SPLIT, ConvAsProduct(), *_TO_ONNX),
    ),
}
_PHASES, _PLACES = LowerConvTranspose(), InterleaveByConcat()
_FLAT = InterleaveByConcat(flat_rows=True)
_POINTWISE = SplitNarrowConv(max_maps=10_000, block_growth=1e9, pointwise=True)
_BLOCK_FORMS: dict[str, tuple[Format, tuple[LoweringPass, ...], tuple[LoweringPass, ...]]] = {
    "onnx x86": (
        Format.ONNX,
        (_PHASES, _SPLIT, _FLAT, *_TO_ONNX),
        (_PHASES, _POINTWISE, _FLAT, *_TO_ONNX),
    ),
    "onnx arm64": (
        Format.ONNX,
        (_PHASES, _SPLIT, _PLACES, ConvAsProduct(), *_TO_ONNX),
        (_PHASES, _BLOCKS, _PLACES, ConvAsProduct(), *_TO_ONNX),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One layer in two forms.

    Attributes:
        name: kernel, channels in and out, and the stride of the layer before it.
        form: format, and the target whose other layers it has.
        first: file of the form that the second is compared with.
        second: file of the form that a profile may choose.
        shape: of one row of the input.
        format: of both.
    """

    name: str
    form: str
    first: bytes
    second: bytes
    shape: tuple[int, ...]
    format: Format


def _conv(kernel: int, channels_in: int, channels_out: int) -> Conv:
    rng = np.random.default_rng(0)
    before, after = (kernel - 1) // 2, kernel // 2
    return Conv(
        kernel=rng.standard_normal((kernel, kernel, channels_in, channels_out), np.float32),
        bias=rng.standard_normal(channels_out, np.float32),
        pads=((before, after), (before, after)),
    )


def _behind(first: Op, last: Conv, shape: tuple[int, ...]) -> Graph:
    nodes = (
        Node(name="first", op=first, inputs=("z",), output="first"),
        Node(name="last", op=last, inputs=("first",), output="last"),
    )
    return Graph(input="z", input_shape=shape, nodes=nodes, outputs={"reconstruction": "last"})


def _write(graph: Graph, format: Format, passes: Sequence[LoweringPass]) -> bytes:
    lowered, _ = run_passes(graph, passes)
    if format is Format.TFLITE:
        return write_tflite(lowered, QuantizationPlan(), 1)
    return bytes(write_onnx(lowered, QuantizationPlan(), 1).SerializeToString())


def cases(kernels: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]) -> Iterator[Case]:
    """Give every layer in every format, whole and split, and behind a stride of 2 and 3."""
    rng = np.random.default_rng(1)
    for kernel, channels_in, channels_out in product(kernels, inputs, outputs):
        last = _conv(kernel, channels_in, channels_out)
        name = f"{kernel}x{kernel}, {channels_in} to {channels_out}"
        first: Op = Conv(
            kernel=rng.standard_normal((1, 1, 4, channels_in), np.float32),
            bias=np.zeros(channels_in, np.float32),
            activation=Activation.RELU,
        )
        yield from _in_forms(_FORMS, name, _behind(first, last, (_SIZE, _SIZE, 4)))
        for stride in (2, 3):
            first = ConvTranspose(
                kernel=rng.standard_normal((3, 3, channels_in, 32), np.float32),
                bias=np.zeros(channels_in, np.float32),
                strides=(stride, stride),
                pads_before=(0, 0),
                output_size=(stride * _SMALL, stride * _SMALL),
                activation=Activation.RELU,
            )
            graph = _behind(first, last, (_SMALL, _SMALL, 32))
            yield from _in_forms(_BLOCK_FORMS, f"{name}, blocks of {stride}x{stride}", graph)


def _in_forms(
    forms: dict[str, tuple[Format, tuple[LoweringPass, ...], tuple[LoweringPass, ...]]],
    name: str,
    graph: Graph,
) -> Iterator[Case]:
    for form, (format, first, second) in forms.items():
        yield Case(
            name=name,
            form=form,
            first=_write(graph, format, first),
            second=_write(graph, format, second),
            shape=graph.input_shape,
            format=format,
        )


def _calls(case: Case, out: Path) -> list[Callable[[], object]]:
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


def _times_faster(case: Case, out: Path, rounds: int) -> float:
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
    columns = list(_FORMS)
    sys.stdout.write(f"| layer | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}\n")
    rows: dict[str, dict[str, float]] = {}
    try:
        for case in cases(
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
