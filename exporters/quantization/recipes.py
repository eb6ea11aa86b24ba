"""What computes in which type at a precision, and how ranges and weights are chosen.

`benchmarks.head_to_head` measures what these choices give, on images that nothing was chosen on,
beside the recipes of every standard tool; docs/performance.md has its table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import (
    Activate,
    Activation,
    Conv,
    Dense,
    Graph,
    Node,
    Reshape,
)
from exporters.lowering.base import PassResult
from exporters.quantization.distill import distill, is_within_reach
from exporters.quantization.equalize import Equalize
from exporters.quantization.guard import keep_within
from exporters.quantization.output_error import OutputError
from exporters.quantization.placement import all_integer, dynamic, mostly_integer, storing
from exporters.quantization.plan import FLOAT_PLAN, QuantizationPlan, Range, WeightMode
from exporters.quantization.ranges import SharedRanges, search_ranges, search_rows
from exporters.quantization.rounding import round_weights
from exporters.quantization.scored import Scored
from exporters.quantization.simulate import Simulation, observe_ranges, run_graph
from exporters.quantization.work import rows_within
from vae_edge.terms import Component, FloatArray, Format, Precision

__all__ = ["Recipe", "equalized", "plan_for", "recipe_for"]

# Where squares and nats are weighed so, the shipped decoder keeps its PSNR within 0.3 dB and its
# ELBO within a few hundredths of a nat, which squares alone let slip by 0.16.
_SQUARES_PER_NAT = 1.0
# Ranges that more rows give are wider by outliers and not better: only distillation reads them all.
_RANGE_ROWS = 512
# Products of one run over those rows; of large models fewer rows are looked at.
_RANGE_WORK = 4e10
_LEAST_RANGE_ROWS = 64
# An image in hundreds reaches beyond all that were calibrated on, and one that saturates is encoded
# several sigmas off where posteriors are narrow; a tenth of a step more is not to be noticed.
_MARGIN = 1.1
# What these two give has one range by definition, and one scale in every runtime.
_FIXED_RANGES = {
    Activation.SIGMOID: Range(low=0.0, high=255 / 256),
    Activation.TANH: Range(low=-1.0, high=127 / 128),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How ranges and weights are chosen for a component at int8.

    Attributes:
        equalize: power that channels are brought to one range with; 0 leaves them.
        search: narrow ranges as long as the outputs come closer to the float model's.
        round_weights: choose integer weights on the calibration rows.
        correct_bias: move the outputs' biases by the mean error on the calibration rows.
        distill: tune integer weights and biases together for the outputs' error.
    """

    equalize: float
    search: bool
    round_weights: bool
    correct_bias: bool
    distill: bool


# An encoder's outputs are linear in its last activations: wide ones are real, so that narrowing
# ranges or mixing channels' scales costs more than it gains, and rounding by least squares halves
# the error. A decoder ends in a sigmoid: most of its large activations are behind pixels that are
# saturated. And rows of z are to be had in any number, so that a decoder's weights can be tuned on
# them without learning them by heart.
_RECIPES: Mapping[Component, Recipe] = {
    Component.ENCODER: Recipe(
        equalize=0.0, search=False, round_weights=True, correct_bias=True, distill=False
    ),
    Component.DECODER: Recipe(
        equalize=0.5, search=True, round_weights=False, correct_bias=False, distill=True
    ),
}


def recipe_for(component: Component) -> Recipe:
    """Give the recipe of a component at int8."""
    return _RECIPES[component]


def equalized(graph: Graph, recipe: Recipe, rows: FloatArray) -> PassResult | None:
    """Equalize channels before lowering, where the recipe says so."""
    if not recipe.equalize:
        return None
    reach = {name: high for name, (_, high) in observe_ranges(graph, _few(graph, rows)).items()}
    return Equalize(reach=reach, power=recipe.equalize)(graph)


def plan_for(
    graph: Graph,
    *,
    format: Format,
    precision: Precision,
    recipe: Recipe,
    rows: FloatArray,
    integer_io: bool = False,
    seed: int = 0,
    paired: bool = False,
    integer_depthwise: bool = True,
    scored: Scored | None = None,
    edges: FloatArray | None = None,
) -> tuple[Graph, QuantizationPlan]:
    """Plan a lowered graph's quantization.

    Args:
        graph: lowered for the format and precision.
        format: whose operators there are.
        precision: one that the format has.
        recipe: of its int8, see `recipe_for`.
        rows: calibration inputs, float32 (count, *input_shape).
        integer_io: inputs and outputs are integers too, and everything between them; int8 only.
        seed: of what is drawn from the rows.
        paired: hold neighbouring weights of what multiplies integers to `LARGEST_PAIR`.
        integer_depthwise: convolutions in groups are integers at int8.
        scored: of a decoder, what its reconstruction loss is counted on.
        edges: inputs that no data set holds, to judge it on too.

    Returns:
        The graph, with biases corrected where the recipe says so, and the plan.

    Raises:
        ExportError: an operator that has no integer form, with `integer_io`.
    """
    if precision is Precision.FLOAT32:
        return graph, FLOAT_PLAN
    if precision is Precision.FLOAT16:
        plan = QuantizationPlan(
            weights={node.output: WeightMode.FLOAT16 for node in storing(graph)}
        )
        return keep_within(graph, plan, _few(graph, rows), precision, scored=scored, edges=edges)
    on_the_fly = format is Format.TFLITE
    if precision is Precision.DYNAMIC:
        plan = replace(dynamic(graph, format), paired=paired)
        few = _few(graph, rows)
        return keep_within(
            graph, plan, few, precision, on_the_fly=on_the_fly, scored=scored, edges=edges
        )
    plan = (
        all_integer(graph, format)
        if integer_io
        else mostly_integer(graph, format, integer_depthwise=integer_depthwise)
    )
    plan = replace(plan, paired=paired)
    return _chosen(
        graph, plan, recipe, rows, seed, on_the_fly=on_the_fly, scored=scored, edges=edges
    )


