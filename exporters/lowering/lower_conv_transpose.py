"""Transposed convolution as ordinary convolutions, one per output phase, interleaved.

A transposed convolution with stride s and padding p gives, along each axis,

    out[o] = bias + sum of x[i] * w[k] over all i, k with s * i + k - p = o.

Write o = s * m + f with the phase f in 0..s-1, and f + p = s * q + r with r in 0..s-1. Then k has
to be r + s * j for some j, and i = m + q - j, so that

    out[s * m + f] = bias + sum over j of x[m + q - j] * w[r + s * j]:

an ordinary stride-1 convolution of x with the taps r, r + s, r + 2s, ... in reverse. Each tap is
used in one phase only, so the phases together do as many products as the transposed convolution,
and none with an inserted zero. A phase without taps (kernel smaller than the stride) is the bias
alone: one tap of weight zero. With stride 1 the one phase is the convolution with the flipped
kernel.

Phases of an axis are all made ceil(out / s) long, interleaved (`DepthToSpace` of all of them on the
channels, which `InterleaveByConcat` writes out), and cut at `out`.

`Form.ROWS` makes all column phases of a row phase in one convolution, with zeros where a phase
lacks a tap: 12 products instead of 9 for a 3x3 kernel with stride 2, in half as many operators
and without the concatenation of the columns.

Source: W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016
(arXiv:1609.07009), for the equivalence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from exporters.graph import Concat, Conv, ConvTranspose, DepthToSpace, Graph, Node, Op, Slice
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes
from vae_edge.terms import FloatArray

__all__ = ["Form", "LowerConvTranspose"]


class Form(str, Enum):
    """How the phases are spread over convolutions."""

    PHASES = "one convolution per phase"
    ROWS = "one convolution per row phase"


@dataclass(frozen=True, kw_only=True)
class _Phase:
    """One phase along one axis.

    Attributes:
        taps: kernel index of each tap of the convolution; None for a tap of weight zero.
        pads: zeros before and after the input.
    """

    taps: tuple[int | None, ...]
    pads: tuple[int, int]


def _phases(
    size: int, kernel: int, stride: int, before: int, output: int, *, together: bool
) -> tuple[_Phase, ...]:
    """Split one axis; with `together`, all phases read the same stretch of the input."""
    length = -(-output // stride)
    starts = []
    for phase in range(stride):
        quotient, remainder = divmod(phase + before, stride)
        taps = range(remainder, kernel, stride)
        # offsets of the input values that are read: quotient, quotient - 1, ...
        starts.append({quotient - j: tap for j, tap in enumerate(taps)})

    def plan(by_offset: dict[int, int], low: int, high: int) -> _Phase:
        # A stretch that begins after, or ends before, the input's ends is widened by zero taps:
        # padding can add values to the input and not take them away.
        low, high = min(low, 0), max(high, size - length)
        taps = tuple(by_offset.get(offset) for offset in range(low, high + 1))
        return _Phase(taps=taps, pads=(-low, length + high - size))

    if together:
        offsets = [offset for by_offset in starts for offset in by_offset] or [0]
        return tuple(plan(each, min(offsets), max(offsets)) for each in starts)
    return tuple(plan(each, min(each, default=0), max(each, default=0)) for each in starts)


def _picked(kernel: FloatArray, axis: int, taps: Sequence[int | None]) -> FloatArray:
    """Kernel with the given taps along an axis, zeros where there is none."""
    shape = list(kernel.shape)
    shape[axis] = 1
    zeros = np.zeros(shape, kernel.dtype)
    parts = [zeros if tap is None else np.take(kernel, [tap], axis) for tap in taps]
    return np.concatenate(parts, axis)


@dataclass(frozen=True, kw_only=True)
class LowerConvTranspose:
    """Writes transposed convolutions as convolutions.

    Attributes:
        form: how the phases are spread.
        rows_below: with fewer positions than this in a phase, they are spread by rows whatever the
            form, where an operator costs more than the products with zero.
        min_products: fewest multiplications per phase; with fewer, the operators cost more than the
            products, where the runtime has a fast transposed convolution of its own.
    """

    form: Form = Form.PHASES
    rows_below: int = 0
    min_products: int = 0

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "lower_conv_transpose"

    def __call__(self, graph: Graph) -> PassResult:
        """Rewrite every transposed convolution."""
        nodes = [node for node in graph.nodes if isinstance(node.op, ConvTranspose)]
        return rewrite_nodes(graph, nodes, self._rewrite)

    def _rewrite(self, graph: Graph, node: Node) -> Replacement | str | None:
        op = node.op
        assert isinstance(op, ConvTranspose)  # noqa: S101  chosen so; tells the type checker
        size = graph.shapes[node.inputs[0]]
        phases = op.strides[0] * op.strides[1]
        products = op.kernel.size * size[0] * size[1] // phases
        beyond = max(-e // s for e, s in zip(op.overhang(size), op.strides, strict=True)) > 0
        if phases > 1 and products < self.min_products and not beyond:
            return (
                f"a phase has {products} products; with fewer than {self.min_products} the "
                "runtime's own transposed convolution is faster"
            )
        columns_together = self.form is Form.ROWS or size[0] * size[1] < self.rows_below
        rows, columns = (
            _phases(
                size[axis],
                op.kernel.shape[axis],
                op.strides[axis],
                op.pads_before[axis],
                op.output_size[axis],
                together=columns_together and axis == 1,
            )
            for axis in (0, 1)
        )
        builder = _Builder(graph, node, op)
        return (node,), tuple(builder.build(rows, columns, columns_together))


class _Builder:
    def __init__(self, graph: Graph, node: Node, op: ConvTranspose) -> None:
        self._node, self._op = node, op
        self._names = graph.fresh(node.output)
        self._nodes: list[Node] = []

    def build(
        self, rows: tuple[_Phase, ...], columns: tuple[_Phase, ...], together: bool
    ) -> Iterator[Node]:
        op = self._op
        parts = [
            self._conv(row, group)
            for row in rows
            for group in ([columns] if together else [(column,) for column in columns])
        ]
        whole = parts[0] if len(parts) == 1 else self._add(Concat(axis=2), *parts)
        size = tuple(
            -(-out // stride) * stride
            for out, stride in zip(op.output_size, op.strides, strict=True)
        )
        if op.strides != (1, 1):
            whole = self._add(DepthToSpace(block=op.strides), whole)
        if op.output_size != size:
            self._add(Slice(starts=(0, 0, 0), sizes=(*op.output_size, op.kernel.shape[2])), whole)
        *most, last = self._nodes
        # What is read later keeps its name.
        yield from most
        yield Node(name=last.name, op=last.op, inputs=last.inputs, output=self._node.output)

    def _conv(self, row: _Phase, columns: tuple[_Phase, ...]) -> str:
        op = self._op
        by_row = _picked(op.kernel, 0, row.taps)
        kernels = [_picked(by_row, 1, column.taps) for column in columns]
        # (h, w, out, in) of a transposed convolution to (h, w, in, out) of a convolution
        kernel = np.concatenate(kernels, axis=2).transpose(0, 1, 3, 2)
        return self._add(
            Conv(
                kernel=np.ascontiguousarray(kernel),
                bias=np.tile(op.bias, len(columns)),
                pads=(row.pads, columns[0].pads),
                activation=op.activation,
            ),
            self._node.inputs[0],
        )

    def _add(self, op: Op, *inputs: str) -> str:
        output = next(self._names)
        self._nodes.append(Node(name=self._node.name, op=op, inputs=inputs, output=output))
        return output
