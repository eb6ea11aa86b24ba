"""The format `npz`: VAEs of dense layers, run with numpy alone.

A file is an archive of arrays: the kernels and biases, and the graph as JSON.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_edge.errors import ExportError, LoadingError
from vae_edge.manifest import LoweringRecord, QuantizationRecord, RuntimeRequirement
from vae_edge.runners.base import RunnerBase
from vae_edge.terms import FloatArray, Format, Precision, TensorSpec

# A device runs what this package exports, and has no exporters.
if TYPE_CHECKING:
    from exporters.base import ExportedArtifact, ExportRequest

_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
_FLOAT32 = QuantizationRecord(
    weights="float32",
    weight_granularity="none",
    weights_symmetric=None,
    activations="float32",
    activations_symmetric=None,
    note="",
)


class NpzExporter:
    """Writes one half of a VAE; see `exporters.base.Exporter`."""

    format = Format("npz")
    precisions = (Precision.FLOAT32,)

    def tools(self) -> Mapping[str, str]:
        """Give the packages that take part, and their versions."""
        return {"vae-edge-npz": "0.1"}

    def export(self, request: ExportRequest) -> ExportedArtifact:
        """Convert one component.

        Raises:
            ExportError: a layer that is not dense; names it.
        """
        from exporters.base import ExportedArtifact
        from exporters.graph import Activate, Dense, Reshape
        from exporters.keras_graph import read_graph

        graph = read_graph(request.vae, request.component)
        arrays: dict[str, FloatArray] = {}
        nodes: list[dict[str, Any]] = []
        for i, node in enumerate(graph.nodes):
            made = {"input": node.inputs[0], "output": node.output}
            if isinstance(node.op, Dense):
                arrays |= {f"kernel_{i}": node.op.kernel, f"bias_{i}": node.op.bias}
                nodes.append({**made, "kind": "dense", "index": i})
            elif isinstance(node.op, Reshape):
                nodes.append({**made, "kind": "reshape", "shape": node.op.to})
            elif isinstance(node.op, Activate) and node.op.activation.value in _FUNCTIONS:
                nodes.append({**made, "kind": node.op.activation.value})
            else:
                raise ExportError(
                    f"{request.component}: npz has no operator for the layer '{node.name}' "
                    f"({type(node.op).__name__}). Export it to tflite or onnx."
                )
        described = {
            "input": {"name": graph.input, "shape": graph.input_shape},
            "outputs": dict(graph.outputs),
            "nodes": nodes,
        }
        stream = io.BytesIO()
        np.savez(stream, graph=json.dumps(described), **arrays)
        kinds = Counter(node["kind"].upper() for node in nodes)
        return ExportedArtifact(
            content=stream.getvalue(),
            quantization=_FLOAT32,
            lowering=LoweringRecord(target=None, applied=(), refused=(), note="as in the model"),
            oldest_runtime=RuntimeRequirement(name="numpy", version="1.23", detail="any numpy"),
            operators=kinds,
            float_operators=kinds,
        )


def open_npz(content: bytes, name: str, threads: int) -> RunnerBase:
    """Load an artifact; numpy decides about threads.

    Raises:
        LoadingError: not a file of this format.
    """
    del threads
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        return _NpzRunner(json.loads(str(arrays.pop("graph"))), arrays, name)
    except Exception as error:  # a damaged file fails anywhere
        raise LoadingError(f"{name}: not an npz artifact: {error}. Export it again.") from error


class _NpzRunner(RunnerBase):
    def __init__(self, graph: Any, arrays: Mapping[str, FloatArray], name: str) -> None:
        self._graph, self._arrays = graph, arrays
        source = graph["input"]
        shape = tuple(source["shape"])
        names = list(graph["outputs"])
        # Shapes of the outputs are what a row of zeros gives.
        row = self._compute(np.zeros((1, *shape), np.float32))
        super().__init__(
            name=name,
            runtime=f"numpy {np.__version__}",
            inputs=(TensorSpec(name=source["name"], shape=(None, *shape), dtype="float32"),),
            outputs=tuple(
                TensorSpec(name=n, shape=(None, *row[n].shape[1:]), dtype="float32") for n in names
            ),
        )

    def run(self, feeds: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one inference."""
        self._check(feeds)
        return self._compute(feeds[self.inputs[0].name])

    def close(self) -> None:
        """Nothing is held that would have to be released."""

    def _compute(self, rows: FloatArray) -> dict[str, FloatArray]:
        tensors = {self._graph["input"]["name"]: rows}
        for node in self._graph["nodes"]:
            x = tensors[node["input"]]
            if node["kind"] == "dense":
                i = node["index"]
                y = x @ self._arrays[f"kernel_{i}"] + self._arrays[f"bias_{i}"]
            elif node["kind"] == "reshape":
                y = x.reshape(len(x), *node["shape"])
            else:
                y = _FUNCTIONS[node["kind"]](x)
            tensors[node["output"]] = np.asarray(y, np.float32)
        return {name: tensors[at] for name, at in self._graph["outputs"].items()}