def _few(graph: Graph, rows: FloatArray) -> FloatArray:
    """Give the rows that ranges are taken from."""
    return rows_within(graph, rows, most=_RANGE_ROWS, work=_RANGE_WORK, least=_LEAST_RANGE_ROWS)


def _is_rounded(graph: Graph, plan: QuantizationPlan, node: Node) -> bool:
    """Whether a layer's weights are rounded on data: not parts of weights, which have to fit."""
    if node.output in plan.integer:
        return True
    user = graph.only_user(node.output)
    return node.output in plan.integer_input and not (user and isinstance(user.op, Dense))


def _weighted(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if isinstance(node.op, (Conv, Dense))]


def _chosen(
    graph: Graph,
    plan: QuantizationPlan,
    recipe: Recipe,
    rows: FloatArray,
    seed: int,
    *,
    on_the_fly: bool,
    scored: Scored | None,
    edges: FloatArray | None,
) -> tuple[Graph, QuantizationPlan]:
    few = _few(graph, rows)
    shared = SharedRanges.of(graph, observe_ranges(graph, few))
    fixed = {
        shared.owner[node.output]: _FIXED_RANGES[node.op.activation]
        for node in graph.nodes
        if isinstance(node.op, Activate) and node.op.activation in _FIXED_RANGES
    }
    shared = replace(shared, observed={**shared.observed, **fixed})
    ranges = shared.ranges(shared.observed)
    measure = _measure(graph)
    if not recipe.search and not plan.integer_io:
        ranges = shared.ranges(_widened(graph, shared, fixed.keys()))
    if recipe.search:
        error = measure.against(run_graph(graph, search_rows(graph, few)))
        ranges = search_ranges(graph, plan, shared, few, error, fixed=frozenset(fixed))
    plan = replace(plan, ranges=ranges, notes=_notes(graph, recipe, rows, few))
    if recipe.round_weights:
        inner = [node for node in _weighted(graph) if _is_rounded(graph, plan, node)]
        plan = round_weights(graph, plan, few, inner, seed)
    tuned = graph
    if recipe.distill:
        tuned, plan = distill(graph, plan, rows, measure, seed=seed)
    if plan.integer_io:
        return tuned, plan
    tuned, plan = keep_within(
        graph,
        plan,
        few,
        Precision.INT8,
        tuned=tuned,
        on_the_fly=on_the_fly,
        scored=scored,
        edges=edges,
    )
    if recipe.correct_bias:
        tuned = _with_corrected_bias(graph, tuned, plan, few)
    return tuned, plan


def _widened(graph: Graph, shared: SharedRanges, fixed: Iterable[str]) -> dict[str, Range]:
    """Give ranges with room for what calibration did not meet; the input is what it is."""
    kept = {*fixed, shared.owner[graph.input]}
    return {
        group: range_ if group in kept else range_.scaled(_MARGIN)
        for group, range_ in shared.observed.items()
    }


def _notes(graph: Graph, recipe: Recipe, rows: FloatArray, few: FloatArray) -> tuple[str, ...]:
    """Say what a model is too large for."""
    notes = []
    if len(few) < min(len(rows), _RANGE_ROWS):
        notes.append(f"a model of this size is calibrated on {len(few)} rows")
    if recipe.distill and not is_within_reach(graph):
        notes.append("and too large for its integer weights to be tuned together")
    return tuple(notes)


def _measure(graph: Graph) -> OutputError:
    """Squared error; of an image of probabilities also what the ELBO loses."""
    (name, tensor), *others = graph.outputs.items()
    node = graph.maker(tensor)
    while node is not None and isinstance(node.op, Reshape):
        node = graph.maker(node.inputs[0])
    is_sigmoid = (
        node is not None
        and isinstance(node.op, Activate)
        and node.op.activation is Activation.SIGMOID
    )
    probabilities = name if is_sigmoid and not others else None
    return OutputError(probabilities=probabilities, squares_per_nat=_SQUARES_PER_NAT)


def _with_corrected_bias(
    graph: Graph, tuned: Graph, plan: QuantizationPlan, rows: FloatArray
) -> Graph:
    """Move the bias of every output's last layer by the mean error that quantization leaves.

    Source: M. Nagel et al., 2019 (arXiv:1906.04721), section 4.2, with the error measured on data.
    """
    wanted = run_graph(graph, rows)
    given = Simulation(tuned, plan).run(rows, plan.ranges)
    moved = {}
    for name, tensor in tuned.outputs.items():
        node = tuned.maker(tensor)
        while node is not None and isinstance(node.op, Reshape):
            node = tuned.maker(node.inputs[0])
        if node is None or not isinstance(node.op, (Conv, Dense)) or node.op.activation:
            continue
        if node.output in plan.integer:
            continue
        error = (wanted[name] - given[name]).reshape(-1, len(node.op.bias))
        bias = node.op.bias + error.mean(axis=0, dtype=np.float64).astype(np.float32)
        moved[node.output] = replace(node, op=replace(node.op, bias=bias))
    return tuned.with_nodes(moved.get(node.output, node) for node in tuned.nodes)
