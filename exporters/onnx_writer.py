"""Writing a graph as an ONNX model, operator by operator.

The standard converter starts from TensorFlow's operators and the standard quantizer wraps each of
them in QuantizeLinear and DequantizeLinear; an artifact whose integer operators are to be used as
such has to state them. Convolutions have their channels first here, as ONNX defines them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import singledispatchmethod
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.graph import (
    Activation,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Graph,
    Layout,
    Node,
    Pad,
    Reshape,
    Shape,
    Slice,
    SumShifted,
    Transpose,
)
from exporters.onnx_operators import objection, writable, write_operator
from exporters.quantization.moves import is_move
from exporters.quantization.plan import (
    QuantizationPlan,
    Range,
    WeightMode,
)
from vae_edge.terms import FloatArray

__all__ = ["OPSET", "unwritable", "write_onnx"]

# Col2Im came with opset 18, which ONNX Runtime reads since 1.14.
OPSET = 18
_IR_VERSION = 8
_WRITABLE = (
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Pad,
    Reshape,
    Slice,
    SumShifted,
    Transpose,
)
# ONNX Runtime packs what stands on the right of a product, every time where it is no constant: more
# than this many values per product that is wanted, and a transpose is cheaper.
_MAX_PACKED = 5
# A float32 below this many elements (biases, shapes) is not worth a Cast.
_MIN_ELEMENTS = 64


def unwritable(graph: Graph) -> str | None:
    """Say why a graph cannot be written here, or None where it can."""
    for node in graph.nodes:
        if not (isinstance(node.op, _WRITABLE) or writable(node.op)):
            kind = getattr(node.op, "kind", type(node.op).__name__)
            return f"{node.name} ({kind}) has no direct form"
        if (reason := objection(node.op)) is not None:
            return f"{node.name} {reason}"
        if isinstance(node.op, (Conv, ConvTranspose)):
            if node.op.layout is not Layout.CHANNELS_FIRST:
                return f"{node.name} has its channels last"
            if isinstance(node.op, ConvTranspose) and not _reaches(graph, node, node.op):
                return f"{node.name} asks for more output than its input reaches"
    return None


def _reaches(graph: Graph, node: Node, op: ConvTranspose) -> bool:
    """Whether an output goes less than a stride beyond what the input reaches; ONNX allows that."""
    ends = op.overhang(graph.shapes[node.inputs[0]])
    return all(-end < stride for end, stride in zip(ends, op.strides, strict=True))


def write_onnx(graph: Graph, plan: QuantizationPlan, batch: int | None) -> Any:
    """Write a graph that `unwritable` has no objection to.

    Args:
        graph: lowered.
        plan: what computes in integers.
        batch: rows per inference; None for any number.

    Returns:
        ModelProto, checked, with inputs and outputs by their names.
    """
    return _Writer(graph, plan, batch).write()


class _Writer:
    def __init__(self, graph: Graph, plan: QuantizationPlan, batch: int | None) -> None:
        self._onnx: Any = importlib.import_module("onnx")
        self._graph, self._plan, self._batch = graph, plan, batch
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._by_content: dict[tuple[bytes, str, Shape], str] = {}
        self._real: dict[str, str] = {}
        self._stored: dict[str, str] = {}
        self._count = 0
        # Maps of a SumShifted, one per row, by the name that they have with channels last.
        self._rows: dict[str, str] = {}
        # Integer products before scales and bias: the value, the scales per channel, the bias.
        self._folded: dict[str, tuple[str, FloatArray, FloatArray]] = {}
        # Maps of a SumShifted that are still to be scaled: the value, and the scale of all of it.
        self._unscaled: dict[str, tuple[str, float]] = {}

    def write(self) -> Any:
        graph, helper = self._graph, self._onnx.helper
        io = self._stored if self._plan.integer_io else self._real
        io[graph.input] = graph.input
        for node in graph.nodes:
            self._write(node.op, node)
        proto_types = self._onnx.TensorProto
        integer = proto_types.INT8 if self._plan.signed else proto_types.UINT8
        kind = integer if self._plan.integer_io else proto_types.FLOAT
        for name, tensor in graph.outputs.items():
            read = self._as_integer if self._plan.integer_io else self._as_real
            self._leave(name, read(tensor))
        axis = "batch" if self._batch is None else self._batch
        inputs = [helper.make_tensor_value_info(graph.input, kind, [axis, *graph.input_shape])]
        outputs = [
            helper.make_tensor_value_info(name, kind, [axis, *graph.shapes[tensor]])
            for name, tensor in graph.outputs.items()
        ]
        proto = helper.make_graph(
            self._nodes, "vae-edge", inputs, outputs, initializer=list(self._weights.values())
        )
        model = helper.make_model(
            proto,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="vae-edge",
            ir_version=_IR_VERSION,
        )
        if self._plan.integer_io:
            self._note_io(model)
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def _note_io(self, model: Any) -> None:
        """ONNX has no field for the scale of an input or output; runners read it here."""
        tensors = {self._graph.input: self._graph.input, **self._graph.outputs}
        for name, tensor in tensors.items():
            range_ = self._plan.ranges[tensor]
            entry = model.metadata_props.add()
            entry.key = f"vae_edge.quantization.{name}"
            entry.value = f"{range_.scale!r} {self._zero_of(range_)}"

    def _leave(self, name: str, tensor: str) -> None:
        """Give a tensor the name of an output."""
        if tensor != name:
            self._nodes.append(
                self._onnx.helper.make_node("Identity", [tensor], [name], name=f"{name}/named")
            )

    # Tensors, also for operators of other modules

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shapes of the graph's tensors, of one row."""
        return self._graph.shapes

    @property
    def batch(self) -> int | None:
        """Rows per inference; None for any number."""
        return self._batch

    def made(self, node: Node, value: str) -> None:
        """State what a node's tensor is."""
        (self._stored if node.output in self._plan.integer else self._real)[node.output] = value

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}:{self._count}"

    def constant(self, stem: str, values: npt.NDArray[Any]) -> str:
        """Store values, each content once."""
        values = np.asarray(values)
        content = np.ascontiguousarray(values).tobytes()
        key = (sha256(content).digest(), str(values.dtype), values.shape)
        if key not in self._by_content:
            name = self._fresh(stem)
            self._by_content[key] = name
            self._weights[name] = self._onnx.numpy_helper.from_array(
                np.ascontiguousarray(values).reshape(values.shape), name
            )
        return self._by_content[key]

    def _integers(self, stem: str, values: Sequence[int]) -> str:
        return self.constant(stem, np.asarray(values, np.int64))

    def add(
        self, kind: str, inputs: Sequence[str], output: str | None = None, **attributes: Any
    ) -> str:
        """Add an operator and give its output."""
        output = output or self._fresh(kind.lower())
        self._nodes.append(
            self._onnx.helper.make_node(
                kind, list(inputs), [output], name=self._fresh(kind), **attributes
            )
        )
        return output

    def _zero_of(self, range_: Range) -> npt.NDArray[Any]:
        """Give the zero point as the plan stores 8-bit values."""
        if self._plan.signed:
            return np.asarray(range_.zero_point - 128, np.int8)
        return np.asarray(range_.zero_point, np.uint8)

    def _scale(self, range_: Range) -> list[str]:
        return [
            self.constant("scale", np.asarray(range_.scale, np.float32)),
            self.constant("zero_point", self._zero_of(range_)),
        ]

    def _as_real(self, tensor: str) -> str:
        if tensor not in self._real:
            range_, shape = self._plan.ranges[tensor], self._graph.shapes[tensor]
            parameters, along = self._scale(range_), dict[str, Any]()
            wide = [axis for axis, size in enumerate(shape, start=1) if size > 1]
            if wide and self._is_multiplied_in_float(tensor):
                # Between a scale of a tensor and another ONNX Runtime takes a float layer for one
                # that somebody forgot to quantize, and rounds its weights to 8 bits, with one scale
                # for all of them. A scale for each channel it leaves alone.
                count, along = shape[wide[0] - 1], {"axis": wide[0]}
                parameters = [
                    self.constant("scales", np.full(count, range_.scale, np.float32)),
                    self.constant("zero_points", np.full(count, self._zero_of(range_))),
                ]
            self._real[tensor] = self.add(
                "DequantizeLinear", [self._stored[tensor], *parameters], **along
            )
        return self._real[tensor]

    def _is_multiplied_in_float(self, tensor: str) -> bool:
        """Whether a layer with float weights reads the tensor, as it is or moved."""
        for user in self._graph.users(tensor):
            name = user.output
            if name in self._plan.integer | self._plan.integer_input | self._plan.dynamic:
                continue
            if isinstance(user.op, (Conv, ConvTranspose, Dense)):
                return True
            if is_move(user.op) and self._is_multiplied_in_float(name):
                return True
        return False

    def _as_integer(self, tensor: str) -> str:
        if tensor not in self._stored:
            parameters = self._scale(self._plan.ranges[tensor])
            self._stored[tensor] = self.add("QuantizeLinear", [self._real[tensor], *parameters])
        return self._stored[tensor]

    def inputs(self, node: Node) -> list[str]:
        """Give what a node reads, as integers or floats as it computes."""
        read = self._as_integer if node.output in self._plan.integer else self._as_real
        return [read(name) for name in node.inputs]

    def _make(self, node: Node, kind: str, inputs: Sequence[str], **attributes: Any) -> None:
        self.made(node, self.add(kind, inputs, **attributes))

    def _float_weights(self, node: Node, kernel: FloatArray, order: tuple[int, ...]) -> str:
        """Weights of an operator that computes in float, laid out, and stored as the plan says.

        ONNX Runtime computes what has constants only once, when the model loads: what is narrow in
        the file is float32 from then on.
        """
        stem, mode = f"{node.output}/kernel", self._plan.weight_mode(node.output)
        if mode is WeightMode.FLOAT32 or kernel.size < _MIN_ELEMENTS:
            return self.constant(stem, kernel.transpose(order))
        if mode is WeightMode.FLOAT16:
            limit = np.finfo(np.float16).max
            narrow = np.clip(kernel, -limit, limit).astype(np.float16).transpose(order)
            return self.add("Cast", [self.constant(stem, narrow)], to=self._onnx.TensorProto.FLOAT)
        weights = self._plan.int8_weights(node.output, kernel)
        stored = self.constant(stem, weights.stored.transpose(order))
        widened = self.add("Cast", [stored], to=self._onnx.TensorProto.FLOAT)
        # One scale per entry of the last axis before it was laid out: output channels, and of a
        # transposed convolution input channels.
        shape = [1] * kernel.ndim
        shape[order.index(kernel.ndim - 1)] = len(weights.scales)
        scales = self.constant(f"{node.output}/scales", weights.scales.reshape(shape))
        return self.add("Mul", [widened, scales])

    # Operators

    @singledispatchmethod
    def _write(self, op: Any, node: Node) -> None:
        write_operator(op, node, self)

    @_write.register
    def _write_conv(self, op: Conv, node: Node) -> None:
        (top, bottom), (left, right) = op.pads
        attributes: dict[str, Any] = {
            "kernel_shape": list(op.kernel.shape[:2]),
            "strides": list(op.strides),
            "dilations": list(op.dilations),
            "pads": [top, left, bottom, right],
            "group": op.groups,
        }
        inputs = self.inputs(node)
        if node.output in self._plan.integer:
            self._integer_conv(op, node, inputs, attributes)
            return
        kernel = self._float_weights(node, op.kernel, (3, 2, 0, 1))
        total = self.add(
            "Conv", [*inputs, kernel, self.constant(f"{node.output}/bias", op.bias)], **attributes
        )
        self._real[node.output] = self._clamped(total, op.activation)

    @_write.register
    def _write_conv_transpose(self, op: ConvTranspose, node: Node) -> None:
        ends = op.overhang(self._graph.shapes[node.inputs[0]])
        # (h, w, out, in) to (in, out, h, w)
        kernel = self._float_weights(node, op.kernel, (3, 2, 0, 1))
        bias = self.constant(f"{node.output}/bias", op.bias)
        total = self.add(
            "ConvTranspose",
            [*self.inputs(node), kernel, bias],
            kernel_shape=list(op.kernel.shape[:2]),
            strides=list(op.strides),
            pads=[*op.pads_before, *(max(end, 0) for end in ends)],
            output_padding=[max(-end, 0) for end in ends],
        )
        self._real[node.output] = self._clamped(total, op.activation)

    def _integer_conv(
        self, op: Conv, node: Node, inputs: list[str], attributes: dict[str, Any]
    ) -> None:
        weights = self._plan.int8_weights(node.output, op.kernel)
        source, target = self._plan.ranges[node.inputs[0]], self._plan.ranges[node.output]
        kernel = [
            self.constant(f"{node.output}/kernel", weights.stored.transpose(3, 2, 0, 1)),
            self.constant(f"{node.output}/scales", weights.scales),
            self.constant("zeros", np.zeros(len(weights.scales), np.int8)),
        ]
        bias = np.rint(op.bias / (weights.scales.astype(np.float64) * source.scale))
        made = self.add(
            "QLinearConv",
            [
                *inputs,
                *self._scale(source),
                *kernel,
                *self._scale(target),
                self.constant(f"{node.output}/bias", bias.astype(np.int32)),
            ],
            **attributes,
        )
        # The runtime has no clamp here: what lies outside the range saturates, so that a range
        # which ends where the activation does needs none.
        if op.activation is not None and (
            target.low < 0 or (op.activation is Activation.RELU6 and target.high > 6)
        ):
            real = self.add("DequantizeLinear", [made, *self._scale(target)])
            clamped = self._clamped(real, op.activation)
            made = self.add("QuantizeLinear", [clamped, *self._scale(target)])
        self._stored[node.output] = made

    def _clamped(self, value: str, activation: Activation | None) -> str:
        if activation is None:
            return value
        if activation is Activation.RELU:
            return self.add("Relu", [value])
        bounds = [self.constant("bound", np.asarray(bound, np.float32)) for bound in (0, 6)]
        return self.add("Clip", [value, *bounds])

    @_write.register
    def _write_dense(self, op: Dense, node: Node) -> None:
        if node.output in self._plan.integer_input:
            self._integer_product(op, node)
            return
        if node.inputs[0] in self._folded:
            source, scales, before = self._folded[node.inputs[0]]
            op = replace(
                op,
                kernel=np.asarray(scales[:, np.newaxis] * op.kernel, np.float32),
                bias=np.asarray(before @ op.kernel + op.bias, np.float32),
            )
        else:
            (source,) = self.inputs(node)
        if node.output in self._plan.dynamic:
            product = self._dynamic_product(op, node, source)
            total = self.add("Add", [product, self.constant(f"{node.output}/bias", op.bias)])
            self._real[node.output] = self._clamped(total, op.activation)
            return
        if (
            self._sums(node)
            and self._batch == 1
            and op.activation is None
            and op.kernel.shape[0] < _MAX_PACKED * op.kernel.shape[1]
        ):
            # The sum wants every map as a row: the same product, transposed.
            rows = self._integers("shape", [-1, op.kernel.shape[0]])
            source = self.add("Reshape", [source, rows])
            kernel = self._float_weights(node, op.kernel, (0, 1))
            column = self.constant(f"{node.output}/bias", op.bias.reshape(-1, 1))
            product = self.add("Gemm", [kernel, source, column], transA=1, transB=1)
            self._rows[node.output] = product
            return
        self._real[node.output] = self._product(op, node, source)

    def _only_dense_readers(self, node: Node) -> bool:
        users = self._graph.users(node.output)
        return (
            node.output not in self._graph.outputs.values()
            and all(isinstance(user.op, Dense) for user in users)
            and not any(user.output in self._plan.integer_input for user in users)
        )

    def _sums(self, node: Node) -> bool:
        """Whether a dense layer makes maps for a SumShifted and nothing else."""
        user = self._graph.only_user(node.output)
        return user is not None and isinstance(user.op, SumShifted)

    def _product(self, op: Dense, node: Node, source: str) -> str:
        """Gemm, which is defined for matrices: every position of every image is a row."""
        shape = self._graph.shapes[node.output]
        if len(shape) > 1:
            rows = self._integers("shape", [-1, op.kernel.shape[0]])
            source = self.add("Reshape", [source, rows])
        kernel = self._float_weights(node, op.kernel, (0, 1))
        bias = self.constant(f"{node.output}/bias", op.bias)
        total = self._clamped(self.add("Gemm", [source, kernel, bias]), op.activation)
        if len(shape) > 1:
            batch = -1 if self._batch is None else self._batch
            total = self.add("Reshape", [total, self._integers("shape", [batch, *shape])])
        return total

    def _integer_product(self, op: Dense, node: Node) -> None:
        """Integers in, float out: the sum is scaled once, and no output range is needed."""
        range_ = self._plan.ranges[node.inputs[0]]
        weights = self._plan.int8_weights(node.output, op.kernel)
        product = self.add(
            "MatMulInteger",
            [
                self._as_integer(node.inputs[0]),
                self.constant(f"{node.output}/kernel", weights.stored),
                self.constant("zero_point", self._zero_of(range_)),
            ],
        )
        real = self.add("Cast", [product], to=self._onnx.TensorProto.FLOAT)
        scales = np.asarray(weights.scales * np.float32(range_.scale), np.float32)
        rectified = op.activation is not None
        if self._sums(node) and len(scales) == 1 and not np.any(op.bias) and not rectified:
            # Sums of integers below 2^24 are exact in float32, and one scale fits all of them.
            self._unscaled[node.output] = real, float(scales[0])
            return
        if self._only_dense_readers(node) and not rectified:
            # They are matrix products themselves: they take scales and bias into their weights.
            self._folded[node.output] = real, scales, op.bias
            return
        scaled = self.add("Mul", [real, self.constant(f"{node.output}/scales", scales)])
        bias = self.constant(f"{node.output}/bias", op.bias)
        self._real[node.output] = self._clamped(self.add("Add", [scaled, bias]), op.activation)

    def _dynamic_product(self, op: Dense, node: Node, source: str) -> str:
        """Values quantized as they come, by their own range."""
        weights = self._plan.int8_weights(node.output, op.kernel)
        stored, scale, zero = (self._fresh("dynamic") for _ in range(3))
        self._nodes.append(
            self._onnx.helper.make_node(
                "DynamicQuantizeLinear",
                [source],
                [stored, scale, zero],
                name=self._fresh("DynamicQuantizeLinear"),
            )
        )
        kernel = self.constant(f"{node.output}/kernel", weights.stored)
        product = self.add("MatMulInteger", [stored, kernel, zero])
        real = self.add("Cast", [product], to=self._onnx.TensorProto.FLOAT)
        scales = self.constant(f"{node.output}/scales", weights.scales)
        return self.add("Mul", [real, self.add("Mul", [scale, scales])])

    @_write.register
    def _write_sum_shifted(self, op: SumShifted, node: Node) -> None:
        maps = node.inputs[0]
        batch = -1 if self._batch is None else self._batch
        height, width, count = self._graph.shapes[maps]
        scale = 1.0
        if maps in self._rows:
            shape = self._integers("shape", [batch, count, height * width])
            columns = self.add("Reshape", [self._rows[maps], shape])
        else:
            unscaled = self._unscaled.get(maps)
            value, scale = unscaled or (self._as_real(maps), 1.0)
            shape = self._integers("shape", [batch, height * width, count])
            columns = self.add("Transpose", [self.add("Reshape", [value, shape])], perm=[0, 2, 1])
        (top, bottom), (left, right) = op.pads
        out_height, out_width, channels = self._graph.shapes[node.output]
        total = self.add(
            "Col2Im",
            [
                columns,
                self._integers("image", [out_height, out_width]),
                self._integers("block", op.taps),
            ],
            strides=op.strides,
            pads=[top, left, bottom, right],
        )
        if scale != 1.0:
            total = self.add("Mul", [total, self.constant("scale", np.asarray(scale, np.float32))])
        if np.any(op.bias):
            bias = self.constant(f"{node.output}/bias", op.bias.reshape(-1, 1, 1))
            total = self.add("Add", [total, bias])
        if channels == 1:
            image = [batch, out_height, out_width, 1]
            self._make(node, "Reshape", [total, self._integers("shape", image)])
        else:
            self._make(node, "Transpose", [total], perm=[0, 2, 3, 1])

    @_write.register
    def _write_reshape(self, op: Reshape, node: Node) -> None:
        batch = -1 if self._batch is None else self._batch
        shape = self._integers("shape", [batch, *op.to])
        self._make(node, "Reshape", [*self.inputs(node), shape])

    @_write.register
    def _write_transpose(self, op: Transpose, node: Node) -> None:
        reader = self._graph.only_user(node.output)
        if (
            op.order == (1, 2, 0)
            and node.output not in self._plan.integer
            and reader is not None
            and isinstance(reader.op, SumShifted)
        ):
            # The sum wants its channels first.
            self._rows[node.output] = self._as_real(node.inputs[0])
            return
        order = [0, *(axis + 1 for axis in op.order)]
        self._make(node, "Transpose", self.inputs(node), perm=order)

    @_write.register
    def _write_concat(self, op: Concat, node: Node) -> None:
        self._make(node, "Concat", self.inputs(node), axis=op.axis + 1)

    @_write.register
    def _write_pad(self, op: Pad, node: Node) -> None:
        ends = [pair[end] for end in (0, 1) for pair in ((0, 0), *op.pads)]
        inputs = [*self.inputs(node), self._integers("pads", ends)]
        if node.output in self._plan.integer:
            zero = self._zero_of(self._plan.ranges[node.output])
            inputs.append(self.constant("zero", zero))
        self._make(node, "Pad", inputs)

    @_write.register
    def _write_slice(self, op: Slice, node: Node) -> None:
        ends = [start + size for start, size in zip(op.starts, op.sizes, strict=True)]
        axes = range(1, len(op.starts) + 1)
        inputs = [
            *self.inputs(node),
            self._integers("starts", op.starts),
            self._integers("ends", ends),
            self._integers("axes", list(axes)),
        ]
        self._make(node, "Slice", inputs)
