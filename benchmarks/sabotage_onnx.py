"""ONNX files to sabotage, by the onnx package."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.sabotage_file import Float64Array, Layer, Weights, requantized
from vae_edge.terms import Component

__all__ = ["OnnxFile"]

# By operator: the kernel's axes as height, width, inputs, outputs, and where kernel and bias stand.
_ORDERS = {
    "Conv": (2, 3, 1, 0),
    "QLinearConv": (2, 3, 1, 0),
    "ConvTranspose": (2, 3, 0, 1),
    "Gemm": (0, 1),
    "MatMulInteger": (0, 1),
}
_KERNEL = {"QLinearConv": 3}
_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "QLinearConv": 8}


@dataclass(frozen=True)
class _Place:
    """Where a node keeps its kernel: the initializer, and that of its scales."""

    kernel: str
    scales: str | None


class OnnxFile:
    """A model taken apart; see `benchmarks.sabotage_file.ModelFile`."""

    def __init__(self, content: bytes) -> None:
        self._onnx: Any = importlib.import_module("onnx")
        self._model = self._onnx.load_from_string(content)
        self._graph = self._model.graph
        self._constants = {each.name: each for each in self._graph.initializer}
        self._made_by = {name: node for node in self._graph.node for name in node.output}

    def content(self) -> bytes:
        """Give the file."""
        return bytes(self._model.SerializeToString(deterministic=True))

    # Weights

    def layers(self) -> tuple[Layer, ...]:
        """Give the operators that have weights in the file, in their order."""
        found = []
        for position, node in enumerate(self._graph.node):
            place = self._place(node)
            if place is None:
                continue
            values = self._values(place.kernel)
            taps = int(np.prod(values.shape[2:])) if values.ndim == 4 else self._blocks(node)
            found.append(
                Layer(
                    name=place.kernel,
                    position=position,
                    taps=taps,
                    size=values.size,
                    scaled=place.scales is not None,
                    integer=node.op_type == "QLinearConv",
                )
            )
        return tuple(found)

    def read(self, layer: Layer) -> Weights:
        """Give a layer's weights."""
        node, place = self._node(layer)
        values = self._values(place.kernel).astype(np.float64)
        if place.scales is not None:
            values = values * self._spread(place)
        values = values.transpose(_ORDERS[node.op_type])
        values = values.reshape(layer.taps, -1, values.shape[-1])
        bias = self._bias(node)
        real = None
        if bias is not None:
            real = self._values(bias).astype(np.float64).reshape(-1) * self._bias_scale(node)
        return Weights(kernel=values, bias=real)

    def write(self, layer: Layer, weights: Weights) -> None:
        """Store a layer's weights, with new scales where the old ones do not reach."""
        node, place = self._node(layer)
        order, shape = _ORDERS[node.op_type], self._values(place.kernel).shape
        values = weights.kernel.reshape([shape[axis] for axis in order])
        stored: npt.NDArray[Any] = values.transpose(np.argsort(order))
        if place.scales is not None:
            stored, scales = requantized(stored, self._spread(place))
            self._store(place.scales, scales)
        self._store(place.kernel, stored)
        bias = self._bias(node)
        if bias is not None and weights.bias is not None:
            real = weights.bias / self._bias_scale(node)
            shape = self._values(bias).shape
            integer = self._values(bias).dtype == np.int32
            self._store(bias, (np.rint(real) if integer else real).reshape(shape))

    def scale_weights(self, layer: Layer, factor: float) -> bool:
        """Multiply the scales of a layer's 8-bit weights, and leave the integers."""
        _, place = self._node(layer)
        if place.scales is None:
            return False
        self._store(place.scales, self._values(place.scales) * factor)
        return True

    def misread(self, layer: Layer, scale: float, zero_point: int) -> bool:
        """Have an integer layer take its input for one of another scale and zero point."""
        if not layer.integer:
            return False
        node, _ = self._node(layer)
        old = self._values(node.input[1])
        node.input[1] = self._constant("misread/scale", np.asarray(old * scale, old.dtype))
        zero = self._values(node.input[2])
        highest = np.iinfo(zero.dtype).max
        moved = int(zero) + zero_point
        moved = moved if moved <= highest else int(zero) - zero_point
        node.input[2] = self._constant("misread/zero_point", np.asarray(moved, zero.dtype))
        return True

    # Wiring

    def exchange_outputs(self) -> bool:
        """Exchange the two outputs of an encoder."""
        names = [output.name for output in self._graph.output]
        if len(names) != 2:
            return False
        other = dict(zip(names, names[::-1], strict=True))
        for node in self._graph.node:
            node.output[:] = [other.get(name, name) for name in node.output]
        return True

    def drop_sigmoid(self) -> bool:
        """Give what goes into the last sigmoid as the output."""
        for node in reversed(self._graph.node):
            if node.op_type == "Sigmoid":
                node.op_type = "Identity"
                return True
        return False

    def shift_padding(self) -> bool:
        """Move a row and a column of zeros from one end of an image to the other."""
        for node in self._graph.node:
            if node.op_type == "Pad":
                pads = self._values(node.input[1])
                half = len(pads) // 2
                exchanged = np.concatenate([pads[half:], pads[:half]])
                if not np.array_equal(pads, exchanged):
                    node.input[1] = self._constant("shifted/pads", exchanged)
                    return True
        for node in self._graph.node:
            if node.op_type in ("Conv", "ConvTranspose", "QLinearConv"):
                ends = [list(a.ints) for a in node.attribute if a.name == "pads"]
                shifted = _shifted(ends[0]) if ends else None
                if shifted is not None:
                    self._attribute(node, "pads", shifted)
                    return True
        return False

    def transpose_image(self, component: Component) -> bool:
        """Exchange height and width of the encoder's input, or of the decoder's output."""
        if component is Component.ENCODER:
            image, position = self._graph.input[0].name, 0
            for node in self._graph.node:
                node.input[:] = ["transposed" if n == image else n for n in node.input]
            ends = [image], ["transposed"]
        else:
            image, position = self._graph.output[0].name, len(self._graph.node)
            for node in self._graph.node:
                node.output[:] = ["transposed" if n == image else n for n in node.output]
            ends = ["transposed"], [image]
        made = self._onnx.helper.make_node("Transpose", *ends, perm=[0, 2, 1, 3])
        self._graph.node.insert(position, made)
        return True

    def exchange_phases(self) -> bool:
        """Exchange two phases of the last transposed convolution that was lowered."""
        for node in reversed(self._graph.node):
            if node.op_type == "Concat" and len(node.input) == 2:
                node.input[:] = list(node.input)[::-1]
                return True
        return False

    # The model

    def _node(self, layer: Layer) -> tuple[Any, _Place]:
        node = self._graph.node[layer.position]
        place = self._place(node)
        assert place is not None  # noqa: S101  it was found before; tells the type checker
        return node, place

    def _place(self, node: Any) -> _Place | None:
        if node.op_type not in _ORDERS:
            return None
        if node.op_type == "QLinearConv":
            return _Place(node.input[3], node.input[4])
        if node.op_type == "Gemm" and self._behind(node.input[1]) is None:
            # The transposed product: rows on the right.
            return self._behind(node.input[0])
        return self._behind(node.input[_KERNEL.get(node.op_type, 1)])

    def _behind(self, name: str) -> _Place | None:
        """What is widened, and scaled, when the model is loaded."""
        if name in self._constants:
            return _Place(name, None)
        node = self._made_by.get(name)
        if node is None or node.op_type not in ("Cast", "Mul"):
            return None
        inner = self._behind(node.input[0])
        if inner is None or node.op_type == "Cast":
            return inner
        return _Place(inner.kernel, node.input[1]) if node.input[1] in self._constants else None

    def _blocks(self, node: Any) -> int:
        """Taps of a convolution that is written as a product of rows of its inputs' windows."""
        rows = self._made_by.get(node.input[0])
        if rows is None or rows.op_type != "Reshape":
            return 1
        windows = self._made_by.get(rows.input[0])
        if windows is None or windows.op_type != "Concat":
            return 1
        axis = next(a.i for a in windows.attribute if a.name == "axis")
        return len(windows.input) if axis == 3 else 1

    def _spread(self, place: _Place) -> Float64Array:
        """Give the scales with as many axes as the kernel has."""
        assert place.scales is not None  # noqa: S101  asked for where there are some
        scales = self._values(place.scales).astype(np.float64)
        axes = self._values(place.kernel).ndim
        return scales if scales.ndim == axes else scales.reshape(-1, *[1] * (axes - 1))

    def _bias(self, node: Any) -> str | None:
        place = _BIAS.get(node.op_type)
        return node.input[place] if place is not None and len(node.input) > place else None

    def _bias_scale(self, node: Any) -> Float64Array | float:
        if node.op_type != "QLinearConv":
            return 1.0
        scales = (self._values(node.input[i]).astype(np.float64) for i in (1, 4))
        return next(scales) * next(scales)

    def _values(self, name: str) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = self._onnx.numpy_helper.to_array(self._constants[name])
        return values

    def _store(self, name: str, values: npt.NDArray[Any]) -> None:
        old = self._values(name)
        stored = np.ascontiguousarray(values.astype(old.dtype)).reshape(old.shape)
        self._constants[name].CopyFrom(self._onnx.numpy_helper.from_array(stored, name))

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(values, name))
        self._constants[name] = self._graph.initializer[-1]
        return name

    def _attribute(self, node: Any, name: str, value: list[int]) -> None:
        for attribute in node.attribute:
            if attribute.name == name:
                attribute.CopyFrom(self._onnx.helper.make_attribute(name, value))


def _shifted(pads: list[int]) -> list[int] | None:
    """A row and a column less at the one end, and more at the other."""
    if len(pads) != 4:
        return None
    top, left, bottom, right = pads
    if bottom and right:
        return [top + 1, left + 1, bottom - 1, right - 1]
    if top or left:
        return [max(top - 1, 0), max(left - 1, 0), bottom + min(top, 1), right + min(left, 1)]
    return None
