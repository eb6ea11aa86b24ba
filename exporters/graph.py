"""The graph that lowering passes rewrite: a few layers with numpy weights, and the rest untouched.

Shapes are those of one row (one image, one latent), without the batch. Images are laid out
(height, width, channels) unless an operator says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np

from vae_edge.errors import ExportError
from vae_edge.terms import FloatArray

__all__ = [
    "Activate",
    "Activation",
    "Affine",
    "Binary",
    "BinaryKind",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Dense",
    "DepthToSpace",
    "Graph",
    "KerasLayer",
    "Layout",
    "Node",
    "Op",
    "Pad",
    "Pads",
    "Repeat",
    "Reshape",
    "Shape",
    "Slice",
    "SumShifted",
    "Transpose",
    "same_pads",
]

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], tuple[int, int]]


class Layout(str, Enum):
    """Order of the axes of one image."""

    CHANNELS_LAST = "channels_last"
    CHANNELS_FIRST = "channels_first"


class Activation(str, Enum):
    """A function of single values."""

    RELU = "relu"
    RELU6 = "relu6"
    LEAKY_RELU = "leaky_relu"
    ELU = "elu"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    SOFTPLUS = "softplus"
    SOFTSIGN = "softsign"
    SELU = "selu"
    MISH = "mish"
    HARD_SIGMOID = "hard_sigmoid"
    HARD_SILU = "hard_silu"
    EXP = "exp"
    LOG = "log"
    SQUARE = "square"
    SQRT = "sqrt"
    RSQRT = "rsqrt"
    ABS = "abs"

    def __str__(self) -> str:
        return str(self.value)


class BinaryKind(str, Enum):
    """A function of two values at the same place."""

    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Zeros before and after an axis under TensorFlow's `same` padding.

    The odd one goes after: total = (ceil(size / stride) - 1) * stride + reach - size, where the
    kernel reaches over (kernel - 1) * dilation + 1 values.
    """
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


class Op(Protocol):
    """What a node computes."""

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""


def _image(shape: Shape, layout: Layout) -> tuple[int, int, int]:
    """Give height, width and channels of an image in a layout."""
    if len(shape) != 3:
        raise ExportError(f"expected (height, width, channels); received {shape}.")
    first, second, third = shape
    if layout is Layout.CHANNELS_FIRST:
        return second, third, first
    return first, second, third


