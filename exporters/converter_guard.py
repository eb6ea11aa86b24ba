"""Nodes put back into float where a standard quantizer costs a component too much.

The quantizers of TensorFlow and ONNX Runtime do not look at what they cost. What they make is
judged as `exporters.quantization.guard` judges what vae-edge writes itself: on calibration rows,
by the limits that parity has for the precision. Beyond them the nodes that cost most by themselves
stay in float, as many as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exporters.base import ExportRequest
from exporters.progress import tell
from exporters.quantization.guard import excess
from exporters.quantization.scored import Scored
from vae_edge.keras_vae import open_keras_runner
from vae_edge.manifest import QuantizationRecord
from vae_edge.runners.batching import run_batched
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import Component, FloatArray, Format, Precision

__all__ = ["Judge", "keep_within", "kept_in_float"]

# As many as the guard of vae-edge's own quantizer takes.
_ROWS = 256
_POSTERIOR_ROWS = 512
# Enough to tell which nodes cost most; every node takes a run of them.
_RANKING_ROWS = 64
# Models are made and run about so often to rank their nodes; of more nodes, neighbours go together.
_MOST_TRIALS = 48
# Of those that went back, so many are tried without.
_MOST_RETURNS = 12
# Names that a note lists.
_LISTED = 12


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Tells how far a file is from the Keras model.

    Attributes:
        format: of the file.
        precision: whose limits count.
        rows: calibration inputs, float32 (count, ...).
        wanted: the Keras model's outputs for them, by name.
        scored: of a decoder, what the first rows stand for.
    """

    format: Format
    precision: Precision
    rows: FloatArray
    wanted: Mapping[str, FloatArray]
    scored: Scored | None

    @classmethod
    def of(cls, request: ExportRequest, format: Format) -> Judge:
        """Run the Keras model on as many calibration rows as it takes."""
        most = _POSTERIOR_ROWS if request.component is Component.ENCODER else _ROWS
        # Ranges are taken from the first rows, which no range is too narrow for.
        rows, scored = request.calibration[-most:], request.scored
        if scored is not None:
            scored = scored.first(len(rows) // 2)
            rows = np.concatenate([scored.latents, rows[: len(rows) - len(scored.latents)]])
        with open_keras_runner(request.vae, request.component) as runner:
            wanted = run_batched(runner, rows)
        return cls(
            format=format, precision=request.precision, rows=rows, wanted=wanted, scored=scored
        )

    def ranking(self) -> Judge:
        """Give the one that takes fewer rows and does not count nats."""
        return replace(
            self,
            rows=self.rows[:_RANKING_ROWS],
            wanted={name: values[:_RANKING_ROWS] for name, values in self.wanted.items()},
            scored=None,
        )

    def excess(self, content: bytes) -> float:
        """Give how many times a file's outputs are beyond what is aimed at; 1 is just within."""
        with open_artifact_bytes(content, self.format, name=f"{self.precision}") as runner:
            given = run_batched(runner, self.rows)
        if not all(np.isfinite(values).all() for values in given.values()):
            return float("inf")
        return excess(self.wanted, given, self.precision, scored=self.scored)


def keep_within(
    judge: Judge, nodes: Sequence[str], make: Callable[[Collection[str]], bytes]
) -> tuple[bytes, tuple[str, ...]] | None:
    """Give a file with as few nodes in float as it takes, and their names.

    Args:
        judge: of the component.
        nodes: that a quantizer takes, in the graph's order.
        make: quantizes all but the nodes given.

    Returns:
        None where nothing less than all of them in float is within.
    """
    content = make(())
    if judge.excess(content) <= 1:
        return content, ()
    groups = _grouped(nodes)
    rough, alone = judge.ranking(), list[float]()
    for group in groups:
        tell(f"looking for nodes to keep in float: {group[0]}")
        alone.append(rough.excess(make([name for name in nodes if name not in group])))
    ordered = [groups[place] for place in np.argsort(-np.array(alone), kind="stable")]

    def within(back: Sequence[Sequence[str]]) -> bytes | None:
        tell(f"keeping {sum(map(len, back))} nodes in float")
        made = make([name for group in back for name in group])
        return made if judge.excess(made) <= 1 else None

    # More in float is hardly ever worse, so that the least number that does is found by halving.
    low, high, best = 1, len(ordered) - 1, None
    while low <= high:
        count = (low + high) // 2
        made = within(ordered[:count])
        if made is None:
            low = count + 1
        else:
            best, high = (made, ordered[:count]), count - 1
    if best is None:
        return None
    content, back = best
    # One that costs much by itself may cost nothing once the others are in float.
    for group in list(reversed(back[:-1]))[:_MOST_RETURNS]:
        fewer = [each for each in back if each is not group]
        made = within(fewer)
        if made is not None:
            content, back = made, fewer
    kept = {name for group in back for name in group}
    return content, tuple(name for name in nodes if name in kept)


def kept_in_float(record: QuantizationRecord, names: Sequence[str]) -> QuantizationRecord:
    """Give the record with the nodes that stayed in float, and why, in its note."""
    if not names:
        return record
    listed = ", ".join(names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return replace(
        record,
        note=f"{record.note}; kept in float, because the limits of the precision are exceeded "
        f"otherwise: {listed}{more}",
    )


def _grouped(nodes: Sequence[str]) -> list[Sequence[str]]:
    size = max(1, -(-len(nodes) // _MOST_TRIALS))
    return [nodes[start : start + size] for start in range(0, len(nodes), size)]
