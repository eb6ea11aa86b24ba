"""What readers of Keras layers share: weights as arrays, and questions about shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from exporters.graph import Shape
from vae_edge.terms import FloatArray

__all__ = ["array", "bias_of", "broadcastable", "channels_last", "per_channel"]


def array(weight: Any) -> FloatArray:
    """Give a variable's values."""
    return np.asarray(weight.numpy(), np.float32)


def bias_of(layer: Any, count: int) -> FloatArray:
    """Give a layer's bias, zeros where it has none."""
    return array(layer.bias) if layer.use_bias else np.zeros(count, np.float32)


def channels_last(layer: Any) -> bool:
    """Tell whether a layer has its channels last, as all do that are not told otherwise."""
    return bool(getattr(layer, "data_format", None) in (None, "channels_last"))


def broadcastable(shapes: Iterable[Shape]) -> bool:
    """Tell whether rows have one rank and are equal, or 1, along every axis."""
    shapes = tuple(shapes)
    if len({len(shape) for shape in shapes}) != 1:
        return False
    return all(len({n for n in axis if n != 1}) <= 1 for axis in zip(*shapes, strict=True))


def per_channel(value: Any, shape: Shape) -> FloatArray | None:
    """Give a constant as one value per channel of a row, or None where it varies otherwise."""
    try:
        constant = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        return None
    channels = shape[-1]
    if constant.size == 1:
        return np.full(channels, constant.ravel()[0], np.float32)
    fits = constant.shape[-1] == channels == constant.size and constant.ndim <= len(shape) + 1
    return constant.reshape(channels) if fits else None
