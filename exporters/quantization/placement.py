"""What computes in which type, before any value is looked at.

What stays in float at int8, and why it costs little: a dense layer that reads z (eight bits are
too few steps for two numbers that decide the whole image), the heads' sums and the sigmoid (they
are the outputs: nothing behind them hides an error), and an encoder's first convolution, whose
one to four input channels leave the integer kernels mostly idle.
"""

from __future__ import annotations

from dataclasses import replace

from exporters.graph import (
    Activate,
    Activation,
    Binary,
    BinaryKind,
    Conv,
    ConvTranspose,
    Dense,
    Graph,
    Layout,
    Node,
    Reshape,
    SumShifted,
)
from exporters.quantization.moves import is_move
from exporters.quantization.plan import QuantizationPlan, WeightMode
from vae_edge.errors import ExportError
from vae_edge.terms import Format

__all__ = ["all_integer", "dynamic", "mostly_integer", "storing"]

# With this many channels or fewer, an integer kernel pads them up to its width.
_FEW_CHANNELS = 4
# A float layer of an int8 artifact with more weights than this is worth storing as float16.
_WORTH_HALVING = 1024
# One at the boundary with more than this is most of a file: 8 bits are tried first, beside floats.
_MOST_OF_A_FILE = 1 << 16
# A dense layer with this many weights takes as long as it takes to read them: a quarter in int8.
_BOUND_BY_MEMORY = 65536


def storing(graph: Graph) -> list[Node]:
    """Nodes whose weights can be stored narrow; a transposed convolution has no integer kernel."""
    return [node for node in graph.nodes if isinstance(node.op, (Conv, ConvTranspose, Dense))]


def dynamic(graph: Graph, format: Format) -> QuantizationPlan:
    """int8 weights, float activations.

    In TFLite values are quantized as they come. In ONNX weights are stored in int8 and widened at
    load: quantizing values as they come gains little over that on x86, and loses on arm64 without
    dot-product instructions; except where reading the weights takes longer than multiplying.
    """
    modes = {node.output: _dynamic_mode(graph, node, format) for node in storing(graph)}
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
        return _at_boundary(op) if at_boundary else WeightMode.INT8
    # XNNPACK has no depthwise convolution of int8 weights and float values.
    depthwise = isinstance(op, Conv) and op.groups > 1
    if format is Format.TFLITE and (
        depthwise or (_stays_float(graph, node) and not _is_head(graph, node))
    ):
        return WeightMode.FLOAT16
    return WeightMode.INT8


def mostly_integer(
    graph: Graph, format: Format, *, integer_depthwise: bool = True
) -> QuantizationPlan:
    """Convolutions, and what only moves values between them, in integers.

    Args:
        graph: lowered.
        format: whose operators there are.
        integer_depthwise: convolutions in groups too.
    """
    integer: set[str] = set()
    integer_input: set[str] = set()
    weights: dict[str, WeightMode] = {}
    for node in graph.nodes:
        op = node.op
        from_integer = all(name in integer for name in node.inputs)
        depthwise = isinstance(op, Conv) and op.groups > 1
        if isinstance(op, Conv) and not (
            _stays_float(graph, node) or (depthwise and not integer_depthwise)
        ):
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
                weights[node.output] = _at_boundary(op)
        elif (is_move(op) and from_integer) or (
            format is Format.TFLITE and from_integer and _has_tflite_kernel(op)
        ):
            integer.add(node.output)
        elif isinstance(op, Conv) and op.kernel.size > _WORTH_HALVING:
            weights[node.output] = WeightMode.FLOAT16
    # A move whose result is read in float alone is cheaper after the values are float again, and
    # a move before the first integer layer is cheaper once they are integers.
    integer |= _moves_before(graph, integer)
    dense = {node.output for node in graph.nodes if isinstance(node.op, Dense)}
    if format is Format.ONNX:
        dense &= integer
    summed = {node.inputs[0] for node in graph.nodes if isinstance(node.op, SumShifted)}
    return QuantizationPlan(
        integer=frozenset(integer),
        integer_input=frozenset(integer_input),
        weights=weights,
        # One scale for all maps of a sum: it is then applied to the sum, once.
        # A dense layer's scales per channel need FULLY_CONNECTED version 12 in TFLite.
        per_tensor=frozenset((integer_input & summed) | dense),
    )


def _at_boundary(op: Dense) -> WeightMode:
    """How the weights of a layer beside the graph's input or outputs are stored."""
    return WeightMode.INT8 if op.kernel.size > _MOST_OF_A_FILE else WeightMode.FLOAT16


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
        if is_move(node.op) and node.output not in graph.outputs.values():
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
    at_input = source is None or (is_move(source.op) and source.inputs[0] == graph.input)
    return (few and at_input) or _is_head(graph, node)


def _is_head(graph: Graph, node: Node) -> bool:
    """A convolution to a single pixel: a dense layer on an image."""
    op = node.op
    if not isinstance(op, Conv):
        return False
    shape = graph.shapes[node.output]
    size = shape[1:] if op.layout is Layout.CHANNELS_FIRST else shape[:2]
    return size == (1, 1) and op.kernel.shape[:2] != (1, 1)


def all_integer(graph: Graph, format: Format) -> QuantizationPlan:
    """Give everything in integers, inputs and outputs too.

    Raises:
        ExportError: an operator that has no integer form.
    """
    kernels = (Binary, Conv, Dense)
    activations = (Activation.LEAKY_RELU, Activation.RELU, Activation.SIGMOID, Activation.TANH)
    for node in graph.nodes:
        fits = isinstance(node.op, kernels) or is_move(node.op)
        fits = fits or (isinstance(node.op, Activate) and node.op.activation in activations)
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
    return replace(mostly_integer(graph, format), integer_io=True)
