"""How each engine loads a file for bare calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.bare import Bare, Call, FloatOutputs, output_order
from benchmarks.contestants import Contestant, Engine
from benchmarks.optional_engines import Mnn, OpenVino
from vae_edge.errors import ArtifactError
from vae_edge.runners.base import dequantize, quantize
from vae_edge.terms import COMPONENT_INPUT, COMPONENT_OUTPUTS, Component, FloatArray, TensorSpec

__all__ = ["OPENERS", "open_bare"]

_FATAL_ONLY = 4


def open_bare(contestant: Contestant, row_shape: tuple[int, ...], *, batch: int) -> Bare:
    """Load a contestant's file for one thread.

    Args:
        contestant: what to load.
        row_shape: shape of one input row, without the batch.
        batch: rows per call.

    Raises:
        ArtifactError: the runtime cannot load it, or it takes another batch.
    """
    opener = OPENERS[contestant.engine]
    try:
        return opener(contestant.path, contestant.component, (batch, *row_shape))
    except (ImportError, ValueError, RuntimeError, KeyError) as error:
        text = " ".join(str(error).split())
        raise ArtifactError(
            f"{contestant.name}: {contestant.engine} cannot load it at batch {batch}: {text}"
        ) from error


class _LiteRT:
    def __init__(self, path: Path, component: Component, shape: tuple[int, ...]) -> None:
        module = importlib.import_module("ai_edge_litert.interpreter")
        self.runtime = f"ai-edge-litert {version('ai-edge-litert')}"
        self._interpreter = module.Interpreter(model_path=str(path), num_threads=1)
        signature = self._interpreter.get_signature_runner(
            next(iter(self._interpreter.get_signature_list()))
        )
        (source,) = signature.get_input_details().values()
        outputs = signature.get_output_details()
        # A live signature runner holds references that make a plain invoke() fail.
        del signature
        if tuple(source["shape"]) != shape:
            self._interpreter.resize_tensor_input(source["index"], shape, strict=True)
        self._interpreter.allocate_tensors()
        self._source = (source["index"], _spec(COMPONENT_INPUT[component], source))
        chosen = [list(outputs)[k] for k in output_order(component, list(outputs))]
        self._indices = [outputs[name]["index"] for name in chosen]
        self._specs = [_spec(name, outputs[name]) for name in chosen]

    def prepare(self, rows: FloatArray) -> Call:
        index, spec = self._source
        stored, outputs = quantize(rows, spec), self._indices
        set_tensor, get_tensor = self._interpreter.set_tensor, self._interpreter.get_tensor
        invoke = self._interpreter.invoke

        def call() -> Sequence[Any]:
            set_tensor(index, stored)
            invoke()
            return [get_tensor(output) for output in outputs]

        return call

    def real(self, outputs: Sequence[Any]) -> list[FloatArray]:
        return [dequantize(o, spec) for o, spec in zip(outputs, self._specs, strict=True)]


def _spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    scales = detail["quantization_parameters"]["scales"]
    integer = detail["dtype"] is not np.float32
    return TensorSpec(
        name=name,
        shape=tuple(int(n) for n in detail["shape"]),
        dtype=detail["dtype"].__name__,
        scale=float(scales[0]) if integer else None,
        zero_point=int(detail["quantization_parameters"]["zero_points"][0]) if integer else None,
    )


class _OnnxRuntime(FloatOutputs):
    def __init__(self, path: Path, component: Component, shape: tuple[int, ...]) -> None:
        ort = importlib.import_module("onnxruntime")
        super().__init__(f"onnxruntime {ort.__version__}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        source = self._session.get_inputs()[0]
        if source.shape[0] not in (shape[0], None) and isinstance(source.shape[0], int):
            raise ValueError(f"its batch is fixed at {source.shape[0]}")
        self._input = source.name
        names = [output.name for output in self._session.get_outputs()]
        self._outputs = [names[k] for k in output_order(component, names)]

    def prepare(self, rows: FloatArray) -> Call:
        run, outputs, feeds = self._session.run, self._outputs, {self._input: rows}
        return lambda: run(outputs, feeds)


class _SavedModel(FloatOutputs):
    def __init__(self, path: Path, component: Component, shape: tuple[int, ...]) -> None:
        del shape
        tf = importlib.import_module("tensorflow")
        super().__init__(f"tensorflow {tf.__version__}")
        # Kept, because its function does not keep the variables alive.
        self._model = tf.saved_model.load(str(path))
        self._serve = self._model.serve
        self._names = COMPONENT_OUTPUTS[component]

    def prepare(self, rows: FloatArray) -> Call:
        serve, names = self._serve, self._names
        if len(names) == 1:
            return lambda: [serve(rows).numpy()]

        def call() -> Sequence[Any]:
            outputs = serve(rows)
            return [outputs[name].numpy() for name in names]

        return call


OPENERS: Mapping[Engine, Callable[[Path, Component, tuple[int, ...]], Bare]] = MappingProxyType(
    {
        Engine.LITERT: _LiteRT,
        Engine.ONNXRUNTIME: _OnnxRuntime,
        Engine.TENSORFLOW: _SavedModel,
        Engine.OPENVINO: OpenVino,
        Engine.MNN: Mnn,
    }
)
