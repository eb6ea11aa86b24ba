"""What computes in which type at a precision, and how ranges and weights are chosen.

`benchmarks.head_to_head` measures what these choices give, on images that nothing was chosen on,
beside the recipes of every standard tool; docs/performance.md has its table.

What stays in float at int8, and why it costs little: a dense layer that reads z (eight bits are
too few steps for two numbers that decide the whole image), the heads' sums and the sigmoid (they
are the outputs: nothing behind them hides an error), and an encoder's first convolution, whose
one to four input channels leave the integer kernels mostly idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import (
    Activate,
    Activation,
    Binary,
    BinaryKind,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Graph,
    Layout,
    Node,
    Pad,
    Reshape,
    Slice,
    SumShifted,
    Transpose,
)
from exporters.lowering.base import PassResult
from exporters.quantization.distill import distill
from exporters.quantization.equalize import Equalize
from exporters.quantization.output_error import OutputError
from exporters.quantization.plan import FLOAT_PLAN, QuantizationPlan, Range, WeightMode
from exporters.quantization.ranges import SharedRanges, search_ranges, search_rows
from exporters.quantization.rounding import round_weights
from exporters.quantization.simulate import Simulation, observe_ranges, run_graph
from vae_edge.errors import ExportError
from vae_edge.terms import Component, FloatArray, Format, Precision

__all__ = ["Recipe", "equalized", "plan_for", "recipe_for"]

_MOVES = (Concat, Pad, Reshape, Slice, Transpose)
# With this many channels or fewer, an integer kernel pads them up to its width.
_FEW_CHANNELS = 4
# A float layer of an int8 artifact with more weights than this is worth storing as float16.
_WORTH_HALVING = 1024
# A dense layer with this many weights takes as long as it takes to read them: a quarter in int8.
_BOUND_BY_MEMORY = 65536
# Where squares and nats are weighed so, the shipped decoder keeps its PSNR within 0.3 dB and its
# ELBO within a few hundredths of a nat, which squares alone let slip by 0.16.
_SQUARES_PER_NAT = 1.0
# Ranges that more rows give are wider by outliers and not better: only distillation reads them all.
_RANGE_ROWS = 512
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
    reach = {name: high for name, (_, high) in observe_ranges(graph, rows[:_RANGE_ROWS]).items()}
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

    Returns:
        The graph, with biases corrected where the recipe says so, and the plan.

    Raises:
        ExportError: an operator that has no integer form, with `integer_io`.
    """
    if precision is Precision.FLOAT32:
        return graph, FLOAT_PLAN
    if precision is Precision.FLOAT16:
        return graph, QuantizationPlan(
            weights={node.output: WeightMode.FLOAT16 for node in _stored(graph)}
        )
    if precision is Precision.DYNAMIC:
        return graph, _dynamic(graph, format)
    plan = _all_integer(graph, format) if integer_io else _mostly_integer(graph, format)
    return _chosen(graph, plan, recipe, rows, seed)


def _weighted(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if isinstance(node.op, (Conv, Dense))]


def _stored(graph: Graph) -> list[Node]:
    """Nodes whose weights can be stored narrow; a transposed convolution has no integer kernel."""
    return [node for node in graph.nodes if isinstance(node.op, (Conv, ConvTranspose, Dense))]


def _dynamic(graph: Graph, format: Format) -> QuantizationPlan:
    """int8 weights, float activations.

    In TFLite values are quantized as they come. In ONNX weights are stored in int8 and widened at
    load: quantizing values as they come gains little over that on x86, and loses on arm64 without
    dot-product instructions; except where reading the weights takes longer than multiplying.
    """
    modes = {node.output: _dynamic_mode(graph, node, format) for node in _stored(graph)}
    dense = {node.output for node in graph.nodes if isinstance(node.op, Dense)}
    large = {
        node.output
        for node in graph.nodes
        if isinstance(node.op, Dense)
        and node.op.kernel.size >= _BOUND_BY_MEMORY
        and modes[node.output] is WeightMode.INT8
        and len(graph.shapes[node.output]) == 1
    }
    return QuantizationPlan(
        weights=modes,
        dynamic=frozenset(large) if format is Format.ONNX else frozenset(),
        # One scale per channel needs FULLY_CONNECTED version 12, newer than tflite-runtime 2.14.
        per_tensor=frozenset(dense) if format is Format.TFLITE else frozenset(),
    )


