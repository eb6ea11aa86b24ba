"""Layers put back into float until a quantized component is the Keras model still.

What a recipe leaves in float is chosen by what is true of most VAEs. A model that is unlike them
may have a layer that 8 bits do not do, and one such layer loses the whole artifact. So the planned
component is judged on calibration rows, by the limits that parity has for its precision; where it
is beyond them, the layers that cost most by themselves go back to float, one after the other, until
it is within.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Conv, ConvTranspose, Dense, Graph, Node
from exporters.lowering.join_weights import JoinWeights
from exporters.progress import tell
from exporters.quantization.moves import is_move
from exporters.quantization.plan import QuantizationPlan, WeightMode
from exporters.quantization.scored import Scored
from exporters.quantization.simulate import Simulation, run_graph
from exporters.quantization.work import rows_within
from vae_edge.metrics import cosine_similarity, ssim
from vae_edge.model_scale import ModelScale
from vae_edge.terms import FloatArray, Precision
from vae_edge.tolerances import TOLERANCES, limits_for
from vae_edge.vae_metrics import Posterior, kl_between, kl_to_prior, mean_shift_sigmas

__all__ = ["excess", "keep_within"]

# Other rows than these are what parity judges: it should not be met just so.
_SHARE = 0.6
_SHARE_AT_EDGES = 0.9
_ROWS = 256
# Of an encoder the one image whose posterior is narrowest fails first: half a step of a layer's
# output is more than a sigma there, and few rows have none that is so.
_POSTERIOR_ROWS = 512
_WORK = 2e10
_LEAST_ROWS = 16
# One row of so many is looked at where layers are only compared with one another.
_SHARE_OF_ROWS = 4
# A float layer with more weights than this is worth storing as float16.
_WORTH_HALVING = 1024
# Axes of a batch of images.
_IMAGES = 4
# Structure is averaged over windows, of which few images have many.
_SSIM_ROWS = 64


def keep_within(
    graph: Graph,
    plan: QuantizationPlan,
    rows: FloatArray,
    precision: Precision,
    *,
    tuned: Graph | None = None,
    on_the_fly: bool = False,
    scored: Scored | None = None,
    edges: FloatArray | None = None,
) -> tuple[Graph, QuantizationPlan]:
    """Give the plan with as few layers in float as it takes, and the graph that goes with it.

    Args:
        graph: lowered; computes what the Keras model computes.
        plan: with its ranges and weights.
        rows: calibration inputs.
        precision: whose limits count.
        tuned: the graph with biases that fit the plan; None where they are the graph's own. A layer
            that goes back to float gets its own back.
        on_the_fly: float layers with int8 weights quantize what they read as it comes.
        scored: of a decoder, what its reconstruction loss is counted on.
        edges: inputs that no data set holds, which parity looks at too.
    """
    most = _POSTERIOR_ROWS if "z_log_var" in graph.outputs else _ROWS
    used = rows_within(graph, rows, most=most, work=_WORK, least=_LEAST_ROWS)
    if scored is not None:
        scored = scored.first(len(used) // 2)
        used = np.concatenate([scored.latents, used[: len(used) - len(scored.latents)]])
    judge = _Judge(
        rows=used,
        wanted=run_graph(graph, used),
        precision=precision,
        on_the_fly=on_the_fly,
        scored=scored,
        edges=edges,
        at_edges={} if edges is None else run_graph(graph, edges),
    )
    mode = WeightMode.FLOAT16 if precision is Precision.FLOAT16 else WeightMode.INT8
    trial = _Trial(graph=graph, tuned=tuned or graph, plan=plan, mode=mode)
    if judge.excess(trial.with_float(())) <= 1:
        return trial.with_float(())
    layers = [node for node in graph.nodes if _is_narrow(node, plan, mode)]
    # Their order is no verdict.
    quick, alone = judge.with_fewer_rows(), {}
    for node in layers:
        tell(f"looking for layers to keep in float: {node.name}")
        alone[node.output] = quick.excess(trial.only(node))
    back: list[Node] = []
    for node in sorted(layers, key=lambda each: -alone[each.output]):
        tell(f"keeping {node.name} in float")
        back.append(node)
        if judge.excess(trial.with_float(back)) <= 1:
            break
    else:
        return trial.joined(back)
    # One that went back early may have been the lesser evil only until another one did.
    for node in sorted(back[:-1], key=lambda each: -_weights(each)):
        fewer = [each for each in back if each is not node]
        if judge.excess(trial.with_float(fewer)) <= 1:
            back = fewer
    return trial.joined(back)


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """Rows, what the Keras model makes of them, and the limits that count.

    Attributes:
        rows: of the component's input; those that are scored first.
        wanted: outputs by name.
        precision: whose limits count.
        on_the_fly: float layers with int8 weights quantize what they read as it comes.
        scored: of a decoder, what its first rows stand for.
        edges: inputs that no data set holds; None for none.
        at_edges: what the Keras model makes of them.
    """

    rows: FloatArray
    wanted: Mapping[str, FloatArray]
    precision: Precision
    on_the_fly: bool
    scored: Scored | None
    edges: FloatArray | None
    at_edges: Mapping[str, FloatArray]

    def excess(self, of: tuple[Graph, QuantizationPlan]) -> float:
        """Give how many times a component is beyond what is aimed at."""
        simulation = Simulation(*of, eager=True, on_the_fly=self.on_the_fly)
        given = simulation.run(self.rows, of[1].ranges)
        found = excess(self.wanted, given, self.precision, scored=self.scored)
        if self.edges is None:
            return found
        return max(found, self._at_edges(simulation.run(self.edges, of[1].ranges)))

    def _at_edges(self, given: Mapping[str, FloatArray]) -> float:
        """The same of the edges: parity judges them by these very rows, so that just so will do."""
        found = []
        for name, wanted in self.at_edges.items():
            both = np.concatenate([self.wanted[name], wanted])
            span = float(np.ptp(both)) or 1.0
            allowed = TOLERANCES[self.precision][f"edge_{name}"]
            error = np.abs(given[name].astype(np.float64) - wanted) / span
            found.append(float(np.sqrt(np.mean(error**2))) / allowed["rmse"])
            if "max_abs_error" in allowed:
                found.append(float(error.max()) / allowed["max_abs_error"])
        return max(found) / _SHARE_AT_EDGES

    def with_fewer_rows(self) -> _Judge:
        """Give one that takes a quarter of the time."""
        scored = 0 if self.scored is None else len(self.scored.latents)
        first = -(-scored // _SHARE_OF_ROWS)
        chosen = np.r_[0:first, scored : len(self.rows) : _SHARE_OF_ROWS]
        return replace(
            self,
            rows=self.rows[chosen],
            wanted={name: values[chosen] for name, values in self.wanted.items()},
            scored=None if self.scored is None else self.scored.first(first),
        )


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A component and the plan for it, some of whose layers can be put back into float.

    Attributes:
        graph: computes what the Keras model computes.
        tuned: the same with the biases that fit the plan.
        plan: with its ranges and weights.
        mode: that its narrow weights are stored in.
    """

    graph: Graph
    tuned: Graph
    plan: QuantizationPlan
    mode: WeightMode

    def with_float(self, back: Iterable[Node]) -> tuple[Graph, QuantizationPlan]:
        """Give the component with these layers in float, with their own biases."""
        own, plan = {node.output: node for node in back}, self.plan
        for node in own.values():
            plan = _without(self.graph, plan, node, self.mode)
        return self.tuned.with_nodes(own.get(n.output, n) for n in self.tuned.nodes), plan

    def only(self, node: Node) -> tuple[Graph, QuantizationPlan]:
        """Give the component with all but one layer in float."""
        fitting = {each.output: each for each in self.tuned.nodes}
        nodes = (fitting[n.output] if n is node else n for n in self.graph.nodes)
        return self.graph.with_nodes(nodes), _only(self.plan, node)

    def joined(self, back: Iterable[Node]) -> tuple[Graph, QuantizationPlan]:
        """Give the same as `with_float`; of what was split to be stored narrow, the whole."""
        back = tuple(back)
        graph, plan = self.with_float(back)
        joined = JoinWeights(only=frozenset(node.output for node in back))(graph).graph
        before = {id(node) for node in graph.nodes}
        whole = [node for node in joined.nodes if id(node) not in before]
        for node in whole:
            plan = _without(joined, plan, node, self.mode)
        if whole:
            names = ", ".join(node.name for node in whole)
            plan = replace(plan, notes=(*plan.notes, f"in one part again: {names}"))
        return joined, plan


