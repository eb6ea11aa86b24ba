"""A convolution to very few channels as a product per tap, and a sum of shifted maps.

Vector units compute 8 to 32 output channels at once, so that a 3x3 convolution to one channel
uses a fraction of them. Its products do not depend on where they are added:

    out[y, x, o] = bias[o] + sum over taps t = (ky, kx) of  (sum over c of in[., ., c] w[t, c, o])
                   shifted by t,

so a 1x1 convolution to (taps * channels out) maps does all of the multiplying at full width, and
adding the shifted maps is one addition per tap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporters.graph import Conv, Dense, Graph, Layout, Node, SumShifted
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes
from vae_edge.terms import FloatArray

__all__ = ["SplitNarrowConv"]

# Past this many maps the sum costs more than the convolution's idle lanes: measured for 3x3 kernels
# to one, two, three and four channels (docs/performance.md).
_MAX_MAPS = 36
# With fewer channels in than this there is little to multiply.
_MIN_CHANNELS_IN = 8


@dataclass(frozen=True, kw_only=True)
class SplitNarrowConv:
    """Splits stride-1 convolutions to few channels.

    Attributes:
        bias_in_maps: put the bias into the map of the tap that lies on the pixel itself, where
            there is one, so that the layer adds it and no operator of its own.
    """

    bias_in_maps: bool = True

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "split_narrow_conv"

    def __call__(self, graph: Graph) -> PassResult:
        """Split every one."""
        nodes = [node for node in graph.nodes if isinstance(node.op, Conv)]
        return rewrite_nodes(graph, nodes, self._rewrite)

    def _rewrite(self, graph: Graph, node: Node) -> Replacement | str | None:
        op = node.op
        assert isinstance(op, Conv)  # noqa: S101  chosen so; tells the type checker
        height, width, channels_in, channels_out = op.kernel.shape
        taps = height * width
        if channels_out > 4 or taps == 1:
            return None
        if op.strides != (1, 1) or op.dilations != (1, 1) or op.groups != 1:
            return (
                f"strides {op.strides}, dilations {op.dilations}, groups {op.groups}; "
                "expected 1 of each"
            )
        if op.layout is not Layout.CHANNELS_LAST:
            return "its channels come first"
        if op.activation is not None:
            return f"it applies {op.activation} to the sum"
        if channels_in < _MIN_CHANNELS_IN:
            return (
                f"it has {channels_in} channels in; with fewer than {_MIN_CHANNELS_IN} it gains "
                "nothing"
            )
        if taps * channels_out > _MAX_MAPS:
            return f"it would need {taps * channels_out} maps; more than {_MAX_MAPS} do not pay"
        maps = next(graph.fresh(f"{node.output}/maps"))
        # (ky, kx, in, out) to (in, (out, taps in reverse)): SumShifted's order.
        flipped = op.kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        kernel = np.ascontiguousarray(flipped.reshape(channels_in, channels_out * taps))
        maps_bias, bias = _bias(op, in_maps=self.bias_in_maps)
        products = Node(
            name=node.name,
            op=Dense(kernel=kernel, bias=maps_bias),
            inputs=node.inputs,
            output=maps,
        )
        total = Node(
            name=node.name,
            op=SumShifted(taps=(height, width), pads=op.pads, bias=bias),
            inputs=(maps,),
            output=node.output,
        )
        return (node,), (products, total)


def _bias(op: Conv, *, in_maps: bool) -> tuple[FloatArray, FloatArray]:
    """The bias as that of the maps, where one tap is read for every pixel, else as the sum's."""
    (rows, columns), channels = op.kernel.shape[:2], op.kernel.shape[3]
    none = np.zeros((channels, rows, columns), np.float32)
    (top, bottom), (left, right) = op.pads
    if not in_maps or top + bottom != rows - 1 or left + right != columns - 1:
        return none.ravel(), op.bias
    # Where the input is as large as the output, the tap at (top, left) lies on the pixel itself.
    none[:, rows - 1 - top, columns - 1 - left] = op.bias
    return none.ravel(), np.zeros_like(op.bias)
