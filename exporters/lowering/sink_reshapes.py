"""Functions of single values before a reshape instead of behind it.

f(reshape(x)) = reshape(f(x)) where f looks at one value at a time, or at one value and its channel:
the last axis is then cut out of that of x, so that x's last axis holds the channels one or more
times over. A layer of one dimension is one of two between reshapes; once what stands between two
such layers has moved, their reshapes meet and are none, and batch normalisation and rectifiers
stand behind the convolution that takes them in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Activate, Affine, Binary, Graph, Node, Op, Reshape, Shape
from exporters.lowering.base import PassResult
from exporters.operators import Clip, LayerNorm

__all__ = ["SinkReshapes"]


@dataclass(frozen=True)
class SinkReshapes:
    """Moves reshapes behind functions of single values."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "sink_reshapes"

    def __call__(self, graph: Graph) -> PassResult:
        """Move every one as far as it goes."""
        applied: list[str] = []
        outputs = [node.output for node in graph.nodes]
        for output in outputs:
            node = graph.maker(output)
            moved = None if node is None else _moved(graph, node)
            if node is not None and moved is not None:
                graph = moved
                applied.append(node.name)
        return PassResult(graph=graph, applied=tuple(dict.fromkeys(applied)))


def _moved(graph: Graph, node: Node) -> Graph | None:
    reshapes = [graph.maker(name) for name in dict.fromkeys(node.inputs)]
    sources: dict[str, str] = {}
    for reshape in reshapes:
        if reshape is None or not isinstance(reshape.op, Reshape):
            return None
        if graph.only_user(reshape.output) is not node:
            return None
        sources[reshape.output] = reshape.inputs[0]
    shapes = {graph.shapes[name] for name in sources.values()}
    if len(shapes) != 1:
        return None
    op = _before(node.op, shapes.pop(), len(sources))
    if op is None:
        return None
    early = next(graph.fresh(f"{node.output}/early"))
    first = Node(
        name=node.name, op=op, inputs=tuple(sources[name] for name in node.inputs), output=early
    )
    last = replace(node, op=Reshape(to=graph.shapes[node.output]), inputs=(early,))
    return graph.replacing((*(each for each in reshapes if each), node), (first, last))


def _before(op: Op, shape: Shape, tensors: int) -> Op | None:
    """The function as it is on what is reshaped; None where it is none of single values."""
    if isinstance(op, Binary):
        return op if tensors == 2 else None
    if isinstance(op, (Activate, Clip)):
        return op
    if isinstance(op, LayerNorm):
        return op if shape[-1] == len(op.scale) else None
    if isinstance(op, Affine) and shape[-1] % len(op.scale) == 0:
        times = shape[-1] // len(op.scale)
        return Affine(scale=np.tile(op.scale, times), offset=np.tile(op.offset, times))
    return None