def _weights(node: Node) -> int:
    op = node.op
    return op.kernel.size if isinstance(op, (Conv, ConvTranspose, Dense)) else 0


def excess(
    wanted: Mapping[str, FloatArray],
    given: Mapping[str, FloatArray],
    precision: Precision,
    *,
    scored: Scored | None = None,
) -> float:
    """Give how many times a component's outputs are beyond what is aimed at; 1 is just within.

    Args:
        wanted: the Keras model's, by name.
        given: the candidate's.
        precision: whose limits count.
        scored: of a decoder, what its first rows stand for.
    """
    limits = TOLERANCES[precision]
    found = []
    for name, reference in wanted.items():
        allowed = limits.get(name, limits["reconstruction"])
        error = np.abs(given[name].astype(np.float64) - reference)
        span = float(np.ptp(reference)) or 1.0
        found.append(float(np.sqrt(np.mean(error**2))) / span / allowed["rmse"])
        if "max_abs_error" in allowed:
            found.append(float(error.max()) / span / allowed["max_abs_error"])
        if "cosine_similarity" in allowed:
            angle = 1 - cosine_similarity(reference, given[name])
            found.append(angle / (1 - allowed["cosine_similarity"]))
        if "ssim" in allowed and reference.ndim == _IMAGES:
            similarity = ssim(reference[:_SSIM_ROWS], given[name][:_SSIM_ROWS], span)
            found.append((1 - similarity) / (1 - allowed["ssim"]))
    if {"z_mean", "z_log_var"} <= wanted.keys():
        found += _posterior(wanted, given, precision)
    if scored is not None:
        found.append(_loss(wanted["reconstruction"], given["reconstruction"], scored, precision))
    return max(found) / _SHARE


