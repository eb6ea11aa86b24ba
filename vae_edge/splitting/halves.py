"""Building the halves from where the graph is cut, and proving that nothing random is in them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vae_edge.errors import ModelError
from vae_edge.split_options import Scale
from vae_edge.splitting.flat_graph import FlatGraph, Step, Traced, Value, flatten, functional_of
from vae_edge.splitting.heads import simplified, to_log_var, z_tensors
from vae_edge.splitting.making_anew import float_types, made_anew, odd_names
from vae_edge.splitting.sampling import Posterior
from vae_edge.splitting.stand_ins import missing_of
from vae_edge.splitting.tracing import open_layers
from vae_edge.terms import FloatArray

__all__ = ["Halves", "build_decoder", "build_encoder", "check_halves"]

_ROWS = 3


@dataclass(frozen=True, kw_only=True)
class Halves:
    """The two models, and what became of them on the way.

    Attributes:
        encoder: functional Keras model, image -> {z_mean, z_log_var}.
        decoder: functional Keras model, z -> one tensor.
        notes: what was assumed or converted.
    """

    encoder: Any
    decoder: Any
    notes: tuple[str, ...] = field(default=())


def build_encoder(
    graph: FlatGraph, image: Value, posterior: Posterior, where: str
) -> tuple[Any, tuple[str, ...]]:
    """Give the model from the image to z_mean and z_log_var, and what was converted.

    Raises:
        ModelError: a layer whose code is not at hand is needed, or the cut cannot be built.
    """
    given = posterior
    posterior = simplified(posterior)
    wanted = [posterior.mean.value, posterior.spread.value]
    _check_known(graph, graph.needed(wanted, [image]), "encoder", where)
    notes = (*_training_notes(graph, wanted, [image]), *_conversion_notes(posterior))
    if _is_plain(graph, image, given):
        return graph.model, notes
    keras: Any = importlib.import_module("keras")

    def build(graph: FlatGraph, image: Value, posterior: Posterior) -> Any:
        source = _input(keras, graph, image.shape, "image")
        mean, spread = z_tensors(graph, image, source, posterior)
        log_var = to_log_var(spread, posterior.scale)
        if len(mean.shape) > 2:
            mean = keras.layers.Flatten(name="z_mean_as_vector")(mean)
            log_var = keras.layers.Flatten(name="z_log_var_as_vector")(log_var)
        return keras.Model(source, {"z_mean": mean, "z_log_var": log_var}, name="encoder")

    return _built(lambda: build(graph, image, posterior), "encoder", where), notes


def build_decoder(
    graph: FlatGraph,
    z: Value,
    target: Value,
    image_shape: tuple[int | None, ...],
    where: str,
    *,
    logits: bool = False,
) -> tuple[Any, tuple[str, ...]]:
    """Give the model from z to the reconstruction, and what was added to it.

    Args:
        graph: to cut from.
        z: where to cut.
        target: what is decoded.
        image_shape: what it is reshaped to, if it is another.
        where: which model, for messages.
        logits: whether a sigmoid belongs behind it.

    Raises:
        ModelError: a layer whose code is not at hand is needed, or the cut cannot be built.
    """
    _check_known(graph, graph.needed([target], [z]), "decoder", where)
    keras: Any = importlib.import_module("keras")
    whole = next(
        (c for c in graph.calls if c.inputs == (z,) and tuple(c.outputs) == (target,)), None
    )
    reshape = target.shape != image_shape and _count(target.shape) == _count(image_shape)
    notes: tuple[str, ...] = (
        (f"the decoder gives {target.shape}; it was reshaped to the image's {image_shape}.",)
        if reshape
        else ()
    )
    notes += _training_notes(graph, [target], [z]) if whole is None else ()
    if whole is not None and functional_of(whole.model) is not None:
        inner = flatten(Traced(model=whole.model))
        ends = (inner.inputs[0], inner.outputs[0])
        return build_decoder(inner, *ends, image_shape, where, logits=logits)
    if logits:
        _check_unbounded(target, where)
        notes += ("a sigmoid was put behind the decoder, which gives logits.",)
    if len(z.shape) == 1 and not reshape and not logits and _is_whole(graph, z, target):
        return graph.model, notes

    def build() -> Any:
        source = _input(keras, graph, (_count(z.shape),), "z")
        start = source
        if len(z.shape) > 1:
            start = keras.layers.Reshape(z.shape, name="z_as_grid")(source)
        (made,) = graph.run({z: start}, [target])
        if reshape:
            made = keras.layers.Reshape(image_shape, name="reconstruction_as_image")(made)
        if logits:
            made = keras.layers.Activation("sigmoid", name="sigmoid_of_logits")(made)
        return keras.Model(source, made, name="decoder")

    return _built(build, "decoder", where), notes


def _check_unbounded(target: Value, where: str) -> None:
    step = target.step
    activation = getattr(getattr(step, "operation", None), "activation", None)
    name = getattr(activation, "__name__", "linear")
    if name != "linear":
        raise ModelError(
            f"{where}: --logits: the decoder ends in the activation {name}, so that it gives no "
            "logits. Leave the option out."
        )


def _is_whole(graph: FlatGraph, source: Value, target: Value) -> bool:
    """Whether the model is the half already, and is called on one bare tensor."""
    return (
        (source,) == graph.inputs
        and (target,) == graph.outputs
        and not graph.noise
        # Keras up to 3.3 kept one input in a list, and warns of calls without it ever since.
        # A Sequential that was never called has no output of its own to be asked for.
        and functional_of(graph.model) is graph.model
        and not isinstance(graph.model.input, (list, Mapping))
    )


def _is_plain(graph: FlatGraph, image: Value, posterior: Posterior) -> bool:
    """Whether the model is the encoder already, its outputs named as they are to be."""
    named = dict(zip(graph.output_names, graph.outputs, strict=True))
    return (
        (image,) == graph.inputs
        and not graph.noise
        and functional_of(graph.model) is graph.model
        and not isinstance(graph.model.input, (list, Mapping))
        and isinstance(graph.model.output, Mapping)
        and set(graph.model.output) == {"z_mean", "z_log_var"}
        and posterior.scale is Scale.LOG_VAR
        and (posterior.mean.half, posterior.spread.half) == (None, None)
        and len(posterior.mean.value.shape) == 1
        and named.get("z_mean") is posterior.mean.value
        and named.get("z_log_var") is posterior.spread.value
    )


def _training_notes(graph: FlatGraph, wanted: list[Value], given: list[Value]) -> tuple[str, ...]:
    """Say of which layers a half leaves out what their author asked to happen at inference too."""
    needed = graph.needed(wanted, given)
    names = [s.label for s in graph.steps if s in needed and s.is_called_for_training]
    if not names:
        return ()
    told = f"without what is random: {', '.join(names)}."
    return (f"called with training=True, and read as at inference, {told}",)


def _conversion_notes(posterior: Posterior) -> tuple[str, ...]:
    formula = {
        Scale.LOG_VAR: "",
        Scale.LOG_STD: "2 * {}, which is the logarithm of a standard deviation",
        Scale.STD: "2 * log({}), which is a standard deviation",
        Scale.VARIANCE: "log({}), which is a variance",
        Scale.SOFTPLUS: "2 * log(softplus({})), whose softplus is a standard deviation",
    }[posterior.scale]
    step = posterior.spread.value.step
    if not formula or step is None:
        return ()
    return (f"z_log_var is {formula.format(repr(step.label))}.",)


def _count(shape: tuple[int | None, ...]) -> int:
    return math.prod(n or 0 for n in shape)


def _input(keras: Any, graph: FlatGraph, shape: tuple[int | None, ...], name: str) -> Any:
    taken = {step.operation.name for step in graph.steps}
    return keras.Input(shape, name=name if name not in taken else f"{name}_input")


def _built(build: Any, name: str, where: str) -> Any:
    try:
        half = build()
    except Exception as error:  # Keras raises whatever the cut happens to cause
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{where}: its {name} cannot be built from the layers between the cuts "
            f"({type(error).__name__}: {text}). Save the halves: give --encoder and --decoder."
        ) from error
    return _with_open_layers(half)


def _with_open_layers(half: Any) -> Any:
    """Put in place of layers of the user's own class the layers that they are made of.

    What reads the model knows Keras's layers, and nothing of the user's. Where the layers inside
    bear names twice, or compute something else, the half stays as it is.
    """
    graph, opened = open_layers(Traced(model=half))
    if not opened or graph.noise:
        return half
    keras: Any = importlib.import_module("keras")
    try:
        source = keras.Input(graph.inputs[0].shape, name=half.inputs[0].name)
        made = graph.run({graph.inputs[0]: source}, list(graph.outputs))
        outputs = keras.tree.pack_sequence_as(half.output, made)
        deeper = keras.Model(source, outputs, name=half.name)
        rows = _random_rows(graph.inputs[0].shape, seed=3)
        for old, new in zip(_run(half, rows), _run(deeper, rows), strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)
    except Exception:  # noqa: BLE001  then the layers inside are not what the layer computes
        return half
    return deeper


def _check_known(graph: FlatGraph, steps: set[Step], name: str, where: str) -> None:
    missing = [
        missing
        for step in graph.steps
        if step in steps
        for missing in [missing_of(step.operation)]
        if missing is not None
    ]
    if missing:
        told = "; ".join(map(str, dict.fromkeys(missing)))
        raise ModelError(
            f"{where}: the {name} needs {told}. Only a layer between the heads and the decoder can "
            "be cut away. Name the module or file that defines and registers it with --import "
            "(which runs it); a Lambda has to become a layer of your own class first."
        )


def convertible(halves: Halves, where: str) -> Halves:
    """Build halves anew whose float types or names stand in the way of converters, and say so.

    Raises:
        ModelError: a half is quantized already, or cannot be built anew.
    """
    found = {"encoder": halves.encoder, "decoder": halves.decoder}
    notes = dict[str, None]()
    for name, half in tuple(found.items()):
        types, names = float_types(half, f"{where}: its {name}"), odd_names(half)
        if types:
            notes[
                f"the model computes in {', '.join(types)}; its weights were taken into one that "
                "computes in float32, which is what artifacts are made of and compared with."
            ] = None
        if types or names:
            found[name] = made_anew(half, f"{where}: its {name}")
    return Halves(encoder=found["encoder"], decoder=found["decoder"], notes=(*halves.notes, *notes))


def check_halves(halves: Halves, where: str) -> None:
    """Prove that equal inputs give equal, finite outputs.

    Raises:
        ModelError: a half draws random numbers, or gives what is no number.
    """
    for name, half in (("encoder", halves.encoder), ("decoder", halves.decoder)):
        shape = tuple(half.inputs[0].shape[1:])
        rows = _random_rows(shape, seed=1)
        rows[1] = rows[0]
        first, second = _run(half, rows), _run(half, rows)
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            if not np.isfinite(a).all():
                raise ModelError(
                    f"{where}: output {index} of its {name} is not finite for ordinary inputs. "
                    "Either its weights are damaged, or its spread is not what it was read as "
                    "(--scale says what it is)."
                )
            if not np.array_equal(a, b) or not np.allclose(a[0], a[1], rtol=1e-3, atol=1e-4):
                raise ModelError(
                    f"{where}: its {name} gives other values each time it is called, so random "
                    "numbers are drawn in it. Leave them to the sampling layer; or say where to "
                    "cut with --z-mean, --z-log-var and --decoder-input."
                )


def _random_rows(shape: tuple[int | None, ...], seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    return rng.random((_ROWS, *(n or 1 for n in shape)), np.float32)


def _run(half: Any, rows: FloatArray) -> list[FloatArray]:
    keras: Any = importlib.import_module("keras")
    return [np.asarray(t, np.float32) for t in keras.tree.flatten(half(rows, training=False))]
