"""Weights of an ONNX model stored in less than float32, and widened when the model loads.

What widens them has constants only, so that ONNX Runtime computes it once, not at each inference.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

__all__ = [
    "LOOPS",
    "holds_int8_weights",
    "loop_weights",
    "names_taken",
    "store_as_float16",
    "store_as_int8",
]

# A float32 below this many elements (biases, shapes) is not worth a Cast.
_MIN_ELEMENTS = 64
# Operators with a body that is run again and again.
LOOPS = ("Loop", "Scan")
# A loop's weight with fewer elements is not worth a Cast and a Mul.
_LOOP_ELEMENTS = 1024
# Steps on either side of zero of an int8 weight that is widened when the model loads.
_STEPS = 127


def store_as_float16(model: Any) -> Any:
    """Store large float32 weights as float16, each followed by a Cast to float32.

    ONNX Runtime folds the Casts when the session loads, so the file is half as large and the
    computation is that of float32. Converting the computation itself to float16 is slower on every
    CPU without float16 arithmetic, and less exact. Scales of quantized tensors stay as they are.

    Args:
        model: ModelProto; it is changed in place.
    """
    onnx: Any = importlib.import_module("onnx")
    casts = []
    scales = {
        node.input[1]
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < _MIN_ELEMENTS or weight.name in scales:
            continue
        limit = np.finfo(np.float16).max
        # Saturate instead of writing an infinity for a weight outside float16's range.
        narrow = np.clip(values, -limit, limit).astype(np.float16)
        name = weight.name
        weight.CopyFrom(onnx.numpy_helper.from_array(narrow, f"{name}_float16"))
        casts.append(
            onnx.helper.make_node(
                "Cast", [f"{name}_float16"], [name], to=onnx.TensorProto.FLOAT, name=f"{name}_widen"
            )
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def holds_int8_weights(model: Any) -> bool:
    """Tell whether any weight is stored in 8 bits; zero points, of one axis at most, are none."""
    onnx: Any = importlib.import_module("onnx")
    types = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    return any(
        weight.data_type in types and len(weight.dims) > 1 for weight in model.graph.initializer
    )


def loop_weights(graph: Any) -> list[str]:
    """Names of the large weights that nothing but loops take, as a state or from around them."""
    onnx: Any = importlib.import_module("onnx")
    loops = [node for node in graph.node if node.op_type in LOOPS]
    inside = {name for node in loops for name in names_taken(node)}
    outside = {name for node in graph.node if node.op_type not in LOOPS for name in node.input}
    return [
        weight.name
        for weight in graph.initializer
        if weight.name in inside - outside
        and weight.data_type == onnx.TensorProto.FLOAT
        and len(weight.dims) > 1
        and math.prod(weight.dims) >= _LOOP_ELEMENTS
    ]


def store_as_int8(model: Any, names: Collection[str]) -> Any:
    """Store weights as int8, per column, each followed by what widens it; constant, thus folded."""
    onnx: Any = importlib.import_module("onnx")
    helper, widening = onnx.helper, []
    for weight in list(model.graph.initializer):
        if weight.name not in names:
            continue
        name, values = weight.name, onnx.numpy_helper.to_array(weight)
        largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
        scale = np.where(largest > 0, largest / _STEPS, 1).astype(np.float32)
        steps = np.clip(np.rint(values / scale), -_STEPS, _STEPS).astype(np.int8)
        weight.CopyFrom(onnx.numpy_helper.from_array(steps, f"{name}_int8"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(scale, f"{name}_scale"))
        widening += [
            helper.make_node(
                "Cast",
                [f"{name}_int8"],
                [f"{name}_steps"],
                to=onnx.TensorProto.FLOAT,
                name=f"{name}_widen",
            ),
            helper.make_node("Mul", [f"{name}_steps", f"{name}_scale"], [name], f"{name}_multiply"),
        ]
    nodes = [*widening, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def names_taken(node: Any) -> Iterator[str]:
    """Names that a node takes, and that what is inside of it takes."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from names_taken(inner)
