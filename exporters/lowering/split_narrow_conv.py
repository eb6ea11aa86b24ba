"""A convolution to very few channels as a product per tap, and a sum of shifted maps.

Vector units compute 8 to 32 output channels at once, so that a 3x3 convolution to one channel
uses a fraction of them. Its products do not depend on where they are added:

    out[y, x, o] = bias[o] + sum over taps t = (ky, kx) of  (sum over c of in[., ., c] w[t, c, o])
                   shifted by t,

so a 1x1 convolution to (taps * channels out) maps does all of the multiplying at full width, and
adding the shifted maps is one addition per tap.

Where the image was put together from blocks of pixels (`DepthToSpace`, the end of a transposed
convolution with strides), the products can be those of whole blocks: a block of s x s pixels
reaches (taps + s - 1) squared outputs, and pixel (p, q) adds its product with tap (a, b) to the one
at (p + a, q + b). For a 3x3 kernel and s = 2 that is 16 maps of a quarter of the size instead of
9 maps, and the blocks need not be put in their places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Activate, Conv, Dense, DepthToSpace, Graph, Layout, Node, SumShifted
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes

__all__ = ["SplitNarrowConv"]

# With fewer channels in than this there is little to multiply, whatever comes out.
_MIN_CHANNELS_IN = 8
# Maps are computed so many at a time.
_LANES = 16


@dataclass(frozen=True, kw_only=True)
class SplitNarrowConv:
    """Splits stride-1 convolutions to few channels.

    Attributes:
        bias_in_maps: put the bias into the map of the tap that lies on the pixel itself, where
            there is one, so that the layer adds it and no operator of its own.
        max_maps: with more, the sum costs more than the convolution's idle lanes.
        channels_in: least channels in for each channel out; with fewer there is too little to
            multiply.
        block_growth: make the products of whole blocks of pixels, where the image consists of
            them, if that takes at most this many times as many, counted in vectors of 16 maps;
            0: never. Needs a runtime with a sum at strides.
        pointwise: make the products of blocks with a 1x1 convolution.
    """

    bias_in_maps: bool = True
    max_maps: int = 200
    channels_in: int = 0
    block_growth: float = 0.0
    pointwise: bool = False

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
        least = max(_MIN_CHANNELS_IN, self.channels_in * channels_out)
        if channels_in < least:
            return (
                f"it has {channels_in} channels in and {channels_out} out; with fewer than {least} "
                "in it gains nothing"
            )
        if taps * channels_out > self.max_maps:
            return f"it would need {taps * channels_out} maps; more than {self.max_maps} do not pay"
        if any(pad >= n for n, pair in zip((height, width), op.pads, strict=True) for pad in pair):
            return f"it pads {op.pads}; expected less than the kernel's {height, width}"
        pixels = self._pixels(graph, node, op)
        products, total = _split(op, pixels.block, bias_in_maps=self.bias_in_maps)
        made = _pointwise(products) if self.pointwise and pixels.block != (1, 1) else products
        maps = next(graph.fresh(f"{node.output}/maps"))
        come = (
            *pixels.come,
            Node(name=node.name, op=made, inputs=(pixels.tensor,), output=maps),
            Node(name=node.name, op=total, inputs=(maps,), output=node.output),
        )
        return (*pixels.go, node), come

    def _pixels(self, graph: Graph, node: Node, op: Conv) -> _Pixels:
        """Choose what to multiply: blocks of pixels, where that is not too much more."""
        pixels = _Pixels.of(graph, node.inputs[0])
        (height, width), channels_out = op.kernel.shape[:2], op.kernel.shape[3]
        rows, columns = pixels.block
        single = _vectors(channels_out * height * width)
        together = _vectors(channels_out * (height + rows - 1) * (width + columns - 1))
        if together > self.block_growth * single:
            return _Pixels(tensor=node.inputs[0])
        return pixels


def _vectors(maps: int) -> int:
    return -(-maps // _LANES)


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    """What the products are made of.

    Attributes:
        tensor: single pixels, or blocks of them on the channels.
        block: height and width of a block.
        go: nodes that are not needed then.
        come: nodes in their place.
    """

    tensor: str
    block: tuple[int, int] = (1, 1)
    go: tuple[Node, ...] = ()
    come: tuple[Node, ...] = ()

    @classmethod
    def of(cls, graph: Graph, tensor: str) -> _Pixels:
        """Find the blocks that an image was put together from, where nobody else reads it."""
        single = cls(tensor=tensor)
        image = graph.maker(tensor)
        if image is None or graph.only_user(tensor) is None:
            return single
        if isinstance(image.op, Activate):
            # What is done to every value can be done before they are put in their places.
            inner = cls.of(graph, image.inputs[0])
            if inner.block == (1, 1):
                return single
            before = replace(image, inputs=(inner.tensor,))
            return replace(inner, tensor=tensor, go=(*inner.go, image), come=(*inner.come, before))
        if isinstance(image.op, DepthToSpace):
            return cls(tensor=image.inputs[0], block=image.op.block, go=(image,))
        return single


def _split(op: Conv, block: tuple[int, int], *, bias_in_maps: bool) -> tuple[Dense, SumShifted]:
    """Write a convolution as the products of blocks of pixels, and their sum."""
    height, width, channels_in, channels_out = op.kernel.shape
    rows, columns = block
    reach = height + rows - 1, width + columns - 1
    # A pixel is added to what reads it: to the opposite side of the kernel's tap.
    flipped = op.kernel[::-1, ::-1].transpose(2, 3, 0, 1)
    (top, bottom), (left, right) = (
        (n - 1 - before, n - 1 - after)
        for n, (before, after) in zip((height, width), op.pads, strict=True)
    )
    # Where the input is as large as the output, the tap at (top, left) lies on the pixel itself.
    in_maps = bias_in_maps and top + bottom == height - 1 and left + right == width - 1
    kernel = np.zeros((rows, columns, channels_in, channels_out, *reach), np.float32)
    bias = np.zeros((channels_out, *reach), np.float32)
    for p, q in np.ndindex(block):
        kernel[p, q, ..., p : p + height, q : q + width] = flipped
        if in_maps:
            bias[:, p + top, q + left] = op.bias
    maps = channels_out * reach[0] * reach[1]
    products = Dense(kernel=kernel.reshape(rows * columns * channels_in, maps), bias=bias.ravel())
    total = SumShifted(
        taps=reach,
        strides=block,
        pads=((top, bottom), (left, right)),
        bias=np.zeros_like(op.bias) if in_maps else op.bias,
    )
    return products, total


def _pointwise(products: Dense) -> Conv:
    return Conv(kernel=products.kernel[np.newaxis, np.newaxis], bias=products.bias)
