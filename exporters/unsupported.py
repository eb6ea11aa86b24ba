"""What a standard converter's complaint is about: which operator, of which layer."""

from __future__ import annotations

import importlib
import re
from typing import Any

from exporters.base import ExportRequest
from vae_edge.splitting.flat_graph import functional_of
from vae_edge.terms import Format

__all__ = ["complaint"]

# TensorFlow's converter names operator and place so, and tf2onnx so; calls are where both stand in.
_IN_TFLITE = re.compile(r'fused\["(\w+):", "([^"@]+)@')
_IN_ONNX = re.compile(r"No Op registered for (\w+) .*?Name: (\S+)", re.DOTALL)
# What they wrote, or were writing, and was no valid model: the operator, its place, what is wrong.
_INVALID_TFLITE = re.compile(r"'tf\.(?:\w+)' op (?!is neither)([^\n]+)")
_INVALID_ONNX = re.compile(r"\(op_type:(\w+), node name: ([^)]+)\): (?:\[\w+\] )?([^\n]+)")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LONGEST = 300


def complaint(error: Exception, request: ExportRequest, format: Format) -> str:
    """Give sentences: what could not be converted, where, and what would help.

    Args:
        error: a converter's.
        request: what was to be exported.
        format: to which format.
    """
    what = f"{request.component} cannot be converted to {request.precision} {format}: "
    text = str(error)
    invalid = _invalid(text, format)
    found = _places(text, format)
    if not found:
        return f"{what}{_short(text)} Try another --precision or --format."
    operator, place = found[0]
    half = request.vae.component(request.component)
    layer = _layer(half, place)
    if layer is not None:
        owner = f"layer '{layer.name}' ({type(layer).__name__})"
    else:
        owner = _function(half, [name for name, _ in found]) or place
    if invalid is not None:
        reason = f"becomes {operator}, of which the converter makes an invalid {format}: {invalid}"
        remedy = "Give it other settings, e.g. of data_format, padding or strides"
    elif "f64" in text:
        reason = f"computes {operator} in float64, for which {format} has no kernel"
        remedy = "Let it compute in float32"
    else:
        same = [
            name for name, where in found if where.rpartition("/")[0] == place.rpartition("/")[0]
        ]
        operators = ", ".join(dict.fromkeys(same))
        several = "s" * (operators != operator)
        reason = f"needs the operator{several} {operators}, which {format} does not have"
        remedy = "Build it of other operations"
    return f"{what}{owner} {reason}. {remedy}, or export another --format."


def _places(text: str, format: Format) -> list[tuple[str, str]]:
    """The operators that a converter complains of, each with its place."""
    pattern = _IN_TFLITE if format is Format.TFLITE else _IN_ONNX
    found = [(operator, place) for operator, place in pattern.findall(text)]
    if format is Format.ONNX:
        found += [(operator, place) for operator, place, _ in _INVALID_ONNX.findall(text)]
    return [(operator, place) for operator, place in found if operator not in _CALLS]


def _invalid(text: str, format: Format) -> str | None:
    """What is wrong with an operator that the format has; None where it is that it has none."""
    found = (_INVALID_TFLITE if format is Format.TFLITE else _INVALID_ONNX).search(text)
    return None if found is None else found.groups()[-1].strip().rstrip(".")


def _layer(model: Any, place: str) -> Any:
    """The innermost Keras layer whose scope an operator stands in; repeated scopes have numbers."""
    layers = {layer.name: layer for layer in model._flatten_layers()}
    for scope in reversed(place.split("/")[:-1]):
        for name in (scope, re.sub(r"_\d+$", "", scope)):
            if name in layers:
                return layers[name]
    return None


def _function(half: Any, operators: list[str]) -> str | None:
    """The function of `keras.ops`, outside of all layers, that an operator is likely to be of.

    Converters know of it only what it became.
    """
    keras: Any = importlib.import_module("keras")
    functions = [
        each
        for each in getattr(functional_of(half), "operations", ())
        if not isinstance(each, keras.layers.Layer)
    ]
    wanted = tuple(name.lower() for name in operators)
    for each in functions:
        own = type(each).__name__.lower()
        if any(own.startswith(name) or name.startswith(own) for name in wanted):
            return f"keras.ops.{each.name}"
    names = ", ".join(f"keras.ops.{each.name}" for each in functions)
    return f"one of {names}" if functions else None


def _short(text: str) -> str:
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return text if text.endswith(".") else f"{text}."
