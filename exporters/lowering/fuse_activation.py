"""Rectified linear units computed by the layer before them.

Both runtimes clamp a layer's sum while it is still in registers, so relu(W x + b) as one operator
saves a pass over the output; and a quantizer then sees one tensor whose range begins at 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporters.graph import Activate, Activation, Conv, ConvTranspose, Dense, Graph, Node
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes

__all__ = ["FuseActivation"]

_CLAMPS = (Activation.RELU, Activation.RELU6)


@dataclass(frozen=True)
class FuseActivation:
    """Fuses RELU and RELU6 into convolutions and dense layers."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "fuse_activation"

    def __call__(self, graph: Graph) -> PassResult:
        """Fuse every one that follows a layer directly."""
        nodes = [
            node
            for node in graph.nodes
            if isinstance(node.op, Activate) and node.op.activation in _CLAMPS
        ]
        return rewrite_nodes(graph, nodes, _rewrite)


def _rewrite(graph: Graph, node: Node) -> Replacement | str | None:
    assert isinstance(node.op, Activate)  # noqa: S101  chosen so; tells the type checker
    before = graph.maker(node.inputs[0])
    if before is None or not isinstance(before.op, (Conv, ConvTranspose, Dense)):
        what = "the input" if before is None else f"{before.name} ({type(before.op).__name__})"
        return f"it follows {what}, which cannot apply it"
    if before.op.activation is not None:
        return f"{before.name} applies {before.op.activation} already"
    if graph.only_user(before.output) is not node:
        return f"the output of {before.name} is also read without it"
    fused = replace(before.op, activation=node.op.activation)
    made = Node(name=before.name, op=fused, inputs=before.inputs, output=node.output)
    return (before, node), (made,)
