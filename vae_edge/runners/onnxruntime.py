"""ONNX artifacts through ONNX Runtime, on the CPU."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from vae_edge.errors import ArtifactError, LoadingError, RuntimeMissingError
from vae_edge.runners.base import Runner, RunnerBase, dequantize, quantize
from vae_edge.terms import FloatArray, TensorSpec

__all__ = ["open_onnx"]

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}
# ONNX has no field for the scale of a graph's input or output, so exports note it here.
_NOTE = "vae_edge.quantization."
_FATAL_ONLY = 4


def open_onnx(content: bytes, name: str, threads: int) -> Runner:
    """Load an ONNX model.

    Raises:
        ArtifactError: it is damaged, needs a newer runtime, or has inputs that are not float32.
        RuntimeMissingError: onnxruntime cannot be imported.
    """
    try:
        ort: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        from vae_edge.doctor import runtime_remedy

        raise RuntimeMissingError(
            "Running an .onnx artifact needs ONNX Runtime, which cannot be imported: "
            f"{runtime_remedy('onnxruntime', str(error))}. Tried onnxruntime: {error}. "
            "More: vae-edge doctor."
        ) from error
    runtime = f"onnxruntime {ort.__version__}"
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Errors are raised as exceptions; its own log lines would only repeat them.
    options.log_severity_level = _FATAL_ONLY
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no other base class
        raise LoadingError(
            f"{name}: {runtime} cannot load it: {' '.join(str(error).split())} Either the file is "
            "damaged or it needs a newer runtime: pip install -U onnxruntime."
        ) from error
    return _OnnxRuntimeRunner(session, name, runtime)


def _spec(name: str, node: Any, notes: Mapping[str, str]) -> TensorSpec:
    dtype = _DTYPES.get(node.type)
    scale: float | None = None
    zero_point: int | None = None
    if dtype not in (None, "float32"):
        try:
            first, second = notes[f"{_NOTE}{node.name}"].split()
            scale, zero_point = float(first), int(second)
        except (KeyError, ValueError):
            dtype = None
    if dtype is None:
        raise ArtifactError(
            f"{name}: '{node.name}' is {node.type}; expected float32, or 8-bit integers with a "
            f"scale and zero point noted as {_NOTE}{node.name}. Export it again with vae-edge."
        )
    shape = tuple(n if isinstance(n, int) else None for n in node.shape)
    return TensorSpec(name=node.name, shape=shape, dtype=dtype, scale=scale, zero_point=zero_point)


class _OnnxRuntimeRunner(RunnerBase):
    def __init__(self, session: Any, name: str, runtime: str) -> None:
        notes = session.get_modelmeta().custom_metadata_map
        super().__init__(
            name=name,
            runtime=runtime,
            inputs=tuple(_spec(name, node, notes) for node in session.get_inputs()),
            outputs=tuple(_spec(name, node, notes) for node in session.get_outputs()),
        )
        self._session: Any = session
        self._output_names = [spec.name for spec in self.outputs]
        self._integer = any(spec.scale is not None for spec in (*self.inputs, *self.outputs))

    def run(self, feeds: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one inference."""
        self._check(feeds)
        if self._session is None:
            raise ArtifactError(f"{self._name}: the runner is closed. Open the artifact again.")
        given: Mapping[str, Any] = feeds
        if self._integer:
            given = {spec.name: quantize(feeds[spec.name], spec) for spec in self._inputs}
        # Each call allocates its outputs anew, so they are the caller's own.
        try:
            values = self._session.run(self._output_names, given)
        except Exception as error:  # its exceptions share no other base class
            raise ArtifactError(
                f"{self._name}: {self._runtime} cannot run it: {' '.join(str(error).split())} "
                "Export it again, or pip install -U onnxruntime."
            ) from error
        if self._integer:
            values = map(dequantize, values, self._outputs)
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        """Release the session."""
        self._session = None
