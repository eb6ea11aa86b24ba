"""Layer attribution: the first layer whose output diverges from the Keras model's.

Parity says that an artifact's outputs are off; this says where it begins. Every layer of the Keras
component runs on some rows, the artifact runs on the same rows with all its tensors kept, and each
layer is compared with the tensor that holds its output (`vae_edge.layer_matching`).

Host only where it runs models; the arithmetic is numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vae_edge.errors import ParityError
from vae_edge.keras_vae import KerasVAE
from vae_edge.layer_matching import Match, layers_that_move, match_layers
from vae_edge.layer_traces import trace_layers
from vae_edge.tensor_traces import trace_tensors
from vae_edge.terms import Component, FloatArray, Format, Precision
from vae_edge.traces import ArtifactTrace, LayerTrace, StoredTensor

__all__ = [
    "MAX_ROWS",
    "Explanation",
    "LayerReport",
    "RangeUse",
    "compare_layers",
    "explain_artifact",
    "range_use",
]

MAX_ROWS = 32
# Sums in another order cost float32 some 20 dB of its 150; 11 bits of weights cost all above 70.
_FLOORS: Mapping[Precision, float] = {Precision.FLOAT32: 80.0, Precision.FLOAT16: 45.0}
_INTEGER_FLOOR_DB = 20.0
_DROP_DB = 6.0
# How far above the floor a layer counts as exact: rounding from 140 to 120 dB is no divergence.
# For integers that makes 35 dB, about what 8 bits keep of values with one scale.
_HEADROOM_DB = 15.0
# How far above the floor an output is right beyond doubt.
_RIGHT_DB = 10.0
# What stands for "further than any comparison goes", since JSON has no infinity.
_WORST_DB = -200.0


@dataclass(frozen=True, kw_only=True)
class RangeUse:
    """How an integer tensor uses its steps.

    Attributes:
        steps: integers that the type has, 256 for 8 bits.
        used: share of them between the lowest and the highest value that occurs.
        at_low: share of the values at the lowest integer.
        at_high: share of the values at the highest integer: what lay beyond was cut off.
        low_is_zero: the lowest integer stands for 0, as after a rectifier, so that values there
            are zeros and need not have been cut off.
    """

    steps: int
    used: float
    at_low: float
    at_high: float
    low_is_zero: bool


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """One layer of the Keras model beside the tensor that holds its output.

    Attributes:
        layer: name of the layer.
        kind: its class.
        tensor: the tensor's name in the artifact; None where the layer was folded into the next.
        dtype: how the tensor is stored.
        layout: `as in Keras` or `channels first`.
        scales: smallest and largest factor between the tensor's channels and the layer's, taken out
            before comparing; None where there is none.
        sqnr_db: signal over error; None where the values are identical, or there is no tensor.
        input_sqnr_db: the lowest of the layers that it reads; None where those are identical.
        max_abs_error: largest error of any value, in the layer's own units.
        not_finite: values of the tensor that are infinite or not a number.
        range_use: of an integer tensor.
        diverges: the layer diverges by the rule, whether or not it is the first.
        recovers: it would, but the outputs that depend on it are right.
        note: what a reader should know of the row.
    """

    layer: str
    kind: str
    tensor: str | None
    dtype: str | None
    layout: str | None
    scales: tuple[float, ...] | None
    sqnr_db: float | None
    input_sqnr_db: float | None
    max_abs_error: float | None
    not_finite: int
    range_use: RangeUse | None
    diverges: bool
    recovers: bool
    note: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Where an artifact leaves the Keras model.

    A layer diverges when its SQNR is below the floor of the precision, when it is more than
    `drop_db` below the lowest of the layers that it reads, or when its tensor holds a value that is
    not finite. For the drop, a layer more than `headroom_db` above the floor counts as that much
    above it: the exact layers of a float artifact may lose 20 dB to the order of a sum, and the
    first layer of any artifact reads an input without error. The first one in the model's order is
    named; those after it read what it got wrong.

    A layer of finite values does not diverge where every output that depends on it is finite, more
    than `drop_db` above it, and at least 10 dB above the floor. An artifact that was trained as a
    whole, as int8 decoders are, computes other values inside and makes up for them later; and what
    a sigmoid saturates may be far off before it. Where such an artifact's outputs are wrong, the
    first layer that was trained is named, whichever is at fault: look for the layer that differs
    from a sound artifact of the same kind.

    Attributes:
        artifact: name of the artifact.
        component: which half it is.
        format: of the file.
        precision: as the types in the file show it.
        rows: rows that were compared.
        floor_db: see above.
        drop_db: see above.
        headroom_db: see above.
        first: the first layer that diverges; None where none does.
        loses_most: the layer that adds most error relative to its values; None where all layers
            are identical.
        finding: both, in a sentence.
        layers: every layer, the input first.
    """

    artifact: str
    component: Component
    format: Format
    precision: Precision
    rows: int
    floor_db: float
    drop_db: float
    headroom_db: float
    first: str | None
    loses_most: str | None
    finding: str
    layers: tuple[LayerReport, ...]


