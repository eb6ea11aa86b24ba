"""Halves of new layers with the same weights, where the model's own cannot be converted.

A policy such as mixed_float16 is for training: it rounds every activation. Made anew, a half
computes in float32, and artifacts, and what they are compared with, round once, where the precision
says so. Names that TensorFlow takes for no scope, with spaces or letters beyond ASCII, go as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_edge.errors import ModelError
from vae_edge.splitting.flat_graph import functional_of
from vae_edge.splitting.rebuilding import Rebuilder

__all__ = ["float_types", "made_anew", "odd_names"]

_FLOATS = ("float16", "bfloat16", "float64")
_POLICIES = {"DTypePolicy", "FloatDTypePolicy"}
_FLOAT32 = "float32"
# What TensorFlow takes for the name of a scope.
_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


def float_types(half: Any, where: str) -> tuple[str, ...]:
    """Give the names of the policies of a half that make it compute in another type of float.

    Args:
        half: Keras model.
        where: which half, for messages.

    Raises:
        ModelError: it is quantized by Keras already.
    """
    found = dict[str, None]()
    for layer in half._flatten_layers(include_self=False, recursive=True):
        policy = layer.dtype_policy
        if getattr(policy, "quantization_mode", None) is not None:
            raise ModelError(
                f"{where}: layer '{layer.name}' is quantized by Keras (model.quantize), so that "
                "its own weights are lost. Export the model as it was before that: vae-edge "
                "quantizes it."
            )
        if policy.compute_dtype in _FLOATS or policy.variable_dtype in _FLOATS:
            found[policy.name] = None
    return tuple(found)


def odd_names(half: Any) -> tuple[str, ...]:
    """Give the names of layers that TensorFlow takes for no scope."""
    layers = half._flatten_layers(include_self=False, recursive=True)
    return tuple(layer.name for layer in layers if not _SCOPE.fullmatch(layer.name))


def made_anew(half: Any, where: str) -> Any:
    """Give a half of new layers with the same weights, which computes in float32 under plain names.

    Args:
        half: functional model; it is left as it is.
        where: which half, for messages.

    Raises:
        ModelError: a layer of the user's own cannot be made anew from its configuration.
    """
    functional = functional_of(half)
    shapes = [tuple(tensor.shape[1:]) for tensor in functional.inputs]
    try:
        rebuilder = _Anew()
        made = rebuilder.model(functional, shapes, half.name)
        rebuilder.copy_weights()
    except Exception as error:  # whatever a layer's own code raises
        text = " ".join(str(error).split())[:300]
        types, names = float_types(half, where), odd_names(half)
        why = f"computes in {', '.join(types)}" if types else f"has the layer '{names[0]}'"
        raise ModelError(
            f"{where} {why}, and cannot be built anew to compute in float32 under names of plain "
            f"letters ({type(error).__name__}: {text}). Its own layers need a get_config that "
            "gives what their __init__ takes. Or build the model so, and load its weights."
        ) from error
    return made


class _Anew(Rebuilder):
    def __init__(self) -> None:
        super().__init__()
        self._layers: dict[int, tuple[Any, Any]] = {}
        self._taken: set[str] = set()

    def operation(self, operation: Any) -> Any:
        """Give a new layer of the policy float32; of a cast from float to float, nothing."""
        keras = self._keras
        if not isinstance(operation, keras.layers.Layer):
            casts = type(operation).__name__ == "Cast" and operation.dtype in _FLOATS
            return self._cast if casts else operation
        if id(operation) not in self._layers:
            config = _of_float32(operation.get_config())
            config["dtype"] = _FLOAT32
            config["name"] = self.name(operation.name)
            self._layers[id(operation)] = operation, type(operation).from_config(config)
        return self._layers[id(operation)][1]

    def name(self, name: str) -> str:
        """Give a name that is a scope, and no other's."""
        if _SCOPE.fullmatch(name):
            return name
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_.-") or "layer"
        found, number = plain, 0
        while found in self._taken:
            number += 1
            found = f"{plain}_{number}"
        self._taken.add(found)
        return found

    def dtype(self, tensor: Any) -> str:
        """Give float32 for other floats."""
        return _FLOAT32 if tensor.dtype in _FLOATS else str(tensor.dtype)

    def _cast(self, tensor: Any, *_: Any, **__: Any) -> Any:
        return tensor if tensor.dtype == _FLOAT32 else self._keras.ops.cast(tensor, _FLOAT32)

    def copy_weights(self) -> None:
        """Give the new layers the old ones' weights; they are built by now."""
        for old, new in self._layers.values():
            new.set_weights([_as_float32(np.asarray(weight)) for weight in old.get_weights()])


def _of_float32(value: Any) -> Any:
    """Replace every policy in a layer's configuration, those of the layers in it included."""
    if isinstance(value, Mapping):
        if value.get("class_name") in _POLICIES:
            return _FLOAT32
        return {
            key: _FLOAT32 if key == "dtype" and each in _FLOATS else _of_float32(each)
            for key, each in value.items()
        }
    return [_of_float32(each) for each in value] if isinstance(value, (list, tuple)) else value


def _as_float32(weight: Any) -> Any:
    return weight.astype(np.float32) if str(weight.dtype) in _FLOATS else weight
