"""Static shapes: Flatten and Reshape as what they are, and as few of them as possible.

Two reshapes in a row are the last of them alone, and one to the shape that is there already is
nothing. With the sizes of a row known, no shape has to be computed while the graph runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporters.graph import Graph, Node, Reshape
from exporters.lowering.base import PassResult

__all__ = ["SimplifyShapes"]


@dataclass(frozen=True)
class SimplifyShapes:
    """Drops reshapes that do nothing, and joins those that follow one another."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "simplify_shapes"

    def __call__(self, graph: Graph) -> PassResult:
        """Simplify until nothing changes."""
        applied: list[str] = []
        sources: dict[str, str] = {}
        nodes: list[Node] = []
        leaving = set(graph.outputs.values())
        for node in graph.nodes:
            inputs = tuple(sources.get(name, name) for name in node.inputs)
            if isinstance(node.op, Reshape):
                before = next((n for n in nodes if n.output == inputs[0]), None)
                if before is not None and isinstance(before.op, Reshape):
                    inputs = before.inputs
                    applied.append(node.name)
                if graph.shapes[inputs[0]] == node.op.to and node.output not in leaving:
                    sources[node.output] = inputs[0]
                    applied.append(node.name)
                    continue
            nodes.append(replace(node, inputs=inputs))
        return PassResult(graph=graph.with_nodes(nodes), applied=tuple(dict.fromkeys(applied)))
