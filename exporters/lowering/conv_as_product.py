"""A stride-1 convolution as one matrix product over shifted copies of its input.

    out[y, x] = bias + sum over taps t of in[(y, x) + t - pad] W[t]

is the product of the row [in[(y, x) + t - pad] for every tap t] with the taps' weights stacked.
Shifted copies are slices of the input with zeros around it; convolutions that read one tensor, as
the phases of a transposed convolution do, share them. In channels-last order every copy moves
whole rows, nothing is transposed, and the product is the plain matrix product that every runtime
is fastest at.

Source: K. Chellapilla et al., "High Performance Convolutional Neural Networks for Document
Processing", 2006, for the product over gathered rows (im2col).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from exporters.graph import Concat, Conv, Dense, Graph, Layout, Node, Op, Pad, Slice
from exporters.lowering.base import PassResult, Refusal

__all__ = ["ConvAsProduct"]


@dataclass(frozen=True, kw_only=True)
class ConvAsProduct:
    """Writes small stride-1 convolutions as matrix products.

    Attributes:
        max_taps: largest kernel, in taps; larger ones copy their input too often.
        alone: also those that share their input with no other convolution.
    """

    max_taps: int = 9
    alone: bool = False

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "conv_as_product"

    def __call__(self, graph: Graph) -> PassResult:
        """Rewrite every convolution that is small enough."""
        refused: list[Refusal] = []
        chosen: dict[str, list[Node]] = {}
        for node in graph.nodes:
            if isinstance(node.op, Conv):
                reason = self._objection(node.op)
                if reason is None:
                    chosen.setdefault(node.inputs[0], []).append(node)
                else:
                    refused.append(Refusal(node=node.name, reason=reason))
        applied = []
        for source, convs in chosen.items():
            if len(convs) == 1 and not self.alone:
                reason = "no other convolution reads what it reads, so nothing gathered is shared"
                refused.append(Refusal(node=convs[0].name, reason=reason))
                continue
            graph = _Builder(graph, source, convs).build()
            applied += [conv.name for conv in convs]
        return PassResult(
            graph=graph, applied=tuple(dict.fromkeys(applied)), refused=tuple(refused)
        )

    def _objection(self, op: Conv) -> str | None:
        taps = op.kernel.shape[0] * op.kernel.shape[1]
        if op.strides != (1, 1) or op.dilations != (1, 1) or op.groups != 1:
            return (
                f"strides {op.strides}, dilations {op.dilations}, groups {op.groups}; "
                "expected 1 of each"
            )
        if op.layout is not Layout.CHANNELS_LAST:
            return "its channels come first"
        if taps > self.max_taps:
            return f"it has {taps} taps; more than {self.max_taps} copy the input too often"
        return None


class _Builder:
    def __init__(self, graph: Graph, source: str, convs: list[Node]) -> None:
        self._graph, self._source, self._convs = graph, source, convs
        self._names = graph.fresh(f"{source}/shifted")
        self._shared: list[Node] = []
        self._slices: dict[tuple[int, int, int, int], str] = {}
        ops = [conv.op for conv in convs if isinstance(conv.op, Conv)]
        # Zeros around the input, enough for all.
        self._pads = tuple(
            (max(op.pads[axis][0] for op in ops), max(op.pads[axis][1] for op in ops))
            for axis in (0, 1)
        )
        self._padded: str | None = None

    def build(self) -> Graph:
        graph = self._graph
        first = min(index for index, node in enumerate(graph.nodes) if node in self._convs)
        made = {id(conv): tuple(self._product(conv)) for conv in self._convs}
        nodes: list[Node] = []
        for index, node in enumerate(graph.nodes):
            if index == first:
                nodes += self._shared
            nodes += made.get(id(node), (node,))
        return graph.with_nodes(nodes)

    def _product(self, conv: Node) -> Iterator[Node]:
        op = conv.op
        assert isinstance(op, Conv)  # noqa: S101  chosen so; tells the type checker
        rows, columns, channels_in, channels_out = op.kernel.shape
        height, width, _ = self._graph.shapes[conv.output]
        (top, _), (left, _) = op.pads
        copies = [
            self._shifted(ky - top, kx - left, height, width)
            for ky in range(rows)
            for kx in range(columns)
        ]
        gathered = copies[0]
        if len(copies) > 1:
            gathered = next(self._graph.fresh(f"{conv.output}/gathered"))
            yield Node(name=conv.name, op=Concat(axis=2), inputs=tuple(copies), output=gathered)
        dense = Dense(
            kernel=np.ascontiguousarray(
                op.kernel.reshape(rows * columns * channels_in, channels_out)
            ),
            bias=op.bias,
            activation=op.activation,
        )
        yield Node(name=conv.name, op=dense, inputs=(gathered,), output=conv.output)

    def _shifted(self, down: int, right: int, height: int, width: int) -> str:
        """The input from (down, right) on; negative is before its beginning."""
        shape = self._graph.shapes[self._source]
        if (down, right, height, width) == (0, 0, *shape[:2]):
            return self._source
        key = (down, right, height, width)
        if key not in self._slices:
            starts = (down + self._pads[0][0], right + self._pads[1][0], 0)
            box = Slice(starts=starts, sizes=(height, width, shape[2]))
            self._slices[key] = self._share(box, self._with_zeros())
        return self._slices[key]

    def _with_zeros(self) -> str:
        if not any(any(pair) for pair in self._pads):
            return self._source
        if self._padded is None:
            self._padded = self._share(Pad(pads=(*self._pads, (0, 0))), self._source)
        return self._padded

    def _share(self, op: Op, source: str) -> str:
        output = next(self._names)
        self._shared.append(Node(name=self._convs[0].name, op=op, inputs=(source,), output=output))
        return output
