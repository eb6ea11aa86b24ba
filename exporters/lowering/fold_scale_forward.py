"""A scale and an offset per channel folded into the layers behind it.

W (a x + b) + c = (W a) x + (W b + c): batch normalisation behind an activation, and rescaling of
the input, cost nothing then. A convolution that pads with zeros pads behind the offset, and cannot
take it in; a scale alone it can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Affine, Conv, Dense, Graph, Node, Reshape
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes
from vae_edge.terms import FloatArray

__all__ = ["FoldScaleForward"]


@dataclass(frozen=True)
class FoldScaleForward:
    """Folds scales and offsets into the convolutions and dense layers that read them."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "fold_scale_forward"

    def __call__(self, graph: Graph) -> PassResult:
        """Fold every one whose readers all take it in."""
        nodes = [node for node in graph.nodes if isinstance(node.op, Affine)]
        return rewrite_nodes(graph, nodes, _rewrite)


def _rewrite(graph: Graph, node: Node) -> Replacement | str | None:
    affine = node.op
    assert isinstance(affine, Affine)  # noqa: S101  chosen so; tells the type checker
    chain = [node]
    while (user := graph.only_user(chain[-1].output)) and isinstance(user.op, Reshape):
        chain.append(user)
    tensor = chain[-1].output
    readers = graph.users(tensor)
    if tensor in graph.outputs.values() or not readers:
        return "its output leaves the graph"
    width = graph.shapes[tensor][-1]
    if width % len(affine.scale):
        return f"a reshape cuts its {len(affine.scale)} channels into {width}"
    times = width // len(affine.scale)
    scale, offset = np.tile(affine.scale, times), np.tile(affine.offset, times)
    made = []
    for reader in readers:
        folded = _folded(reader, scale, offset)
        if isinstance(folded, str):
            return folded
        made.append(folded)
    # What stood between reads what was read before.
    between = [
        replace(each, inputs=node.inputs if place == 0 else each.inputs)
        for place, each in enumerate(chain[1:])
    ]
    if not between:
        made = [replace(each, inputs=node.inputs) for each in made]
    return (*chain, *readers), (*between, *made)


def _folded(node: Node, scale: FloatArray, offset: FloatArray) -> Node | str:
    op = node.op
    if isinstance(op, Dense):
        kernel = scale[:, np.newaxis].astype(np.float64) * op.kernel
        bias = op.bias + offset.astype(np.float64) @ op.kernel
    elif isinstance(op, Conv) and op.groups in (1, len(scale)):
        if np.any(offset) and any(any(pair) for pair in op.pads):
            return f"{node.name} pads with zeros, which the offset does not apply to"
        if op.groups == 1:
            by_input, added = scale[:, np.newaxis], offset[:, np.newaxis]
        else:
            times = op.kernel.shape[3] // op.groups
            by_input, added = np.repeat(scale, times), np.repeat(offset, times)
        kernel = op.kernel.astype(np.float64) * by_input
        bias = op.bias + (op.kernel.astype(np.float64) * added).sum(axis=(0, 1, 2))
    else:
        return f"{node.name} ({type(op).__name__}) reads it, which has no weights for it"
    folded = replace(op, kernel=np.asarray(kernel, np.float32), bias=np.asarray(bias, np.float32))
    return replace(node, op=folded)
