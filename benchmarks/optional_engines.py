"""Runtimes beyond the two that vae-edge exports for; neither is a dependency of it."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bare import Call, FloatOutputs, output_order
from vae_edge.terms import COMPONENT_INPUT, Component, FloatArray

__all__ = ["Mnn", "OpenVino"]


@contextlib.contextmanager
def _nothing_on_stdout() -> Iterator[None]:
    """Keep what C++ prints there out of our results."""
    sys.stdout.flush()
    saved, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)


class OpenVino(FloatOutputs):
    """An ONNX file in OpenVINO, on the CPU, tuned for latency."""

    def __init__(self, path: Path, component: Component, shape: tuple[int, ...]) -> None:
        ov = importlib.import_module("openvino")
        super().__init__(f"openvino {ov.__version__}")
        core = ov.Core()
        model = core.read_model(str(path))
        model.reshape(list(shape))
        settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()
        self._order = output_order(component, [o.any_name for o in compiled.outputs])

    def prepare(self, rows: FloatArray) -> Call:
        """Give a call on these rows."""
        infer, feeds, order = self._request.infer, {0: rows}, self._order

        def call() -> Sequence[Any]:
            outputs = infer(feeds)
            return [outputs[k] for k in order]

        return call


class Mnn(FloatOutputs):
    """A converted file in MNN, on the CPU."""

    def __init__(self, path: Path, component: Component, shape: tuple[int, ...]) -> None:
        with _nothing_on_stdout():
            mnn = importlib.import_module("MNN")
        nn, self._expr = importlib.import_module("MNN.nn"), importlib.import_module("MNN.expr")
        super().__init__(f"MNN {mnn.version()}")
        session = mnn.Interpreter(str(path))
        names = list(session.getSessionOutputAll(session.createSession()))
        outputs = [names[k] for k in output_order(component, names)]
        # Kept, because the module does not keep it alive.
        self._manager = nn.create_runtime_manager(({"backend": "CPU", "numThread": 1},))
        self._module = nn.load_module_from_file(
            str(path), [COMPONENT_INPUT[component]], outputs, runtime_manager=self._manager
        )
        self._input = self._expr.placeholder(list(shape), self._expr.NCHW)

    def prepare(self, rows: FloatArray) -> Call:
        """Give a call on these rows."""
        source, forward = self._input, self._module.forward

        def call() -> Sequence[Any]:
            source.write(rows)
            # A view of memory that the next call overwrites; the other runtimes give copies.
            return [output.read().copy() for output in forward([source])]

        return call
