"""What a loaded artifact looks like to the rest of vae-edge, whatever runtime is behind it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ArtifactError
from vae_edge.terms import FloatArray, TensorSpec

__all__ = ["Runner", "RunnerBase", "check_feeds", "dequantize", "quantize"]

_FLOAT32 = np.dtype(np.float32)


@runtime_checkable
class Runner(Protocol):
    """A loaded model component: named float32 arrays in, named float32 arrays out.

    `run` returns arrays that the caller owns: a later call does not change them. Quantized
    boundaries are converted from the artifact's own scale and zero point. A runner belongs to one
    thread at a time and is closed by `close` or a `with` block.
    """

    @property
    def name(self) -> str:
        """What is loaded, for messages, e.g. `decoder.int8.tflite`."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime behind it, e.g. `ai-edge-litert 2.3.0`."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs as the artifact stores them."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs as the artifact stores them, `z_mean` before `z_log_var`."""

    def run(self, feeds: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one inference.

        Raises:
            ArtifactError: an input is missing or unknown, or has another shape or dtype.
        """

    def close(self) -> None:
        """Release the runtime's memory. Closing twice is harmless."""

    def __enter__(self) -> Runner:
        """Give the runner itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""


class RunnerBase:
    """The part of a runner that is the same for every runtime."""

    def __init__(
        self,
        *,
        name: str,
        runtime: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self._name, self._runtime, self._inputs, self._outputs = name, runtime, inputs, outputs
        # What nearly every call looks like, so that it costs one look: one input, its own shape.
        first = inputs[0] if len(inputs) == 1 else None
        self._only_input = first.name if first else ""
        self._only_shape = first.shape if first else ()

    @property
    def name(self) -> str:
        """What is loaded, for messages."""
        return self._name

    @property
    def runtime(self) -> str:
        """Name and version of the runtime behind it."""
        return self._runtime

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs as the artifact stores them."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs as the artifact stores them."""
        return self._outputs

    def run(self, feeds: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one inference."""
        raise NotImplementedError

    def _check(self, feeds: Mapping[str, FloatArray]) -> None:
        """Refuse feeds that are not the inputs; see `check_feeds`."""
        array = feeds.get(self._only_input) if len(feeds) == 1 else None
        if array is None or array.dtype != _FLOAT32 or array.shape != self._only_shape:
            check_feeds(self._name, self._inputs, feeds)

    def close(self) -> None:
        """Release what the runtime holds."""

    def __enter__(self) -> Runner:
        """Give the runner itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def check_feeds(
    name: str, specs: tuple[TensorSpec, ...], feeds: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Refuse feeds that are not exactly the named float32 inputs.

    Raises:
        ArtifactError: what was expected, what was received, and how to put it right.
    """
    if len(feeds) != len(specs) or any(spec.name not in feeds for spec in specs):
        expected = ", ".join(spec.name for spec in specs)
        received = ", ".join(feeds) or "nothing"
        raise ArtifactError(f"{name}: expects the inputs {expected}; received {received}.")
    for spec in specs:
        array = feeds[spec.name]
        fits = len(array.shape) == len(spec.shape) and all(
            want is None or want == got for want, got in zip(spec.shape, array.shape, strict=True)
        )
        if fits and array.dtype == np.float32:
            continue
        remedy = (
            f"Cast with {spec.name}.astype(numpy.float32)."
            if fits
            else "Reshape or resize the input, or export with another --batch."
        )
        shape = "(" + ", ".join("any" if n is None else str(n) for n in spec.shape) + ")"
        raise ArtifactError(
            f"{name}: input '{spec.name}' expects float32 {shape}; received {array.dtype} "
            f"{tuple(array.shape)}. {remedy}"
        )


def quantize(values: FloatArray, spec: TensorSpec) -> npt.NDArray[Any]:
    """Real values to the stored integers of `spec`: round(x / scale) + zero_point, saturated.

    Ties round to even, as numpy and both runtimes do at their own boundaries.

    Args:
        values: float32, any shape, finite.
        spec: tensor with scale and zero point, or a float tensor (then nothing changes).
    """
    if spec.scale is None or spec.zero_point is None:
        return values
    info = np.iinfo(spec.dtype)
    stored = np.rint(values / np.float32(spec.scale)) + spec.zero_point
    return np.asarray(np.clip(stored, info.min, info.max), spec.dtype)


def dequantize(stored: npt.NDArray[Any], spec: TensorSpec) -> FloatArray:
    """Stored integers of `spec` to real values: (q - zero_point) * scale, in float32."""
    if spec.scale is None or spec.zero_point is None:
        return stored
    # int32 first: int8 minus its zero point does not fit in int8
    centred = stored.astype(np.int32) - np.int32(spec.zero_point)
    return centred.astype(np.float32) * np.float32(spec.scale)
