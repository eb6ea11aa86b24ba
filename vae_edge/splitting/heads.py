"""From an encoder's heads to `z_mean` and `z_log_var`: which is which, and what the spread is."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vae_edge.split_options import Scale
from vae_edge.splitting.flat_graph import FlatGraph, Value
from vae_edge.splitting.sampling import Part, Posterior, behind_identities

__all__ = [
    "Named",
    "by_name",
    "is_mean_name",
    "scale_of_name",
    "simplified",
    "to_log_var",
    "z_tensors",
]

_MEANS = {"mean", "means", "mu", "mus", "loc"}
_STDS = {"std", "stds", "stddev", "stdev", "sigma", "sigmas", "scale"}
_VARIANCES = {"var", "vars", "variance"}
_LOG_VARS = ("logvar", "lnvar", "logsigma2", "logsigmasq", "logsquaredsigma", "logstdsq", "varlog")
_LOG_STDS = ("logstd", "logsigma", "logscale", "lnstd", "lnsigma", "stdlog", "sigmalog", "scalelog")
_EXACT_HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class Named:
    """An output that may be a head, and what it is called.

    Attributes:
        part: the tensor.
        names: its key in a dict, and the name of the layer that gives it.
    """

    part: Part
    names: tuple[str, ...]


def _tokens(name: str) -> list[str]:
    parted = re.sub(r"([a-z])([A-Z])", r"\1_\2", name.rsplit("/", maxsplit=1)[-1])
    return [token for token in re.split(r"[^a-z0-9]+", parted.lower()) if token]


def scale_of_name(name: str) -> Scale | None:
    """Give what a name says of a spread; None where it says nothing."""
    tokens = _tokens(name)
    joined = "".join(tokens)
    if "lv" in tokens or any(each in joined for each in _LOG_VARS):
        return Scale.LOG_VAR
    if any(each in joined for each in _LOG_STDS):
        return Scale.LOG_STD
    bare = {token.rstrip("0123456789") for token in tokens}
    if bare & _STDS:
        return Scale.STD
    return Scale.VARIANCE if bare & _VARIANCES else None


def is_mean_name(name: str) -> bool:
    """Say whether a name is that of a mean."""
    bare = {token.rstrip("0123456789") for token in _tokens(name)}
    joined = "".join(_tokens(name))
    return scale_of_name(name) is None and bool(
        bare & _MEANS or joined in {"zmean", "zmu", "latentmean"}
    )


def by_name(outputs: Sequence[Named]) -> Posterior | None:
    """Read the posterior from names, if just one output is a mean by them and just one a spread."""
    means = [each for each in outputs if any(map(is_mean_name, each.names))]
    spreads = [
        (each, scale)
        for each in outputs
        for scale in [next(filter(None, map(scale_of_name, each.names)), None)]
        if scale is not None
    ]
    if len(means) != 1 or len(spreads) != 1:
        return None
    return Posterior(mean=means[0].part, spread=spreads[0][0].part, scale=spreads[0][1])


def simplified(posterior: Posterior) -> Posterior:
    """Take back what the model computes of its log-variance only to sample with it.

    A standard deviation made by `exp(0.5 * log_var)` is that log-variance again, without a
    logarithm of an exponential in the artifact. A `split` is read as halves of what it splits.
    """
    mean = dataclasses.replace(posterior.mean, value=behind_identities(posterior.mean.value))
    spread, scale = posterior.spread, posterior.scale
    spread = dataclasses.replace(spread, value=behind_identities(spread.value))
    while (found := _undone(spread, scale)) is not None:
        spread, scale = found
    return Posterior(mean=_unsplit(mean), spread=_unsplit(spread), scale=scale)


def _undone(part: Part, scale: Scale) -> tuple[Part, Scale] | None:
    step = part.value.step
    if step is None or part.half is not None or len(step.inputs) != 1:
        return None
    source = Part(value=step.inputs[0])
    kind = _kind(step.operation)
    if kind == "Exp" and scale in (Scale.STD, Scale.VARIANCE):
        return source, Scale.LOG_STD if scale is Scale.STD else Scale.LOG_VAR
    if kind == "Sqrt" and scale is Scale.STD:
        return source, Scale.VARIANCE
    if kind == "Softplus" and scale is Scale.STD:
        return source, Scale.SOFTPLUS
    if scale is Scale.LOG_STD and _factor(step, kind) == _EXACT_HALF:
        return source, Scale.LOG_VAR
    return None


def _kind(operation: Any) -> str:
    keras: Any = importlib.import_module("keras")
    if isinstance(operation, keras.layers.Activation):
        names = {"exponential": "Exp", "softplus": "Softplus"}
        return names.get(getattr(operation.activation, "__name__", ""), "")
    if isinstance(operation, keras.layers.Rescaling) and not operation.offset:
        return "Rescaling"
    is_keras = type(operation).__module__.startswith("keras.src.ops")
    return type(operation).__name__ if is_keras else ""


def _factor(step: Any, kind: str) -> float | None:
    if kind == "Rescaling":
        return float(step.operation.scale) if isinstance(step.operation.scale, float) else None
    arguments = step.node.arguments
    numbers = [each for each in arguments.args if isinstance(each, (int, float))]
    if len(numbers) != 1:
        return None
    if kind == "Multiply":
        return float(numbers[0])
    # The number divides only where the tensor comes first.
    divides = kind in ("Divide", "TrueDivide") and arguments.args[-1] is numbers[0]
    return 1 / numbers[0] if divides and numbers[0] else None


def _unsplit(part: Part) -> Part:
    step = part.value.step
    if step is None or part.half is not None or _kind(step.operation) != "Split":
        return part
    halves = len(step.outputs) == 2 and step.outputs[0].shape == step.outputs[1].shape
    source = step.inputs[0]
    last = source.shape[:-1] == part.value.shape[:-1] and source.size == 2 * (part.value.size or 0)
    return Part(value=source, half=part.value.index) if halves and last else part


def z_tensors(graph: FlatGraph, source: Value, image: Any, posterior: Posterior) -> tuple[Any, Any]:
    """Compute the mean and the spread from a symbolic image, by the user's own layers.

    One dense layer for both becomes two, since each then gets an output, and so an integer scale,
    of its own.
    """
    mean, spread = posterior.mean, posterior.spread
    dense = _shared_dense(mean, spread)
    if dense is None:
        tensors = graph.run({source: image}, [mean.value, spread.value])
        return mean.take(tensors[0]), spread.take(tensors[1])
    (hidden,) = graph.run({source: image}, [dense.inputs[0]])
    return _half_dense(dense, mean)(hidden), _half_dense(dense, spread)(hidden)


def _shared_dense(mean: Part, spread: Part) -> Any:
    keras: Any = importlib.import_module("keras")
    step = mean.value.step
    if step is None or mean.value is not spread.value or None in (mean.half, spread.half):
        return None
    layer = step.operation
    plain = type(layer) is keras.layers.Dense and layer.activation is keras.activations.linear
    return step if plain else None


def _half_dense(step: Any, part: Part) -> Any:
    keras: Any = importlib.import_module("keras")
    whole = step.operation
    half = keras.layers.Dense(
        whole.units // 2, use_bias=whole.use_bias, name=f"{whole.name}_{part.half}"
    )
    half.build((None, *step.inputs[0].shape))
    half.set_weights([part.take(weight) for weight in map(_numpy, whole.weights)])
    return half


def _numpy(weight: Any) -> Any:
    return weight.numpy()


def to_log_var(spread: Any, scale: Scale) -> Any:
    """Give the log-variance of a spread, on symbolic tensors."""
    keras: Any = importlib.import_module("keras")
    ops = keras.ops
    if scale is Scale.LOG_VAR:
        return spread
    if scale is Scale.VARIANCE:
        return ops.log(spread)
    if scale is Scale.SOFTPLUS:
        spread = ops.log(ops.softplus(spread))
    elif scale is Scale.STD:
        spread = ops.log(spread)
    return keras.layers.Rescaling(2.0, name="spread_as_z_log_var")(spread)
