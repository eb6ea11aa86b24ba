"""TFLite artifacts through LiteRT, or tflite-runtime where only that exists."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from vae_edge.errors import ArtifactError, LoadingError, RuntimeMissingError
from vae_edge.runners.base import Runner, RunnerBase, dequantize, quantize
from vae_edge.terms import COMPONENT_OUTPUTS, Component, FloatArray, TensorSpec

__all__ = ["open_tflite"]

# Newest first. tflite-runtime is the only one on 32-bit ARM.
_RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)
_OUTPUT_ORDER = [name for component in Component for name in COMPONENT_OUTPUTS[component]]


def _load_runtime() -> tuple[Any, str]:
    failures = []
    for module, package in _RUNTIMES:
        try:
            interpreter = importlib.import_module(module).Interpreter
        except (ImportError, AttributeError) as error:
            # tflite-runtime on numpy 2 fails inside its C extension, with either of the two.
            failures.append(f"{package}: {error}")
            continue
        try:
            return interpreter, f"{package} {version(package)}"
        except PackageNotFoundError:
            return interpreter, f"{package} (version unknown)"
    from vae_edge.doctor import runtime_remedy

    remedy = runtime_remedy(_RUNTIMES[0][1], failures[0])
    raise RuntimeMissingError(
        "Running a .tflite artifact needs LiteRT, which cannot be imported: "
        f"{remedy}. Tried {'; '.join(failures)}. More: vae-edge doctor."
    )


def open_tflite(content: bytes, name: str, threads: int) -> Runner:
    """Load a TFLite flatbuffer.

    Raises:
        ArtifactError: it is damaged, needs a newer runtime, or has no usable signature.
        RuntimeMissingError: neither LiteRT nor tflite-runtime can be imported.
    """
    interpreter_class, runtime = _load_runtime()
    # The interpreter does not check the header of a file cut short before it dereferences it.
    if len(content) < 8 or content[4:8] != b"TFL3":
        raise ArtifactError(f"{name}: not a TFLite file, or damaged. Export or copy it again.")
    try:
        interpreter = interpreter_class(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        signatures = interpreter.get_signature_list()
        if len(signatures) != 1:
            raise ArtifactError(
                f"{name}: expected one signature; it has {', '.join(signatures) or 'none'}. "
                "Export it again with vae-edge."
            )
        signature = interpreter.get_signature_runner(next(iter(signatures)))
        inputs = signature.get_input_details()
        outputs = signature.get_output_details()
        # A live signature runner holds references that make a plain invoke() fail.
        del signature
    except (ValueError, RuntimeError) as error:
        raise LoadingError(
            f"{name}: {runtime} cannot load it: {' '.join(str(error).split())} "
            "Either the file is damaged or it needs a newer runtime: "
            "pip install -U ai-edge-litert."
        ) from error
    return _LiteRTRunner(interpreter, name, runtime, inputs, outputs)


def _spec(artifact: str, name: str, detail: Mapping[str, Any]) -> TensorSpec:
    scales = detail["quantization_parameters"]["scales"]
    zero_points = detail["quantization_parameters"]["zero_points"]
    # A dynamic batch is -1 in shape_signature while `shape` holds the current size.
    shape = tuple(None if n < 0 else int(n) for n in detail["shape_signature"])
    dtype = detail["dtype"].__name__
    integer = dtype.startswith(("int", "uint")) and len(scales) == 1
    if not integer and dtype != "float32":
        raise ArtifactError(
            f"{artifact}: '{name}' is {dtype}; expected float32, or integers with one scale. "
            "Export it again with vae-edge."
        )
    return TensorSpec(
        name=name,
        shape=shape,
        dtype=dtype,
        scale=float(scales[0]) if integer else None,
        zero_point=int(zero_points[0]) if integer else None,
    )


def _output_rank(item: tuple[str, Any]) -> tuple[int, str]:
    name = item[0]
    known = name in _OUTPUT_ORDER
    return (_OUTPUT_ORDER.index(name) if known else len(_OUTPUT_ORDER), name)


class _LiteRTRunner(RunnerBase):
    def __init__(
        self,
        interpreter: Any,
        name: str,
        runtime: str,
        inputs: Mapping[str, Mapping[str, Any]],
        outputs: Mapping[str, Mapping[str, Any]],
    ) -> None:
        ordered = dict(sorted(outputs.items(), key=_output_rank))
        super().__init__(
            name=name,
            runtime=runtime,
            inputs=tuple(_spec(name, key, detail) for key, detail in inputs.items()),
            outputs=tuple(_spec(name, key, detail) for key, detail in ordered.items()),
        )
        self._interpreter: Any = interpreter
        self._input_indices = [int(detail["index"]) for detail in inputs.values()]
        self._output_indices = [int(detail["index"]) for detail in ordered.values()]
        self._shapes = {spec.name: tuple(n or 1 for n in spec.shape) for spec in self.inputs}
        self._free = any(spec.batch is None for spec in self.inputs)
        self._places = tuple(zip(self._inputs, self._input_indices, strict=True))
        self._results = tuple(zip(self._outputs, self._output_indices, strict=True))

    def run(self, feeds: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one inference."""
        self._check(feeds)
        interpreter = self._interpreter
        if interpreter is None:
            raise ArtifactError(f"{self._name}: the runner is closed. Open the artifact again.")
        try:
            if self._free:
                self._resize(feeds)
            for spec, index in self._places:
                interpreter.set_tensor(index, quantize(feeds[spec.name], spec))
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"{self._name}: {self._runtime} cannot run it: {' '.join(str(error).split())} "
                "Export it again, or pip install -U ai-edge-litert."
            ) from error
        # get_tensor copies, so what is returned is the caller's own.
        return {
            spec.name: dequantize(interpreter.get_tensor(index), spec)
            for spec, index in self._results
        }

    def _resize(self, feeds: Mapping[str, FloatArray]) -> None:
        changed = False
        for spec, index in zip(self._inputs, self._input_indices, strict=True):
            shape = feeds[spec.name].shape
            if shape != self._shapes[spec.name]:
                self._interpreter.resize_tensor_input(index, shape, strict=True)
                self._shapes[spec.name] = shape
                changed = True
        if changed:
            self._interpreter.allocate_tensors()

    def close(self) -> None:
        """Release the interpreter."""
        self._interpreter = None
