"""Running a Keras component layer by layer. Host only; Keras is imported inside the functions."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vae_edge.errors import ModelError
from vae_edge.keras_vae import KerasVAE
from vae_edge.terms import COMPONENT_OUTPUTS, Component, FloatArray
from vae_edge.traces import LayerTrace

__all__ = ["trace_layers"]


def trace_layers(vae: KerasVAE, component: Component, rows: FloatArray) -> tuple[LayerTrace, ...]:
    """Run one half of a Keras VAE and keep the output of every layer.

    Args:
        vae: as `load_keras_vae` gives it.
        component: which half.
        rows: float32 (count, ...), its input.

    Returns:
        Every layer after those that it reads; the input comes first.

    Raises:
        ModelError: the half is not a functional or sequential model, so that it has no layers.
    """
    model = vae.component(component)
    walker = _Walker()
    source = walker.add("Input", str(model.inputs[0].name), (), rows)
    made = walker.walk(model, [source], "")
    outputs = dict(zip(_output_names(model, component), made, strict=True))
    return tuple(
        LayerTrace(
            name=layer.name,
            kind=layer.kind,
            inputs=layer.inputs,
            values=layer.values,
            outputs=tuple(name for name, index in outputs.items() if index == place and name),
        )
        for place, layer in enumerate(walker.layers)
    )


def _output_names(model: Any, component: Component) -> list[str]:
    """Name a model's flat outputs; one that vae-edge does not export has no name."""
    tree: Any = importlib.import_module("keras").tree
    flat = tree.flatten(model.output)
    if component is Component.DECODER:
        return list(COMPONENT_OUTPUTS[component])
    names: Mapping[int, str] = {
        id(model.output[name]): name for name in COMPONENT_OUTPUTS[component]
    }
    return [names.get(id(tensor), "") for tensor in flat]


@dataclass(kw_only=True)
class _Walker:
    layers: list[LayerTrace] = field(default_factory=list)

    def add(self, kind: str, name: str, inputs: tuple[int, ...], values: Any) -> int:
        taken = {layer.name for layer in self.layers}
        fresh, number = name, 1
        while fresh in taken:
            # A layer that is called twice, or gives several tensors.
            number += 1
            fresh = f"{name}#{number}"
        array = np.asarray(values, np.float32)
        self.layers.append(LayerTrace(name=fresh, kind=kind, inputs=inputs, values=array))
        return len(self.layers) - 1

    def walk(self, model: Any, given: list[int], prefix: str) -> list[int]:
        """Run a functional model on layers that have run; give the places of its outputs."""
        functional = getattr(model, "_functional", model)
        if not hasattr(functional, "_nodes_by_depth"):
            raise ModelError(
                f"{model.name}: is a subclassed {type(model).__name__}, so its layers cannot be "
                "told apart. Build it as a functional or sequential model to compare it layer by "
                "layer; `vae-edge parity` compares its outputs as it is."
            )
        places = {id(t): place for t, place in zip(functional.inputs, given, strict=True)}
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.is_input or any(id(t) not in places for t in node.input_tensors):
                    continue
                sources = [places[id(tensor)] for tensor in node.input_tensors]
                made = self._run(node, sources, prefix)
                places.update({id(t): p for t, p in zip(node.outputs, made, strict=True)})
        return [places[id(tensor)] for tensor in functional.outputs]

    def _run(self, node: Any, sources: list[int], prefix: str) -> list[int]:
        operation, arguments = node.operation, node.arguments
        keras: Any = importlib.import_module("keras")
        if isinstance(operation, keras.Model) and hasattr(
            getattr(operation, "_functional", operation), "_nodes_by_depth"
        ):
            return self.walk(operation, sources, f"{prefix}{operation.name}/")
        values = {
            id(tensor): keras.ops.convert_to_tensor(self.layers[place].values)
            for tensor, place in zip(node.input_tensors, sources, strict=True)
        }
        args, kwargs = arguments.fill_in(values)
        if "training" in kwargs or getattr(operation, "_call_has_training_arg", False):
            kwargs["training"] = False
        results = keras.tree.flatten(operation(*args, **kwargs))
        kind, name = type(operation).__name__, f"{prefix}{operation.name}"
        return [
            self.add(kind, name, tuple(sources), keras.ops.convert_to_numpy(result))
            for result in results
        ]
