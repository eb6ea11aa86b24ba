"""Upsampling to the nearest value as concatenation.

Every column twice is the image beside itself on the channels, (h, w, 2 c), read as (h, 2 w, c);
every row twice is that beside itself on the columns, (h, 2 (2 w), c), read as (2 h, 2 w, c).
Values are only moved, so that 8-bit ones stay as they are, and no resizing operator with its
rules for pixel centres takes part.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporters.graph import Concat, Graph, Node, Repeat, Reshape
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes

__all__ = ["RepeatByConcat"]


@dataclass(frozen=True)
class RepeatByConcat:
    """Writes nearest-value upsampling as concatenations and reshapes."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "repeat_by_concat"

    def __call__(self, graph: Graph) -> PassResult:
        """Rewrite every one."""
        nodes = [node for node in graph.nodes if isinstance(node.op, Repeat)]
        return rewrite_nodes(graph, nodes, _rewrite)


def _rewrite(graph: Graph, node: Node) -> Replacement | str | None:
    op = node.op
    assert isinstance(op, Repeat)  # noqa: S101  chosen so; tells the type checker
    height, width, channels = graph.shapes[node.inputs[0]]
    names = graph.fresh(f"{node.output}/repeated")
    made: list[Node] = []
    source = node.inputs[0]
    wide = width * op.columns
    for axis, times, to in (
        (2, op.columns, (height, wide, channels)),
        (1, op.rows, (height * op.rows, wide, channels)),
    ):
        if times > 1:
            beside = next(names)
            made.append(
                Node(name=node.name, op=Concat(axis=axis), inputs=(source,) * times, output=beside)
            )
            source = next(names)
            made.append(Node(name=node.name, op=Reshape(to=to), inputs=(beside,), output=source))
    last = made.pop()
    made.append(Node(name=last.name, op=last.op, inputs=last.inputs, output=node.output))
    return (node,), tuple(made)
