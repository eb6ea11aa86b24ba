"""A dense layer on a flattened image as a convolution with a kernel as large as the image.

    y[o] = b[o] + sum over y, x, c of in[y, x, c] W[(y, x, c), o]

is a convolution without padding whose only output pixel is y: the same products in the same
order. It needs no Flatten, and where weights are int8 and activations float its kernel exists
with one scale per channel in every runtime, which that of the dense layer does not
(FULLY_CONNECTED version 12 is newer than tflite-runtime 2.14).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporters.graph import Conv, Dense, Graph, Node, Reshape
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes

__all__ = ["DenseAsConv"]


@dataclass(frozen=True)
class DenseAsConv:
    """Writes dense layers that follow a Flatten as convolutions."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "dense_as_conv"

    def __call__(self, graph: Graph) -> PassResult:
        """Rewrite every one."""
        nodes = [node for node in graph.nodes if isinstance(node.op, Dense)]
        return rewrite_nodes(graph, nodes, _rewrite)


def _rewrite(graph: Graph, node: Node) -> Replacement | str | None:
    op = node.op
    assert isinstance(op, Dense)  # noqa: S101  chosen so; tells the type checker
    flatten = graph.maker(node.inputs[0])
    if len(graph.shapes[node.output]) != 1:
        return None
    if flatten is None or not isinstance(flatten.op, Reshape):
        return "it does not follow a Flatten"
    shape = graph.shapes[flatten.inputs[0]]
    if len(shape) != 3:
        return f"what is flattened has the shape {shape}; expected (height, width, channels)"
    pixel = next(graph.fresh(f"{node.output}/pixel"))
    conv = Conv(
        kernel=np.ascontiguousarray(op.kernel.reshape(*shape, -1)),
        bias=op.bias,
        activation=op.activation,
    )
    product = Node(name=node.name, op=conv, inputs=flatten.inputs, output=pixel)
    vector = Reshape(to=graph.shapes[node.output])
    return (node,), (
        product,
        Node(name=node.name, op=vector, inputs=(pixel,), output=node.output),
    )
