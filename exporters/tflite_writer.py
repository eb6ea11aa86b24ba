"""Writing a graph as a TFLite flatbuffer, operator by operator.

The converter of TensorFlow would choose operators, scales and versions by itself; an artifact
that is to be the fastest form on a stated range of runtimes has to state them. Versions are the
oldest that cover the types in use, from TensorFlow's `lite/tools/versioning/op_version.cc`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatchmethod
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.graph import (
    Activation,
    Concat,
    Conv,
    Dense,
    Graph,
    Layout,
    Node,
    Pad,
    Pads,
    Reshape,
    Shape,
    Slice,
    Transpose,
    same_pads,
)
from exporters.quantization.plan import (
    QuantizationPlan,
    QuantizedWeights,
    Range,
    WeightMode,
)
from exporters.tflite_operators import Options, writable, write_operator
from vae_edge.errors import ExportError

__all__ = ["SIGNATURE", "unwritable", "write_tflite"]

SIGNATURE = "serving_default"
# TFLite counts int8 from -128, a plan from 0.
_OFFSET = 128
_WRITABLE = (Concat, Conv, Dense, Pad, Reshape, Slice, Transpose)
_FUSED = {None: "NONE", Activation.RELU: "RELU", Activation.RELU6: "RELU6"}


def unwritable(graph: Graph) -> str | None:
    """Say why a graph cannot be written here, or None where it can."""
    for node in graph.nodes:
        if not (isinstance(node.op, _WRITABLE) or writable(node.op)):
            kind = getattr(node.op, "kind", type(node.op).__name__)
            return f"{node.name} ({kind}) has no direct form"
        if isinstance(node.op, Conv):
            channels = node.op.kernel.shape[2] * node.op.groups
            if node.op.groups not in (1, channels):
                return f"{node.name} has {node.op.groups} groups"
            if node.op.layout is not Layout.CHANNELS_LAST:
                return f"{node.name} has its channels first"
    return None


def write_tflite(graph: Graph, plan: QuantizationPlan, batch: int | None) -> bytes:
    """Write a graph that `unwritable` has no objection to.

    Args:
        graph: lowered.
        plan: what computes in integers.
        batch: rows per inference; None for any number.

    Returns:
        The flatbuffer, with one signature that names inputs and outputs.
    """
    return _Writer(graph, plan, batch).write()


@dataclass(frozen=True)
class _Built:
    """A constant or activation in the flatbuffer: its index."""

    index: int


class _Writer:
    def __init__(self, graph: Graph, plan: QuantizationPlan, batch: int | None) -> None:
        self._fb: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
        self._graph, self._plan, self._batch = graph, plan, batch
        self._model = self._fb.ModelT()
        self._model.version = 3
        self._model.description = "vae-edge"
        self._model.buffers = [self._fb.BufferT()]  # the first is empty by convention
        self._model.operatorCodes = []
        self._subgraph = self._fb.SubGraphT()
        self._subgraph.name = "main"
        self._subgraph.tensors, self._subgraph.operators = [], []
        self._names: list[str] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._constants: dict[tuple[bytes, str, Shape], int] = {}
        # Each tensor as float and as int8, as far as it was asked for.
        self._real: dict[str, int] = {}
        self._stored: dict[str, int] = {}
        # float32 tensors by the float16 constants that they are unpacked from.
        self._wide: dict[int, int] = {}

    def write(self) -> bytes:
        graph, fb = self._graph, self._fb
        io = self._stored if self._plan.integer_io else self._real
        io[graph.input] = self._activation(
            graph.input, graph.shapes[graph.input], self._io_range(graph.input)
        )
        for node in graph.nodes:
            self._write(node.op, node)
        outputs = {
            name: self._as_integer(tensor) if self._plan.integer_io else self._as_real(tensor)
            for name, tensor in graph.outputs.items()
        }
        self._subgraph.inputs = [io[graph.input]]
        self._subgraph.outputs = list(outputs.values())
        signature = fb.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.subgraphIndex = 0
        signature.inputs = [self._named(graph.input, io[graph.input])]
        signature.outputs = [self._named(name, index) for name, index in outputs.items()]
        self._model.subgraphs = [self._subgraph]
        self._model.signatureDefs = [signature]
        builder = importlib.import_module("flatbuffers").Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _named(self, name: str, index: int) -> Any:
        entry = self._fb.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        return entry

    def _io_range(self, tensor: str) -> Range | None:
        return self._plan.ranges[tensor] if self._plan.integer_io else None

    # Tensors

    def _tensor(self, name: str, shape: Sequence[int], kind: str, buffer: int = 0) -> Any:
        tensor = self._fb.TensorT()
        # Tools that read the file tell tensors apart by their names.
        taken = self._names.count(name)
        self._names.append(name)
        tensor.name = f"{name}:{taken}" if taken else name
        tensor.shape, tensor.buffer = list(shape), buffer
        tensor.type = getattr(self._fb.TensorType, kind)
        self._subgraph.tensors.append(tensor)
        return tensor

    def _last(self) -> int:
        return len(self._subgraph.tensors) - 1

    def _activation(self, name: str, shape: Shape, range_: Range | None) -> int:
        kind = "FLOAT32" if range_ is None else "INT8"
        tensor = self._tensor(name, (self._batch or 1, *shape), kind)
        if self._batch is None:
            tensor.shapeSignature = [-1, *shape]
        if range_ is not None:
            tensor.quantization = self._parameters(
                np.array([range_.scale]), [range_.zero_point - _OFFSET]
            )
        return self._last()

    def _parameters(
        self, scales: npt.NDArray[Any], zero_points: Sequence[int], axis: int = 0
    ) -> Any:
        parameters = self._fb.QuantizationParametersT()
        parameters.scale = np.asarray(scales, np.float32)
        parameters.zeroPoint = np.asarray(zero_points, np.int64)
        parameters.quantizedDimension = axis
        return parameters

    def constant(self, name: str, values: npt.NDArray[Any], quantization: Any = None) -> int:
        """Store values, each content once."""
        kind = {"float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32", "int8": "INT8"}[
            values.dtype.name
        ]
        content = np.ascontiguousarray(values).tobytes()
        key = (sha256(content).digest(), kind, values.shape)
        if quantization is None and key in self._constants:
            return self._constants[key]
        buffer = self._fb.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self._model.buffers.append(buffer)
        tensor = self._tensor(name, values.shape, kind, len(self._model.buffers) - 1)
        tensor.quantization = quantization
        if quantization is None:
            self._constants[key] = self._last()
        return self._last()

    def _integers(self, name: str, values: Sequence[Any]) -> int:
        return self.constant(name, np.asarray(values, np.int32))

    # What operators of other modules are written with

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shapes of the graph's tensors, of one row."""
        return self._graph.shapes

    @property
    def batch(self) -> int | None:
        """Rows per inference; None for any number."""
        return self._batch

    def is_integer(self, node: Node) -> bool:
        """Tell whether a node computes in integers."""
        return node.output in self._plan.integer

    def temporary(self, name: str, shape: Shape) -> int:
        """Declare a float tensor between operators of one node."""
        return self._activation(name, shape, None)

    def operator(
        self,
        name: str,
        version: int,
        inputs: Sequence[int],
        output: int,
        options: Options | None = None,
    ) -> None:
        """Add an operator."""
        fb = self._fb
        key = (name, version)
        if key not in self._codes:
            code = fb.OperatorCodeT()
            code.builtinCode = getattr(fb.BuiltinOperator, name)
            # Readers from before the newer field look here; 127 stands for "look there".
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            self._codes[key] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        operator = fb.OperatorT()
        operator.opcodeIndex = self._codes[key]
        operator.inputs, operator.outputs = list(inputs), [output]
        if options is not None:
            kind, values = options
            operator.builtinOptionsType = getattr(fb.BuiltinOptions, kind)
            operator.builtinOptions = getattr(fb, f"{kind}T")()
            for field, value in values.items():
                setattr(operator.builtinOptions, field, value)
        self._subgraph.operators.append(operator)

    def _as_real(self, tensor: str) -> int:
        if tensor not in self._real:
            source = self._stored[tensor]
            self._real[tensor] = self._activation(
                f"{tensor}/real", self._graph.shapes[tensor], None
            )
            self.operator("DEQUANTIZE", 2, [source], self._real[tensor])
        return self._real[tensor]

    def _as_integer(self, tensor: str) -> int:
        if tensor not in self._stored:
            source = self._real[tensor]
            self._stored[tensor] = self._activation(
                f"{tensor}/int8", self._graph.shapes[tensor], self._plan.ranges[tensor]
            )
            self.operator("QUANTIZE", 1, [source], self._stored[tensor])
        return self._stored[tensor]

    def inputs(self, node: Node) -> list[int]:
        """Give what a node reads, as integers or floats as it computes."""
        read = self._as_integer if node.output in self._plan.integer else self._as_real
        return [read(name) for name in node.inputs]

    def output(self, node: Node) -> int:
        """Declare what a node makes."""
        shape = self._graph.shapes[node.output]
        if node.output in self._plan.integer:
            index = self._activation(node.output, shape, self._plan.ranges[node.output])
            self._stored[node.output] = index
        else:
            index = self._activation(node.output, shape, None)
            self._real[node.output] = index
        return index

    def fused(self, activation: Activation | None) -> int:
        """Give the code of an activation that an operator applies by itself."""
        return int(getattr(self._fb.ActivationFunctionType, _FUSED[activation]))

    def _weights(
        self,
        node: Node,
        kernel: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        *,
        order: tuple[int, ...],
        axis: int,
    ) -> tuple[list[int], bool]:
        """Kernel and bias as tensors, and whether the kernel is int8.

        `kernel` has its output channels last; `order` lays it out as TFLite wants it, where they
        stand on `axis`.
        """
        integer = node.output in self._plan.integer
        mode = self._plan.weight_mode(node.output)
        if not integer and mode is WeightMode.FLOAT32:
            laid_out = kernel.transpose(order)
            return [
                self.constant(f"{node.output}/kernel", laid_out),
                self.constant(f"{node.output}/bias", bias),
            ], False
        if not integer and mode is WeightMode.FLOAT16:
            return [
                self._widened(f"{node.output}/kernel", kernel.transpose(order)),
                # LiteRT 1.1 reads the bias as it reads the kernel, whatever type it has.
                self._widened(f"{node.output}/bias", bias),
            ], False
        per_channel = node.output not in self._plan.per_tensor
        weights = self._plan.int8_weights(node.output, kernel)
        index = self.constant(
            f"{node.output}/kernel",
            weights.stored.transpose(order),
            self._parameters(weights.scales, [0] * len(weights.scales), axis if per_channel else 0),
        )
        if not integer:
            return [index, self.constant(f"{node.output}/bias", bias)], True
        return [index, self._integer_bias(node, weights, bias)], True

    def _widened(self, name: str, values: npt.NDArray[np.float32]) -> int:
        """float16 in the file, float32 once the model is loaded: the delegate unpacks it."""
        limit = np.finfo(np.float16).max
        narrow = self.constant(f"{name}/float16", np.clip(values, -limit, limit).astype(np.float16))
        # The phases of a transposed convolution have one bias.
        if narrow not in self._wide:
            self._tensor(name, values.shape, "FLOAT32")
            self._wide[narrow] = self._last()
            self.operator("DEQUANTIZE", 3, [narrow], self._wide[narrow])
        return self._wide[narrow]

    def _integer_bias(
        self, node: Node, weights: QuantizedWeights, bias: npt.NDArray[np.float32]
    ) -> int:
        scales = weights.scales.astype(np.float64) * self._plan.ranges[node.inputs[0]].scale
        stored = np.rint(bias / scales)
        if np.abs(stored).max(initial=0) > np.iinfo(np.int32).max:
            raise ExportError(f"{node.name}: its bias does not fit in 32 bits. Keep it in float.")
        return self.constant(
            f"{node.output}/bias",
            stored.astype(np.int32),
            self._parameters(scales, [0] * len(scales)),
        )

    @singledispatchmethod
    def _write(self, op: Any, node: Node) -> None:
        write_operator(op, node, self)

    @_write.register
    def _write_conv(self, op: Conv, node: Node) -> None:
        (source,) = self.inputs(node)
        shape = self._graph.shapes[node.inputs[0]]
        source, same = self._padded(node, source, shape, op)
        integer = node.output in self._plan.integer
        padding = self._fb.Padding.SAME if same else self._fb.Padding.VALID
        options = {
            "padding": padding,
            "strideH": op.strides[0],
            "strideW": op.strides[1],
            "dilationHFactor": op.dilations[0],
            "dilationWFactor": op.dilations[1],
            "fusedActivationFunction": self.fused(op.activation),
        }
        if op.groups == 1:
            weights, narrow = self._weights(node, op.kernel, op.bias, order=(3, 0, 1, 2), axis=0)
            version = 3 if integer else 5 if narrow else 1
            kind, name = "Conv2DOptions", "CONV_2D"
        else:
            weights, narrow = self._weights(node, op.kernel, op.bias, order=(2, 0, 1, 3), axis=3)
            version = 3 if integer else 6 if narrow else 2 if op.dilations != (1, 1) else 1
            kind, name = "DepthwiseConv2DOptions", "DEPTHWISE_CONV_2D"
            options["depthMultiplier"] = op.kernel.shape[3] // op.groups
        self.operator(name, version, [source, *weights], self.output(node), (kind, options))

    def _padded(self, node: Node, source: int, shape: Shape, op: Conv) -> tuple[int, bool]:
        """The input with zeros around it where `same` would put others; whether it is `same`."""
        if not any(any(pair) for pair in op.pads):
            return source, False
        same: Pads = tuple(  # type: ignore[assignment]  # two axes
            same_pads(size, taps, stride, dilation)
            for size, taps, stride, dilation in zip(
                shape[:2], op.kernel.shape[:2], op.strides, op.dilations, strict=True
            )
        )
        if op.pads == same:
            return source, True
        padded = tuple(n + sum(pair) for n, pair in zip(shape, (*op.pads, (0, 0)), strict=True))
        integer = node.output in self._plan.integer
        range_ = self._plan.ranges[node.inputs[0]] if integer else None
        index = self._activation(f"{node.output}/padded", padded, range_)
        self._pad(source, index, (*op.pads, (0, 0)), integer=integer)
        return index, False

    def _pad(
        self, source: int, output: int, pads: Sequence[tuple[int, int]], *, integer: bool
    ) -> None:
        constant = self._integers("pads", [(0, 0), *pads])
        # Zeros of the tensor's own scale: the operator pads with the zero point.
        self.operator("PAD", 2 if integer else 1, [source, constant], output, ("PadOptions", {}))

    @_write.register
    def _write_dense(self, op: Dense, node: Node) -> None:
        inputs = self.inputs(node)
        integer = node.output in self._plan.integer
        weights, narrow = self._weights(node, op.kernel, op.bias, order=(1, 0), axis=0)
        options = {
            "fusedActivationFunction": self.fused(op.activation),
            "keepNumDims": len(self._graph.shapes[node.output]) > 1,
            "asymmetricQuantizeInputs": narrow and not integer,
        }
        per_channel = narrow and node.output not in self._plan.per_tensor
        version = 5 if options["keepNumDims"] else 1
        if narrow:
            version = 4 if integer else 9
            version = 12 if per_channel else version
        self.operator(
            "FULLY_CONNECTED",
            version,
            [*inputs, *weights],
            self.output(node),
            ("FullyConnectedOptions", options),
        )

    @_write.register
    def _write_reshape(self, op: Reshape, node: Node) -> None:
        batch = -1 if self._batch is None else self._batch
        shape = [batch, *op.to]
        inputs = [*self.inputs(node), self._integers("shape", shape)]
        self.operator(
            "RESHAPE", 1, inputs, self.output(node), ("ReshapeOptions", {"newShape": shape})
        )

    @_write.register
    def _write_transpose(self, op: Transpose, node: Node) -> None:
        order = self._integers("order", [0, *(axis + 1 for axis in op.order)])
        self.operator(
            "TRANSPOSE",
            1,
            [*self.inputs(node), order],
            self.output(node),
            ("TransposeOptions", {}),
        )

    @_write.register
    def _write_concat(self, op: Concat, node: Node) -> None:
        integer = node.output in self._plan.integer
        self.operator(
            "CONCATENATION",
            2 if integer else 1,
            self.inputs(node),
            self.output(node),
            ("ConcatenationOptions", {"axis": op.axis + 1}),
        )

    @_write.register
    def _write_pad(self, op: Pad, node: Node) -> None:
        (source,) = self.inputs(node)
        integer = node.output in self._plan.integer
        self._pad(source, self.output(node), op.pads, integer=integer)

    @_write.register
    def _write_slice(self, op: Slice, node: Node) -> None:
        starts = self._integers("starts", [0, *op.starts])
        # -1 takes all that is left: the batch may not be known.
        sizes = self._integers("sizes", [-1, *op.sizes])
        integer = node.output in self._plan.integer
        self.operator(
            "SLICE",
            2 if integer else 1,
            [*self.inputs(node), starts, sizes],
            self.output(node),
            ("SliceOptions", {}),
        )
