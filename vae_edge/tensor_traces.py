"""Running an artifact with every tensor kept.

Host only: the runtimes keep them when told to, but what a tensor is computed from stands in the
file, and reading that takes the host's packages.

Rows run one at a time, as on a device. What the default run of a runtime fuses is computed step by
step here, so that there is a value to look at; XNNPACK and ONNX Runtime's optimizer are off.
"""

from __future__ import annotations

import importlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ArtifactError, LoadingError, RuntimeMissingError
from vae_edge.keras_vae import host_remedy
from vae_edge.runners.base import quantize
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import FloatArray, Format, Precision, TensorSpec
from vae_edge.traces import ArtifactTrace, StoredTensor, TensorTrace

__all__ = ["trace_tensors"]

Parameters = tuple[float, int]

_FATAL_ONLY = 4
_INTEGERS = frozenset({"int8", "uint8", "int16", "uint16"})
# Where an ONNX operator has the scale of what it makes; the zero point follows it.
_SCALE_INPUT: Mapping[str, int] = {
    "QuantizeLinear": 1,
    "QLinearConv": 6,
    "QLinearMatMul": 6,
    "QLinearAdd": 6,
    "QLinearMul": 6,
    "QLinearSigmoid": 3,
    "QLinearLeakyRelu": 3,
    "QLinearAveragePool": 3,
    "QLinearGlobalAveragePool": 3,
    "QLinearConcat": 0,
    "QLinearSoftmax": 3,
    "QGemm": 7,
}
# ONNX operators that move integers about and leave their scale as it is.
_MOVES = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Pad",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)


def trace_tensors(content: bytes, format: Format, rows: FloatArray, name: str) -> ArtifactTrace:
    """Run an artifact row by row and keep every tensor that depends on its input.

    Args:
        content: the file's bytes.
        format: what kind of file it is.
        rows: float32 (count, ...), count at least 1.
        name: what to call it in messages.

    Raises:
        ArtifactError: it does not load or run, or takes rows of another shape.
        RuntimeMissingError: a host package is not installed.
    """
    # The ordinary runner says first, and in its own words, what is wrong with the file.
    with open_artifact_bytes(content, format, name=name) as runner:
        inputs, outputs = runner.inputs, runner.outputs
    (spec,) = inputs
    if tuple(spec.shape[1:]) != rows.shape[1:]:
        raise ArtifactError(
            f"{name}: '{spec.name}' takes rows of {tuple(spec.shape[1:])}; the model's are "
            f"{rows.shape[1:]}, so it was not exported from this model. Give the model that it was "
            "exported from with --reference."
        )
    graph = (_tflite if format is Format.TFLITE else _onnx)(content, name, spec, outputs)
    try:
        return graph.trace(rows, name, spec)
    except (ArtifactError, RuntimeMissingError):
        raise
    except Exception as error:  # the runtimes' exceptions share no base class
        raise ArtifactError(
            f"{name}: cannot be run with its tensors kept: {' '.join(str(error).split())[:300]}"
        ) from error


