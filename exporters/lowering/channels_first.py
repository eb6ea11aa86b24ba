"""Convolutions and their like with channels first, as in ONNX, and as few transposes as possible.

A convolution on (height, width, channels) is one on (channels, height, width) between two
transposes. Convolutions that read one tensor share the first of them. Two transposes in a row are
one, or none; and where values are laid out by a dense layer just before, or only read by one just
after, its columns or rows are put in that order instead:

    transpose(reshape(W x + b)) = reshape(W' x + b') with the columns of W and b permuted,
    W flatten(transpose(x)) = W' flatten(x) with the rows of W permuted.

Transposes of everything that is concatenated are one of the whole, along the axis that it then has,
and what is done to every value can be done before its transpose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import (
    Activate,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Graph,
    Layout,
    Node,
    Reshape,
    Transpose,
)
from exporters.lowering.base import PassResult, Refusal
from exporters.operators import GroupNorm, Pool, Resize

__all__ = ["ChannelsFirst", "RemoveTransposes"]

_LAID_OUT = (Conv, ConvTranspose, GroupNorm, Pool, Resize)

_TO_FIRST = (2, 0, 1)
_TO_LAST = (1, 2, 0)


@dataclass(frozen=True)
class ChannelsFirst:
    """Puts convolutions, pooling, resizing and normalisation by groups between transposes."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "channels_first"

    def __call__(self, graph: Graph) -> PassResult:
        """Rewrite every one."""
        applied: list[str] = []
        nodes: list[Node] = []
        turned: dict[str, str] = {}
        for node in graph.nodes:
            if not isinstance(node.op, _LAID_OUT) or node.op.layout is Layout.CHANNELS_FIRST:
                nodes.append(node)
                continue
            source = node.inputs[0]
            if source not in turned:
                turned[source] = next(graph.fresh(f"{source}/first"))
                nodes.append(_transpose(node.name, _TO_FIRST, source, turned[source]))
            product = next(graph.fresh(f"{node.output}/product"))
            conv = replace(node.op, layout=Layout.CHANNELS_FIRST)
            nodes.append(Node(name=node.name, op=conv, inputs=(turned[source],), output=product))
            nodes.append(_transpose(node.name, _TO_LAST, product, node.output))
            applied.append(node.name)
        return PassResult(graph=graph.with_nodes(nodes), applied=tuple(applied))


def _transpose(name: str, order: tuple[int, ...], source: str, output: str) -> Node:
    return Node(name=name, op=Transpose(order=order), inputs=(source,), output=output)


@dataclass(frozen=True, kw_only=True)
class RemoveTransposes:
    """Drops transposes that cancel, and permutes dense weights for those at their side.

    Attributes:
        permute_dense: also permute weights. ONNX Runtime computes 8-bit convolutions with their
            channels last whatever the graph says, and drops our transposes by itself; there a
            permuted dense layer makes it add one.
    """

    permute_dense: bool = True

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "remove_transposes"

    def __call__(self, graph: Graph) -> PassResult:
        """Remove what can be removed, until nothing changes."""
        applied: list[str] = []
        while (step := self._step(graph)) is not None:
            graph, name = step
            applied.append(name)
        refused = tuple(
            Refusal(node=node.name, reason="no dense layer and no other transpose is beside it")
            for node in graph.nodes
            if isinstance(node.op, Transpose)
        )
        return PassResult(graph=graph, applied=tuple(applied), refused=refused)

    def _step(self, graph: Graph) -> tuple[Graph, str] | None:
        attempts = [_as_reshape, _cancelled]
        if self.permute_dense:
            attempts += [_into_columns, _into_rows, _behind_concat, _behind_activation]
        for node in graph.nodes:
            if isinstance(node.op, Transpose):
                for attempt in attempts:
                    result = attempt(graph, node, node.op)
                    if result is not None:
                        return result, node.name
        return None


def _as_reshape(graph: Graph, node: Node, op: Transpose) -> Graph | None:
    """Axes of size 1 carry no order: moving them alone moves no value."""
    shape = graph.shapes[node.inputs[0]]
    moved = [axis for axis in op.order if shape[axis] != 1]
    if moved != sorted(moved):
        return None
    reshape = Reshape(to=graph.shapes[node.output])
    return graph.replacing((node,), (replace(node, op=reshape),))


