"""Ranges of 8-bit tensors: observed, shared where values are only moved, and searched.

The largest value that calibration met is seldom the best end of a range: a layer's few largest
values often feed outputs that are saturated anyway (the sigmoid of a logit of 20 is that of 12),
while every value pays for the wider steps. What counts is the error of the component's outputs,
so that is what the ends are chosen by: each range is narrowed as long as the outputs on the
calibration rows come closer to the float model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporters.graph import Graph
from exporters.progress import tell
from exporters.quantization.moves import is_move
from exporters.quantization.output_error import Objective
from exporters.quantization.plan import QuantizationPlan, Range
from exporters.quantization.simulate import Simulation
from exporters.quantization.work import cost, rows_within
from vae_edge.terms import FloatArray

__all__ = [
    "SharedRanges",
    "search_ranges",
    "search_rows",
]

# An end is moved by these numbers of steps, each a tenth of itself, as long as that helps.
_STEP = 0.9
_STRIDES = (4, 2, 1)
_SWEEPS = 2
# The narrowest end that is tried, as a share of the observed one.
_NARROWEST = 0.1
# Fewer rows make the search quick and its choice noisy: 256 and 512 choose alike within 0.1 dB.
_SEARCH_ROWS = 256
# Products of one trial, and of all: about a minute on two cores. Larger models are searched on
# fewer rows, and with the last ends not at all.
_TRIAL_WORK = 5e9
_SEARCH_WORK = 5e11
_LEAST_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class SharedRanges:
    """Tensors that have to have one range, because operators between them only move values.

    Attributes:
        owner: for every tensor the one that stands for its group.
        observed: the range of each group in calibration.
    """

    owner: Mapping[str, str]
    observed: Mapping[str, Range]

    @classmethod
    def of(
        cls, graph: Graph, extremes: Mapping[str, tuple[FloatArray, FloatArray]]
    ) -> SharedRanges:
        """Group the tensors of a graph.

        Concatenation, padding, reshaping, slicing and transposing leave stored integers as they
        are only if all their tensors have one scale and zero point.
        """
        parent = {name: name for name in graph.shapes}

        def root(name: str) -> str:
            while parent[name] != name:
                name = parent[name]
            return name

        for node in graph.nodes:
            if is_move(node.op):
                for name in node.inputs:
                    parent[root(name)] = root(node.output)
        owner = {name: root(name) for name in graph.shapes}
        observed: dict[str, Range] = {}
        for name, (low, high) in extremes.items():
            range_ = Range(low=min(float(low.min()), 0.0), high=max(float(high.max()), 0.0))
            group = owner[name]
            observed[group] = observed[group].joined(range_) if group in observed else range_
        return cls(owner=owner, observed=observed)

    def ranges(self, groups: Mapping[str, Range]) -> dict[str, Range]:
        """Give every tensor the range of its group."""
        return {name: groups[group] for name, group in self.owner.items() if group in groups}


def search_ranges(
    graph: Graph,
    plan: QuantizationPlan,
    shared: SharedRanges,
    rows: FloatArray,
    objective: Objective,
    *,
    fixed: frozenset[str] = frozenset(),
) -> dict[str, Range]:
    """Move the ends of a plan's ranges, one after the other, while the outputs come closer.

    Coordinate descent: every end goes up or down a ladder of factors in strides that become
    shorter, and the ends are gone through again until none moves.

    Args:
        graph: lowered.
        plan: what computes in integers; its ranges are not read.
        shared: groups and their observed ranges, where the search begins.
        rows: calibration inputs; the objective knows the float outputs for
            `search_rows(graph, rows)`.
        objective: error of the outputs, smaller is better.
        fixed: groups whose ranges stay.

    Returns:
        A range for every tensor of the graph.
    """
    simulation = Simulation(graph, plan)
    used = search_rows(graph, rows)
    left = int(_SEARCH_WORK / (cost(graph) * len(used)))

    def error(groups: Mapping[str, Range]) -> float:
        nonlocal left
        left -= 1
        return objective(simulation.run(used, shared.ranges(groups)))

    chosen = dict(shared.observed)
    best = error(chosen)
    ends = [
        (group, end)
        for group in _searched(graph, plan, shared)
        for end in ("low", "high")
        if group not in fixed and getattr(shared.observed[group], end) != 0
    ]
    for _ in range(_SWEEPS):
        before = best
        for place, (group, end) in enumerate(ends):
            tell(f"choosing ranges {100 * place // len(ends)} %")
            for stride in _STRIDES:
                for factor in (_STEP**stride, _STEP**-stride):
                    while True:
                        trial = {**chosen, group: _moved(chosen[group], end, factor)}
                        share = getattr(trial[group], end) / getattr(shared.observed[group], end)
                        inside = _NARROWEST <= share <= 1.0 + 1e-9
                        if not inside or left <= 0 or (value := error(trial)) >= best:
                            break
                        best, chosen = value, trial
        if best >= before or left <= 0:
            break
    return shared.ranges(chosen)


def _moved(range_: Range, end: str, factor: float) -> Range:
    ends = {"low": range_.low, "high": range_.high}
    ends[end] *= factor
    return Range(low=ends["low"], high=ends["high"])


def search_rows(graph: Graph, rows: FloatArray) -> FloatArray:
    """Give the rows that the search looks at."""
    return rows_within(graph, rows, most=_SEARCH_ROWS, work=_TRIAL_WORK, least=_LEAST_ROWS)


def _searched(graph: Graph, plan: QuantizationPlan, shared: SharedRanges) -> Iterable[str]:
    groups = dict.fromkeys(
        shared.owner[name]
        for node in graph.nodes
        if node.output in plan.integer or node.output in plan.integer_input
        for name in (*node.inputs, *((node.output,) if node.output in plan.integer else ()))
    )
    return tuple(groups)
