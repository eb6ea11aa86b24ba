"""Layers that read one tensor as one layer, where a small matrix product follows each.

With y_i = (x W_i + b_i) V_i + c_i for several i, the layers side by side are one, W = [W_1 W_2
...], and V_i gets rows of zeros where the columns of the others stand. The tensor is then read
once, and, where layers quantize what they read, quantized once. Zeros cost nothing as long as V
is small, as it is behind an encoder's two heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Conv, Dense, Graph, Node
from exporters.lowering.base import PassResult, Refusal

__all__ = ["MergeHeads"]


@dataclass(frozen=True, kw_only=True)
class MergeHeads:
    """Merges sibling layers that are each followed by one dense layer.

    Attributes:
        max_channels: of all siblings together; with more, the zeros cost more than is saved.
    """

    max_channels: int = 64

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "merge_heads"

    def __call__(self, graph: Graph) -> PassResult:
        """Merge every group of siblings."""
        applied: list[str] = []
        refused: list[Refusal] = []
        for source in tuple(graph.shapes):
            siblings = [node for node in graph.users(source) if _followed(graph, node)]
            if len(siblings) < 2:
                continue
            channels = sum(_op(node).kernel.shape[-1] for node in siblings)
            if channels > self.max_channels:
                reason = f"they have {channels} channels; more than {self.max_channels} do not pay"
                refused += [Refusal(node=node.name, reason=reason) for node in siblings]
            elif len({_kind(node) for node in siblings}) > 1:
                reason = "those that read the same tensor are of another kind"
                refused += [Refusal(node=node.name, reason=reason) for node in siblings]
            else:
                graph = _merged(graph, siblings)
                applied += [node.name for node in siblings]
        return PassResult(graph=graph, applied=tuple(applied), refused=tuple(refused))


def _op(node: Node) -> Conv | Dense:
    assert isinstance(node.op, (Conv, Dense))  # noqa: S101  tells the type checker
    return node.op


def _followed(graph: Graph, node: Node) -> bool:
    """Whether a layer gives one vector, untouched, to one dense layer."""
    if not isinstance(node.op, (Conv, Dense)) or node.op.activation is not None:
        return False
    if isinstance(node.op, Conv) and node.op.groups != 1:
        return False
    user = graph.only_user(node.output)
    single = graph.shapes[node.output][:-1] in ((), (1, 1))
    return single and user is not None and isinstance(user.op, Dense)


def _kind(node: Node) -> tuple[object, ...]:
    op = _op(node)
    if isinstance(op, Conv):
        return (op.kernel.shape[:-1], op.strides, op.pads, op.dilations, op.layout)
    return (op.kernel.shape[:-1],)


def _merged(graph: Graph, siblings: list[Node]) -> Graph:
    ops = [_op(node) for node in siblings]
    whole = next(graph.fresh(f"{siblings[0].output}/merged"))
    op = replace(
        ops[0],
        kernel=np.concatenate([each.kernel for each in ops], axis=-1),
        bias=np.concatenate([each.bias for each in ops]),
    )
    names = "+".join(node.name for node in siblings)
    swapped: dict[int, tuple[Node, ...]] = {id(node): () for node in siblings}
    swapped[id(siblings[0])] = (Node(name=names, op=op, inputs=siblings[0].inputs, output=whole),)
    start = 0
    for node, each in zip(siblings, ops, strict=True):
        reader = graph.only_user(node.output)
        assert reader is not None and isinstance(reader.op, Dense)  # noqa: PT018, S101
        count = each.kernel.shape[-1]
        kernel = np.zeros((len(op.bias), reader.op.kernel.shape[1]), np.float32)
        kernel[start : start + count] = reader.op.kernel
        start += count
        swapped[id(reader)] = (
            replace(reader, op=replace(reader.op, kernel=kernel), inputs=(whole,)),
        )
    nodes: list[Node] = []
    for each_node in graph.nodes:
        nodes += swapped.get(id(each_node), (each_node,))
    return graph.with_nodes(nodes)
