"""Any number of rows through a runner whose batch is fixed or free."""

from __future__ import annotations

import numpy as np

from vae_edge.errors import ArtifactError
from vae_edge.runners.base import Runner
from vae_edge.terms import FloatArray

__all__ = ["run_batched"]

# Throughput falls again past this on the CPUs measured: the activations no longer fit the cache.
_FREE_BATCH = 32


def run_batched(runner: Runner, rows: FloatArray) -> dict[str, FloatArray]:
    """Run `rows` through a runner with one input, in chunks of its batch.

    The last chunk of a fixed batch is filled up by repeating its last row, and cut off again.

    Args:
        runner: a component; its only input takes the rows.
        rows: float32, shape (count, ...); count may be 0.

    Returns:
        Every output, float32, shape (count, ...).

    Raises:
        ArtifactError: the rows do not have the input's shape or dtype, or there is not one input.
    """
    if len(runner.inputs) != 1:
        raise ArtifactError(
            f"{runner.name}: expected one input; it has {len(runner.inputs)}. Export it again."
        )
    spec = runner.inputs[0]
    if rows.ndim != len(spec.shape) or any(
        want is not None and want != got
        for want, got in zip(spec.shape[1:], rows.shape[1:], strict=True)
    ):
        expected = ", ".join("any" if n is None else str(n) for n in spec.shape[1:])
        raise ArtifactError(
            f"{runner.name}: '{spec.name}' expects rows of shape (count, {expected}); "
            f"received {tuple(rows.shape)}. Reshape or resize them first."
        )
    if not len(rows):
        return {
            out.name: np.empty((0, *(n or 0 for n in out.shape[1:])), np.float32)
            for out in runner.outputs
        }
    size = spec.batch or min(_FREE_BATCH, len(rows))
    parts = [_run_chunk(runner, rows[i : i + size], spec.batch) for i in range(0, len(rows), size)]
    return {out.name: np.concatenate([part[out.name] for part in parts]) for out in runner.outputs}


def _run_chunk(runner: Runner, chunk: FloatArray, fixed: int | None) -> dict[str, FloatArray]:
    name = runner.inputs[0].name
    if fixed is None or len(chunk) == fixed:
        return runner.run({name: chunk})
    filler = np.repeat(chunk[-1:], fixed - len(chunk), axis=0)
    results = runner.run({name: np.concatenate([chunk, filler])})
    return {key: value[: len(chunk)] for key, value in results.items()}
