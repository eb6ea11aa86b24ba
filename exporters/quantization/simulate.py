"""What a graph computes once it is quantized, in float arithmetic.

Integer kernels differ from this in the rounding of their accumulators alone, which is a step of the
output at most; it is what ranges are searched with, and what tells which layer costs how much.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from exporters.graph import Conv, ConvTranspose, Dense, Graph, Node
from exporters.quantization.plan import QuantizationPlan, Range, WeightMode
from exporters.tf_graph import compute
from vae_edge.terms import FloatArray

__all__ = ["Simulation", "observe_ranges", "run_graph", "with_stored_weights"]

_BATCH = 64
# Rows are computed in such batches that their tensors hold no more values than this: 64 MB.
_VALUES = 1 << 24
_FEWEST = 4
# A million weights are 4 MB.
_LARGE = 1_000_000


def run_graph(graph: Graph, rows: FloatArray) -> dict[str, FloatArray]:
    """Compute a graph's outputs for any number of rows."""
    return Simulation(graph, QuantizationPlan()).run(rows, {})


def observe_ranges(graph: Graph, rows: FloatArray) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Give the smallest and largest value of every tensor, per channel (the last axis)."""
    tf: Any = importlib.import_module("tensorflow")
    names: list[str] = []
    graph, batch_rows = _captured(graph), _batch_of(graph)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def extremes(batch: Any) -> list[tuple[Any, Any]]:
        seen: list[tuple[Any, Any]] = []
        names.clear()

        def look(name: str, value: Any) -> Any:
            axes = list(range(len(value.shape) - 1))
            names.append(name)
            seen.append((tf.reduce_min(value, axes), tf.reduce_max(value, axes)))
            return value

        compute(graph, batch, look)
        return seen

    lows: dict[str, FloatArray] = {}
    highs: dict[str, FloatArray] = {}
    for start in range(0, len(rows), batch_rows):
        for name, (low, high) in (
            zip(names, extremes(tf.constant(rows[start : start + batch_rows])), strict=False)
            if start
            else _first(extremes, names, tf.constant(rows[:batch_rows]))
        ):
            low, high = low.numpy(), high.numpy()
            lows[name] = np.minimum(lows.get(name, low), low)
            highs[name] = np.maximum(highs.get(name, high), high)
    return {name: (lows[name], highs[name]) for name in lows}


def _first(function: Callable[[Any], list[Any]], names: list[str], batch: Any) -> Any:
    # The names are known once the function has been traced.
    values = function(batch)
    return zip(names, values, strict=True)


def with_stored_weights(graph: Graph, plan: QuantizationPlan) -> Graph:
    """Give the graph with the weights that it computes with once they are stored."""
    nodes = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, (Conv, Dense)) and _stores_int8(node, plan):
            kernel = plan.int8_weights(node.output, op.kernel).real()
            node = replace(node, op=replace(op, kernel=kernel))
        elif (
            isinstance(op, (Conv, ConvTranspose, Dense))
            and plan.weight_mode(node.output) is WeightMode.FLOAT16
        ):
            limit = np.finfo(np.float16).max
            kernel = np.clip(op.kernel, -limit, limit).astype(np.float16).astype(np.float32)
            node = replace(node, op=replace(op, kernel=kernel))
        nodes.append(node)
    return graph.with_nodes(nodes)


def _stores_int8(node: Node, plan: QuantizationPlan) -> bool:
    return (
        node.output in plan.integer
        or node.output in plan.integer_input
        or plan.weight_mode(node.output) is WeightMode.INT8
    )


class Simulation:
    """A quantized graph that can be run with one set of ranges after another.

    Attributes:
        graph: with its weights as they are stored.
        rounded: the tensors that are integers.
    """

    def __init__(
        self,
        graph: Graph,
        plan: QuantizationPlan,
        *,
        also: Graph | None = None,
        eager: bool = False,
        on_the_fly: bool = False,
    ) -> None:
        """Compile it.

        Ranges are inputs of what is compiled, so that a search does not compile it again.

        Args:
            graph: what to compute.
            plan: how.
            also: the whole of which the graph is a part; its operators too say which tensors are
                integers.
            eager: do not compile: sooner done where it is run once.
            on_the_fly: float layers with int8 weights quantize what they read as it comes, in 256
                steps between a row's own extremes.
        """
        self._tf: Any = importlib.import_module("tensorflow")
        stored = with_stored_weights(graph, plan)
        self.graph = stored if eager else _captured(stored)
        self._batch = _batch_of(graph)
        self.rounded = sorted(_integer_tensors(also or graph, plan) & set(graph.shapes))
        self._on_the_fly = _read_on_the_fly(graph, plan) if on_the_fly else frozenset()
        self._function: Any = (
            self._compute
            if eager
            else self._tf.function(self._compute, autograph=False, reduce_retracing=True)
        )

    def run(self, rows: FloatArray, ranges: Mapping[str, Range]) -> dict[str, FloatArray]:
        """Compute all rows.

        Args:
            rows: float32 (count, *input_shape).
            ranges: of every tensor that the plan computes in integers.
        """
        tf = self._tf
        steps = np.array(
            [(ranges[name].scale, ranges[name].zero_point) for name in self.rounded], np.float32
        ).reshape(-1, 2)
        parts = [
            self._function(tf.constant(rows[start : start + self._batch]), tf.constant(steps))
            for start in range(0, len(rows), self._batch)
        ]
        return {
            name: np.concatenate([part[name].numpy() for part in parts])
            for name in self.graph.outputs
        }

    def _compute(self, rows: Any, steps: Any) -> dict[str, Any]:
        tf = self._tf
        index = {name: i for i, name in enumerate(self.rounded)}

        def round_(name: str, value: Any) -> Any:
            if name not in index:
                return _by_row(value) if name in self._on_the_fly else value
            scale, zero_point = steps[index[name], 0], steps[index[name], 1]
            stored = tf.clip_by_value(tf.round(value / scale) + zero_point, 0.0, 255.0)
            return (stored - zero_point) * scale

        return compute(self.graph, rows, round_)


def _by_row(value: Any) -> Any:
    """Give values in 256 steps between a row's own extremes."""
    tf: Any = importlib.import_module("tensorflow")
    axes = list(range(1, len(value.shape)))
    low = tf.minimum(tf.reduce_min(value, axes, keepdims=True), 0.0)
    high = tf.maximum(tf.reduce_max(value, axes, keepdims=True), 0.0)
    step = tf.maximum((high - low) / 255.0, 1e-30)
    return tf.round(value / step) * step


