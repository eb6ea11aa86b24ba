"""The sum of shifted maps as two convolutions with kernels of ones.

Down the columns first, then along the rows:

    u[y, x, (o, kx)] = sum over ky of in[y + top - ky, x, (o, ky, kx)]
    out[y, x, o] = bias[o] + sum over kx of u[y, x + left - kx, (o, kx)]

Both sums are exact: every product is with 1 or 0. A product per tap in a Dense layer becomes a
1x1 convolution, so that the whole stays one delegate from end to end in TFLite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Conv, Dense, Graph, Node, SumShifted
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes

__all__ = ["SumByConvolution"]


@dataclass(frozen=True)
class SumByConvolution:
    """Writes sums of shifted maps as convolutions, for runtimes without Col2Im."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "sum_by_convolution"

    def __call__(self, graph: Graph) -> PassResult:
        """Rewrite every sum."""
        nodes = [node for node in graph.nodes if isinstance(node.op, SumShifted)]
        return rewrite_nodes(graph, nodes, _rewrite)


def _rewrite(graph: Graph, node: Node) -> Replacement | str | None:
    op = node.op
    assert isinstance(op, SumShifted)  # noqa: S101  chosen so; tells the type checker
    height, width = op.taps
    channels = len(op.bias)
    if op.strides != (1, 1):
        return f"strides {op.strides}; expected 1 of each"
    # Maps that are added at an offset are read from the opposite one.
    pads = tuple(
        (taps - 1 - before, taps - 1 - after)
        for taps, (before, after) in zip(op.taps, op.pads, strict=True)
    )
    down = np.zeros((height, 1, channels, height, width, channels, width), np.float32)
    across = np.zeros((1, width, channels, width, channels), np.float32)
    for o, kx in np.ndindex(channels, width):
        across[0, kx, o, width - 1 - kx, o] = 1
        for ky in range(height):
            down[ky, 0, o, height - 1 - ky, kx, o, kx] = 1
    columns = channels * width
    names = graph.fresh(f"{node.output}/sums")
    first = Node(
        name=node.name,
        op=Conv(
            kernel=down.reshape(height, 1, channels * height * width, columns),
            bias=np.zeros(columns, np.float32),
            pads=(pads[0], (0, 0)),
        ),
        inputs=node.inputs,
        output=next(names),
    )
    second = Node(
        name=node.name,
        op=Conv(
            kernel=across.reshape(1, width, columns, channels),
            bias=op.bias,
            pads=((0, 0), pads[1]),
        ),
        inputs=(first.output,),
        output=node.output,
    )
    products = graph.maker(node.inputs[0])
    if products is None or not isinstance(products.op, Dense):
        return (node,), (first, second)
    as_conv = Conv(
        kernel=products.op.kernel[np.newaxis, np.newaxis],
        bias=products.op.bias,
        activation=products.op.activation,
    )
    return (products, node), (replace(products, op=as_conv), first, second)