def explain_artifact(
    content: bytes,
    format: Format,
    component: Component,
    vae: KerasVAE,
    rows: FloatArray,
    name: str,
) -> Explanation:
    """Compare an artifact with the Keras model layer by layer.

    Args:
        content: the file's bytes.
        format: what kind of file it is.
        component: which half of the model it is.
        vae: the model, taken apart.
        rows: float32 (count, ...), inputs; of more than `MAX_ROWS` some are taken, evenly.
        name: what to call the artifact.

    Raises:
        ParityError: there are no rows.
        ModelError: the component has no layers that can be told apart.
        ArtifactError: the artifact does not load or run, or is of another model.
        RuntimeMissingError: a host package is not installed.
    """
    if not len(rows):
        raise ParityError(f"{name}: there are no rows to compare it on.")
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MAX_ROWS)).round().astype(int)
    some = np.ascontiguousarray(rows[chosen], np.float32)
    artifact = trace_tensors(content, format, some, name)
    layers = trace_layers(vae, component, some)
    return compare_layers(layers, artifact, component=component, format=format)


def compare_layers(
    layers: Sequence[LayerTrace],
    artifact: ArtifactTrace,
    *,
    component: Component,
    format: Format,
) -> Explanation:
    """Compare every layer with its tensor and name the first that diverges.

    Args:
        layers: of the Keras model, the input first.
        artifact: what ran in the artifact.
        component: which half it is.
        format: of the file.

    Raises:
        ArtifactError: the artifact's outputs are not the model's.
    """
    matches = match_layers(layers, artifact)
    floor = _FLOORS.get(artifact.precision, _INTEGER_FLOOR_DB)
    moves = layers_that_move(layers)
    # What a layer starts from: its own level, or where it was folded that of what it reads.
    levels: list[float] = []
    added: dict[str, float] = {}
    for layer in layers:
        before = min((levels[source] for source in layer.inputs), default=math.inf)
        match = matches.get(len(levels))
        levels.append(before if match is None else match.sqnr_db)
        if match is not None and len(levels) - 1 not in moves:
            added[layer.name] = _noise(match.sqnr_db) - _noise(before)
    view = _View(layers, artifact, matches, moves, levels, floor)
    reports = [view.report(place) for place in range(len(layers))]
    first = next((report for report in reports if report.diverges), None)
    most = max(added, key=lambda name: added[name])
    loses_most = most if added[most] > 0 else None
    return Explanation(
        artifact=artifact.name,
        component=component,
        format=format,
        precision=artifact.precision,
        rows=len(layers[0].values),
        floor_db=floor,
        drop_db=_DROP_DB,
        headroom_db=_HEADROOM_DB,
        first=first.layer if first else None,
        loses_most=loses_most,
        finding=_finding(first, loses_most, floor, reports),
        layers=tuple(reports),
    )


def range_use(stored: StoredTensor) -> RangeUse:
    """Say how a tensor's integers use their type."""
    info, values = np.iinfo(stored.integers.dtype), stored.integers.astype(np.int64)
    steps = int(info.max) - int(info.min) + 1
    return RangeUse(
        steps=steps,
        used=float(values.max() - values.min() + 1) / steps,
        at_low=float((values == info.min).mean()),
        at_high=float((values == info.max).mean()),
        low_is_zero=stored.zero_point == info.min,
    )


def _noise(level: float) -> float:
    """Error energy over signal energy."""
    return float(10 ** (-max(level, _WORST_DB) / 10))


