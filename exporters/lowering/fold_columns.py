"""A convolution to very few channels, several columns at a time.

A convolution to one channel leaves most lanes of a vector unit idle. F neighbouring columns of
the image read as one column of F times the channels are the same numbers in the same order, so
with x = F b + f

    out[y, F b + f] = bias + sum over ky, kx of in[y + ky - top, F b + (f + kx - left)] w[ky, kx]

is a convolution from (h, w / F, F * channels in) to (h, w / F, F * channels out): column f + kx -
left lies in block floor((f + kx - left) / F) beside block b, at the remainder. The kernel holds
zeros where a column of the block is out of reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporters.graph import Conv, Graph, Layout, Node, Reshape
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes

__all__ = ["FoldColumns"]

_MAX_CHANNELS_OUT = 4


@dataclass(frozen=True, kw_only=True)
class FoldColumns:
    """Folds stride-1 convolutions to few channels.

    Attributes:
        columns: how many are computed together.
    """

    columns: int = 4

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "fold_columns"

    def __call__(self, graph: Graph) -> PassResult:
        """Fold every one."""
        nodes = [node for node in graph.nodes if isinstance(node.op, Conv)]
        return rewrite_nodes(graph, nodes, self._rewrite)

    def _rewrite(self, graph: Graph, node: Node) -> Replacement | str | None:
        op = node.op
        assert isinstance(op, Conv)  # noqa: S101  chosen so; tells the type checker
        rows, taps, channels_in, channels_out = op.kernel.shape
        if channels_out > _MAX_CHANNELS_OUT or (rows, taps) == (1, 1):
            return None
        if op.strides != (1, 1) or op.dilations != (1, 1) or op.groups != 1:
            return (
                f"strides {op.strides}, dilations {op.dilations}, groups {op.groups}; "
                "expected 1 of each"
            )
        if op.layout is not Layout.CHANNELS_LAST:
            return "its channels come first"
        height, width, _ = graph.shapes[node.inputs[0]]
        out_height, out_width, _ = graph.shapes[node.output]
        fold = self.columns
        if width != out_width:
            return f"it makes {out_width} columns of {width}; expected as many"
        if width % fold:
            return f"{width} columns cannot be folded by {fold}"
        left = op.pads[1][0]
        low, high = (-left) // fold, (fold - 1 + taps - 1 - left) // fold
        kernel = np.zeros((rows, high - low + 1, fold, channels_in, fold, channels_out), np.float32)
        for f in range(fold):
            for kx in range(taps):
                block, column = divmod(f + kx - left, fold)
                kernel[:, block - low, column, :, f] = op.kernel[:, kx]
        folded = Conv(
            kernel=kernel.reshape(rows, high - low + 1, fold * channels_in, fold * channels_out),
            bias=np.tile(op.bias, fold),
            pads=(op.pads[0], (-low, high)),
            activation=op.activation,
        )
        names = graph.fresh(f"{node.output}/folded")
        wide = Node(
            name=node.name,
            op=Reshape(to=(height, width // fold, fold * channels_in)),
            inputs=node.inputs,
            output=next(names),
        )
        product = Node(name=node.name, op=folded, inputs=(wide.output,), output=next(names))
        narrow = Node(
            name=node.name,
            op=Reshape(to=(out_height, width, channels_out)),
            inputs=(product.output,),
            output=node.output,
        )
        return (node,), (wide, product, narrow)
