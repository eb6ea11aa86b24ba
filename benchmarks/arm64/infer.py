"""Runs inside the emulator: `infer.py ARTIFACT WARMUP INFERENCES`, batch 1, one thread.

Marks the inferences after the warm-up for the counting plugin, and prints the runtime's name and
version. Inputs are set once: what is counted is TFLite's `invoke()`, and ONNX Runtime's
`session.run()`, which includes handing over the inputs and outputs. Only numpy and the runtimes are
there, and Python is as old as the emulated system's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

_NUMPY_TYPES = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(uint8)": "uint8"}


def _input(rng: np.random.Generator, shape: list[int], dtype: Any) -> Any:
    """Grey levels, or latents: a count hardly depends on the values, as long as they are not all 0.

    The seed is the same for all, so that two forms of one model are given the same.
    """
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, 100, shape).astype(dtype)
    return rng.random(shape).astype(dtype)


def _open_tflite(path: str) -> Callable[[], Any]:
    from ai_edge_litert.interpreter import Interpreter

    rng = np.random.default_rng(0)
    interpreter = Interpreter(path, num_threads=1)
    for spec in interpreter.get_input_details():
        if -1 in spec["shape_signature"]:
            interpreter.resize_tensor_input(spec["index"], [max(n, 1) for n in spec["shape"]])
    interpreter.allocate_tensors()
    for spec in interpreter.get_input_details():
        interpreter.set_tensor(spec["index"], _input(rng, list(spec["shape"]), spec["dtype"]))
    invoke: Callable[[], Any] = interpreter.invoke
    return invoke


def _open_onnx(path: str) -> Callable[[], Any]:
    import onnxruntime

    rng = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {
        spec.name: _input(
            rng, [n if isinstance(n, int) else 1 for n in spec.shape], _NUMPY_TYPES[spec.type]
        )
        for spec in session.get_inputs()
    }
    return lambda: session.run(None, feeds)


def _main() -> None:
    path, warmup, inferences = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if path.endswith(".onnx"):
        package, infer = "onnxruntime", _open_onnx(path)
    else:
        package, infer = "ai-edge-litert", _open_tflite(path)
    for _ in range(warmup):
        infer()
    os.getsid(0)
    for _ in range(inferences):
        infer()
    os.getsid(0)
    sys.stdout.write(f"{package} {version(package)}\n")


if __name__ == "__main__":
    _main()