@dataclass(kw_only=True)
class _Flow:
    """What depends on the input, in the order in which it is computed.

    Attributes:
        order: tensors, the input first.
        same: tensors that hold what another does, by name; that other one may be one of these too.
        quantized: the quantized forms of a tensor.
        readers: how many operators read a tensor.
    """

    order: list[str]
    same: dict[str, str] = field(default_factory=dict)
    quantized: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    readers: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, inputs: Iterable[str], outputs: Iterable[str]) -> bool:
        """Note an operator; tell whether it depends on the input."""
        flowing = [tensor for tensor in inputs if tensor in self.order]
        for tensor in flowing:
            self.readers[tensor] += 1
        self.order += [tensor for tensor in outputs if tensor] if flowing else []
        return bool(flowing)

    def settle(self, ends: Iterable[str]) -> dict[str, str]:
        """Give the tensor that stands for each: that which what follows really reads.

        A float tensor that is only quantized stands for nothing itself, because its rounding is
        the layer's; and what a dequantizer gives is what it was given.
        """
        kept = set(ends)
        for tensor, forms in self.quantized.items():
            if len(forms) == self.readers[tensor] == 1 and tensor not in kept:
                self.same[tensor] = forms[0]
        return {tensor: self._last(tensor) for tensor in self.order}

    def _last(self, tensor: str) -> str:
        while tensor in self.same:
            tensor = self.same[tensor]
        return tensor


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """An artifact that is ready to run.

    Attributes:
        flow: its tensors.
        run: one inference; takes the input as stored, gives tensors by name.
        parameters: scale and zero point of integer tensors, by name.
        outputs: tensors by the name of the output.
        precision: as its types show it.
    """

    flow: _Flow
    run: Any
    parameters: Mapping[str, Parameters]
    outputs: Mapping[str, str]
    precision: Precision

    def trace(self, rows: FloatArray, name: str, spec: TensorSpec) -> ArtifactTrace:
        stands_for = self.flow.settle(self.outputs.values())
        wanted = list(dict.fromkeys(stands_for.values()))
        kept: dict[str, list[npt.NDArray[Any]]] = {tensor: [] for tensor in wanted}
        batch = spec.batch or 1
        for row in rows:
            made = self.run(quantize(np.repeat(row[np.newaxis], batch, axis=0), spec))
            for tensor in wanted:
                array = made.get(tensor)
                if array is None or array.size == 0 or array.size % batch:
                    kept.pop(tensor, None)
                elif tensor in kept:
                    # A batch lies outermost, whatever its axis was merged with.
                    kept[tensor].append(np.array(array).reshape(batch, -1)[0])
        tensors = []
        # An alias of the quantized tensor comes before it: places are those of what stands for it.
        for tensor in sorted(kept, key=self.flow.order.index):
            made_of = np.stack(kept[tensor])
            aliases = tuple(k for k, v in stands_for.items() if v == tensor != k)
            trace = _tensor(tensor, made_of, self.parameters.get(tensor), aliases)
            tensors += [trace] if trace is not None else []
        places = {each.name: place for place, each in enumerate(tensors)}
        outputs = {
            key: places[stands_for[tensor]]
            for key, tensor in self.outputs.items()
            if stands_for.get(tensor) in places
        }
        return ArtifactTrace(
            name=name, precision=self.precision, tensors=tuple(tensors), outputs=outputs
        )


def _tensor(
    name: str,
    values: npt.NDArray[Any],
    parameters: Parameters | None,
    aliases: tuple[str, ...],
) -> TensorTrace | None:
    """None for what holds no real values: sums of integers, shapes, indices."""
    if values.dtype.kind == "f":
        return TensorTrace(name=name, values=values.astype(np.float32), aliases=aliases)
    if str(values.dtype) not in _INTEGERS or parameters is None:
        return None
    stored = StoredTensor(integers=values, scale=parameters[0], zero_point=parameters[1])
    return TensorTrace(name=name, values=stored.real(), stored=stored, aliases=aliases)


def _precision(flowing: Iterable[str], constants: Iterable[str]) -> Precision:
    """Name what an artifact computes with, and else what its weights are stored as."""
    values, weights = set(flowing), set(constants)
    if values & {"int16", "uint16"}:
        return Precision.INT16X8
    if values & {"int8", "uint8"}:
        return Precision.INT4 if weights & {"int4", "uint4"} else Precision.INT8
    if weights & {"int8", "uint8", "int4", "uint4"}:
        return Precision.DYNAMIC
    return Precision.FLOAT16 if "float16" in values | weights else Precision.FLOAT32


# TFLite


