"""Quantizing an ONNX model: dynamic int8, static int8."""

from __future__ import annotations

import copy
import importlib
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.onnx_storage import loop_weights, names_taken, store_as_int8
from vae_edge.terms import FloatArray

__all__ = [
    "Quantizable",
    "dynamically",
    "quantize_at_defaults",
    "statically",
]

_DENSE = ("MatMul", "Gemm")


@dataclass(frozen=True, kw_only=True)
class Quantizable:
    """A model that can be quantized again and again, with other nodes left in float.

    ONNX Runtime's quantizers do not look into loops, which recurrent layers become. The large
    weights of what is in them are stored in int8 nevertheless, and widened when the model loads.

    Attributes:
        nodes: names of those that are quantized unless they are left out, in the graph's order, and
            of the weights of loops.
        quantize: gives a ModelProto with all of `nodes` quantized but those given.
    """

    nodes: tuple[str, ...]
    quantize: Callable[[Collection[str]], Any]


def dynamically(model: Any) -> Quantizable:
    """Quantize the weights of dense layers to int8, and their activations as they come.

    Convolutions stay float32: ConvInteger takes several times the float32 convolution's time.
    """
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    prepared = _prepared(model)
    constants = {weight.name for weight in prepared.graph.initializer}
    in_loops = loop_weights(prepared.graph)

    def quantize(left_out: Collection[str]) -> Any:
        with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
            target = Path(directory) / "target.onnx"
            quantization.quantize_dynamic(
                copy.deepcopy(prepared),
                target,
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
                reduce_range=True,
                op_types_to_quantize=list(_DENSE),
                nodes_to_exclude=list(left_out),
            )
            return store_as_int8(_load(target), [name for name in in_loops if name not in left_out])

    nodes = (
        node.name
        for node in prepared.graph.node
        if node.op_type in _DENSE and node.input[1] in constants
    )
    return Quantizable(nodes=(*nodes, *in_loops), quantize=quantize)


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


def statically(model: Any, rows: FloatArray, name: str) -> Quantizable:
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
    registry: Any = importlib.import_module("onnxruntime.quantization.registry")
    quantizers: Any = importlib.import_module("onnxruntime.quantization.qdq_quantizer")
    prepared = _prepared(model)
    types = sorted({*registry.QLinearOpsRegistry, *registry.QDQRegistry})
    # `quantize_static` would take the ranges anew each time.
    ranges = _ranges(prepared, rows, name, types)
    boundary = _float_at_boundary(prepared.graph)
    in_loops = loop_weights(prepared.graph)

    def quantize(left_out: Collection[str]) -> Any:
        quantizer = quantizers.QDQQuantizer(
            copy.deepcopy(prepared),
            per_channel=True,
            # x86 without VNNI saturates where weights use all 8 bits.
            reduce_range=True,
            weight_qType=quantization.QuantType.QInt8,
            activation_qType=quantization.QuantType.QUInt8,
            # Those of an activation's input become those of its output where both are quantized.
            tensors_range=copy.deepcopy(ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[*boundary, *left_out],
            op_types_to_quantize=types,
            extra_options={},
        )
        quantizer.quantize_model()
        quantized = _checked(quantizer.model.model)
        return store_as_int8(quantized, [name for name in in_loops if name not in left_out])

    nodes = (
        node.name
        for node in prepared.graph.node
        if node.op_type in types and node.name not in boundary
    )
    return Quantizable(nodes=(*nodes, *in_loops), quantize=quantize)


def _ranges(model: Any, rows: FloatArray, name: str, types: list[str]) -> Any:
    """The least and greatest value of every tensor that operators of these types read or give."""
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    onnx: Any = importlib.import_module("onnx")
    size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
        source, augmented = (Path(directory) / f"{stage}.onnx" for stage in ("source", "augmented"))
        onnx.save(model, source)
        calibrator = quantization.create_calibrator(
            source, types, augmented_model_path=str(augmented)
        )
        calibrator.collect_data(_Reader(rows, name, size))
        return calibrator.compute_data()


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


def _prepared(model: Any) -> Any:
    """The model simplified as the quantizers expect it, its nodes all with names of their own."""
    onnx: Any = importlib.import_module("onnx")
    shape_inference: Any = importlib.import_module("onnxruntime.quantization.shape_inference")
    utils: Any = importlib.import_module("onnxruntime.quantization.quant_utils")
    with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
        raw, source = (Path(directory) / f"{stage}.onnx" for stage in ("raw", "source"))
        onnx.save(model, raw)
        # Symbolic shape inference needs sympy and adds nothing where shapes are static.
        shape_inference.quant_pre_process(raw, source, skip_symbolic_shape=True)
        prepared = utils.load_model_with_shape_infer(source)
    for place, node in enumerate(prepared.graph.node):
        node.name = node.name or f"{node.op_type}_{place}"
    return prepared


def _load(path: Path) -> Any:
    onnx: Any = importlib.import_module("onnx")
    return _checked(onnx.load(path))


def _checked(model: Any) -> Any:
    onnx: Any = importlib.import_module("onnx")
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
    waiting = [
        {made_by[name] for name in names_taken(node) if name in made_by} for node in graph.node
    ]
    done, order = set[int](), list[int]()
    while len(order) < len(waiting):
        ready = [p for p, needs in enumerate(waiting) if p not in done and needs <= done]
        if not ready:  # a cycle: the checker says so better
            return list(graph.node)
        order += ready
        done.update(ready)
    return [graph.node[place] for place in order]
