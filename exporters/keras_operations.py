"""Operations of `keras.ops` between the layers of a functional model, as operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from exporters.graph import (
    Activate,
    Activation,
    Affine,
    Binary,
    BinaryKind,
    Concat,
    Op,
    Reshape,
    Shape,
    Slice,
    Transpose,
)
from exporters.keras_activations import ACTIVATIONS, clipped, elu, leaky_relu, softmax
from exporters.keras_weights import broadcastable, per_channel
from exporters.operators import Reduce, ReduceKind

__all__ = ["read_operation", "read_split"]

_BINARY = {
    "Add": BinaryKind.ADD,
    "Divide": BinaryKind.DIVIDE,
    "Maximum": BinaryKind.MAXIMUM,
    "Minimum": BinaryKind.MINIMUM,
    "Multiply": BinaryKind.MULTIPLY,
    "Subtract": BinaryKind.SUBTRACT,
    "TrueDivide": BinaryKind.DIVIDE,
}
_UNARY: Mapping[str, tuple[Op, ...]] = {
    "Absolute": (Activate(activation=Activation.ABS),),
    "Exp": (Activate(activation=Activation.EXP),),
    "HardSigmoid": ACTIVATIONS["hard_sigmoid"],
    "HardSilu": ACTIVATIONS["hard_silu"],
    "HardTanh": ACTIVATIONS["hard_tanh"],
    "Log": (Activate(activation=Activation.LOG),),
    "Relu": ACTIVATIONS["relu"],
    "Relu6": ACTIVATIONS["relu6"],
    "Rsqrt": (Activate(activation=Activation.RSQRT),),
    "Selu": ACTIVATIONS["selu"],
    "Sigmoid": ACTIVATIONS["sigmoid"],
    "Silu": ACTIVATIONS["silu"],
    "Softplus": ACTIVATIONS["softplus"],
    "Softsign": ACTIVATIONS["softsign"],
    "Sqrt": (Activate(activation=Activation.SQRT),),
    "Square": (Activate(activation=Activation.SQUARE),),
    "Tanh": ACTIVATIONS["tanh"],
}
_REDUCE = {
    "Amax": ReduceKind.MAX,
    "Max": ReduceKind.MAX,
    "Mean": ReduceKind.MEAN,
    "Sum": ReduceKind.SUM,
}


def read_operation(node: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    """Give what an operation computes, in operators; None where one is unknown.

    Args:
        node: of a functional model, whose operation is one of Keras's own.
        shapes: of its tensors' rows; constants are none.
        output: of the row that it gives.
    """
    operation = node.operation
    if not type(operation).__module__.startswith("keras.src.ops."):
        return None
    name = type(operation).__name__
    if name in _BINARY:
        return _binary(_BINARY[name], node, shapes, output)
    if len(shapes) == 1 and name in _UNARY:
        return list(_UNARY[name])
    reader = _OPERATIONS.get(name)
    return reader(node, shapes, output) if reader is not None else None


def read_split(node: Any, shape: Shape) -> list[Slice] | None:
    """Give what `keras.ops.split` cuts out, one slice per output; None for any other operation."""
    operation = node.operation
    known = type(operation).__module__.startswith("keras.src.ops.")
    axis = getattr(operation, "axis", 0) % (len(shape) + 1) - 1
    if not known or type(operation).__name__ != "Split" or axis < 0:
        return None
    slices, start = [], 0
    for tensor in node.outputs:
        sizes = tuple(int(n) for n in tensor.shape[1:])
        starts = tuple(start if each == axis else 0 for each in range(len(shape)))
        slices.append(Slice(starts=starts, sizes=sizes))
        start += sizes[axis]
    return slices


def _is_tensor(value: Any) -> bool:
    return type(value).__name__ == "KerasTensor"


def _binary(kind: BinaryKind, node: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    given = [*node.arguments.args, *node.arguments.kwargs.values()]
    if len(given) != 2:
        return None
    if len(shapes) == 2:
        return [Binary(kind=kind)] if broadcastable(shapes) else None
    first_is_tensor = _is_tensor(given[0])
    constant = per_channel(given[1] if first_is_tensor else given[0], output)
    if constant is None or shapes[0] != output:
        return None
    return _with_constant(kind, constant, first=not first_is_tensor)


def _with_constant(kind: BinaryKind, constant: Any, *, first: bool) -> list[Op] | None:
    one, none = np.ones_like(constant), np.zeros_like(constant)
    if kind is BinaryKind.ADD:
        return [Affine(scale=one, offset=constant)]
    if kind is BinaryKind.SUBTRACT:
        return [
            Affine(scale=-one, offset=constant) if first else Affine(scale=one, offset=-constant)
        ]
    if kind is BinaryKind.MULTIPLY:
        return [Affine(scale=constant, offset=none)]
    if kind is BinaryKind.DIVIDE:
        return (
            None if first or not np.all(constant) else [Affine(scale=one / constant, offset=none)]
        )
    if len(set(constant.tolist())) != 1:
        return None
    bound = float(constant[0])
    return clipped(bound, None) if kind is BinaryKind.MAXIMUM else clipped(None, bound)


def _reshape(node: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    return [Reshape(to=output)] if np.prod(shapes[0]) == np.prod(output) else None


def _transpose(node: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    axes = node.operation.axes
    if axes is None or axes[0] != 0:
        return None
    return [Transpose(order=tuple(axis % (len(shapes[0]) + 1) - 1 for axis in axes[1:]))]


def _reduce(node: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    operation, rank = node.operation, len(shapes[0]) + 1
    if operation.axis is None or getattr(operation, "initial", None) is not None:
        return None
    given = operation.axis if isinstance(operation.axis, (list, tuple)) else [operation.axis]
    axes = sorted(axis % rank - 1 for axis in given)
    if axes[0] < 0:
        return None
    reduced = Reduce(kind=_REDUCE[type(operation).__name__], axes=tuple(axes))
    return [reduced] if operation.keepdims else [reduced, Reshape(to=output)]


def _concatenate(node: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    axis = node.operation.axis % (len(shapes[0]) + 1) - 1
    return [Concat(axis=axis)] if axis >= 0 else None


def _item(node: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:
    """`x[:, 2:5]`, `x[..., 0]`: boxes whose steps are 1, of all rows."""
    (key,) = [
        each
        for each in (*node.arguments.args, *node.arguments.kwargs.values())
        if not _is_tensor(each)
    ]
    keys = list(key) if isinstance(key, (tuple, list)) else [key]
    rank = len(shapes[0]) + 1
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        keys[place : place + 1] = [slice(None)] * (rank - len(keys) + 1)
    keys += [slice(None)] * (rank - len(keys))
    if len(keys) != rank or keys[0] != slice(None):
        return None
    starts, sizes = [], []
    for each, size in zip(keys[1:], shapes[0], strict=True):
        if isinstance(each, slice) and each.step in (None, 1):
            start, stop, _ = each.indices(size)
        elif isinstance(each, int):
            start = each % size
            stop = start + 1
        else:
            return None
        starts.append(start)
        sizes.append(stop - start)
    box = Slice(starts=tuple(starts), sizes=tuple(sizes))
    return [box] if box.sizes == output else [box, Reshape(to=output)]


def _gelu(node: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    exact, tanh = ACTIVATIONS["gelu"], (Activate(activation=Activation.GELU_TANH),)
    return list(tanh if node.operation.approximate else exact)


def _negative(node: Any, shapes: list[Shape], output: Shape) -> list[Op]:  # noqa: ARG001
    minus = np.full(output[-1], -1, np.float32)
    return [Affine(scale=minus, offset=np.zeros_like(minus))]


def _bound(value: Any) -> float | None:
    return float(value) if np.ndim(value) == 0 and value is not None else None


def _clip(node: Any, shapes: list[Shape], output: Shape) -> list[Op] | None:  # noqa: ARG001
    low, high = _bound(node.operation.x_min), _bound(node.operation.x_max)
    return None if low is None or high is None else clipped(low, high)


_OPERATIONS: Mapping[str, Callable[[Any, list[Shape], Shape], list[Op] | None]] = {
    "Amax": _reduce,
    "Clip": _clip,
    "Concatenate": _concatenate,
    "Elu": lambda node, _, __: elu(node.operation.alpha),
    "ExpandDims": _reshape,
    "Gelu": _gelu,
    "GetItem": _item,
    "LeakyRelu": lambda node, _, __: leaky_relu(node.operation.negative_slope),
    "Max": _reduce,
    "Mean": _reduce,
    "Negative": _negative,
    "Reshape": _reshape,
    "Softmax": lambda node, _, output: softmax(node.operation.axis, output),
    "Squeeze": _reshape,
    "Sum": _reduce,
    "Transpose": _transpose,
}