def _tflite(content: bytes, name: str, spec: TensorSpec, outputs: Sequence[TensorSpec]) -> _Graph:
    try:
        fb: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
        litert: Any = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise RuntimeMissingError(
            f"{name}: keeping every tensor of a .tflite file needs the host packages, and "
            f"{error.name} cannot be imported: {host_remedy()}."
        ) from error
    model = fb.ModelT.InitFromObj(fb.Model.GetRootAsModel(content, 0))
    graph = model.subgraphs[0]
    types = {code: kind.lower() for kind, code in vars(fb.TensorType).items() if kind.isupper()}
    kinds = {code: kind for kind, code in vars(fb.BuiltinOperator).items() if kind.isupper()}
    # Names need not be unique in a flatbuffer, so a tensor's number belongs to its name.
    names = _distinct([bytes(tensor.name or b"").decode() for tensor in graph.tensors])
    flow = _Flow(order=[names[int(graph.inputs[0])]])
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        # Codes above 127 stand in the newer field; the older one then holds a placeholder.
        kind = kinds.get(max(code.builtinCode, code.deprecatedBuiltinCode), "")
        reads, makes = ([names[i] for i in side if i >= 0] for side in (op.inputs, op.outputs))
        if not flow.add(reads, makes):
            continue
        if kind == "DEQUANTIZE":
            flow.same[makes[0]] = reads[0]
        elif kind == "QUANTIZE" and types[graph.tensors[int(op.inputs[0])].type] == "float32":
            flow.quantized[reads[0]].append(makes[0])
    indices = {name: i for i, name in enumerate(names)}
    constants = [
        types[tensor.type]
        for tensor in graph.tensors
        if model.buffers[tensor.buffer].data is not None
    ]
    flowing = [types[graph.tensors[indices[tensor]].type] for tensor in flow.order]
    parameters = {
        tensor: found
        for tensor in flow.order
        if (found := _tflite_scale(graph.tensors[indices[tensor]].quantization)) is not None
    }
    interpreter = litert.Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    source = int(graph.inputs[0])
    by_name = {
        key: names[int(detail["index"])]
        for key, detail in interpreter.get_signature_runner().get_output_details().items()
    }
    if spec.batch is None:
        shape = [1, *(n or 1 for n in spec.shape[1:])]
        interpreter.resize_tensor_input(source, shape)
        interpreter.allocate_tensors()

    def run(row: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        interpreter.set_tensor(source, row)
        interpreter.invoke()
        return {tensor: interpreter.get_tensor(indices[tensor]) for tensor in flow.order}

    return _Graph(
        flow=flow,
        run=run,
        parameters=parameters,
        outputs={out.name: by_name[out.name] for out in outputs},
        precision=_precision(flowing, constants),
    )


def _distinct(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = defaultdict(int)
    made = []
    for name in names:
        seen[name] += 1
        made.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return made


def _tflite_scale(quantization: Any) -> Parameters | None:
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return None
    zeros = quantization.zeroPoint
    return float(quantization.scale[0]), int(zeros[0]) if zeros is not None and len(zeros) else 0


# ONNX


def _onnx(content: bytes, name: str, spec: TensorSpec, outputs: Sequence[TensorSpec]) -> _Graph:
    try:
        onnx: Any = importlib.import_module("onnx")
        ort: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeMissingError(
            f"{name}: keeping every tensor of an .onnx file needs the host packages, and "
            f"{error.name} cannot be imported: {host_remedy()}."
        ) from error
    model = onnx.load_from_string(content)
    graph = model.graph
    known = {weight.name: weight for weight in graph.initializer}
    constants = {key: onnx.numpy_helper.to_array(weight) for key, weight in known.items()}
    flow = _Flow(order=[spec.name])
    parameters: dict[str, Parameters] = {}
    if spec.scale is not None and spec.zero_point is not None:
        parameters[spec.name] = spec.scale, spec.zero_point
    for node in graph.node:
        if not flow.add(node.input, node.output):
            continue
        if node.op_type in ("DequantizeLinear", "Identity"):
            flow.same[node.output[0]] = node.input[0]
        elif node.op_type == "QuantizeLinear":
            flow.quantized[node.input[0]].append(node.output[0])
        found = _onnx_scale(node, constants, parameters)
        if found is not None:
            parameters.update(dict.fromkeys(node.output, found))
    ends = [out.name for out in graph.output]
    fetched = [tensor for tensor in flow.order if tensor != spec.name]
    # The runtime knows their types itself.
    graph.output.extend(onnx.ValueInfoProto(name=t) for t in fetched if t not in ends)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = _FATAL_ONLY
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions share no other base class
        raise LoadingError(
            f"{name}: onnxruntime {ort.__version__} cannot load it with every tensor an output: "
            f"{' '.join(str(error).split())}"
        ) from error
    types = {out.name: out.type for out in session.get_outputs()}
    flowing = [spec.dtype, *(_onnx_type(types[tensor]) for tensor in fetched)]
    made_of = [_weight_type(onnx, weight) for weight in known.values()]

    def run(row: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        values = session.run(fetched, {spec.name: row})
        return {spec.name: row, **dict(zip(fetched, values, strict=True))}

    return _Graph(
        flow=flow,
        run=run,
        parameters=parameters,
        outputs={out.name: out.name for out in outputs},
        precision=_precision(flowing, made_of),
    )


def _onnx_scale(
    node: Any, constants: Mapping[str, npt.NDArray[Any]], parameters: Mapping[str, Parameters]
) -> Parameters | None:
    place = _SCALE_INPUT.get(node.op_type)
    if place is None:
        return parameters.get(node.input[0]) if node.op_type in _MOVES else None
    if len(node.input) <= place or node.input[place] not in constants:
        return None
    scale = constants[node.input[place]]
    zero = constants.get(node.input[place + 1]) if len(node.input) > place + 1 else None
    if math.prod(scale.shape) != 1:
        return None
    return float(scale.reshape(-1)[0]), 0 if zero is None else int(zero.reshape(-1)[0])


def _onnx_type(text: str) -> str:
    inner = text.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32"}.get(inner, inner)


def _weight_type(onnx: Any, weight: Any) -> str:
    # Single numbers are scales and zero points, and say nothing about the weights.
    if math.prod(weight.dims) <= 1:
        return ""
    kind: str = onnx.TensorProto.DataType.Name(weight.data_type)
    return _onnx_type(kind.lower())
