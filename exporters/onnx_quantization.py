"""Quantizing an ONNX model: float16 storage, dynamic int8, static int8."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vae_edge.terms import FloatArray

__all__ = [
    "quantize_at_defaults",
    "quantize_dynamically",
    "quantize_statically",
    "store_as_float16",
]

# A float32 below this many elements (biases, shapes) is not worth a Cast.
_MIN_ELEMENTS = 64


def store_as_float16(model: Any) -> Any:
    """Store large float32 weights as float16, each followed by a Cast to float32.

    ONNX Runtime folds the Casts when the session loads, so the file is half as large and the
    computation is that of float32. Converting the computation itself to float16 is slower on every
    CPU without float16 arithmetic, and less exact.

    Args:
        model: float32 ModelProto; it is changed in place.
    """
    onnx: Any = importlib.import_module("onnx")
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < _MIN_ELEMENTS:
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


def quantize_dynamically(model: Any) -> Any:
    """Quantize the weights of dense layers to int8, and their activations as they come.

    Convolutions stay float32: ConvInteger takes several times the float32 convolution's time.
    """
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
        source, target = _prepare(model, Path(directory))
        quantization.quantize_dynamic(
            source,
            target,
            weight_type=quantization.QuantType.QInt8,
            reduce_range=True,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
        return _load(target)


def quantize_at_defaults(model: Any, rows: FloatArray | None, name: str) -> Any:
    """Quantize with ONNX Runtime's quantizers and nothing set: statically where rows are given."""
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    onnx: Any = importlib.import_module("onnx")
    with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
        source, target = (Path(directory) / f"{stage}.onnx" for stage in ("source", "target"))
        onnx.save(model, source)
        if rows is None:
            quantization.quantize_dynamic(source, target)
        else:
            size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
            quantization.quantize_static(source, target, _Reader(rows, name, size))
        return _load(target)


def quantize_statically(model: Any, rows: FloatArray, name: str) -> Any:
    """Quantize weights to int8 and activations to uint8, with ranges from representative rows.

    Dense layers that read the graph's input or give its output stay float32, and so does what ends
    in a sigmoid: z has too few steps in 8 bits, outliers of the heads would saturate, and the
    sigmoid's input has too wide a range. They cost most of an int8 VAE's ELBO and hardly any time.

    Unsigned activations with signed weights (U8S8) is the pair that x86 and arm64 both have an
    integer dot product for; ONNX Runtime's default, S8S8, is emulated on x86.

    Args:
        model: float32 ModelProto.
        rows: float32, (count, ...), the representative dataset.
        name: input that the rows are for.
    """
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    onnx: Any = importlib.import_module("onnx")
    with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
        source, target = _prepare(model, Path(directory))
        size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
        quantization.quantize_static(
            source,
            target,
            _Reader(rows, name, size),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            # x86 without VNNI saturates where weights use all 8 bits.
            reduce_range=True,
            nodes_to_exclude=_float_at_boundary(onnx.load(source).graph),
        )
        return _load(target)


def _float_at_boundary(graph: Any) -> list[str]:
    """Names of the dense nodes at the graph's inputs and outputs, and of what ends in a sigmoid."""
    made_by = {output: node for node in graph.node for output in node.output}
    inputs = {value.name for value in graph.input}
    names = [
        node.name
        for node in graph.node
        if node.op_type in ("Gemm", "MatMul") and inputs & set(node.input)
    ]
    for value in graph.output:
        passed_sigmoid = False
        node = made_by.get(value.name)
        while node is not None:
            passed_sigmoid = passed_sigmoid or node.op_type == "Sigmoid"
            if node.op_type in ("Gemm", "MatMul"):
                names.append(node.name)
                break
            if node.op_type in ("Conv", "ConvTranspose"):
                names += [node.name] if passed_sigmoid else []
                break
            names.append(node.name)
            node = made_by.get(node.input[0])
    return names


class _Reader:
    """Rows as ONNX Runtime's calibrator asks for them: one feed a call, None at the end."""

    def __init__(self, rows: FloatArray, name: str, size: int) -> None:
        starts = range(0, len(rows) - size + 1, size)
        self._feeds = iter([{name: rows[start : start + size]} for start in starts])

    def get_next(self) -> dict[str, FloatArray] | None:
        return next(self._feeds, None)

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, FloatArray]:
        return next(self._feeds)


def _prepare(model: Any, directory: Path) -> tuple[Path, Path]:
    """Write the model, simplified as the quantizers expect it; give its path and the result's."""
    onnx: Any = importlib.import_module("onnx")
    shape_inference: Any = importlib.import_module("onnxruntime.quantization.shape_inference")
    raw, source, target = (directory / f"{stage}.onnx" for stage in ("raw", "source", "target"))
    onnx.save(model, raw)
    # Symbolic shape inference needs sympy and adds nothing where shapes are static.
    shape_inference.quant_pre_process(raw, source, skip_symbolic_shape=True)
    return source, target


def _load(path: Path) -> Any:
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load(path)
    nodes = _in_order(model.graph)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def _in_order(graph: Any) -> list[Any]:
    """Give a graph's nodes, each after those it needs.

    The quantizer orders them by their own inputs alone, and a loop's body, which recurrent layers
    become, takes tensors of the graph around it as well.
    """
    made_by = {name: place for place, node in enumerate(graph.node) for name in node.output}
    waiting = [{made_by[name] for name in _taken(node) if name in made_by} for node in graph.node]
    done, order = set[int](), list[int]()
    while len(order) < len(waiting):
        ready = [p for p, needs in enumerate(waiting) if p not in done and needs <= done]
        if not ready:  # a cycle: the checker says so better
            return list(graph.node)
        order += ready
        done.update(ready)
    return [graph.node[place] for place in order]


def _taken(node: Any) -> Iterator[str]:
    """Names that a node takes, and that what is inside of it takes."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _taken(inner)
