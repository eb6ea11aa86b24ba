"""From a request to a lowered graph with a quantization plan: what both formats do alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporters.base import ExportRequest
from exporters.graph import Graph
from exporters.keras_graph import read_graph
from exporters.lowering.base import LoweringPass, PassResult, run_passes
from exporters.profiles import PREPARE, Profile, profile_for
from exporters.quantization.plan import QuantizationPlan
from exporters.quantization.recipes import equalized, plan_for, recipe_for
from vae_edge.manifest import AppliedPass, LoweringRecord, RefusedPass
from vae_edge.terms import Format, Precision, Target

__all__ = ["Lowered", "lower", "not_lowered", "plan_lowered"]

_CALIBRATED = (Precision.DYNAMIC, Precision.INT8)


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A component's graph in the form that was chosen for a format, precision and target.

    Attributes:
        graph: computes what the Keras model computes.
        profile: that it went through.
        record: how it came about.
    """

    graph: Graph
    profile: Profile
    record: LoweringRecord


def lower(request: ExportRequest, format: Format, *, by_converter: bool = False) -> Lowered:
    """Read a component and run the passes of its profile.

    Args:
        request: what to export.
        format: whose profile.
        by_converter: prepare the graph and no more: tf2onnx lays out operators in its own way, and
            was slower on lowered graphs than on those it knows.

    Raises:
        ExportError: the component's layers cannot be read.
    """
    prepared, first = run_passes(read_graph(request.vae, request.component), PREPARE)
    results = list(first)
    if request.precision in _CALIBRATED:
        recipe = request.recipe or recipe_for(request.component)
        result = equalized(prepared, recipe, request.calibration)
        if result is not None:
            results.append((_Named("equalize_channels"), result))
            prepared = result.graph
    profile = request.profile or profile_for(
        format, request.precision, request.target, integer_io=request.integer_io
    )
    passes = profile.passes if not by_converter else ()
    graph, rest = run_passes(prepared, passes)
    record = _record(request.target, [*results, *rest], f"{profile.name}: {profile.why}")
    return Lowered(graph=graph, profile=profile, record=record)


def plan_lowered(
    lowered: Lowered, request: ExportRequest, format: Format
) -> tuple[Graph, QuantizationPlan]:
    """Plan the quantization of a lowered component."""
    graph, plan = plan_for(
        lowered.graph,
        format=format,
        precision=request.precision,
        recipe=request.recipe or recipe_for(request.component),
        rows=request.calibration,
        integer_io=request.integer_io,
        seed=request.seed,
        paired=lowered.profile.paired,
        integer_depthwise=lowered.profile.integer_depthwise,
        scored=request.scored,
        edges=request.edges,
    )
    return graph, replace(plan, signed=lowered.profile.signed)


def not_lowered(note: str) -> LoweringRecord:
    """Give the record of a graph that no pass has touched."""
    return LoweringRecord(target=None, applied=(), refused=(), note=note)


@dataclass(frozen=True)
class _Named:
    name: str

    def __call__(self, graph: Graph) -> PassResult:
        raise NotImplementedError


def _record(
    target: Target, results: list[tuple[LoweringPass, PassResult]], note: str
) -> LoweringRecord:
    applied: dict[str, list[str]] = {}
    refused: dict[tuple[str, str], str] = {}
    for each, result in results:
        if result.applied:
            applied.setdefault(each.name, []).extend(result.applied)
        for refusal in result.refused:
            refused[each.name, refusal.node] = refusal.reason
    return LoweringRecord(
        target=target,
        applied=tuple(
            AppliedPass(name=name, layers=tuple(dict.fromkeys(layers)))
            for name, layers in applied.items()
        ),
        refused=tuple(
            RefusedPass(name=name, layer=layer, reason=reason)
            for (name, layer), reason in refused.items()
        ),
        note=note,
    )