@dataclass(frozen=True)
class _View:
    """What the rows of an explanation have in common."""

    layers: Sequence[LayerTrace]
    artifact: ArtifactTrace
    matches: Mapping[int, Match]
    moves: Mapping[int, int]
    levels: Sequence[float]
    floor: float

    def report(self, place: int) -> LayerReport:
        layer, match = self.layers[place], self.matches.get(place)
        before = min((self.levels[source] for source in layer.inputs), default=math.inf)
        if match is None:
            return LayerReport(
                layer=layer.name,
                kind=layer.kind,
                tensor=None,
                dtype=None,
                layout=None,
                scales=None,
                sqnr_db=None,
                input_sqnr_db=_finite(before),
                max_abs_error=None,
                not_finite=0,
                range_use=None,
                diverges=False,
                recovers=False,
                note=f"folded into {_reader(self.layers, place, self.matches)}",
            )
        tensor = self.artifact.tensors[match.tensor]
        broken = self._broken(match)
        errors = np.abs(layer.values.astype(np.float64) - match.values)
        # What only moves values is as right as what made them, and that has a row already.
        short = match.sqnr_db < _least(before, self.floor)
        off = place not in self.moves and (broken > 0 or short)
        recovers = off and not broken and self._recovers(place, match)
        return LayerReport(
            layer=layer.name,
            kind=layer.kind,
            tensor=tensor.name,
            dtype=tensor.dtype,
            layout=match.layout,
            scales=match.scales,
            sqnr_db=_finite(match.sqnr_db),
            input_sqnr_db=_finite(before),
            max_abs_error=None if broken else float(errors.max()),
            not_finite=broken,
            range_use=None if tensor.stored is None else range_use(tensor.stored),
            diverges=off and not recovers,
            recovers=recovers,
            note=self._note(place, match, recovers),
        )

    def _broken(self, match: Match) -> int:
        return int((~np.isfinite(self.artifact.tensors[match.tensor].values)).sum())

    def _recovers(self, place: int, match: Match) -> bool:
        after = {place}
        for later in range(place + 1, len(self.layers)):
            if after.intersection(self.layers[later].inputs):
                after.add(later)
        ends = [self.matches[end] for end in after if self.layers[end].outputs]
        least = max(match.sqnr_db + _DROP_DB, self.floor + _RIGHT_DB)
        return bool(ends) and all(e.sqnr_db > least and not self._broken(e) for e in ends)

    def _note(self, place: int, match: Match, recovers: bool) -> str:
        if place in self.moves:
            return f"values of {self.layers[self.moves[place]].name}, moved"
        broken = self._broken(match)
        low, high = match.scales or (1.0, 1.0)
        notes = (
            f"{broken} values are not finite" if broken else "",
            "off, but the outputs are right" if recovers else "",
            f"channels times {low:.2g} to {high:.2g}" if match.scales else "",
        )
        return "; ".join(filter(None, notes))


def _least(before: float, floor: float) -> float:
    """Give the SQNR that is expected of a layer with an input of SQNR `before`."""
    return max(floor, min(before, floor + _HEADROOM_DB) - _DROP_DB)


def _reader(layers: Sequence[LayerTrace], place: int, matches: Mapping[int, Match]) -> str:
    """Name the first layer with a tensor of its own that reads one without."""
    without = {place}
    for later in range(place + 1, len(layers)):
        if without.intersection(layers[later].inputs):
            if later in matches:
                return layers[later].name
            without.add(later)
    return "nothing: no output depends on it"


def _finite(level: float) -> float | None:
    return None if level == math.inf else max(level, _WORST_DB)


def _finding(
    first: LayerReport | None,
    loses_most: str | None,
    floor: float,
    reports: Sequence[LayerReport],
) -> str:
    most = next((report for report in reports if report.layer == loses_most), None)
    held = [r.layer for r in reports if first and r.note == f"folded into {first.layer}"]
    if first is None:
        if most is None:
            return "Nothing diverges: every layer is identical."
        inside = [report.layer for report in reports if report.recovers]
        healed = (
            f" Inside, {', '.join(inside)} {'is' if len(inside) == 1 else 'are'} off, and later "
            "layers make up for it, as in an artifact that was trained as a whole."
            if inside
            else ""
        )
        return f"Nothing diverges. {loses_most} adds most error: {_change(most)}.{healed}"
    if first.not_finite:
        why = f"{first.not_finite} of its values are not finite"
    else:
        before = math.inf if first.input_sqnr_db is None else first.input_sqnr_db
        after = "no error" if first.input_sqnr_db is None else f"{before:.1f} dB"
        why = (
            f"it has {_decibels(first.sqnr_db)}; after an input with {after} at least "
            f"{_least(before, floor):.1f} dB are expected"
        )
    # What is computed in one step cannot be told apart.
    within = f", with {', '.join(held)} folded into it" if held else ""
    return f"The first layer that diverges is {first.layer} ({first.kind}{within}): {why}."


def _change(layer: LayerReport) -> str:
    """Say what a layer makes of its input: its own level may be above that of a later one."""
    return f"{_decibels(layer.input_sqnr_db)} before it, {_decibels(layer.sqnr_db)} after it"


def _decibels(level: float | None) -> str:
    return "no error" if level is None else f"{level:.1f} dB"
