"""From a Keras model to the graph that passes rewrite."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from exporters.graph import Binary, Graph, KerasLayer, Node, Op, Shape
from exporters.keras_layers import read_layer
from exporters.keras_operations import read_operation, read_split
from vae_edge.errors import ExportError
from vae_edge.keras_vae import KerasVAE
from vae_edge.terms import COMPONENT_INPUT, COMPONENT_OUTPUTS, Component

__all__ = ["read_graph"]


def read_graph(vae: KerasVAE, component: Component) -> Graph:
    """Read one half of a Keras VAE.

    Layers that no pass knows, and layers with settings that none knows, become `KerasLayer`.

    Raises:
        ExportError: the half is no functional or sequential model, so that it has no layers to
            be read.
    """
    model = vae.component(component)
    name = COMPONENT_INPUT[component]
    reader = _Reader(made={name})
    results = reader.read(model, [name])
    names = COMPONENT_OUTPUTS[component]
    if component is Component.DECODER:
        outputs = {names[0]: results[0]}
    else:
        places = _places(model)
        outputs = {key: results[places[id(model.output[key])]] for key in names}
    graph = Graph(
        input=name, input_shape=vae.row_shape(component), nodes=tuple(reader.nodes), outputs=outputs
    )
    return graph.with_nodes(graph.nodes)


def _places(model: Any) -> dict[int, int]:
    """Where a model's outputs stand in its flat list of them; one may be there by several names."""
    tree: Any = importlib.import_module("keras").tree
    return {id(tensor): place for place, tensor in enumerate(tree.flatten(model.output))}


@dataclass(kw_only=True)
class _Reader:
    nodes: list[Node] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    def read(self, model: Any, inputs: list[str]) -> list[str]:
        """Read the operations of a functional model; give its outputs' tensors."""
        functional = getattr(model, "_functional", model)
        if not hasattr(functional, "_nodes_by_depth"):
            raise ExportError(
                f"{model.name}: is a subclassed {type(model).__name__}, so its layers cannot be "
                "read. Build it as a functional or sequential model, or export with --no-lowering."
            )
        tensors = {id(tensor): name for tensor, name in zip(functional.inputs, inputs, strict=True)}
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                given = [tensors[id(tensor)] for tensor in node.input_tensors]
                made = self._operation(node, given)
                tensors.update(
                    {id(tensor): name for tensor, name in zip(node.outputs, made, strict=True)}
                )
        return [tensors[id(tensor)] for tensor in functional.outputs]

    def _operation(self, node: Any, given: list[str]) -> list[str]:
        operation = node.operation
        keras: Any = importlib.import_module("keras")
        if isinstance(operation, keras.Model) and _is_functional(operation):
            return self.read(operation, given)
        shapes = [tuple(tensor.shape[1:]) for tensor in node.input_tensors]
        if len(node.outputs) > 1:
            slices = read_split(node, shapes[0])
            cut: list[Op] = list(slices or (_opaque(node, place) for place in _each(node.outputs)))
            return [self._add(operation.name, op, given) for op in cut]
        ops = _known(node, shapes, tuple(node.outputs[0].shape[1:])) or [_opaque(node, 0)]
        for op in ops:
            # Of several tensors a function of two takes the first two, and the next what is left.
            taken = 2 if isinstance(op, Binary) else len(given)
            given = [self._add(operation.name, op, given[:taken]), *given[taken:]]
        return given

    def _add(self, name: str, op: Op, inputs: list[str]) -> str:
        output, number = name, 0
        while output in self.made:
            number += 1
            output = f"{name}_{number}"
        self.made.add(output)
        self.nodes.append(Node(name=name, op=op, inputs=tuple(inputs), output=output))
        return output


def _is_functional(model: Any) -> bool:
    return hasattr(getattr(model, "_functional", model), "_nodes_by_depth")


def _each(values: Any) -> range:
    return range(len(values))


def _known(node: Any, shapes: list[Shape], output: Shape) -> list[Op]:
    """What a node computes, in operators; nothing where one of them is unknown."""
    single = {str(tensor.dtype) for tensor in (*node.input_tensors, *node.outputs)} == {"float32"}
    if not single or any(n is None for shape in (*shapes, output) for n in shape):
        return []
    keras: Any = importlib.import_module("keras")
    if isinstance(node.operation, keras.layers.Layer):
        return list(read_layer(node.operation, shapes, output) or ())
    return read_operation(node, shapes, output) or []


def _opaque(node: Any, place: int) -> Op:
    """A layer that passes do not look into: its output of that place."""
    shape = tuple(node.outputs[place].shape[1:])
    if any(n is None for n in shape):
        raise ExportError(f"{node.operation.name}: the shape of its output is not fixed: {shape}.")
    operation, arguments = node.operation, node.arguments
    keras_tensors = list(arguments.keras_tensors)
    tree: Any = importlib.import_module("keras").tree

    def call(*tensors: Any) -> Any:
        filled = {id(wanted): value for wanted, value in zip(keras_tensors, tensors, strict=True)}
        args, kwargs = arguments.fill_in(filled)
        if "training" in kwargs:
            kwargs["training"] = False
        return tree.flatten(operation(*args, **kwargs))[place]

    return KerasLayer(kind=type(operation).__name__, call=call, output_shape=shape)
