"""A model as its runtime loads it, with nothing of vae-edge around it.

`prepare` gives a call on fixed rows that does nothing but set the input, run, and fetch the
outputs: what a program would write by hand. It is what is timed, and what quality is judged from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from vae_edge.errors import ArtifactError
from vae_edge.terms import COMPONENT_OUTPUTS, Component, FloatArray

__all__ = ["Bare", "Call", "FloatOutputs", "output_order", "run_rows"]

Call = Callable[[], Sequence[Any]]


class Bare(Protocol):
    """A model loaded by its runtime."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""

    def prepare(self, rows: FloatArray) -> Call:
        """Give a call on these rows; its outputs come in the component's order.

        Only the call that was prepared last is valid: the input may live in the runtime.

        Args:
            rows: float32 (batch, ...), of the batch that the model was opened for.
        """

    def real(self, outputs: Sequence[Any]) -> list[FloatArray]:
        """Turn what the call gave into float32 arrays."""


def run_rows(
    bare: Bare, component: Component, rows: FloatArray, batch: int
) -> dict[str, FloatArray]:
    """Run rows through bare calls, in the batch that is measured.

    Another batch could give other results: some runtimes quantize a whole batch by one range.

    Args:
        bare: the loaded model.
        component: which half of a VAE it is.
        rows: float32 (count, ...), at least one; the last batch is filled up with its last row.
        batch: rows per call.

    Returns:
        Float32 outputs by name, (count, ...) each.
    """
    missing = -len(rows) % batch
    filled = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
    parts = [bare.real(bare.prepare(filled[i : i + batch])()) for i in range(0, len(rows), batch)]
    names = COMPONENT_OUTPUTS[component]
    return {
        name: np.concatenate([part[k] for part in parts])[: len(rows)]
        for k, name in enumerate(names)
    }


def output_order(component: Component, names: Sequence[str]) -> tuple[int, ...]:
    """Find the component's outputs among a model's, by name; a single output may have any.

    Raises:
        ArtifactError: an output is missing.
    """
    wanted = COMPONENT_OUTPUTS[component]
    if len(names) == len(wanted) == 1:
        return (0,)
    # Converters decorate names: `z_mean:0`, `model/z_mean/BiasAdd`.
    found = [[k for k, name in enumerate(names) if want in name] for want in wanted]
    if any(len(matches) != 1 for matches in found):
        raise ArtifactError(f"expected the outputs {', '.join(wanted)}; it has {', '.join(names)}.")
    return tuple(matches[0] for matches in found)


class FloatOutputs:
    """The part of a loaded model whose outputs are float32 already."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime

    def real(self, outputs: Sequence[Any]) -> list[FloatArray]:
        """Give them as they are."""
        return [np.asarray(output, np.float32) for output in outputs]
