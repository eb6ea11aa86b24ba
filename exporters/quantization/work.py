"""How much computing a graph takes, so that what is done on calibration rows stays within minutes.

Counted in products, not in seconds: the same model is then exported alike on any machine.
"""

from __future__ import annotations

import numpy as np

from exporters.graph import Conv, ConvTranspose, Dense, Graph
from vae_edge.terms import FloatArray

__all__ = ["cost", "products", "rows_within"]


# Making a value and rounding it to a step takes about as long as so many products.
_OF_A_VALUE = 64


def cost(graph: Graph) -> int:
    """Give what simulating one row takes, in products."""
    values = sum(int(np.prod(graph.shapes[n.output], dtype=np.int64)) for n in graph.nodes)
    return products(graph) + _OF_A_VALUE * values


def products(graph: Graph) -> int:
    """Give the multiplications of one row."""
    total = 0
    for node in graph.nodes:
        op = node.op
        values = int(np.prod(graph.shapes[node.output], dtype=np.int64))
        if isinstance(op, (Conv, Dense)):
            total += values * op.kernel.size // op.kernel.shape[-1]
        elif isinstance(op, ConvTranspose):
            sources = int(np.prod(graph.shapes[node.inputs[0]], dtype=np.int64))
            total += sources * op.kernel.size // op.kernel.shape[-1]
    return max(total, 1)


def rows_within(
    graph: Graph, rows: FloatArray, *, most: int, work: float, least: int
) -> FloatArray:
    """Give the first rows: `most`, or as many as `work` products are enough for, but `least`."""
    return rows[: int(np.clip(work / cost(graph), least, most))]