def _dynamic_mode(graph: Graph, node: Node, format: Format) -> WeightMode:
    op = node.op
    if isinstance(op, Dense):
        # A step of these weights shows in every pixel, or in every latent.
        at_boundary = node.inputs[0] == graph.input or node.output in graph.outputs.values()
        if op.kernel.size <= _WORTH_HALVING:
            return WeightMode.FLOAT32
        return WeightMode.FLOAT16 if at_boundary else WeightMode.INT8
    # XNNPACK has no depthwise convolution of int8 weights and float values.
    depthwise = isinstance(op, Conv) and op.groups > 1
    if format is Format.TFLITE and (
        depthwise or (_stays_float(graph, node) and not _is_head(graph, node))
    ):
        return WeightMode.FLOAT16
    return WeightMode.INT8


def _mostly_integer(graph: Graph, format: Format) -> QuantizationPlan:
    """Convolutions, and what only moves values between them, in integers."""
    integer: set[str] = set()
    integer_input: set[str] = set()
    weights: dict[str, WeightMode] = {}
    for node in graph.nodes:
        op = node.op
        from_integer = all(name in integer for name in node.inputs)
        if isinstance(op, Conv) and not _stays_float(graph, node):
            integer.add(node.output)
        elif isinstance(op, Conv) and _is_head(graph, node):
            weights[node.output] = WeightMode.INT8
        elif isinstance(op, Dense):
            inner = op.kernel.size > _WORTH_HALVING and not _reads_latents(graph, node)
            if format is Format.ONNX and (from_integer or inner):
                integer_input.add(node.output)
            elif inner and not _leaves(graph, node):
                integer.add(node.output)
            elif op.kernel.size > _WORTH_HALVING:
                weights[node.output] = WeightMode.FLOAT16
        elif (isinstance(op, _MOVES) and from_integer) or (
            format is Format.TFLITE and from_integer and _has_tflite_kernel(op)
        ):
            integer.add(node.output)
        elif isinstance(op, Conv) and op.kernel.size > _WORTH_HALVING:
            weights[node.output] = WeightMode.FLOAT16
    # A move whose result is read in float alone is cheaper after the values are float again, and
    # a move before the first integer layer is cheaper once they are integers.
    integer |= _moves_before(graph, integer)
    dense = {node.output for node in graph.nodes if isinstance(node.op, Dense)}
    summed = {node.inputs[0] for node in graph.nodes if isinstance(node.op, SumShifted)}
    return QuantizationPlan(
        integer=frozenset(integer),
        integer_input=frozenset(integer_input),
        weights=weights,
        # One scale for all maps of a sum: it is then applied to the sum, once.
        # A dense layer's scales per channel need FULLY_CONNECTED version 12 in TFLite.
        per_tensor=frozenset((integer_input & summed) | (integer & dense)),
    )


def _reads_latents(graph: Graph, node: Node) -> bool:
    """Whether a dense layer reads the graph's input, and that is a few numbers and no image."""
    return node.inputs[0] == graph.input and len(graph.input_shape) == 1


def _leaves(graph: Graph, node: Node) -> bool:
    """Whether a layer's output is one of the component's, whatever shape it is given."""
    tensor = node.output
    while (user := graph.only_user(tensor)) is not None and isinstance(user.op, Reshape):
        tensor = user.output
    return tensor in graph.outputs.values()


