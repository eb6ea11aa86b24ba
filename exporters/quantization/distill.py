"""Integer weights and biases tuned together, so that the outputs come closer to the float model's.

Ranges and rounding look at one tensor at a time. What is left is the noise of every 8-bit tensor
on its way to the outputs, and how much of it arrives depends on all weights behind it. So the
quantized component is trained for a moment, on what the float one makes of the calibration rows:
gradients pass through the rounding as if it were not there, weights move on the grid of their
scales, which stay, as do the ranges.

Held-out rows decide which state is kept; the state before is among them, so that this can only
gain. Weights of zero stay zero, and so do biases that are zero throughout: they are a form's, such
as the taps that a phase does not have and maps that are yet to be summed.

Source: Y. Bengio et al., 2013 (arXiv:1308.3432), for the gradient; A. Polino et al., "Model
compression via distillation and quantization", 2018 (arXiv:1802.05668), for the teacher; I. Hubara
et al., "Improving Post Training Neural Quantization: Layer-wise Calibration and Integer
Programming" (AdaQuant), 2020 (arXiv:2006.10518), for doing so on calibration rows alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exporters.graph import Conv, Dense, Graph, Node
from exporters.progress import tell
from exporters.quantization.output_error import OutputError
from exporters.quantization.plan import (
    LARGEST,
    QuantizationPlan,
    QuantizedWeights,
    Range,
    fit_pairs,
)
from exporters.quantization.simulate import Simulation, run_graph
from exporters.quantization.work import cost, rows_within
from exporters.tf_graph import compute
from vae_edge.terms import FloatArray

__all__ = ["distill", "is_within_reach"]

_STEPS = 240
# What all steps of one row may cost: a quarter of a minute on two cores. Larger models get fewer
# steps, and wider layers need fewer; below the least they would gain nothing.
_BUDGET = 4e9
_LEAST_STEPS = 40
_BATCH = 64
_LOOKS = 8
# Of an int8 step of a weight, and of an 8-bit step of the layer's output for a bias, per update.
_WEIGHT_RATE = 0.1
_BIAS_RATE = 0.05
# Rows that are only looked at, and at most a quarter of all; of large models fewer.
_HELD_OUT, _LEAST_HELD_OUT = 256, 64
_LOOK_WORK = 5e9
# Fewer rows than this are learned by heart.
_LEAST_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class _Layer:
    node: Node
    weights: QuantizedWeights
    bias_step: float


def distill(
    graph: Graph,
    plan: QuantizationPlan,
    rows: FloatArray,
    measure: OutputError,
    *,
    seed: int,
) -> tuple[Graph, QuantizationPlan]:
    """Tune the integer layers of a graph.

    Args:
        graph: lowered.
        plan: with its ranges.
        rows: calibration inputs.
        measure: what is made small.
        seed: of the batches.

    Returns:
        The graph with its new biases and the plan with its new weights; both as they were where
        nothing came closer.
    """
    tf: Any = importlib.import_module("tensorflow")
    layers = _layers(graph, plan)
    steps = _steps(graph)
    if not layers or len(rows) < _LEAST_ROWS or not is_within_reach(graph):
        return graph, plan
    held_out = rows_within(graph, rows, most=_HELD_OUT, work=_LOOK_WORK, least=_LEAST_HELD_OUT)
    kept = min(len(held_out), len(rows) // 4)
    train, looked_at = rows[:-kept], rows[-kept:]
    wanted = run_graph(graph, train)
    objective = measure.against(run_graph(graph, looked_at))
    units = {
        layer.node.output: (
            tf.Variable(layer.weights.stored.astype(np.float32)),
            tf.Variable(np.asarray(layer.node.op.bias / layer.bias_step, np.float32)),  # type: ignore[attr-defined]
        )
        for layer in layers
    }
    step = _training_step(tf, graph, plan, layers, units, measure)

    def state() -> tuple[Graph, QuantizationPlan]:
        return _applied(graph, plan, layers, units)

    def error(candidate: tuple[Graph, QuantizationPlan]) -> float:
        return objective(Simulation(*candidate).run(looked_at, plan.ranges))

    best = graph, plan
    least = error(best)
    rng = np.random.default_rng(seed)
    for index in range(steps):
        chosen = rng.permutation(len(train))[:_BATCH]
        rate = 0.5 * (1 + np.cos(np.pi * index / steps))
        step(
            tf.constant(train[chosen]),
            {name: tf.constant(values[chosen]) for name, values in wanted.items()},
            tf.constant(rate, tf.float32),
        )
        tell(f"tuning integer weights {100 * index // steps} %")
        if (index + 1) % (steps // _LOOKS) == 0 and (value := error(state())) < least:
            best, least = state(), value
    return best


def is_within_reach(graph: Graph) -> bool:
    """Tell whether a graph is small enough for enough steps."""
    return _steps(graph) >= _LEAST_STEPS


def _steps(graph: Graph) -> int:
    return min(_STEPS, int(_BUDGET / cost(graph)))


def _layers(graph: Graph, plan: QuantizationPlan) -> list[_Layer]:
    found = []
    for node in graph.nodes:
        op = node.op
        integer = node.output in plan.integer or node.output in plan.integer_input
        if not integer or not isinstance(op, (Conv, Dense)):
            continue
        if isinstance(op, Conv) and op.groups != 1:
            continue
        weights = plan.int8_weights(node.output, op.kernel)
        range_ = plan.ranges.get(node.output) or plan.ranges[node.inputs[0]]
        found.append(_Layer(node=node, weights=weights, bias_step=range_.scale))
    return found


def _training_step(
    tf: Any,
    graph: Graph,
    plan: QuantizationPlan,
    layers: list[_Layer],
    units: Mapping[str, tuple[Any, Any]],
    measure: OutputError,
) -> Any:
    weights = [pair[0] for pair in units.values()]
    biases = [pair[1] for pair in units.values()]
    kept = [tf.constant((layer.weights.stored != 0).astype(np.float32)) for layer in layers]
    kept += [float(np.any(layer.node.op.bias)) for layer in layers]  # type: ignore[attr-defined]
    adam = [
        [tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))] for v in (*weights, *biases)
    ]
    count = tf.Variable(0.0)
    simulation = Simulation(graph, plan)

    def reweighed(node: Node) -> Any:
        if node.output not in units:
            return None
        layer = next(each for each in layers if each.node.output == node.output)
        stored, bias = units[node.output]
        limit = float(LARGEST)
        kernel = _straight(tf, tf.clip_by_value(stored, -limit, limit)) * layer.weights.scales
        return replace(node.op, kernel=kernel, bias=bias * layer.bias_step)  # type: ignore[type-var]

    def rounded(name: str, value: Any) -> Any:
        if name not in simulation.rounded:
            return value
        range_: Range = plan.ranges[name]
        scaled = tf.clip_by_value(value / range_.scale + range_.zero_point, 0.0, 255.0)
        return (_straight(tf, scaled) - range_.zero_point) * range_.scale

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(batch: Any, wanted: Mapping[str, Any], rate: Any) -> None:
        with tf.GradientTape() as tape:
            value = measure.of(compute(simulation.graph, batch, rounded, reweighed), wanted)
        gradients = tape.gradient(value, [*weights, *biases])
        count.assign_add(1.0)
        rates = [_WEIGHT_RATE] * len(weights) + [_BIAS_RATE] * len(biases)
        for variable, gradient, (mean, square), own, mask in zip(
            (*weights, *biases), gradients, adam, rates, kept, strict=True
        ):
            mean.assign(0.9 * mean + 0.1 * gradient)
            square.assign(0.999 * square + 0.001 * gradient**2)
            first = mean / (1 - 0.9**count)
            second = square / (1 - 0.999**count)
            variable.assign_sub(mask * rate * own * first / (tf.sqrt(second) + 1e-12))

    return step


def _straight(tf: Any, value: Any) -> Any:
    return value + tf.stop_gradient(tf.round(value) - value)


def _applied(
    graph: Graph,
    plan: QuantizationPlan,
    layers: list[_Layer],
    units: Mapping[str, tuple[Any, Any]],
) -> tuple[Graph, QuantizationPlan]:
    stored, changed = dict(plan.stored), {}
    for layer in layers:
        node = layer.node
        weights, bias = (variable.numpy() for variable in units[node.output])
        integers = np.clip(np.rint(weights), -LARGEST, LARGEST).astype(np.int8)
        if plan.is_paired(node.output):
            integers = fit_pairs(integers)
        stored[node.output] = replace(layer.weights, stored=integers)
        op = replace(node.op, bias=np.asarray(bias * layer.bias_step, np.float32))  # type: ignore[type-var]
        changed[node.output] = replace(node, op=op)
    nodes = (changed.get(node.output, node) for node in graph.nodes)
    return graph.with_nodes(nodes), replace(plan, stored=stored)
