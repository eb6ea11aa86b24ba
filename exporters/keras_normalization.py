"""Keras's normalisation layers as operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from exporters.graph import Affine, Op, Reshape, Shape
from exporters.keras_weights import array, channels_last, per_channel
from exporters.operators import GroupNorm, LayerNorm
from vae_edge.terms import FloatArray

__all__ = ["batch_norm", "group_norm", "layer_norm", "normalization", "rescaling"]


def _learned(layer: Any, count: int) -> tuple[FloatArray, FloatArray]:
    scale = array(layer.gamma).ravel() if layer.scale else np.ones(count, np.float32)
    offset = array(layer.beta).ravel() if layer.center else np.zeros(count, np.float32)
    return scale, offset


def _affine(scale: Any, offset: Any) -> list[Op]:
    return [Affine(scale=np.asarray(scale, np.float32), offset=np.asarray(offset, np.float32))]


def batch_norm(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    """At inference a scale and an offset per channel."""
    if layer.axis not in (-1, len(shapes[0])):
        return None
    gamma, beta = _learned(layer, output[-1])
    deviation = np.sqrt(array(layer.moving_variance).astype(np.float64) + layer.epsilon)
    scale = gamma / deviation
    return _affine(scale, beta - array(layer.moving_mean) * scale)


def layer_norm(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    """Over the last axis, or over several that are the last ones, as if they were one."""
    rank = len(shapes[0]) + 1
    given = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    axes = sorted(axis % rank for axis in given)
    if layer.rms_scaling or axes != list(range(rank - len(axes), rank)) or axes[0] == 0:
        return None
    count = int(np.prod(output[axes[0] - 1 :]))
    scale, offset = _learned(layer, count)
    norm = LayerNorm(epsilon=float(layer.epsilon), scale=scale, offset=offset)
    if len(axes) == 1:
        return [norm]
    return [Reshape(to=(*output[: axes[0] - 1], count)), norm, Reshape(to=output)]


def group_norm(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    """Over all pixels, or all steps of a signal, and the channels of a group."""
    shape = shapes[0]
    if layer.axis not in (-1, len(shape)) or len(shape) not in (1, 2, 3):
        return None
    scale, offset = _learned(layer, output[-1])
    norm = GroupNorm(
        groups=int(layer.groups), epsilon=float(layer.epsilon), scale=scale, offset=offset
    )
    if len(shape) == 3:
        return [norm]
    return [Reshape(to=(*(1,) * (3 - len(shape)), *shape)), norm, Reshape(to=output)]


def normalization(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    """By a mean and a variance that were given or adapted, one for all or one per channel."""
    mean, variance = (per_channel(np.array(each), output) for each in (layer.mean, layer.variance))
    if mean is None or variance is None:
        return None
    # As Keras does, with its smallest deviation.
    deviation = np.maximum(np.sqrt(variance.astype(np.float64)), 1e-7)
    if layer.invert:
        return _affine(deviation, mean)
    return _affine(1 / deviation, -mean / deviation)


def rescaling(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    """By a factor and an offset, for all or per channel."""
    scale, offset = (per_channel(each, output) for each in (layer.scale, layer.offset))
    if scale is None or offset is None or not channels_last(layer):
        return None
    return _affine(scale, offset)
