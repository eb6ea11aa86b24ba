"""Tensors by the names of layers, and the list of those that could be meant."""

from __future__ import annotations

import re

from vae_edge.errors import ModelError
from vae_edge.splitting.flat_graph import FlatGraph, Value, functional_of

__all__ = ["candidates", "find_output", "find_z", "shape_text"]

_MOST_LISTED = 24


def find_output(
    graph: FlatGraph, name: str, option: str, where: str, like: Value | None = None
) -> Value:
    """Give the output of a layer.

    Args:
        graph: to look in.
        name: of the layer, behind those of the models around it where that alone is not unique;
            with `:N` behind it, its output N.
        option: that named it, for messages.
        where: which model, for messages.
        like: a tensor of the shape that is looked for; None for a vector.

    Raises:
        ModelError: none of that name, or several; lists the candidates.
    """
    label, _, index = name.partition(":")
    if index and not re.fullmatch(r"[0-9]{1,3}", index):
        raise ModelError(f"{where}: {option} {name}: expected LAYER or LAYER:N, N a number from 0.")
    found = [
        tuple(step.outputs) for step in graph.steps if label in (step.label, step.operation.name)
    ]
    found += [tuple(call.outputs) for call in graph.calls if label == call.model.name]
    found += [
        (value,)
        for value, key in zip(graph.outputs, graph.output_names, strict=True)
        if key == label and value not in {each for outputs in found for each in outputs}
    ]
    values = found[0] if len(found) == 1 else ()
    place = int(index) if index else 0
    if not found:
        problem = "there is no such layer"
    elif len(found) > 1:
        problem = f"{len(found)} layers or calls are called so; name the models around it as well"
    elif not index and len(values) > 1:
        problem = f"it gives {len(values)} tensors; say which with {label}:0, {label}:1"
    elif place >= len(values):
        problem = f"it gives {len(values)} tensors, counted from 0"
    else:
        return values[place]
    raise ModelError(f"{where}: {option} {name}: {problem}. {candidates(graph, like)}")


def find_z(graph: FlatGraph, name: str, size: int, where: str) -> Value:
    """Give the tensor that is decoded: a layer's output if it is of z's size, else its input.

    Raises:
        ModelError: no such layer, or neither is of that size.
    """
    around: list[Value] = []
    for call in graph.calls:
        inputs = functional_of(call.model)
        named = [call.model.name] + [t._keras_history[0].name for t in inputs.inputs] * (
            inputs is not None
        )
        if name in named:
            around += call.inputs[:1]
    for step in graph.steps:
        if name in (step.label, step.operation.name):
            around += [*step.outputs, *step.inputs]
    fitting = [value for value in dict.fromkeys(around) if value.size == size]
    if not fitting:
        problem = (
            f"neither gives nor takes {size} values, as z_mean does"
            if around
            else ("there is no such layer")
        )
        raise ModelError(f"{where}: --decoder-input {name}: {problem}. {candidates(graph)}")
    return fitting[0]


def candidates(graph: FlatGraph, like: Value | None = None) -> str:
    """List the layers whose output may be a head or z, with their shapes.

    Args:
        graph: to look in.
        like: to list those whose output has this one's shape instead, if there are any.
    """
    given = [(step, value) for step in graph.steps for value in step.outputs]
    alike = [each for each in given if like is not None and each[1].shape == like.shape]
    vectors = [each for each in given if len(each[1].shape) == 1]
    flat = [
        f"{step.label}{f':{value.index}' * (len(step.outputs) > 1)} {shape_text(value.shape)}"
        for step, value in alike or vectors or given
    ]
    shown = ", ".join(flat[:_MOST_LISTED])
    more = f" and {len(flat) - _MOST_LISTED} more" if len(flat) > _MOST_LISTED else ""
    kind = "Layers that give a vector" if vectors and not alike else "Layers"
    return f"{kind}: {shown or 'none'}{more}."


def shape_text(shape: tuple[int | None, ...]) -> str:
    """Write a row's shape as messages do."""
    return f"({', '.join('?' if n is None else str(n) for n in shape)})"
