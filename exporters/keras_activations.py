"""Activation functions of Keras, by function, by layer and by operation."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from exporters.graph import Activate, Activation, KerasLayer, Op, Shape
from exporters.operators import Clip, PRelu, Softmax

__all__ = ["ACTIVATIONS", "activation", "clipped", "elu", "leaky_relu", "prelu", "relu", "softmax"]

# Keras's names of activation functions. Those with parameters are read from layers only.
ACTIVATIONS: dict[str, tuple[Op, ...]] = {
    "relu": (Activate(activation=Activation.RELU),),
    "relu6": (Activate(activation=Activation.RELU6),),
    "leaky_relu": (Activate(activation=Activation.LEAKY_RELU, alpha=0.2),),
    "elu": (Activate(activation=Activation.ELU, alpha=1.0),),
    "tanh": (Activate(activation=Activation.TANH),),
    "sigmoid": (Activate(activation=Activation.SIGMOID),),
    "silu": (Activate(activation=Activation.SILU),),
    "gelu": (Activate(activation=Activation.GELU),),
    "softplus": (Activate(activation=Activation.SOFTPLUS),),
    "softsign": (Activate(activation=Activation.SOFTSIGN),),
    "selu": (Activate(activation=Activation.SELU),),
    "mish": (Activate(activation=Activation.MISH),),
    "hard_sigmoid": (Activate(activation=Activation.HARD_SIGMOID),),
    "hard_silu": (Activate(activation=Activation.HARD_SILU),),
    "exponential": (Activate(activation=Activation.EXP),),
    "hard_tanh": (Clip(low=-1.0, high=1.0),),
    "softmax": (Softmax(),),
}


def activation(function: Any, shape: Shape) -> list[Op]:
    """Read an activation function; one that no pass knows stays a function of its own."""
    keras: Any = importlib.import_module("keras")
    if function is None or function is keras.activations.linear:
        return []
    for name, ops in ACTIVATIONS.items():
        if function is getattr(keras.activations, name, None):
            return list(ops)
    if isinstance(function, keras.layers.Layer):
        from exporters.keras_layers import read_layer  # which reads activations too

        known = list(read_layer(function, [shape], shape) or ())
        if known:
            return known
    kind = getattr(function, "__name__", type(function).__name__)
    return [KerasLayer(kind=kind, call=function, output_shape=shape)]


def clipped(low: float | None, high: float | None) -> list[Op]:
    """Values between two bounds, None where there is none."""
    low = -math.inf if low is None else float(low)
    high = math.inf if high is None else float(high)
    if (low, high) == (0.0, math.inf):
        return list(ACTIVATIONS["relu"])
    if (low, high) == (0.0, 6.0):
        return list(ACTIVATIONS["relu6"])
    return [Clip(low=low, high=high)]


def leaky_relu(slope: float) -> list[Op]:
    """Give x where positive, else slope * x."""
    if slope == 0.0:
        return list(ACTIVATIONS["relu"])
    return [Activate(activation=Activation.LEAKY_RELU, alpha=float(slope))]


def relu(layer: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    """Read `ReLU`, whose slope and largest value may be set."""
    if layer.threshold:
        return None
    if not layer.negative_slope:
        return clipped(0.0, layer.max_value)
    bound = [] if layer.max_value is None else clipped(None, layer.max_value)
    return [*leaky_relu(layer.negative_slope), *bound]


def elu(alpha: float) -> list[Op]:
    """Give x where positive, else alpha * (exp(x) - 1)."""
    return [Activate(activation=Activation.ELU, alpha=float(alpha))]


def softmax(axis: Any, shape: Shape) -> list[Op] | None:
    """Read a softmax along the last axis."""
    return [Softmax()] if axis in (-1, len(shape)) else None


def prelu(layer: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    """Read `PReLU`."""
    return [PRelu(alpha=np.asarray(layer.alpha.numpy(), np.float32))]