def _posterior(
    wanted: Mapping[str, FloatArray], given: Mapping[str, FloatArray], precision: Precision
) -> list[float]:
    reference, candidate = (
        Posterior(z_mean=each["z_mean"], z_log_var=each["z_log_var"]) for each in (wanted, given)
    )
    shift, kl = mean_shift_sigmas(reference, candidate), kl_between(reference, candidate)
    nats = float(kl_to_prior(reference).mean())
    values = {
        "mean_shift_sigmas": shift.mean(),
        "max_shift_sigmas": shift.max(),
        "mean_kl_nats": kl.mean(),
        "max_kl_nats": kl.max(),
        "kl_term_change_nats": abs(float(kl_to_prior(candidate).mean()) - nats),
    }
    scale = ModelScale(latents=reference.z_mean.shape[1], kl_nats=nats)
    limits = limits_for(precision, "posterior", scale=scale)
    return [float(value) / limits[name] for name, value in values.items() if name in limits]


def _loss(wanted: FloatArray, given: FloatArray, scored: Scored, precision: Precision) -> float:
    count = len(scored.latents)
    change = scored.loss(given[:count]) - scored.loss(wanted[:count])
    limits = limits_for(precision, "elbo", scale=scored.scale(wanted))
    return abs(change) / limits["loss_change_nats"]


def _is_narrow(node: Node, plan: QuantizationPlan, mode: WeightMode) -> bool:
    return isinstance(node.op, (Conv, ConvTranspose, Dense)) and (
        node.output in plan.integer
        or node.output in plan.integer_input
        or plan.weight_mode(node.output) is mode
    )


def _only(plan: QuantizationPlan, node: Node) -> QuantizationPlan:
    """The plan with one layer narrow and all others in float."""
    name = frozenset({node.output})
    mode = plan.weight_mode(node.output)
    return replace(
        plan,
        integer=plan.integer & name,
        integer_input=plan.integer_input & name,
        dynamic=plan.dynamic & name,
        weights={node.output: mode},
    )


def _without(
    graph: Graph, plan: QuantizationPlan, node: Node, narrow: WeightMode
) -> QuantizationPlan:
    """The plan with a layer wider, and in float with it the moves that are between floats then."""
    op = node.op
    assert isinstance(op, (Conv, ConvTranspose, Dense))  # noqa: S101  chosen so
    name = {node.output}
    large = op.kernel.size > _WORTH_HALVING and narrow is WeightMode.INT8
    mode = WeightMode.FLOAT16 if large else WeightMode.FLOAT32
    kept = _between_integers(graph, plan.integer - name, plan.integer_input - name)
    return replace(
        plan,
        integer=kept,
        integer_input=plan.integer_input - name,
        dynamic=plan.dynamic - name,
        weights={**plan.weights, node.output: mode},
        stored={key: value for key, value in plan.stored.items() if key not in name},
    )


def _between_integers(
    graph: Graph, integer: frozenset[str], integer_input: frozenset[str]
) -> frozenset[str]:
    """Those of integer nodes that read what is an integer already, or move what is to be one."""
    weighted = {
        node.output
        for node in graph.nodes
        if node.output in integer and isinstance(node.op, (Conv, Dense))
    }
    made = set(weighted)
    for node in graph.nodes:
        if node.output in integer and all(name in made for name in node.inputs):
            made.add(node.output)
    read = made | integer_input
    for node in reversed(graph.nodes):
        users = graph.users(node.output)
        all_read = bool(users) and all(user.output in read for user in users)
        if node.output in integer and is_move(node.op) and all_read:
            read.add(node.output)
    return frozenset(integer & (made | read))
