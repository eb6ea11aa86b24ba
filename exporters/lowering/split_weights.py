"""Weights as a coarse and a fine part, so that 8 bits each store them to 16.

An encoder's heads are its outputs: an error of their weights is an error of z_mean, with no activation
behind it that could hide it. With W_8 the weights as int8 stores them,

    x W + b = x W_8 + x (W - W_8) + b,

an identity in real numbers. Both parts become one layer with twice the channels, each channel with a
scale of its own, so that the second part is stored in steps 254 times finer; a sum of two follows. For
layers with few outputs that costs next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Conv, Dense, Graph, Node
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes
from exporters.quantization.plan import quantize_weights

__all__ = ["SplitWeights"]


@dataclass(frozen=True, kw_only=True)
class SplitWeights:
    """Splits the weights of convolutions that make a single pixel.

    Attributes:
        max_channels: layers with more outputs than this are left alone: twice their weights would
            be much of the file.
    """

    max_channels: int = 16

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "split_weights"

    def __call__(self, graph: Graph) -> PassResult:
        """Split every one."""
        nodes = [node for node in graph.nodes if isinstance(node.op, Conv)]
        return rewrite_nodes(graph, nodes, self._rewrite)

    def _rewrite(self, graph: Graph, node: Node) -> Replacement | str | None:
        op = node.op
        assert isinstance(op, Conv)  # noqa: S101  chosen so; tells the type checker
        if graph.shapes[node.output][:2] != (1, 1) or op.groups != 1:
            return None
        channels = op.kernel.shape[3]
        if channels > self.max_channels:
            return f"it has {channels} channels; more than {self.max_channels} would cost too much"
        coarse = quantize_weights(op.kernel).real()
        parts = next(graph.fresh(f"{node.output}/parts"))
        both = replace(
            op,
            kernel=np.concatenate([coarse, op.kernel - coarse], axis=3),
            bias=np.concatenate([op.bias, np.zeros_like(op.bias)]),
            activation=None,
        )
        ones = np.tile(np.eye(channels, dtype=np.float32), (2, 1))
        total = Dense(
            kernel=ones, bias=np.zeros(channels, np.float32), activation=op.activation
        )
        return (node,), (
            Node(name=node.name, op=both, inputs=node.inputs, output=parts),
            Node(name=node.name, op=total, inputs=(parts,), output=node.output),
        )
