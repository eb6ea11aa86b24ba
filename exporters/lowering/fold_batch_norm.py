"""Batch normalisation folded into the layer before it.

At inference it is y = x * a + b with one a and b per channel, and x = W * input + c gives y = (a
W) * input + (a c + b): the same layer with other weights. In a layer with an activation of its
own between the two, it cannot be folded.

Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2017 (arXiv:1712.05877), section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Affine, Conv, ConvTranspose, Dense, Graph, Node
from exporters.lowering.base import PassResult, Replacement, rewrite_nodes
from vae_edge.terms import FloatArray

__all__ = ["FoldBatchNorm"]


@dataclass(frozen=True)
class FoldBatchNorm:
    """Folds scale and offset per channel into convolutions and dense layers."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "fold_batch_norm"

    def __call__(self, graph: Graph) -> PassResult:
        """Fold every one that follows a layer directly."""
        nodes = [node for node in graph.nodes if isinstance(node.op, Affine)]
        return rewrite_nodes(graph, nodes, _rewrite)


def _rewrite(graph: Graph, node: Node) -> Replacement | str | None:
    affine = node.op
    assert isinstance(affine, Affine)  # noqa: S101  chosen so; tells the type checker
    before = graph.maker(node.inputs[0])
    if before is None or not isinstance(before.op, (Conv, ConvTranspose, Dense)):
        what = "the input" if before is None else f"{before.name} ({type(before.op).__name__})"
        return f"it follows {what}, which has no weights to fold it into"
    if before.op.activation is not None:
        return f"{before.name} applies {before.op.activation} before it"
    if graph.only_user(before.output) is not node:
        return f"the output of {before.name} is also read elsewhere"
    bias = before.op.bias * affine.scale + affine.offset
    kernel = _scaled(before.op, affine.scale.astype(np.float64))
    folded = replace(before.op, kernel=kernel, bias=bias.astype(np.float32))
    made = Node(name=before.name, op=folded, inputs=before.inputs, output=node.output)
    return (before, node), (made,)


def _scaled(op: Conv | ConvTranspose | Dense, scale: np.ndarray) -> FloatArray:
    # A transposed convolution's kernel has its output channels last but one.
    by_channel = scale[:, np.newaxis] if isinstance(op, ConvTranspose) else scale
    return np.asarray(op.kernel * by_channel, np.float32)
