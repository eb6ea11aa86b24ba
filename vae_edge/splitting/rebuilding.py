"""A functional model built anew, call by call, with something changed in it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from vae_edge.splitting.flat_graph import Shape, functional_of

__all__ = ["Rebuilder"]


class Rebuilder:
    """Calls a model's operations again; a nested model of the same shapes is made once."""

    def __init__(self) -> None:
        """Import Keras."""
        self._keras: Any = importlib.import_module("keras")
        self._made: dict[tuple[int, tuple[Shape, ...]], Any] = {}

    def model(self, functional: Any, shapes: Sequence[Shape], name: str) -> Any:
        """Give a functional model on inputs of some shapes.

        Args:
            functional: to build anew.
            shapes: of one row of each of its inputs.
            name: what to call it.
        """
        key = (id(functional), tuple(shapes))
        if key not in self._made:
            self._made[key] = self._build(functional, shapes, name)
        return self._made[key]

    def operation(self, operation: Any) -> Any:
        """Give what is called in an operation's place: the operation itself."""
        return operation

    def name(self, name: str) -> str:
        """Give what an input or a nested model is called in place of a name: the same."""
        return name

    def dtype(self, tensor: Any) -> str:
        """Give the type of what is made of one of the model's inputs: the same."""
        return str(tensor.dtype)

    def _build(self, functional: Any, shapes: Sequence[Shape], name: str) -> Any:
        keras = self._keras
        sources = [
            keras.Input(shape, dtype=self.dtype(old), name=self.name(old._keras_history[0].name))
            for old, shape in zip(functional.inputs, shapes, strict=True)
        ]
        tensors = dict(zip(map(id, functional.inputs), sources, strict=True))
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if not node.is_input:
                    made = keras.tree.flatten(self._call(node, tensors))
                    tensors.update(zip(map(id, node.outputs), made, strict=True))
        outputs = [tensors[id(tensor)] for tensor in functional.outputs]
        pack = keras.tree.pack_sequence_as
        return keras.Model(
            pack(functional._inputs_struct, sources),
            pack(functional._outputs_struct, outputs),
            name=self.name(name),
        )

    def _call(self, node: Any, tensors: dict[int, Any]) -> Any:
        operation = node.operation
        inner = functional_of(operation) if isinstance(operation, self._keras.Model) else None
        if inner is None:
            operation = self.operation(operation)
        else:
            shapes = [tuple(tensors[id(tensor)].shape[1:]) for tensor in node.input_tensors]
            operation = self.model(inner, shapes, operation.name)
        args, kwargs = node.arguments.fill_in(tensors)
        return operation(*args, **kwargs)
