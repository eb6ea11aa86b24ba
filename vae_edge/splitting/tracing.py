"""From a model of the user's own class to a functional one, by calling it on symbolic tensors."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from vae_edge.splitting.flat_graph import FlatGraph, Step, Traced, flatten, functional_of, is_own

__all__ = ["fixed_input_shape", "open_layers", "trace", "trace_call"]

_RANDOM = ("normal", "truncated_normal", "uniform")


def trace(model: Any, shape: tuple[int | None, ...] | None = None) -> Traced:
    """Give a functional model of what a model computes at inference.

    Random numbers that its `call` draws become inputs, so that what needs none of them can be
    told from what does. Losses that it adds are left out.

    Args:
        model: any Keras layer or model.
        shape: of one input row; None to take what the model was built for.
    """
    if functional_of(model) is not None:
        return Traced(model=model)
    shape = shape if shape is not None else fixed_input_shape(model)
    if shape is None:
        return Traced(
            model=None,
            reason="it has never been called, or takes more than one tensor, so its input is not "
            "known",
        )
    return trace_call(model.call, shape, model.name)


def trace_call(call: Callable[..., Any], shape: tuple[int | None, ...], name: str) -> Traced:
    """Give a functional model of what a function of one tensor computes at inference.

    Args:
        call: a model's `call`, or another method of it.
        shape: of one input row.
        name: what to call the model.
    """
    keras: Any = importlib.import_module("keras")
    image = keras.Input(shape, name="input")
    try:
        with _symbolic_noise() as noise, _no_losses():
            parameters = inspect.signature(call).parameters
            options = {"training": False} if "training" in parameters else {}
            outputs = call(image, **options)
        return Traced(
            model=keras.Model([image, *noise] if noise else image, outputs, name=name),
            noise=len(noise),
        )
    except Exception as error:  # noqa: BLE001  whatever the user's code raises on a symbolic tensor
        text = " ".join(str(error).split())
        what = getattr(call, "__name__", "call")
        return Traced(
            model=None,
            reason=f"its {what}() cannot be followed on a symbolic tensor, as it could if it used "
            f"Keras layers and keras.ops only ({type(error).__name__}: {text[:200]})",
        )


def fixed_input_shape(model: Any) -> tuple[int | None, ...] | None:
    """Give the shape of one row of the only tensor a model takes; None where that is not known."""
    functional = functional_of(model)
    if functional is not None:
        shapes = [tuple(tensor.shape) for tensor in functional.inputs]
        return tuple(shapes[0][1:]) if len(shapes) == 1 else None
    config = getattr(model, "get_build_config", lambda: None)() or {}
    shape = config.get("input_shape")
    if not isinstance(shape, (list, tuple)) or any(isinstance(n, (list, tuple)) for n in shape):
        return None
    return tuple(shape[1:])


def open_layers(
    traced: Traced, wanted: Callable[[FlatGraph, Step], bool] = lambda _, __: True
) -> tuple[FlatGraph, bool]:
    """Flatten a model through layers of the user's own class that are made of other layers.

    Args:
        traced: the model.
        wanted: which of those to look into.

    Returns:
        The graph, and whether any was looked into.
    """
    opened: dict[int, Traced] = {}
    closed: set[int] = set()
    graph = flatten(traced)
    while True:
        news = [
            step
            for step in graph.steps
            if id(step.operation) not in opened.keys() | closed
            and _is_composed(step)
            and wanted(graph, step)
        ]
        if not news:
            return graph, bool(opened)
        for step in news:
            inner = trace(step.operation, step.inputs[0].shape)
            if inner.model is None or not _alike(step, inner):
                closed.add(id(step.operation))
            else:
                opened[id(step.operation)] = inner
        graph = flatten(traced, opened)


def _is_composed(step: Step) -> bool:
    operation = step.operation
    return len(step.inputs) == 1 and is_own(operation) and bool(getattr(operation, "_layers", ()))


def _alike(step: Step, inner: Traced) -> bool:
    """Whether what was traced gives what the call gave, by its shapes."""
    shapes = [tuple(tensor.shape) for tensor in functional_of(inner.model).outputs]
    return shapes == [tuple(tensor.shape) for tensor in step.node.outputs]


@contextlib.contextmanager
def _no_losses() -> Iterator[None]:
    """Let `add_loss` do nothing: it refuses symbolic tensors, and no artifact has a loss."""
    keras: Any = importlib.import_module("keras")
    with mock.patch.object(keras.layers.Layer, "add_loss", return_value=None):
        yield


@contextlib.contextmanager
def _symbolic_noise() -> Iterator[list[Any]]:
    """Make functions that draw random numbers give new symbolic inputs of the shape asked for."""
    keras: Any = importlib.import_module("keras")
    drawn: list[Any] = []
    originals = {name: getattr(keras.random, name) for name in _RANDOM}

    def replacement(name: str) -> Any:
        def draw(shape: Any, *args: Any, **kwargs: Any) -> Any:
            symbolic = any(n is None or isinstance(n, keras.KerasTensor) for n in shape)
            if not symbolic:
                return originals[name](shape, *args, **kwargs)
            drawn.append(keras.Input(tuple(shape)[1:], name=f"noise_{len(drawn)}"))
            return drawn[-1]

        return draw

    with contextlib.ExitStack() as stack:
        for name in _RANDOM:
            stack.enter_context(mock.patch.object(keras.random, name, replacement(name)))
        yield drawn
