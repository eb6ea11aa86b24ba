"""Rounding weights so that their errors cancel on the data, instead of each to its nearest step.

A layer's output error is X (W - Q), with X its inputs on the calibration rows. Rounding one
weight leaves an error that the weights not yet rounded can make up for, in the least-squares
sense:

    for each input i in turn: q_i = round(w_i), then w_j -= (w_i - q_i) H^-1_ij / H^-1_ii for j > i,

with H = X^T X. A ridge on H (a share of its mean diagonal) keeps the weights near their own
values in directions that the calibration rows do not show.

Source: E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022 (arXiv:2210.17323), after B. Hassibi and D. Stork, "Optimal Brain Surgeon",
1993.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.graph import Conv, Dense, Graph, Layout, Node
from exporters.progress import tell
from exporters.quantization.plan import (
    LARGEST,
    QuantizationPlan,
    fit_pairs,
    quantize_weights,
)
from exporters.quantization.simulate import Simulation
from vae_edge.terms import FloatArray

__all__ = ["round_weights"]

_RIDGE = 0.01
# Beyond this many inputs the Hessian would take more memory than it is worth: 4096^2 float64 are
# 134 MB.
_MAX_INPUTS = 4096
# Rows of X; a convolution gives one per pixel and image.
_MAX_ROWS = 20_000
# Calibration rows that are computed at a time.
_PART = 64


def round_weights(
    graph: Graph, plan: QuantizationPlan, rows: FloatArray, nodes: Iterable[Node], seed: int
) -> QuantizationPlan:
    """Choose the stored weights of some layers on calibration rows, in the graph's order.

    Args:
        graph: lowered.
        plan: with its ranges; layers see their inputs as quantized by it.
        rows: calibration inputs of the graph.
        nodes: convolutions without groups, and dense layers. Those with too many inputs are left
            as they are.
        seed: of the pixels that are drawn where there are too many.

    Returns:
        The plan with `stored` weights for these nodes.
    """
    rng = np.random.default_rng(seed)
    for node in nodes:
        op = node.op
        if not isinstance(op, (Conv, Dense)) or (isinstance(op, Conv) and op.groups != 1):
            continue
        matrix = op.kernel.reshape(-1, op.kernel.shape[-1])
        if len(matrix) > _MAX_INPUTS:
            continue
        tell(f"rounding the weights of {node.name}")
        # Earlier layers are already rounded in what this one sees.
        inputs = _inputs_of(graph, plan, node, rows, rng)
        paired = plan.is_paired(node.output)
        start = quantize_weights(
            op.kernel, per_channel=node.output not in plan.per_tensor, paired=paired
        )
        rounded = _rounded(matrix.astype(np.float64), start.scales, _hessian(inputs))
        integers = rounded.reshape(op.kernel.shape)
        stored = replace(start, stored=fit_pairs(integers) if paired else integers)
        plan = replace(plan, stored={**plan.stored, node.output: stored})
    return plan


def _inputs_of(
    graph: Graph, plan: QuantizationPlan, node: Node, rows: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """The layer's inputs as rows of X: one per image, or per image and output pixel."""
    tensor = node.inputs[0]
    part = Graph(
        input=graph.input,
        input_shape=graph.input_shape,
        nodes=graph.nodes,
        outputs={"x": tensor},
    ).with_nodes(graph.nodes)
    simulation = Simulation(part, plan, also=graph)
    # A share of every part's pixels, so that not all of them are there at once.
    share = -(-_MAX_ROWS * _PART // len(rows))
    parts = []
    for start in range(0, len(rows), _PART):
        x = simulation.run(rows[start : start + _PART], plan.ranges)["x"]
        gathered = _patches(node.op, x) if isinstance(node.op, Conv) else x.reshape(-1, x.shape[-1])
        if len(gathered) > share:
            gathered = gathered[rng.permutation(len(gathered))[:share]]
        parts.append(gathered)
    return np.concatenate(parts)


def _patches(op: Conv, x: FloatArray) -> FloatArray:
    tf: Any = importlib.import_module("tensorflow")
    height, width, channels, _ = op.kernel.shape
    if op.layout is Layout.CHANNELS_FIRST:
        x = x.transpose(0, 2, 3, 1)
    padded = np.pad(x, ((0, 0), *op.pads, (0, 0)))
    patches = tf.image.extract_patches(
        padded, (1, height, width, 1), (1, *op.strides, 1), (1, *op.dilations, 1), "VALID"
    ).numpy()
    return np.asarray(patches.reshape(-1, height * width * channels), np.float32)


def _hessian(inputs: FloatArray) -> npt.NDArray[np.float64]:
    x = inputs.astype(np.float64)
    hessian = x.T @ x
    ridge = _RIDGE * float(np.mean(np.diag(hessian)))
    return np.asarray(hessian + (ridge or 1.0) * np.eye(len(hessian)), np.float64)


def _rounded(
    weights: npt.NDArray[np.float64],
    scales: FloatArray,
    hessian: npt.NDArray[np.float64],
) -> npt.NDArray[np.int8]:
    """Round (inputs, outputs) row by row; the Cholesky factor holds every step's inverse."""
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
    left = weights / scales
    stored = np.zeros(left.shape)
    for i in range(len(left)):
        stored[i] = np.clip(np.rint(left[i]), -LARGEST, LARGEST)
        error = (left[i] - stored[i]) / factor[i, i]
        left[i + 1 :] -= np.outer(factor[i, i + 1 :], error)
    return stored.astype(np.int8)
