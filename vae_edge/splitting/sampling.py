"""Where a model samples z, and from what: found by what depends on random numbers.

A step is random where it gives different rows for equal ones. z is the first tensor that depends
on one and through which all that is decoded passes. What enters the steps between is the heads;
which of them is the mean, and what the other says of the spread, is measured: the steps are run on
known heads, and the mean and the standard deviation of the z that they give are compared with what
each reading would give.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.split_options import Scale
from vae_edge.splitting.flat_graph import FlatGraph, Step, Value, is_own
from vae_edge.splitting.stand_ins import missing_of
from vae_edge.terms import FloatArray

__all__ = [
    "Part",
    "Posterior",
    "Sampling",
    "behind_identities",
    "find_sampling",
    "is_random",
    "measure_posterior",
    "noise_layers",
    "random_steps",
]

_ROWS = 4096
_CALLS = 4
_PROBES = 6
_MOST_ELEMENTS = 2**24
# In units of what averaging over _ROWS draws leaves: 1 / sqrt(rows) of the mean, 1 / sqrt(2 * rows)
# of the standard deviation. Rows alone count, since a layer with a fixed seed repeats its draws.
_SIGMAS = 6.0

Doubles = npt.NDArray[np.float64]

_STD: Mapping[Scale, Callable[[Doubles], Doubles]] = {
    Scale.LOG_VAR: lambda head: np.exp(0.5 * head),
    Scale.LOG_STD: np.exp,
    Scale.STD: np.abs,
    Scale.VARIANCE: lambda head: np.sqrt(np.abs(head)),
    Scale.SOFTPLUS: lambda head: np.log1p(np.exp(head)),
}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Where z is sampled.

    Attributes:
        z: what is decoded.
        heads: what it is sampled from.
        known: whether the steps between can be run.
    """

    z: Value
    heads: tuple[Value, ...]
    known: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """A tensor, or one half of its last axis.

    Attributes:
        value: the tensor.
        half: 0 or 1; None for all of it.
    """

    value: Value
    half: int | None = None

    def take(self, tensor: Any) -> Any:
        """Cut the part out of the tensor."""
        if self.half is None:
            return tensor
        middle = int(tensor.shape[-1]) // 2
        return tensor[..., :middle] if self.half == 0 else tensor[..., middle:]


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """What z is sampled from.

    Attributes:
        mean: of z.
        spread: of z, as `scale` says.
        scale: what `spread` is.
    """

    mean: Part
    spread: Part
    scale: Scale


def random_steps(graph: FlatGraph) -> list[Step]:
    """Give the steps that draw random numbers at inference."""
    return [step for step in graph.steps if is_random(step)]


def noise_layers(graph: FlatGraph) -> list[Step]:
    """Give Keras's layers of noise that were called so that they add it at inference too."""
    keras: Any = importlib.import_module("keras")
    return [
        step
        for step in graph.steps
        if isinstance(step.operation, keras.layers.GaussianNoise) and step.is_called_for_training
    ]


def is_random(step: Step) -> bool:
    """Say whether a step draws random numbers at inference."""
    if not _is_candidate(step):
        return False
    # Some sampling layers give the mean at inference; a block with dropout takes one tensor.
    return _differs(step) or (len(step.inputs) > 1 and _differs(step, training=True))


def _is_candidate(step: Step) -> bool:
    if missing_of(step.operation) is not None or not step.inputs:
        return False
    return type(step.operation).__name__ == "Lambda" or is_own(step.operation)