def _moves_before(graph: Graph, integer: set[str]) -> set[str]:
    """Moves between a float layer and integer ones, which all readers want as integers."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if isinstance(node.op, _MOVES) and node.output not in graph.outputs.values():
            users = graph.users(node.output)
            if users and all(user.output in integer | found for user in users):
                found.add(node.output)
    return found


def _has_tflite_kernel(op: object) -> bool:
    if isinstance(op, Activate):
        return op.activation is Activation.LEAKY_RELU
    return isinstance(op, Binary) and op.kind is BinaryKind.ADD


def _stays_float(graph: Graph, node: Node) -> bool:
    op = node.op
    assert isinstance(op, Conv)  # noqa: S101  asked for convolutions only
    few = op.kernel.shape[2] * op.groups <= _FEW_CHANNELS
    source = graph.maker(node.inputs[0])
    at_input = source is None or (isinstance(source.op, _MOVES) and source.inputs[0] == graph.input)
    return (few and at_input) or _is_head(graph, node)


def _is_head(graph: Graph, node: Node) -> bool:
    """A convolution to a single pixel: a dense layer on an image."""
    op = node.op
    if not isinstance(op, Conv):
        return False
    shape = graph.shapes[node.output]
    size = shape[1:] if op.layout is Layout.CHANNELS_FIRST else shape[:2]
    return size == (1, 1) and op.kernel.shape[:2] != (1, 1)


def _all_integer(graph: Graph, format: Format) -> QuantizationPlan:
    kernels = (*_MOVES, Binary, Conv, Dense) if format is Format.TFLITE else (*_MOVES, Conv)
    activations = (Activation.LEAKY_RELU, Activation.RELU, Activation.SIGMOID, Activation.TANH)
    for node in graph.nodes:
        fits = isinstance(node.op, kernels) or (
            isinstance(node.op, Activate) and node.op.activation in activations
        )
        if not fits and format is Format.TFLITE:
            what = (
                str(node.op.activation) if isinstance(node.op, Activate) else type(node.op).__name__
            )
            raise ExportError(
                f"{node.name}: {what} has no 8-bit kernel on microcontrollers, so --io int8 cannot "
                "be had. Leave --io out, or use relu, leaky relu, sigmoid or tanh."
            )
    if format is Format.TFLITE:
        outputs = {node.output for node in graph.nodes}
        dense = {node.output for node in graph.nodes if isinstance(node.op, Dense)}
        return QuantizationPlan(
            integer=frozenset(outputs), per_tensor=frozenset(dense), integer_io=True
        )
    return replace(_mostly_integer(graph, format), integer_io=True)


def _chosen(
    graph: Graph, plan: QuantizationPlan, recipe: Recipe, rows: FloatArray, seed: int
) -> tuple[Graph, QuantizationPlan]:
    few = rows[:_RANGE_ROWS]
    shared = SharedRanges.of(graph, observe_ranges(graph, few))
    fixed = {
        shared.owner[node.output]: _FIXED_RANGES[node.op.activation]
        for node in graph.nodes
        if isinstance(node.op, Activate) and node.op.activation in _FIXED_RANGES
    }
    shared = replace(shared, observed={**shared.observed, **fixed})
    ranges = shared.ranges(shared.observed)
    measure = _measure(graph)
    if recipe.search:
        error = measure.against(run_graph(graph, search_rows(few)))
        ranges = search_ranges(graph, plan, shared, few, error, fixed=frozenset(fixed))
    plan = replace(plan, ranges=ranges)
    if recipe.round_weights:
        inner = [node for node in _weighted(graph) if node.output in plan.integer]
        plan = round_weights(graph, plan, few, inner, seed)
    if recipe.distill:
        graph, plan = distill(graph, plan, rows, measure, seed=seed)
    if recipe.correct_bias and not plan.integer_io:
        graph = _with_corrected_bias(graph, plan, few)
    return graph, plan


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


def _with_corrected_bias(graph: Graph, plan: QuantizationPlan, rows: FloatArray) -> Graph:
    """Move the bias of every output's last layer by the mean error that quantization leaves.

    Source: M. Nagel et al., 2019 (arXiv:1906.04721), section 4.2, with the error measured on data.
    """
    wanted = run_graph(graph, rows)
    given = Simulation(graph, plan).run(rows, plan.ranges)
    moved = {}
    for name, tensor in graph.outputs.items():
        node = graph.maker(tensor)
        while node is not None and isinstance(node.op, Reshape):
            node = graph.maker(node.inputs[0])
        if node is None or not isinstance(node.op, (Conv, Dense)) or node.op.activation:
            continue
        if node.output in plan.integer:
            continue
        error = (wanted[name] - given[name]).reshape(-1, len(node.op.bias))
        bias = node.op.bias + error.mean(axis=0, dtype=np.float64).astype(np.float32)
        moved[node.output] = replace(node, op=replace(node.op, bias=bias))
    return graph.with_nodes(moved.get(node.output, node) for node in graph.nodes)
