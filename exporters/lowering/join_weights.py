"""A layer and the dense layers that alone read it, as one layer each.

Without an activation between them,

    (x W + b) V + c = x (W V) + (b V + c),

an identity in real numbers. It undoes what `split_weights` and `merge_heads` did to layers whose
weights are not stored in 8 bits after all: two parts of 16 bits say no more than one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Conv, Dense, Graph, Node
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes

__all__ = ["JoinWeights"]


@dataclass(frozen=True, kw_only=True)
class JoinWeights:
    """Joins layers with their readers, where that leaves fewer weights.

    Attributes:
        only: outputs of the layers that may be joined; None for all.
    """

    only: frozenset[str] | None = None

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "join_weights"

    def __call__(self, graph: Graph) -> PassResult:
        """Join every one."""
        nodes = [node for node in graph.nodes if self.only is None or node.output in self.only]
        return rewrite_nodes(graph, nodes, _rewrite)


def _rewrite(graph: Graph, node: Node) -> Replacement | str | None:
    op, users = node.op, graph.users(node.output)
    if not isinstance(op, (Conv, Dense)) or op.activation is not None:
        return None
    if node.output in graph.outputs.values() or not users:
        return None
    readers = [user.op for user in users if isinstance(user.op, Dense)]
    if len(readers) < len(users) or graph.shapes[node.output][:-1] not in ((), (1, 1)):
        return None
    if isinstance(op, Conv) and op.groups != 1:
        return "its channels are in groups"
    channels = op.kernel.shape[-1]
    if sum(each.kernel.shape[1] for each in readers) >= channels:
        return "it would have as many weights"
    return (node, *users), tuple(
        Node(name=user.name, op=_joined(op, each), inputs=node.inputs, output=user.output)
        for user, each in zip(users, readers, strict=True)
    )


def _joined(first: Conv | Dense, second: Dense) -> Conv | Dense:
    matrix = second.kernel.astype(np.float64)
    bias = first.bias.astype(np.float64) @ matrix + second.bias
    return replace(
        first,
        kernel=(first.kernel.astype(np.float64) @ matrix).astype(np.float32),
        bias=bias.astype(np.float32),
        activation=second.activation,
    )
