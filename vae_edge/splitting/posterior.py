"""Which tensors are the mean and the spread, by what is known of a model: never by a silent guess.

First by what the user says, then by measuring the sampling, then by names, and by position only
with a note.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vae_edge.errors import ModelError
from vae_edge.split_options import Scale, SplitOptions
from vae_edge.splitting.flat_graph import FlatGraph, Value
from vae_edge.splitting.heads import Named, by_name
from vae_edge.splitting.lookup import candidates, find_output, shape_text
from vae_edge.splitting.sampling import Part, Posterior, Sampling, measure_posterior

__all__ = ["SAY_WHERE", "posterior_as_told", "posterior_of_outputs", "posterior_of_sampling"]

SAY_WHERE = (
    "Say where with --z-mean LAYER, --z-log-var LAYER and --decoder-input LAYER, and with --scale "
    "what the second one is, if it is no log-variance."
)


def posterior_as_told(graph: FlatGraph, options: SplitOptions, where: str) -> Posterior | None:
    """Read the heads that the user names; None where none are named.

    Raises:
        ModelError: no such layers, or they do not fit each other.
    """
    if options.z_mean is None or options.z_log_var is None:
        return None
    mean = find_output(graph, options.z_mean, "--z-mean", where)
    spread = find_output(graph, options.z_log_var, "--z-log-var", where)
    if mean.size is None or mean.size != spread.size:
        raise ModelError(
            f"{where}: --z-mean {options.z_mean} gives {shape_text(mean.shape)}, --z-log-var "
            f"{options.z_log_var} {shape_text(spread.shape)}; they must be alike. "
            f"{candidates(graph)}"
        )
    return Posterior(
        mean=Part(value=mean), spread=Part(value=spread), scale=options.scale or Scale.LOG_VAR
    )


def posterior_of_sampling(
    graph: FlatGraph, sampling: Sampling, options: SplitOptions, where: str
) -> tuple[Posterior, tuple[str, ...]]:
    """Read the heads that z is sampled from; give them, and what was assumed.

    Raises:
        ModelError: they can be read in several ways, or in none.
    """
    measured = measure_posterior(graph, sampling)
    if measured is not None:
        return _scaled(measured, options, "its sampling shows")
    size = sampling.z.size or 0
    why = (
        "its sampling fits no reading of them"
        if sampling.known
        else "the code that samples z is not at hand"
    )
    return _unmeasured(graph, sampling.heads, size, options, where, why, guess=not sampling.known)


def posterior_of_outputs(
    graph: FlatGraph, outputs: Sequence[Value], size: int, options: SplitOptions, where: str
) -> tuple[Posterior, tuple[str, ...]]:
    """Read the heads that an encoder gives, none of which is sampled.

    Raises:
        ModelError: they can be read in several ways, or in none.
    """
    why = "the encoder gives them without a sampled z"
    return _unmeasured(graph, outputs, size, options, where, why, guess=True)


def _unmeasured(
    graph: FlatGraph,
    values: Sequence[Value],
    size: int,
    options: SplitOptions,
    where: str,
    why: str,
    *,
    guess: bool,
) -> tuple[Posterior, tuple[str, ...]]:
    heads = [value for value in dict.fromkeys(values) if value.size == size]
    both = [value for value in dict.fromkeys(values) if value.size == 2 * size]
    named = [Named(part=Part(value=value), names=_names(graph, value)) for value in heads]
    found = by_name(named)
    if found is not None:
        posterior, notes = _scaled(found, options, "the layers' names say")
        if posterior.scale is not Scale.LOG_VAR and options.scale is None:
            read = f"'{_label(graph, posterior.spread.value)}' was read as {posterior.scale}"
            notes += (f"{read} by its name, since {why}; --scale says otherwise.",)
        return posterior, notes
    scale = options.scale or Scale.LOG_VAR
    assumed = f"since {why}. --z-mean and --z-log-var say otherwise."
    if guess and len(heads) == 2 and not any(map(by_name, ([named[0]], [named[1]]))):
        told = " and ".join(f"'{_label(graph, head)}'" for head in heads)
        return (
            Posterior(mean=Part(value=heads[0]), spread=Part(value=heads[1]), scale=scale),
            (f"{told} were taken for z_mean and {scale} by their order, {assumed}",),
        )
    if guess and len(both) == 1 and not heads:
        label = _label(graph, both[0])
        halves = [Part(value=both[0], half=half) for half in (0, 1)]
        note = (
            f"the first half of '{label}' was taken for z_mean and the second for {scale}, since "
            f"{why}. --scale says otherwise."
        )
        return Posterior(mean=halves[0], spread=halves[1], scale=scale), (note,)
    told = ", ".join(f"{_label(graph, v)} {shape_text(v.shape)}" for v in values) or "nothing"
    raise ModelError(
        f"{where}: which tensors are z_mean and z_log_var cannot be told: z has {size} values, and "
        f"the encoder gives {told}; {why}. {SAY_WHERE} {candidates(graph)}"
    )


def _scaled(found: Posterior, options: SplitOptions, how: str) -> tuple[Posterior, tuple[str, ...]]:
    if options.scale is None or options.scale is found.scale:
        return found, ()
    note = f"--scale {options.scale} was followed, though {how} {found.scale}."
    return dataclasses.replace(found, scale=options.scale), (note,)


def _names(graph: FlatGraph, value: Value) -> tuple[str, ...]:
    keys = [
        name
        for name, output in zip(graph.output_names, graph.outputs, strict=True)
        if output is value
    ]
    own = [value.step.operation.name] if value.step is not None else []
    # A layer that gives both cannot say by its own name which is which.
    if value.step is not None and len(value.step.outputs) > 1:
        own = []
    return tuple(dict.fromkeys((*keys, *own)))


def _label(graph: FlatGraph, value: Value) -> str:
    if value.step is None:
        return next(iter(_names(graph, value)), "input")
    several = len(value.step.outputs) > 1
    return f"{value.step.label}:{value.index}" if several else value.step.label