def _read_on_the_fly(graph: Graph, plan: QuantizationPlan) -> frozenset[str]:
    """Tensors that float layers with int8 weights read."""
    return frozenset(
        name
        for node in graph.nodes
        if plan.weight_mode(node.output) is WeightMode.INT8
        and node.output not in plan.integer | plan.integer_input
        for name in node.inputs
    )


def _captured(graph: Graph) -> Graph:
    """Give a graph whose large weights are tensors outside of what is compiled.

    A constant would be copied by every stage of the compiler.
    """
    tf: Any = importlib.import_module("tensorflow")
    return graph.with_nodes(
        replace(node, op=replace(node.op, kernel=tf.constant(node.op.kernel)))
        if isinstance(node.op, (Conv, Dense))
        and getattr(node.op, "groups", 1) == 1
        and node.op.kernel.size >= _LARGE
        else node
        for node in graph.nodes
    )


def _batch_of(graph: Graph) -> int:
    """Give how many rows are computed at a time: all their tensors are there at once."""
    values = sum(int(np.prod(shape, dtype=np.int64)) for shape in graph.shapes.values())
    return int(np.clip(_VALUES // max(values, 1), _FEWEST, _BATCH))


def _integer_tensors(graph: Graph, plan: QuantizationPlan) -> set[str]:
    reading = plan.integer | plan.integer_input
    tensors = {name for node in graph.nodes if node.output in reading for name in node.inputs}
    return tensors | {node.output for node in graph.nodes if node.output in plan.integer}