def _differs(step: Step, *, training: bool = False) -> bool:
    """Whether equal rows give different ones, or two calls do."""
    if any(n is None for value in step.inputs for n in value.shape):
        return False
    rng = np.random.default_rng(0)
    feeds = [
        np.repeat(
            rng.uniform(0.3, 1.5, (1, *(n or 1 for n in value.shape))).astype(np.float32), 4, axis=0
        )
        for value in step.inputs
    ]
    try:
        first, second = (
            [np.asarray(tensor) for tensor in step.call(feeds, training=training)] for _ in range(2)
        )
    except Exception:  # noqa: BLE001  a layer that takes no such rows is no sampling
        return False
    return any(
        not np.array_equal(a, b) or (a.shape[:1] == (4,) and not np.array_equal(a[0], a[1]))
        for a, b in zip(first, second, strict=True)
    )


def behind_identities(value: Value) -> Value:
    """Give what a tensor is the same as: layers that only add a loss give what they take."""
    step = value.step
    if step is None or not is_own(step.operation) or missing_of(step.operation) is not None:
        return value
    rng = np.random.default_rng(0)
    feeds = [
        rng.standard_normal((2, *(n or 1 for n in each.shape))).astype(np.float32)
        for each in step.inputs
    ]
    try:
        made = np.asarray(step.call(feeds)[value.index])
    except Exception:  # noqa: BLE001  a layer that takes no such rows is no identity
        return value
    for each, rows in zip(step.inputs, feeds, strict=True):
        if np.array_equal(rows, made):
            return behind_identities(each)
    return value


def find_sampling(graph: FlatGraph, target: Value | None = None) -> Sampling | None:
    """Find where z is sampled.

    Args:
        graph: of the whole model, or of an encoder that gives a sampled z.
        target: what is decoded; None where the graph ends with z.

    Gives None where nothing is sampled, or what is decoded does not come of it alone.
    """
    random = random_steps(graph)
    found = _cut(graph, random, target)
    if found is not None or random or graph.noise:
        return found
    # Noise that is added to the image or between layers is none that z is sampled with.
    noisy = [c for step in noise_layers(graph) for c in [_cut(graph, [step], target)] if c]
    measured = [cut for cut in noisy if measure_posterior(graph, cut) is not None]
    if measured:
        return measured[0] if len(measured) == 1 else None
    # Nothing is known to be random; then layers that nothing is known of may be.
    unknown = [step for step in graph.steps if missing_of(step.operation) is not None]
    cuts = [cut for step in unknown for cut in [_cut(graph, [step], target)] if cut is not None]
    likely = [cut for cut in cuts if _fits(cut)]
    return likely[0] if len(likely) == 1 else None


def _fits(cut: Sampling) -> bool:
    """Whether z is made of two tensors of its size, or of one that holds both."""
    sizes = [head.size for head in cut.heads]
    return cut.z.size is not None and sizes in ([cut.z.size] * 2, [2 * cut.z.size])


def _cut(graph: FlatGraph, random: list[Step], target: Value | None) -> Sampling | None:
    drawn = graph.below(graph.noise, random)
    if target is None:
        ends = [value for value in dict.fromkeys(graph.outputs) if value in drawn]
        z = ends[0] if len(ends) == 1 else None
    else:
        z = next(
            (
                value
                for step in graph.steps
                for value in step.outputs
                if value in drawn and value is not target and _decides(graph, value, target, random)
            ),
            None,
        )
    if z is None:
        return None
    between = [step for step in graph.steps if step in graph.needed([z])]
    between = [step for step in between if any(value in drawn for value in step.outputs)]
    # Zeros that noise is added to are none of the heads, though a layer makes them from one.
    between = [s for s in graph.steps if s in between or _feeds_constant(s, between)]
    inner = {value for step in between for value in step.outputs} | set(graph.noise)
    heads = dict.fromkeys(
        value
        # From z backwards: its own inputs first, in the order of its call.
        for step in reversed(between)
        for value in step.inputs
        if value not in inner
    )
    known = all(missing_of(step.operation) is None for step in between)
    return Sampling(z=z, heads=tuple(heads), known=known)


