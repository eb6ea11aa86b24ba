"""Layers to few channels in two forms each: what the thresholds of `SplitNarrowConv` rest on.

`benchmarks.narrow_layers` times them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from exporters.graph import Activation, Conv, ConvTranspose, Graph, Node, Op
from exporters.lowering.base import LoweringPass, run_passes
from exporters.lowering.conv_as_product import ConvAsProduct
from exporters.lowering.interleave_by_concat import InterleaveByConcat
from exporters.lowering.lower_conv_transpose import LowerConvTranspose
from exporters.lowering.split_narrow_conv import SplitNarrowConv
from exporters.lowering.sum_by_convolution import SumByConvolution
from exporters.onnx_writer import write_onnx
from exporters.profiles import TO_ONNX
from exporters.quantization.plan import QuantizationPlan
from exporters.tflite_writer import write_tflite
from vae_edge.terms import Format

__all__ = ["NarrowLayer", "narrow_layers"]

_SIZE, _SMALL = 32, 16
_SPLIT = SplitNarrowConv(max_maps=10_000)
_BLOCKS = SplitNarrowConv(max_maps=10_000, block_growth=1e9)
_FORMS: dict[str, tuple[Format, tuple[LoweringPass, ...], tuple[LoweringPass, ...]]] = {
    "tflite": (Format.TFLITE, (), (_SPLIT, SumByConvolution())),
    "onnx x86": (Format.ONNX, TO_ONNX, (_SPLIT, *TO_ONNX)),
    "onnx arm64": (
        Format.ONNX,
        (ConvAsProduct(), *TO_ONNX),
        (_SPLIT, ConvAsProduct(), *TO_ONNX),
    ),
}
_PHASES, _PLACES = LowerConvTranspose(), InterleaveByConcat()
_FLAT = InterleaveByConcat(flat_rows=True)
_POINTWISE = SplitNarrowConv(max_maps=10_000, block_growth=1e9, pointwise=True)
_BLOCK_FORMS: dict[str, tuple[Format, tuple[LoweringPass, ...], tuple[LoweringPass, ...]]] = {
    "onnx x86": (
        Format.ONNX,
        (_PHASES, _SPLIT, _FLAT, *TO_ONNX),
        (_PHASES, _POINTWISE, _FLAT, *TO_ONNX),
    ),
    "onnx arm64": (
        Format.ONNX,
        (_PHASES, _SPLIT, _PLACES, ConvAsProduct(), *TO_ONNX),
        (_PHASES, _BLOCKS, _PLACES, ConvAsProduct(), *TO_ONNX),
    ),
}


@dataclass(frozen=True, kw_only=True)
class NarrowLayer:
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


def narrow_layers(
    kernels: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]
) -> Iterator[NarrowLayer]:
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
) -> Iterator[NarrowLayer]:
    for form, (format, first, second) in forms.items():
        yield NarrowLayer(
            name=name,
            form=form,
            first=_write(graph, format, first),
            second=_write(graph, format, second),
            shape=graph.input_shape,
            format=format,
        )
