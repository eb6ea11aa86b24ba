"""TFLite files to sabotage, by the flatbuffer's object interface."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.sabotage_file import Float64Array, Layer, Weights, requantized
from vae_edge.terms import Component

__all__ = ["TFLiteFile"]

# By operator: the kernel's axes as height, width, inputs, outputs.
_ORDERS = {
    "CONV_2D": (1, 2, 3, 0),
    "DEPTHWISE_CONV_2D": (1, 2, 0, 3),
    "FULLY_CONNECTED": (1, 0),
}


class TFLiteFile:
    """A flatbuffer taken apart; see `benchmarks.sabotage_file.ModelFile`."""

    def __init__(self, content: bytes) -> None:
        self._fb: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
        self._model = self._fb.ModelT.InitFromObj(self._fb.Model.GetRootAsModel(content, 0))
        (self._graph,) = self._model.subgraphs
        # Read as arrays, which cannot be compared or changed in length.
        for op in self._graph.operators:
            op.inputs = [int(i) for i in op.inputs]
            op.outputs = [int(i) for i in op.outputs]
        self._graph.outputs = [int(i) for i in self._graph.outputs]
        builtins = vars(self._fb.BuiltinOperator)
        self._names = {code: name for name, code in builtins.items() if name.isupper()}
        self._types = {code: name for name, code in vars(self._fb.TensorType).items()}

    def content(self) -> bytes:
        """Give the file."""
        builder = importlib.import_module("flatbuffers").Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    # Weights

    def layers(self) -> tuple[Layer, ...]:
        """Give the operators that have weights in the file, in their order."""
        found = []
        for position, op in enumerate(self._graph.operators):
            name = self._name(op)
            if name not in _ORDERS:
                continue
            kernel = self._graph.tensors[self._stored(op.inputs[1])]
            scaled = self._type(kernel) == "INT8"
            source = self._graph.tensors[op.inputs[0]]
            found.append(
                Layer(
                    name=bytes(kernel.name).decode(),
                    position=position,
                    taps=int(np.prod(kernel.shape[1:3])) if len(kernel.shape) == 4 else 1,
                    size=int(np.prod(kernel.shape)),
                    scaled=scaled,
                    integer=scaled and self._type(source) == "INT8",
                )
            )
        return tuple(found)

    def read(self, layer: Layer) -> Weights:
        """Give a layer's weights."""
        op = self._graph.operators[layer.position]
        kernel, bias = self._kernel(op), self._bias(op)
        values = self._values(kernel).astype(np.float64)
        if layer.scaled:
            values = values * self._spread(kernel)
        values = values.transpose(_ORDERS[self._name(op)])
        values = values.reshape(layer.taps, *values.shape[-2:])
        real = None
        if bias is not None:
            real = self._values(bias).astype(np.float64)
            if self._type(bias) == "INT32":
                real = real * np.asarray(bias.quantization.scale, np.float64)
        return Weights(kernel=values, bias=real)

    def write(self, layer: Layer, weights: Weights) -> None:
        """Store a layer's weights, with new scales where the old ones do not reach."""
        op = self._graph.operators[layer.position]
        kernel, bias = self._kernel(op), self._bias(op)
        order = _ORDERS[self._name(op)]
        values = weights.kernel.reshape([kernel.shape[axis] for axis in order])
        stored: npt.NDArray[Any] = values.transpose(np.argsort(order))
        grown: Float64Array = np.ones(1)
        if layer.scaled:
            old = self._spread(kernel)
            stored, scales = requantized(stored, old)
            kernel.quantization.scale = scales.reshape(-1).astype(np.float32)
            grown = (scales / old).reshape(-1)
        self._store(kernel, stored)
        if bias is None or weights.bias is None:
            return
        real = weights.bias
        if self._type(bias) == "INT32":
            wide = np.asarray(bias.quantization.scale, np.float64) * grown
            bias.quantization.scale = wide.astype(np.float32)
            real = np.rint(real / wide)
        self._store(bias, real)

    def scale_weights(self, layer: Layer, factor: float) -> bool:
        """Multiply the scales of a layer's 8-bit weights, and leave the integers."""
        if not layer.scaled:
            return False
        op = self._graph.operators[layer.position]
        bias = self._bias(op)
        # The runtime refuses a bias whose scale is not the product of input's and weights'.
        wide = bias is not None and self._type(bias) == "INT32"
        for tensor in (self._kernel(op), bias) if wide else (self._kernel(op),):
            scaled = np.asarray(tensor.quantization.scale, np.float64) * factor
            tensor.quantization.scale = scaled.astype(np.float32)
        return True

    def misread(self, layer: Layer, scale: float, zero_point: int) -> bool:
        """Have an integer layer take its input for one of another scale and zero point."""
        if not layer.integer:
            return False
        op = self._graph.operators[layer.position]
        source, bias = op.inputs[0], self._bias(op)
        old = self._graph.tensors[source].quantization
        shape = [-1, *(int(n) for n in self._graph.tensors[source].shape[1:])]
        copy = self._like(source, "misread")
        parameters = self._fb.QuantizationParametersT()
        parameters.scale = np.asarray(old.scale, np.float32) * np.float32(scale)
        parameters.zeroPoint = _moved(int(old.zeroPoint[0]), zero_point)
        parameters.quantizedDimension = 0
        self._graph.tensors[copy].quantization = parameters
        if bias is not None and self._type(bias) == "INT32":
            factored = np.asarray(bias.quantization.scale, np.float64) * scale
            bias.quantization.scale = factored.astype(np.float32)
        constant = self._constant("misread/shape", shape)
        self._insert(layer.position, "RESHAPE", 1, [source, constant], copy, {"newShape": shape})
        op.inputs[0] = copy
        return True

    # Wiring

    def exchange_outputs(self) -> bool:
        """Exchange the two outputs of an encoder."""
        outputs = self._model.signatureDefs[0].outputs
        if len(outputs) != 2:
            return False
        first, second = outputs
        first.tensorIndex, second.tensorIndex = second.tensorIndex, first.tensorIndex
        return True

    def drop_sigmoid(self) -> bool:
        """Give what goes into the last sigmoid as the output."""
        for op in self._graph.operators:
            if self._name(op) == "LOGISTIC" and op.outputs[0] in self._graph.outputs:
                self._graph.operators.remove(op)
                self._give(op.outputs[0], op.inputs[0])
                return True
        return False

    def shift_padding(self) -> bool:
        """Move a row and a column of zeros from one end of an image to the other."""
        for op in self._graph.operators:
            if self._name(op) == "PAD":
                tensor = self._graph.tensors[op.inputs[1]]
                pads = self._values(tensor)
                if not np.array_equal(pads, pads[:, ::-1]):
                    self._store(tensor, pads[:, ::-1])
                    return True
        for position, op in enumerate(self._graph.operators):
            options = op.builtinOptions
            if self._name(op) != "CONV_2D" or options.padding != self._fb.Padding.SAME:
                continue
            kernel = self._graph.tensors[op.inputs[1]]
            if min(kernel.shape[1:3]) > 1:
                self._pad_explicitly(position, op, kernel)
                return True
        return False

    def transpose_image(self, component: Component) -> bool:
        """Exchange height and width of the encoder's input, or of the decoder's output."""
        encoder = component is Component.ENCODER
        image = int(self._graph.inputs[0] if encoder else self._graph.outputs[0])
        copy = self._like(image, "transposed")
        order = self._constant("transposed/order", [0, 2, 1, 3])
        if not encoder:
            self._insert(len(self._graph.operators), "TRANSPOSE", 1, [image, order], copy, {})
            self._give(image, copy)
            return True
        for op in self._graph.operators:
            op.inputs = [copy if i == image else i for i in op.inputs]
        self._insert(0, "TRANSPOSE", 1, [image, order], copy, {})
        return True

    def exchange_phases(self) -> bool:
        """Exchange two phases of the last transposed convolution that was lowered."""
        for op in reversed(self._graph.operators):
            if self._name(op) == "CONCATENATION" and len(op.inputs) == 2:
                op.inputs = op.inputs[::-1]
                return True
        return False

    # The flatbuffer

    def _name(self, op: Any) -> str:
        code = self._model.operatorCodes[op.opcodeIndex]
        return str(self._names[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def _type(self, tensor: Any) -> str:
        return str(self._types[tensor.type])

    def _stored(self, index: int) -> int:
        """The tensor that is in the file, where one is widened when the model is loaded."""
        for op in self._graph.operators:
            if self._name(op) == "DEQUANTIZE" and op.outputs[0] == index:
                return int(op.inputs[0])
        return index

    def _kernel(self, op: Any) -> Any:
        return self._graph.tensors[self._stored(op.inputs[1])]

    def _bias(self, op: Any) -> Any:
        has = len(op.inputs) > 2 and op.inputs[2] >= 0
        return self._graph.tensors[self._stored(op.inputs[2])] if has else None

    def _spread(self, tensor: Any) -> Float64Array:
        """Give the scales with as many axes as the tensor has."""
        scales, shape = np.asarray(tensor.quantization.scale, np.float64), [1] * len(tensor.shape)
        shape[tensor.quantization.quantizedDimension if len(scales) > 1 else 0] = len(scales)
        return scales.reshape(shape)

    def _values(self, tensor: Any) -> npt.NDArray[Any]:
        content = bytes(self._model.buffers[tensor.buffer].data)
        dtype = np.dtype(self._type(tensor).lower())
        return np.frombuffer(content, dtype).reshape([int(n) for n in tensor.shape])

    def _store(self, tensor: Any, values: npt.NDArray[Any]) -> None:
        stored = np.ascontiguousarray(values.astype(self._type(tensor).lower()))
        self._model.buffers[tensor.buffer].data = np.frombuffer(stored.tobytes(), np.uint8)

    def _constant(self, name: str, values: Sequence[Any]) -> int:
        array = np.asarray(values, np.int32)
        buffer, tensor = self._fb.BufferT(), self._fb.TensorT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        tensor.name, tensor.shape = name, list(array.shape)
        tensor.type, tensor.buffer = self._fb.TensorType.INT32, len(self._model.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _like(self, index: int, name: str) -> int:
        """A new activation with the type, scale and shape of another."""
        other, tensor = self._graph.tensors[index], self._fb.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, other.type, 0
        tensor.shape, tensor.shapeSignature = list(other.shape), other.shapeSignature
        tensor.quantization = other.quantization
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _insert(
        self,
        position: int,
        name: str,
        version: int,
        inputs: Sequence[int],
        output: int,
        options: Mapping[str, Any],
    ) -> None:
        code, operator = self._fb.OperatorCodeT(), self._fb.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self._fb.BuiltinOperator, name)
        code.version = version
        self._model.operatorCodes.append(code)
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), [output]
        kind = f"{name.capitalize()}Options"
        operator.builtinOptionsType = getattr(self._fb.BuiltinOptions, kind)
        operator.builtinOptions = getattr(self._fb, f"{kind}T")()
        for key, value in options.items():
            setattr(operator.builtinOptions, key, value)
        self._graph.operators.insert(position, operator)

    def _give(self, old: int, new: int) -> None:
        """Have the graph give another tensor instead of an output."""
        self._graph.outputs = [new if i == old else i for i in self._graph.outputs]
        for entry in self._model.signatureDefs[0].outputs:
            if entry.tensorIndex == old:
                entry.tensorIndex = new

    def _pad_explicitly(self, position: int, op: Any, kernel: Any) -> None:
        """Pad as much as `same` does, but a row and a column more before the image than it does."""
        source = self._graph.tensors[op.inputs[0]]
        options, pads = op.builtinOptions, [[0, 0]]
        strides = (options.strideH, options.strideW)
        for size, taps, stride in zip(source.shape[1:3], kernel.shape[1:3], strides, strict=True):
            total = max((-(-int(size) // stride) - 1) * stride + int(taps) - int(size), 0)
            before = min(total // 2 + 1, total)
            pads.append([before, total - before])
        pads.append([0, 0])
        copy = self._like(op.inputs[0], "shifted")
        shape = [int(n) + sum(pair) for n, pair in zip(source.shape, pads, strict=True)]
        self._graph.tensors[copy].shape = shape
        if source.shapeSignature is not None:
            self._graph.tensors[copy].shapeSignature = [-1, *shape[1:]]
        constant = self._constant("shifted/pads", pads)
        version = 2 if self._type(source) == "INT8" else 1
        self._insert(position, "PAD", version, [op.inputs[0], constant], copy, {})
        op.inputs[0], options.padding = copy, self._fb.Padding.VALID


def _moved(zero_point: int, by: int) -> npt.NDArray[np.int64]:
    """Move a zero point, in the direction in which 8 bits allow it."""
    moved = zero_point + by
    return np.asarray([moved if moved <= 127 else zero_point - by], np.int64)