def _cancelled(graph: Graph, node: Node, op: Transpose) -> Graph | None:
    before = graph.maker(node.inputs[0])
    if before is None or not isinstance(before.op, Transpose):
        return None
    order = tuple(before.op.order[axis] for axis in op.order)
    source = before.inputs[0]
    if order != tuple(range(len(order))):
        made = replace(node, op=Transpose(order=order), inputs=(source,))
        return graph.replacing((node,), (made,))
    if node.output in graph.outputs.values():
        made = replace(node, op=Reshape(to=graph.shapes[node.output]), inputs=(source,))
        return graph.replacing((node,), (made,))
    others = [
        replace(other, inputs=tuple(source if n == node.output else n for n in other.inputs))
        for other in graph.nodes
        if other is not node
    ]
    return graph.with_nodes(others)


def _into_columns(graph: Graph, node: Node, op: Transpose) -> Graph | None:
    """Dense -> reshape -> transpose: the dense layer makes its values in the other order."""
    reshape = graph.maker(node.inputs[0])
    if reshape is None or not isinstance(reshape.op, Reshape):
        return None
    dense = graph.maker(reshape.inputs[0])
    if (
        dense is None
        or not isinstance(dense.op, Dense)
        or len(graph.shapes[dense.output]) != 1
        or graph.only_user(dense.output) is not reshape
        or graph.only_user(reshape.output) is not node
    ):
        return None
    order = np.arange(dense.op.kernel.shape[1]).reshape(reshape.op.to).transpose(op.order).ravel()
    permuted = replace(
        dense.op, kernel=np.ascontiguousarray(dense.op.kernel[:, order]), bias=dense.op.bias[order]
    )
    made = replace(node, op=Reshape(to=graph.shapes[node.output]), inputs=(dense.output,))
    return graph.replacing((dense, reshape, node), (replace(dense, op=permuted), made))


def _into_rows(graph: Graph, node: Node, op: Transpose) -> Graph | None:
    """Transpose -> reshape to a vector -> dense layers: they read the values in the other order."""
    reshape = graph.only_user(node.output)
    if reshape is None or not isinstance(reshape.op, Reshape) or len(reshape.op.to) != 1:
        return None
    readers = graph.users(reshape.output)
    if reshape.output in graph.outputs.values() or not all(
        isinstance(reader.op, Dense) for reader in readers
    ):
        return None
    order = np.arange(np.prod(reshape.op.to)).reshape(graph.shapes[node.inputs[0]])
    rows = np.argsort(order.transpose(op.order).ravel())
    made = [replace(reshape, inputs=node.inputs)]
    for reader in readers:
        assert isinstance(reader.op, Dense)  # noqa: S101  chosen so; tells the type checker
        kernel = np.ascontiguousarray(reader.op.kernel[rows])
        made.append(replace(reader, op=replace(reader.op, kernel=kernel)))
    return graph.replacing((node, reshape, *readers), made)


def _behind_concat(graph: Graph, node: Node, op: Transpose) -> Graph | None:
    """Concat(transpose(a), transpose(b)) -> transpose(concat(a, b))."""
    joined = graph.only_user(node.output)
    if joined is None or not isinstance(joined.op, Concat):
        return None
    makers = [graph.maker(name) for name in joined.inputs]
    turned = [maker for maker in makers if maker is not None and maker.op == op]
    if len(turned) < len(makers) or any(graph.only_user(n) is None for n in joined.inputs):
        return None
    whole = next(graph.fresh(f"{joined.output}/before"))
    concat = replace(
        joined,
        op=Concat(axis=op.order[joined.op.axis]),
        inputs=tuple(maker.inputs[0] for maker in turned),
        output=whole,
    )
    after = replace(node, inputs=(whole,), output=joined.output)
    return graph.replacing((*turned, joined), (concat, after))


def _behind_activation(graph: Graph, node: Node, op: Transpose) -> Graph | None:  # noqa: ARG001
    """Activate(transpose(a)) -> transpose(activate(a))."""
    activate = graph.only_user(node.output)
    if activate is None or not isinstance(activate.op, Activate):
        return None
    value = next(graph.fresh(f"{activate.output}/before"))
    before = replace(activate, inputs=node.inputs, output=value)
    after = replace(node, inputs=(value,), output=activate.output)
    return graph.replacing((node, activate), (before, after))