def _laid_out(height: int, width: int, channels: int, layout: Layout) -> Shape:
    if layout is Layout.CHANNELS_FIRST:
        return channels, height, width
    return height, width, channels


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv:
    """A convolution (cross-correlation) with explicit zero padding.

    Attributes:
        kernel: float32 (height, width, channels in / groups, channels out).
        bias: float32 (channels out,).
        strides: along height and width.
        pads: zeros before and after, along height and width.
        dilations: distance of the kernel's taps.
        groups: 1, or the number of channels for a depthwise convolution.
        activation: applied to the sum, or None.
        layout: of input and output.
    """

    kernel: FloatArray
    bias: FloatArray
    strides: tuple[int, int] = (1, 1)
    pads: Pads = ((0, 0), (0, 0))
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    activation: Activation | None = None
    layout: Layout = Layout.CHANNELS_LAST

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        *sizes, _ = _image(inputs[0], self.layout)
        height, width = (
            (size + sum(pads) - (taps - 1) * dilation - 1) // stride + 1
            for size, pads, taps, dilation, stride in zip(
                sizes, self.pads, self.kernel.shape[:2], self.dilations, self.strides, strict=True
            )
        )
        return _laid_out(height, width, self.kernel.shape[3], self.layout)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvTranspose:
    """A transposed convolution: out[stride * i + k - pad] += x[i] * kernel[k].

    Attributes:
        kernel: float32 (height, width, channels out, channels in).
        bias: float32 (channels out,).
        strides: along height and width.
        pads_before: how far the output begins after the first product, along height and width.
        output_size: height and width.
        activation: applied to the sum, or None.
        layout: of input and output.
    """

    kernel: FloatArray
    bias: FloatArray
    strides: tuple[int, int]
    pads_before: tuple[int, int]
    output_size: tuple[int, int]
    activation: Activation | None = None
    layout: Layout = Layout.CHANNELS_LAST

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:  # noqa: ARG002
        """Give the output's shape."""
        return _laid_out(*self.output_size, self.kernel.shape[2], self.layout)

    def overhang(self, shape: Shape) -> tuple[int, int]:
        """Give how much of what an input of `shape` reaches is cut off at the end, per axis.

        Negative where the output goes beyond what the input reaches.
        """
        rows, columns, _ = _image(shape, self.layout)
        first, second = (
            (n - 1) * stride + taps - before - out
            for n, stride, taps, before, out in zip(
                (rows, columns),
                self.strides,
                self.kernel.shape[:2],
                self.pads_before,
                self.output_size,
                strict=True,
            )
        )
        return first, second


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense:
    """A matrix product over the last axis: x @ kernel + bias.

    Attributes:
        kernel: float32 (in, out).
        bias: float32 (out,).
        activation: applied to the sum, or None.
    """

    kernel: FloatArray
    bias: FloatArray
    activation: Activation | None = None

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return (*inputs[0][:-1], self.kernel.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class SumShifted:
    """The second half of a convolution whose products are already there, one map per tap.

    out[y, x, o] = bias[o] + the sum of in[i, j, (o, ky, kx)] over all positions and taps with
    strides * (i, j) + (ky, kx) - (top, left) = (y, x): what ONNX calls Col2Im. The maps of one
    output channel stand together.

    Attributes:
        taps: height and width of what one position is added to.
        strides: from one position to the next, along height and width.
        pads: cut off the sum before and after, along height and width.
        bias: float32 (channels out,).
    """

    taps: tuple[int, int]
    pads: Pads
    bias: FloatArray
    strides: tuple[int, int] = (1, 1)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        height, width = (
            stride * (size - 1) + taps - sum(pads)
            for size, taps, stride, pads in zip(
                inputs[0][:2], self.taps, self.strides, self.pads, strict=True
            )
        )
        return height, width, len(self.bias)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """One scale and offset per channel, the last axis: what batch normalisation is at inference."""

    scale: FloatArray
    offset: FloatArray

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class Activate:
    """An activation by itself; `alpha` is the slope of LEAKY_RELU and the scale of ELU."""

    activation: Activation
    alpha: float = 0.0

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class Binary:
    """Two tensors value by value; of one rank, where either may have size 1 along an axis."""

    kind: BinaryKind

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return tuple(int(n) for n in np.broadcast_shapes(*inputs))


@dataclass(frozen=True, kw_only=True)
class Reshape:
    """The same values under another shape."""

    to: Shape

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        if np.prod(inputs[0]) != np.prod(self.to):
            raise ExportError(f"cannot reshape {inputs[0]} to {self.to}.")
        return self.to


@dataclass(frozen=True, kw_only=True)
class Transpose:
    """Axes in another order; `order` counts row axes from 0."""

    order: tuple[int, ...]

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return tuple(inputs[0][axis] for axis in self.order)


@dataclass(frozen=True, kw_only=True)
class Concat:
    """Tensors one after another along `axis`, a row axis counted from 0."""

    axis: int

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        joined = list(inputs[0])
        joined[self.axis] = sum(shape[self.axis] for shape in inputs)
        return tuple(joined)


@dataclass(frozen=True, kw_only=True)
class Pad:
    """Zeros before and after every row axis."""

    pads: tuple[tuple[int, int], ...]

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        return tuple(n + sum(pads) for n, pads in zip(inputs[0], self.pads, strict=True))


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Every row and every column of an image several times: upsampling to the nearest value."""

    rows: int
    columns: int

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        height, width, channels = inputs[0]
        return height * self.rows, width * self.columns, channels


@dataclass(frozen=True, kw_only=True)
class DepthToSpace:
    """A block of pixels from the channels of each: (h, w, (p, q, c)) to (h, p), (w, q), c.

    Attributes:
        block: height and width of a block.
    """

    block: tuple[int, int]

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Give the output's shape."""
        height, width, channels = inputs[0]
        rows, columns = self.block
        return height * rows, width * columns, channels // (rows * columns)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A box cut out: `sizes` values from `starts` on, along every row axis."""

    starts: Shape
    sizes: Shape

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:  # noqa: ARG002
        """Give the output's shape."""
        return self.sizes


@dataclass(frozen=True, kw_only=True, eq=False)
class KerasLayer:
    """A layer that passes do not look into; only TensorFlow can compute it.

    Attributes:
        kind: the layer's class, for messages.
        call: TensorFlow tensors in, one tensor out.
        output_shape: of one row.
    """

    kind: str
    call: Callable[..., Any]
    output_shape: Shape

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:  # noqa: ARG002
        """Give the output's shape."""
        return self.output_shape


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator in its place.

    Attributes:
        name: of the layer that it came from, for messages.
        op: what it computes.
        inputs: names of tensors.
        output: name of the tensor that it makes.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One component: nodes in the order in which they can be computed.

    Attributes:
        input: name of the only input.
        input_shape: of one row.
        nodes: every tensor is made before it is used.
        outputs: the component's outputs by their names, and the tensors that they are.
    """

    input: str
    input_shape: Shape
    nodes: tuple[Node, ...]
    outputs: Mapping[str, str]
    shapes: Mapping[str, Shape] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shapes = {self.input: self.input_shape}
        for node in self.nodes:
            try:
                shape = node.op.shape(tuple(shapes[name] for name in node.inputs))
            except KeyError as error:
                raise ExportError(f"{node.name}: its input {error} is made by no node.") from error
            if node.output in shapes:
                raise ExportError(f"{node.name}: its output {node.output} is made twice.")
            shapes[node.output] = tuple(int(n) for n in shape)
        missing = [name for name in self.outputs.values() if name not in shapes]
        if missing:
            raise ExportError(f"the outputs {', '.join(missing)} are made by no node.")
        object.__setattr__(self, "shapes", shapes)

    def maker(self, tensor: str) -> Node | None:
        """Give the node that makes a tensor; None for the graph's input."""
        return next((node for node in self.nodes if node.output == tensor), None)

    def users(self, tensor: str) -> tuple[Node, ...]:
        """Give the nodes that read a tensor."""
        return tuple(node for node in self.nodes if tensor in node.inputs)

    def only_user(self, tensor: str) -> Node | None:
        """Give the node that alone reads a tensor, unless the tensor leaves the graph too."""
        users = self.users(tensor)
        if len(users) != 1 or users[0].inputs.count(tensor) != 1:
            return None
        return None if tensor in self.outputs.values() else users[0]

    def opaque(self) -> tuple[Node, ...]:
        """Give the nodes that only TensorFlow can compute."""
        return tuple(node for node in self.nodes if isinstance(node.op, KerasLayer))

    def operators(self) -> dict[str, int]:
        """Count the operators by their class's name."""
        return dict(sorted(Counter(type(node.op).__name__ for node in self.nodes).items()))

    def replacing(self, old: Iterable[Node], new: Iterable[Node]) -> Graph:
        """Put nodes where others stood; the place is that of the last one that goes.

        Tensors keep their names, so `new` has to make every tensor of `old` that is still read;
        what reads one of them before that place moves behind it.
        """
        old = tuple(old)
        gone, remade = {id(node) for node in old}, {node.output for node in old}
        last = max(index for index, node in enumerate(self.nodes) if id(node) in gone)
        before: list[Node] = []
        behind: list[Node] = []
        for node in self.nodes[: last + 1]:
            if id(node) not in gone:
                reads = not remade.isdisjoint(node.inputs)
                remade.update((node.output,) if reads else ())
                (behind if reads else before).append(node)
        return self.with_nodes((*before, *new, *behind, *self.nodes[last + 1 :]))

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        """Give the same graph with other nodes, dropping those that nothing reads."""
        wanted = set(self.outputs.values())
        kept: list[Node] = []
        for node in reversed(tuple(nodes)):
            if node.output in wanted:
                kept.append(node)
                wanted.update(node.inputs)
        return replace(self, nodes=tuple(reversed(kept)))

    def fresh(self, stem: str) -> Iterator[str]:
        """Give names that no tensor has yet."""
        number = 0
        while True:
            name = f"{stem}/{number}"
            if name not in self.shapes:
                yield name
            number += 1
