"""Reading a TFLite flatbuffer: its operators, and the runtime that they need."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from vae_edge.manifest import RuntimeRequirement

__all__ = ["TFLiteModel", "TFLiteOperator"]

_MIN_RUNTIME = b"min_runtime_version"
# The last tflite-runtime, and the oldest runtime that exports are run on.
_OLDEST_TFLITE_RUNTIME = "2.14.0"
# The oldest LiteRT that exports are run on; 1.0 was built for numpy 1 and fails with numpy 2.
_OLDEST_LITERT = "1.1.2"
# They move or convert values, and compute nothing.
_MOVES = frozenset(
    {
        "CONCATENATION",
        "DEQUANTIZE",
        "PACK",
        "PAD",
        "QUANTIZE",
        "RESHAPE",
        "SHAPE",
        "SLICE",
        "STRIDED_SLICE",
        "TRANSPOSE",
    }
)


@dataclass(frozen=True, kw_only=True)
class TFLiteOperator:
    """One operator, of the main graph or of a loop in it.

    Attributes:
        name: name in the TFLite schema, e.g. `TRANSPOSE_CONV`.
        version: version that the runtime must know.
        hybrid: quantized weights on float activations.
        reads_input: it reads a graph input.
        writes_output: it writes a graph output.
        in_float: it computes with float values alone, and does not just move or convert them.
        output: name of what it gives first.
    """

    name: str
    version: int
    hybrid: bool
    reads_input: bool
    writes_output: bool
    in_float: bool
    output: str


@dataclass(frozen=True, kw_only=True)
class TFLiteModel:
    """What vae-edge wants to know of a flatbuffer.

    Attributes:
        operators: of all graphs.
        min_runtime_version: that the converter states; empty where it states none.
        int8_weights: whether a constant of two axes or more is stored in 8 bits.
    """

    operators: tuple[TFLiteOperator, ...]
    min_runtime_version: str
    int8_weights: bool

    @classmethod
    def parse(cls, content: bytes) -> TFLiteModel:
        """Read a flatbuffer that a converter has just written."""
        fb: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
        model = fb.ModelT.InitFromObj(fb.Model.GetRootAsModel(content, 0))
        names = {code: name for name, code in vars(fb.BuiltinOperator).items() if name.isupper()}
        operators = []
        # Loops have their bodies in graphs of their own.
        for graph, op in ((each, op) for each in model.subgraphs for op in each.operators):
            code = model.operatorCodes[op.opcodeIndex]
            # Codes above 127 stand in the newer field; the older one then holds a placeholder.
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            inputs = [graph.tensors[i].type for i in op.inputs if i >= 0]
            outputs = [graph.tensors[i].type for i in op.outputs]
            hybrid = fb.TensorType.FLOAT32 in inputs and fb.TensorType.INT8 in inputs
            operators.append(
                TFLiteOperator(
                    name=name,
                    version=code.version,
                    hybrid=hybrid,
                    reads_input=bool({*graph.inputs} & {*op.inputs}),
                    writes_output=bool({*graph.outputs} & {*op.outputs}),
                    in_float=name not in _MOVES and not hybrid and fb.TensorType.FLOAT32 in outputs,
                    output=graph.tensors[op.outputs[0]].name.decode(),
                )
            )
        metadata = {
            entry.name: bytes(model.buffers[entry.buffer].data).split(b"\0")[0].decode()
            for entry in model.metadata or ()
            if model.buffers[entry.buffer].data is not None
        }
        return cls(
            operators=tuple(operators),
            min_runtime_version=metadata.get(_MIN_RUNTIME, ""),
            int8_weights=any(
                tensor.type == fb.TensorType.INT8
                and tensor.shape is not None
                and len(tensor.shape) > 1
                and model.buffers[tensor.buffer].data is not None
                for graph in model.subgraphs
                for tensor in graph.tensors
            ),
        )

    def holds(self, name: str) -> bool:
        """Tell whether an operator of that name stands in the graph."""
        return any(op.name == name for op in self.operators)

    def count(self, *, in_float: bool = False) -> dict[str, int]:
        """Count the operators by name; with `in_float` only those that compute in float."""
        names = (op.name for op in self.operators if op.in_float or not in_float)
        return dict(sorted(Counter(names).items()))

    def computed(self) -> tuple[str, ...]:
        """Give the names of what operators compute that do not just move values, in their order."""
        return tuple(dict.fromkeys(op.output for op in self.operators if op.name not in _MOVES))

    def at_boundary(self, names: tuple[str, ...], *, inputs: bool) -> list[str]:
        """Give what the named operators compute that write an output; with `inputs` that read one.

        Returns:
            The names of what they give, in the graph's order.
        """
        return [
            op.output
            for op in self.operators
            if op.name in names and (op.writes_output or (inputs and op.reads_input))
        ]

    def oldest_runtime(self) -> RuntimeRequirement:
        """Give the oldest runtime package that can run the model.

        The converter's own statement covers operator versions, but not this: TRANSPOSE_CONV with
        int8 weights on float activations has had a version number since before tflite-runtime
        2.14, whose kernel nevertheless refuses it (`weights->type != input->type`).
        """
        stated = (
            f"the converter states TensorFlow Lite {self.min_runtime_version}"
            if self.min_runtime_version
            else "written with the oldest operator versions that cover its types"
        )
        if any(op.name == "TRANSPOSE_CONV" and op.hybrid for op in self.operators):
            detail = f"TRANSPOSE_CONV with int8 weights on float activations; {stated}"
        elif _release(self.min_runtime_version) > _release(_OLDEST_TFLITE_RUNTIME):
            detail = stated
        else:
            return RuntimeRequirement(
                name="tflite-runtime",
                version=_OLDEST_TFLITE_RUNTIME,
                detail=f"the oldest that exports are run on; {stated}",
            )
        return RuntimeRequirement(name="ai-edge-litert", version=_OLDEST_LITERT, detail=detail)


def _release(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(p.isdigit() for p in parts) else ()
