"""Any number of rows through a runner whose batch is fixed or free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ArtifactError
from vae_edge.runners.base import Runner
from vae_edge.terms import FloatArray

__all__ = ["regroup", "rows_at_once", "run_batched"]

# Throughput falls again past this on the CPUs measured: the activations no longer fit the cache.
_FREE_BATCH = 32


def rows_at_once(runner: Runner) -> int:
    """How many rows to hand to `run_batched` when they come as a stream.

    32; for a fixed batch the whole batches that 32 rows fill, and at least one.
    """
    batch = runner.inputs[0].batch or 1
    return max(batch, _FREE_BATCH // batch * batch)


def regroup(
    items: Iterable[npt.ArrayLike], axes: int, size: int
) -> Iterator[npt.NDArray[np.generic]]:
    """Give the rows of a stream in chunks of `size`, the last one with what is left.

    Args:
        items: single rows, of `axes` axes, or arrays of several, of one axis more.
        axes: axes of one row.
        size: rows per chunk, 1 or more.

    Yields:
        (count, ...) with 1 to `size` rows of one dtype and shape.

    Raises:
        ArtifactError: an item has other axes, or another shape or dtype than the one before it.
    """
    if isinstance(items, np.ndarray) and items.ndim == axes + 1:
        # Slices of a memory map, without a copy of the rows one by one.
        for start in range(0, len(items), size):
            yield items[start : start + size]
        return
    waiting: list[npt.NDArray[np.generic]] = []
    held = 0
    for item in items:
        rows = _rows(item, axes, waiting[-1] if waiting else None)
        while len(rows):
            taken, rows = rows[: size - held], rows[size - held :]
            waiting.append(taken)
            held += len(taken)
            if held == size:
                yield np.concatenate(waiting)
                waiting, held = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _rows(
    item: npt.ArrayLike, axes: int, before: npt.NDArray[np.generic] | None
) -> npt.NDArray[np.generic]:
    rows = np.asarray(item)
    if rows.ndim not in (axes, axes + 1):
        raise ArtifactError(
            f"a stream gives rows of {axes} axes, or arrays of several; received {rows.shape}."
        )
    rows = rows[np.newaxis] if rows.ndim == axes else rows
    if before is not None and (rows.shape[1:], rows.dtype) != (before.shape[1:], before.dtype):
        raise ArtifactError(
            f"a stream gives rows of one shape and type; received {rows.dtype} {rows.shape[1:]} "
            f"after {before.dtype} {before.shape[1:]}."
        )
    return rows


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
