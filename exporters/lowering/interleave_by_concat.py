"""Blocks of pixels put in their places by concatenations, which copy, and reshapes, which do not.

For `DepthToSpace` of phases that are concatenated on the channels, phase (p, q) at place
p * columns + q:

    the column phases of one row, on the channels: (h, w, (q, c)), which read as (h, (w, q), c) has
    its columns interleaved already;
    those rows, on the columns: (h, (p, w), (q, c)), which read as ((h, p), (w, q), c) has its rows
    interleaved too.

Nothing is permuted, so that runtimes copy whole rows. What is no such concatenation is permuted as
(h, w, p, (q, c)) to (h, p, w, (q, c)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporters.graph import Concat, DepthToSpace, Graph, Node, Op, Reshape, Transpose
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes

__all__ = ["InterleaveByConcat"]


@dataclass(frozen=True, kw_only=True)
class InterleaveByConcat:
    """Writes `DepthToSpace` as concatenations and reshapes.

    Attributes:
        flat_rows: put row phases together as (h, 1, (w, q, c)) instead of (h, w, (q, c)). It is the
            same copy with a reshape more, but ONNX Runtime, which moves transposes through
            concatenations and not through reshapes, then keeps those around float convolutions
            where they are cheap.
    """

    flat_rows: bool = False

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "interleave_by_concat"

    def __call__(self, graph: Graph) -> PassResult:
        """Rewrite every one."""
        nodes = [node for node in graph.nodes if isinstance(node.op, DepthToSpace)]
        return rewrite_nodes(graph, nodes, self._rewrite)

    def _rewrite(self, graph: Graph, node: Node) -> Replacement:
        op = node.op
        assert isinstance(op, DepthToSpace)  # noqa: S101  chosen so; tells the type checker
        steps = _Steps(graph, node)
        joined = graph.maker(node.inputs[0])
        rows = None if joined is None else _row_phases(graph, joined, op.block)
        if joined is None or rows is None:
            return (node,), tuple(steps.permuted(op))
        return (joined, node), tuple(steps.concatenated(rows, flat=self.flat_rows))


def _row_phases(
    graph: Graph, joined: Node, block: tuple[int, int]
) -> tuple[tuple[str, ...], ...] | None:
    """The phases of each row, where a concatenation that only we read holds them whole."""
    if (
        not isinstance(joined.op, Concat)
        or joined.op.axis != 2
        or graph.only_user(joined.output) is None
    ):
        return None
    channels = graph.shapes[joined.output][2] // block[0]
    rows: list[tuple[str, ...]] = []
    row: list[str] = []
    for part in joined.inputs:
        row.append(part)
        if sum(graph.shapes[each][2] for each in row) == channels:
            rows.append(tuple(row))
            row = []
    return tuple(rows) if not row and len(rows) == block[0] else None


class _Steps:
    """The nodes that come in the place of one."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self._node = node
        self._shape = graph.shapes[node.inputs[0]]
        self._to = graph.shapes[node.output]
        self._names = graph.fresh(node.output)
        self._nodes: list[Node] = []

    def permuted(self, op: DepthToSpace) -> Iterator[Node]:
        height, width, channels = self._shape
        rows = op.block[0]
        value = self._node.inputs[0]
        if rows > 1:
            value = self._add(Reshape(to=(height, width, rows, channels // rows)), value)
            value = self._add(Transpose(order=(0, 2, 1, 3)), value)
        return self._ending_in(value)

    def concatenated(self, rows: Sequence[Sequence[str]], *, flat: bool) -> Iterator[Node]:
        height, width, channels = self._shape
        parts = []
        for row in rows:
            part = row[0] if len(row) == 1 else self._add(Concat(axis=2), *row)
            if flat and len(rows) > 1:
                part = self._add(Reshape(to=(height, 1, width * channels // len(rows))), part)
            parts.append(part)
        return self._ending_in(parts[0] if len(parts) == 1 else self._add(Concat(axis=1), *parts))

    def _ending_in(self, value: str) -> Iterator[Node]:
        yield from self._nodes
        yield Node(
            name=self._node.name,
            op=Reshape(to=self._to),
            inputs=(value,),
            output=self._node.output,
        )

    def _add(self, op: Op, *inputs: str) -> str:
        output = next(self._names)
        self._nodes.append(Node(name=self._node.name, op=op, inputs=inputs, output=output))
        return output