def _feeds_constant(step: Step, into: list[Step]) -> bool:
    """Whether a step gives others what does not depend on what it is given."""
    fed = any(value in each.inputs for each in into for value in step.outputs)
    if not fed or missing_of(step.operation) is not None or is_own(step.operation):
        return False
    rng = np.random.default_rng(0)
    feeds = [rng.random((4, *(n or 1 for n in v.shape))).astype(np.float32) for v in step.inputs]
    try:
        made = [np.asarray(tensor) for tensor in step.call(feeds)]
    except Exception:  # noqa: BLE001  a layer that takes no such rows is no constant
        return False
    return all(array.shape[:1] == (4,) and (array == array[:1]).all() for array in made)


def _decides(graph: FlatGraph, value: Value, target: Value, random: list[Step]) -> bool:
    """Whether a value alone decides what the target is."""
    steps = graph.needed([target], [value])
    return (
        value.step not in steps
        and not graph.sources([target], [value])
        and not any(step in steps for step in random)
        and target.step in steps
    )


def measure_posterior(graph: FlatGraph, sampling: Sampling) -> Posterior | None:
    """Measure which reading of the heads gives the z that is sampled; None where not just one."""
    if not sampling.known or any(head.size is None for head in sampling.heads):
        return None
    try:
        probes = [_probe(graph, sampling, seed) for seed in range(_PROBES)]
    except Exception:  # noqa: BLE001  the steps take no such heads: nothing is measured
        return None
    fitting = [
        reading
        for reading in _readings(sampling)
        if all(_agrees(reading, heads, *moments) for heads, moments in probes)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _readings(sampling: Sampling) -> Iterator[Posterior]:
    parts = []
    for head in sampling.heads:
        if head.shape == sampling.z.shape:
            parts.append(Part(value=head))
        elif head.size == 2 * (sampling.z.size or 0):
            parts += [Part(value=head, half=half) for half in (0, 1)]
    for mean, spread in itertools.permutations(parts, 2):
        for scale in Scale:
            yield Posterior(mean=mean, spread=spread, scale=scale)


def _probe(
    graph: FlatGraph, sampling: Sampling, seed: int
) -> tuple[dict[Value, FloatArray], tuple[Doubles, Doubles]]:
    """Sample from one row of heads; give them, and the mean and standard deviation of z."""
    rng = np.random.default_rng(seed)
    heads = {
        head: rng.uniform(0.3, 1.5, (1, *(n or 1 for n in head.shape))).astype(np.float32)
        for head in sampling.heads
    }
    rows = min(_ROWS, _MOST_ELEMENTS // max(array.size for array in heads.values()))
    feeds: dict[Value, Any] = {head: np.repeat(row, rows, axis=0) for head, row in heads.items()}
    drawn = []
    for _ in range(_CALLS):
        for noise in graph.noise:
            shape = (rows, *(n or 1 for n in noise.shape))
            feeds[noise] = rng.standard_normal(shape).astype(np.float32)
        converted = {key: _tensor(value) for key, value in feeds.items()}
        drawn.append(np.asarray(graph.run(converted, [sampling.z], training=True)[0], np.float64))
    z = np.concatenate(drawn)
    return heads, (z.mean(axis=0), z.std(axis=0))


def _tensor(array: FloatArray) -> Any:
    keras: Any = importlib.import_module("keras")
    return keras.ops.convert_to_tensor(array)


def _agrees(
    reading: Posterior, heads: Mapping[Value, FloatArray], mean: Doubles, std: Doubles
) -> bool:
    expected = reading.mean.take(heads[reading.mean.value])[0].astype(np.float64)
    spread = _STD[reading.scale](
        reading.spread.take(heads[reading.spread.value])[0].astype(np.float64)
    )
    if expected.shape != mean.shape or spread.shape != std.shape:
        return False
    near = np.abs(mean - expected) <= _SIGMAS * spread / np.sqrt(_ROWS)
    alike = np.abs(std / spread - 1) <= _SIGMAS / np.sqrt(2 * _ROWS)
    return bool(near.all() and alike.all())
