"""What a model's configuration asks Keras to make, checked before Keras makes any of it.

Keras's safe mode refuses serialised Python code, and configurations have been found time and again
that get around it (CVE-2025-1550, CVE-2025-8747, CVE-2025-9906): by naming a function of some
module, one of Keras's own that loads files or turns safe mode off, or the older format. So only
what models are made of is let through: layers, operations, initializers and their like, and what
the user imported. A layer of which neither is true becomes a stand-in that computes nothing, since
what samples z is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vae_edge.errors import ModelError
from vae_edge.splitting.custom_code import KnownClasses

__all__ = ["CheckedConfig", "MissingLayer", "check_config"]

# They run code that comes with the file, or read other files.
_UNSAFE = {
    "Lambda": "a Lambda layer holds Python code",
    "TFSMLayer": "it loads a SavedModel",
    "TorchModuleWrapper": "it holds a pickle",
    "JaxLayer": "it holds Python code",
    "FlaxLayer": "it holds Python code",
    "StringLookup": "it reads other files",
    "IntegerLookup": "it reads other files",
    "IndexLookup": "it reads other files",
    "TextVectorization": "it reads other files",
}
_VALUES = {"__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__"}
_FUNCTIONAL = {"module": "keras.src.models.functional", "class_name": "Functional"}
STAND_IN_PREFIX = "vae_edge_stand_in>"


@dataclass(frozen=True, kw_only=True)
class MissingLayer:
    """A layer whose code is not at hand, or not safe to run.

    Attributes:
        key: what its stand-in is registered as.
        name: the layer's.
        class_name: its class's.
        module: the module that the class was in; None where the file does not say.
        reason: why its code is not run.
        output_shapes: of its outputs, batch first, as the layers behind it say.
    """

    key: str
    name: str
    class_name: str
    module: str | None
    reason: str
    output_shapes: tuple[tuple[int | None, ...], ...]

    def __str__(self) -> str:
        """Name it as messages do."""
        module = f"{self.module}." if self.module else ""
        return f"layer '{self.name}' (class {module}{self.class_name}: {self.reason})"


@dataclass(frozen=True, kw_only=True)
class CheckedConfig:
    """A configuration that is safe to hand to Keras.

    Attributes:
        config: of the whole model; with `parts`, empty.
        missing: layers that stand-ins take the place of.
        parts: for a model of a class that is not at hand: configurations of the models in it, by
            the attribute they were, if all is as it mostly is.
        missing_root: that class, with its module.
        custom: classes and functions of the user's that it needs, by the name it asks for them.
    """

    config: dict[str, Any]
    missing: tuple[MissingLayer, ...] = ()
    parts: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    missing_root: str | None = None
    custom: Mapping[str, Any] = field(default_factory=dict)


def check_config(config: dict[str, Any], known: KnownClasses, path: Path) -> CheckedConfig:
    """Check a whole model's configuration.

    Args:
        config: as read from the archive.
        known: what may be made.
        path: of the file, for messages.

    Raises:
        ModelError: it asks for code, a function of some module, or a class that is not at hand in
            a place where nothing can stand in for it.
    """
    checker = _Checker(known=known, path=path)
    try:
        return checker.root(config)
    except RecursionError:
        raise ModelError(
            f"{path}: is damaged: its configuration is nested too deeply for a model."
        ) from None


@dataclass(kw_only=True)
class _Checker:
    known: KnownClasses
    path: Path
    missing: list[MissingLayer] = field(default_factory=list)
    custom: dict[str, Any] = field(default_factory=dict)

    def root(self, config: dict[str, Any]) -> CheckedConfig:
        reason = self._why_not(config)
        if reason is None:
            return self._done(self._object(config))
        inner = config.get("config")
        inner = inner if isinstance(inner, dict) else {}
        named = _named(config)
        if reason != _NOT_FOUND:
            raise self._refused(config, reason)
        if {"layers", "input_layers", "output_layers"} <= set(inner):
            # A functional model of the user's own class: its graph says all that it computes.
            kept = ("name", "trainable", "layers", "input_layers", "output_layers")
            functional = {
                **_FUNCTIONAL,
                "config": {key: inner[key] for key in kept if key in inner},
                "registered_name": "Functional",
                "build_config": {"input_shape": None},
            }
            return self._done(self._object(functional), missing_root=named)
        parts = {
            key: self._object(value)
            for key, value in inner.items()
            if isinstance(value, dict) and _is_model(value) and self._why_not(value) is None
        }
        return self._done({}, parts=parts, missing_root=named)

    def _done(self, config: dict[str, Any], **more: Any) -> CheckedConfig:
        return CheckedConfig(
            config=config, missing=tuple(self.missing), custom=dict(self.custom), **more
        )

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "class_name" in value:
            return self._object(value)
        return {key: self._value(each) for key, each in value.items()}

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        class_name = value["class_name"]
        if class_name in _VALUES:
            return value
        reason = self._why_not(value)
        if reason is not None:
            raise self._refused(value, reason)
        custom = self.known.custom(class_name, value.get("registered_name"))
        if custom is not None and class_name != "function":
            self.custom[value.get("registered_name") or class_name] = custom
        kept = {key: each for key, each in value.items() if key != "compile_config"}
        inner = kept.get("config")
        if isinstance(inner, dict):
            kept["config"] = {
                key: self._layers(each) if key == "layers" else self._value(each)
                for key, each in inner.items()
            }
        if "inbound_nodes" in kept:
            kept["inbound_nodes"] = self._value(kept["inbound_nodes"])
        return kept

    def _refused(self, value: dict[str, Any], reason: str) -> ModelError:
        told = f"{_named(value)}{':' * (reason == _NOT_FOUND)} {reason}"
        return ModelError(f"{self.path}: is not loaded: {told}. {_ADVICE.get(reason, _REGISTER)}")

    def _layers(self, layers: Any) -> Any:
        if not isinstance(layers, list):
            return self._value(layers)
        return [
            self._stand_in(layer, reason, layers)
            if isinstance(layer, dict)
            and "class_name" in layer
            and (reason := self._why_not(layer)) is not None
            and (reason == _NOT_FOUND or layer["class_name"] in _UNSAFE)
            and layer["class_name"] != "function"
            else self._value(layer)
            for layer in layers
        ]

    def _stand_in(self, layer: dict[str, Any], reason: str, layers: list[Any]) -> dict[str, Any]:
        inner = layer.get("config")
        inner = inner if isinstance(inner, dict) else {}
        name = str(layer.get("name") or inner.get("name") or layer["class_name"])
        missing = MissingLayer(
            key=f"{STAND_IN_PREFIX}{len(self.missing)}",
            name=name,
            class_name=str(layer["class_name"]),
            module=layer.get("module") if isinstance(layer.get("module"), str) else None,
            reason=reason,
            output_shapes=_shapes_of(name, layers),
        )
        self.missing.append(missing)
        stand_in: dict[str, Any] = {
            "module": None,
            "class_name": missing.class_name,
            "config": {"name": name},
            "registered_name": missing.key,
        }
        if "name" in layer:
            stand_in["name"] = name
        if "inbound_nodes" in layer:
            stand_in["inbound_nodes"] = [_tensors_only(n) for n in layer["inbound_nodes"]]
        return stand_in

    def _why_not(self, value: dict[str, Any]) -> str | None:
        """Why an object is not made; None where it is."""
        class_name, module = value.get("class_name"), value.get("module")
        registered = value.get("registered_name")
        if not isinstance(class_name, str) or "module" not in value:
            return "is written in the format of Keras 2, which safe mode does not cover"
        if class_name == "__lambda__":
            return "is Python code"
        if class_name == "function":
            name = value.get("config")
            if not isinstance(name, str):
                return "names no function"
            if self.known.custom(name, registered) is not None:
                self.custom[name] = self.known.custom(name, registered)
                return None
            if module == "builtins" or str(module).startswith("keras.activations"):
                return None if self.known.keras_function(name) else _NOT_FOUND
            return "is a function that no model is made of, and would be called"
        if not isinstance(module, (str, type(None))):
            return "names no module"
        if str(module).split(".")[:2] == ["keras", "quantizers"]:
            return _QUANTIZED
        if self.known.custom(class_name, registered) is not None:
            return None
        if class_name in _UNSAFE:
            return _UNSAFE[class_name]
        if module is None or module.split(".")[0] != "keras":
            return _NOT_FOUND
        if self.known.keras_class(module, class_name) is None:
            return "is not what models are made of"
        return None


_NOT_FOUND = "its code is not at hand"
_REGISTER = (
    "Put that code into a layer class of your own, decorated with "
    "@keras.saving.register_keras_serializable(), save the model again, and name the class's "
    "module with --import."
)
_IMPORT = "Name the module or file that defines it with --import (which runs it)."
_QUANTIZED = "says that Keras has quantized the model (model.quantize), so that weights are lost"
_ADVICE = {
    _NOT_FOUND: _IMPORT,
    _QUANTIZED: "Export the model as it was saved before that: vae-edge quantizes it.",
}


def _named(value: Mapping[str, Any]) -> str:
    module, class_name = value.get("module"), value.get("class_name")
    inner = value.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    if class_name == "function":
        return f"the function {inner if module in (None, 'builtins') else f'{module}.{inner}'}"
    label = f"{module}.{class_name}" if module else str(class_name)
    if not module and value.get("registered_name"):
        label = str(value["registered_name"])
    return f"{label} ('{name}')" if name else label


def _is_model(value: Mapping[str, Any]) -> bool:
    inner = value.get("config")
    return "class_name" in value and isinstance(inner, dict) and "layers" in inner


def _shapes_of(name: str, layers: list[Any]) -> tuple[tuple[int | None, ...], ...]:
    """The shapes that other layers' inputs say a layer's outputs have."""
    shapes: dict[int, tuple[int | None, ...]] = {}

    def visit(value: Any) -> None:
        if isinstance(value, list):
            for each in value:
                visit(each)
        elif isinstance(value, dict):
            inner = value.get("config")
            if value.get("class_name") == "__keras_tensor__" and isinstance(inner, dict):
                history = inner.get("keras_history") or [None]
                if history[0] == name:
                    shapes[int(history[2])] = tuple(inner["shape"])
            else:
                for each in value.values():
                    visit(each)

    for layer in layers:
        if isinstance(layer, dict):
            visit(layer.get("inbound_nodes"))
    if not shapes or sorted(shapes) != list(range(len(shapes))):
        return ()
    return tuple(shapes[place] for place in sorted(shapes))


def _tensors_only(node: Any) -> Any:
    """A call's tensors, without what else the call was given, which may be code."""
    found: list[Any] = []

    def visit(value: Any) -> None:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            found.append(value)
        elif isinstance(value, dict):
            for each in value.values():
                visit(each)
        elif isinstance(value, list):
            for each in value:
                visit(each)

    visit(node)
    return {"args": [found if len(found) != 1 else found[0]], "kwargs": {}}
