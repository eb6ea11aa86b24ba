"""Weights as a coarse and a fine part, so that 8 bits each store them to 16.

An encoder's heads are its outputs: an error of their weights is an error of z_mean, with no
activation behind it that could hide it. With W_8 the weights as int8 stores them,

    x W + b = x W_8 + x (W - W_8) + b,

an identity in real numbers. Both parts become one layer with twice the channels, each channel
with a scale of its own, so that the second part is stored in steps 254 times finer; a sum of two
follows. For layers with few outputs that costs next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Conv, Dense, Graph, Node, Reshape
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes
from exporters.quantization.plan import quantize_weights

__all__ = ["SplitWeights"]


@dataclass(frozen=True, kw_only=True)
class SplitWeights:
    """Splits the weights of layers whose sums are the graph's outputs.

    Attributes:
        max_channels: layers with more outputs than this are left alone: twice their weights would
            be much of the file.
        paired: neighbouring weights are held to `LARGEST_PAIR` when they are stored later.
    """

    max_channels: int = 64
    paired: bool = False

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "split_weights"

    def __call__(self, graph: Graph) -> PassResult:
        """Split every one."""
        nodes = [node for node in graph.nodes if isinstance(node.op, (Conv, Dense))]
        return rewrite_nodes(graph, nodes, self._rewrite)

    def _rewrite(self, graph: Graph, node: Node) -> Replacement | str | None:
        op = node.op
        assert isinstance(op, (Conv, Dense))  # noqa: S101  chosen so; tells the type checker
        if not _is_head(graph, node) or (isinstance(op, Conv) and op.groups != 1):
            return None
        channels = op.kernel.shape[-1]
        if channels > self.max_channels:
            return f"it has {channels} channels; more than {self.max_channels} would cost too much"
        # Stored later as they are here: weights that were rounded once more reach the ends of their
        # scale exactly, and have the same one again.
        coarse = op.kernel
        for _ in range(2):
            coarse = quantize_weights(coarse, paired=self.paired).real()
        parts = next(graph.fresh(f"{node.output}/parts"))
        both = replace(
            op,
            kernel=np.concatenate([coarse, op.kernel - coarse], axis=-1),
            bias=np.concatenate([op.bias, np.zeros_like(op.bias)]),
        )
        ones = np.tile(np.eye(channels, dtype=np.float32), (2, 1))
        total = Dense(kernel=ones, bias=np.zeros(channels, np.float32))
        return (node,), (
            Node(name=node.name, op=both, inputs=node.inputs, output=parts),
            Node(name=node.name, op=total, inputs=(parts,), output=node.output),
        )


def _is_head(graph: Graph, node: Node) -> bool:
    """Whether a layer's sums, one per channel, leave the graph as they are."""
    op = node.op
    if not isinstance(op, (Conv, Dense)) or op.activation is not None:
        return False
    if graph.shapes[node.output][:-1] not in ((), (1, 1)):
        return False
    tensor = node.output
    while (user := graph.only_user(tensor)) is not None and isinstance(user.op, Reshape):
        tensor = user.output
    return tensor in graph.outputs.values()
