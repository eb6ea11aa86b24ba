"""A functional Keras model as one flat graph, through the models nested in it.

Halves are cut from it: which tensors depend on which is asked here, and what is needed between two
of them is called anew, by the user's own layers, on another input.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vae_edge.errors import ModelError

__all__ = ["Call", "FlatGraph", "Step", "Traced", "Value", "flatten", "functional_of", "is_own"]

Shape = tuple[int | None, ...]

# Of one row, in float32: 2 GiB. Models are run on a few rows to see what they do.
_MOST_VALUES = 2**29


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A functional model, and what was made an input of it to get there.

    Attributes:
        model: functional or sequential Keras model; None where it cannot be made.
        noise: how many of its last inputs stand for random numbers that the model drew itself.
        reason: why it cannot be made.
    """

    model: Any
    noise: int = 0
    reason: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Value:
    """A tensor of the graph.

    Attributes:
        shape: of one row, without the batch.
        step: what makes it; None for the graph's inputs.
        index: its place among the step's outputs.
    """

    shape: Shape
    step: Step | None = None
    index: int = 0

    @property
    def size(self) -> int | None:
        """Elements of one row; None where that is not fixed."""
        size = 1
        for n in self.shape:
            if n is None:
                return None
            size *= n
        return size


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One call of one layer or operation.

    Attributes:
        node: Keras's record of the call.
        inputs: what it was called on.
        outputs: what it gave.
        path: names of the nested models that it is in, outermost first.
    """

    node: Any
    inputs: tuple[Value, ...]
    path: tuple[str, ...]
    outputs: list[Value] = field(default_factory=list)

    @property
    def operation(self) -> Any:
        """The layer or operation."""
        return self.node.operation

    @property
    def label(self) -> str:
        """Its name, behind those of the models that it is in."""
        return "/".join((*self.path, str(self.operation.name)))

    @property
    def is_called_for_training(self) -> bool:
        """Whether its author called it with `training=True`, which is no layer's own default."""
        told = self.node.arguments.kwargs.get("training") is True
        default = inspect.signature(self.operation.call).parameters.get("training")
        return told and default is not None and default.default is not True

    def call(self, tensors: Sequence[Any], *, training: bool = False) -> list[Any]:
        """Call the layer again, on other tensors, as it was called here but at inference.

        As Keras does it, whatever `training` the layer was called with here.
        """
        wanted = [id(tensor) for tensor in self.node.input_tensors]
        args, kwargs = self.node.arguments.fill_in(dict(zip(wanted, tensors, strict=True)))
        if "training" in inspect.signature(self.operation.call).parameters:
            kwargs["training"] = training
        return _flat(self.operation(*args, **kwargs))


@dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """One call of a nested functional model.

    Attributes:
        model: what was called.
        node: Keras's record of the call.
        inputs: what it was called on.
        outputs: what it gave.
        items: the calls inside.
        opened: whether it is a layer of the user's own class, which is only called inside.
    """

    model: Any
    node: Any
    inputs: tuple[Value, ...]
    outputs: Sequence[Value]
    items: tuple[Step | Call, ...]
    opened: bool

    @property
    def is_closed(self) -> bool:
        """Whether nothing in it is to be called by its parts only."""
        return not self.opened and all(
            isinstance(item, Step) or item.is_closed for item in self.items
        )

    def steps(self) -> Iterator[Step]:
        """Give the calls of layers inside."""
        yield from _steps(self.items)


@dataclass(frozen=True, eq=False, kw_only=True)
class FlatGraph:
    """A model's calls, each after those it needs.

    Attributes:
        model: the Keras model.
        inputs: of the model, without those that stand for random numbers.
        noise: those.
        outputs: of the model, flat.
        output_names: what the model calls them: keys of a dict, else the names of their layers.
        items: calls of layers and of nested models.
    """

    model: Any
    inputs: tuple[Value, ...]
    noise: tuple[Value, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...]
    items: tuple[Step | Call, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All calls of layers."""
        return tuple(_steps(self.items))

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls of nested models."""
        return tuple(_calls(self.items))

    def needed(self, wanted: Iterable[Value], given: Iterable[Value] = ()) -> set[Step]:
        """Give the steps that make some values from others."""
        return self._above(wanted, given)[0]

    def sources(self, wanted: Iterable[Value], given: Iterable[Value] = ()) -> set[Value]:
        """Give the graph's inputs that some values need, where others are given."""
        return self._above(wanted, given)[1]

    def _above(
        self, wanted: Iterable[Value], given: Iterable[Value]
    ) -> tuple[set[Step], set[Value]]:
        known, steps, sources = set(given), set[Step](), set[Value]()
        waiting = [value for value in wanted if value not in known]
        while waiting:
            value = waiting.pop()
            if value.step is None:
                sources.add(value)
            elif value.step not in steps:
                steps.add(value.step)
                waiting.extend(each for each in value.step.inputs if each not in known)
        return steps, sources

    def below(self, values: Iterable[Value], steps: Iterable[Step] = ()) -> set[Value]:
        """Give what depends on some values or comes of some steps, themselves included."""
        found, first = set(values), set(steps)
        for step in self.steps:
            if step in first or any(value in found for value in step.inputs):
                found.update(step.outputs)
        return found

    def run(
        self, feeds: Mapping[Value, Any], wanted: Sequence[Value], *, training: bool = False
    ) -> list[Any]:
        """Compute values from others, on concrete or symbolic tensors.

        Nested models that are needed whole are called whole; of others only the layers that are
        needed are.
        """
        run = _Run(
            tensors=dict(feeds),
            needed=self.needed(wanted, feeds),
            seen_outside={*wanted, *feeds},
            training=training,
        )
        run.items(self.items)
        return [run.tensors[value] for value in wanted]


@dataclass(frozen=True, kw_only=True)
class _Run:
    tensors: dict[Value, Any]
    needed: set[Step]
    seen_outside: set[Value]
    training: bool

    def items(self, items: Sequence[Step | Call]) -> None:
        for item in items:
            if isinstance(item, Step):
                if item in self.needed:
                    self._step(item)
            elif self._is_needed_whole(item):
                self._whole(item)
            else:
                self.items(item.items)

    def _is_needed_whole(self, call: Call) -> bool:
        steps = set(call.steps())
        inside = {value for step in steps for value in step.outputs} - set(call.outputs)
        return (
            bool(steps)
            and steps <= self.needed
            and not inside & self.seen_outside
            and call.is_closed
        )

    def _step(self, step: Step) -> None:
        given = [self.tensors[value] for value in step.inputs]
        made = step.call(given, training=self.training)
        for value in step.outputs:
            self.tensors.setdefault(value, made[value.index])

    def _whole(self, call: Call) -> None:
        wanted = [id(tensor) for tensor in call.node.input_tensors]
        given = [self.tensors[value] for value in call.inputs]
        args, kwargs = call.node.arguments.fill_in(dict(zip(wanted, given, strict=True)))
        for value, made in zip(call.outputs, _flat(call.model(*args, **kwargs)), strict=True):
            self.tensors.setdefault(value, made)


def _calls(items: Iterable[Step | Call]) -> Iterator[Call]:
    for item in items:
        if not isinstance(item, Step):
            yield item
            yield from _calls(item.items)


def _steps(items: Iterable[Step | Call]) -> Iterator[Step]:
    for item in items:
        if isinstance(item, Step):
            yield item
        else:
            yield from item.steps()


def is_own(operation: Any) -> bool:
    """Say whether a layer is of the user's own class."""
    return type(operation).__module__.split(".")[0] != "keras"


def functional_of(model: Any) -> Any:
    """Give the functional model that a model is, or a Sequential holds; None where it is none."""
    functional = getattr(model, "_functional", None) or model
    return functional if hasattr(functional, "_nodes_by_depth") else None


def flatten(traced: Traced, opened: Mapping[int, Traced] | None = None) -> FlatGraph:
    """Read a functional or sequential model, and those nested in it.

    Args:
        traced: the model; whose last inputs may stand for random numbers.
        opened: what layers of the user's own class are made of, by their `id`, to be read as well.

    Raises:
        ModelError: a layer gives so much for one row that running it would exhaust memory.
    """
    functional = functional_of(traced.model)
    values = tuple(Value(shape=_row(tensor)) for tensor in functional.inputs)
    own = len(values) - traced.noise
    reader = _Reader(opened=opened or {}, noise=list(values[own:]))
    items, outputs = reader.read(functional, values, ())
    return FlatGraph(
        model=traced.model,
        inputs=values[:own],
        noise=tuple(reader.noise),
        outputs=outputs,
        output_names=_output_names(functional),
        items=items,
    )


@dataclass(kw_only=True)
class _Reader:
    opened: Mapping[int, Traced]
    noise: list[Value]

    def read(
        self, functional: Any, inputs: tuple[Value, ...], path: tuple[str, ...]
    ) -> tuple[tuple[Step | Call, ...], tuple[Value, ...]]:
        values = dict(zip(map(id, functional.inputs), inputs, strict=True))
        items: list[Step | Call] = []
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                given = tuple(values[id(tensor)] for tensor in node.input_tensors)
                item = self._item(node, given, path)
                items.append(item)
                values.update(zip(map(id, node.outputs), item.outputs, strict=True))
        return tuple(items), tuple(values[id(tensor)] for tensor in functional.outputs)

    def _item(self, node: Any, given: tuple[Value, ...], path: tuple[str, ...]) -> Step | Call:
        keras: Any = importlib.import_module("keras")
        operation = node.operation
        traced = self.opened.get(id(operation))
        opened = traced is not None
        if traced is None and isinstance(operation, keras.Model):
            traced = Traced(model=operation) if functional_of(operation) is not None else None
        if traced is None:
            step = Step(node=node, inputs=given, path=path)
            step.outputs.extend(
                Value(shape=_row(tensor), step=step, index=index)
                for index, tensor in enumerate(node.outputs)
            )
            _check_sizes(step)
            return step
        nested = functional_of(traced.model)
        noise = [Value(shape=_row(tensor)) for tensor in nested.inputs[len(given) :]]
        self.noise.extend(noise)
        inner, made = self.read(nested, (*given, *noise), (*path, operation.name))
        return Call(
            model=operation, node=node, inputs=given, outputs=made, items=inner, opened=opened
        )


def _check_sizes(step: Step) -> None:
    for value in step.outputs:
        if (value.size or 0) > _MOST_VALUES:
            raise ModelError(
                f"layer '{step.label}' gives a tensor of shape {value.shape} for one row, which is "
                f"{4 * (value.size or 0) / 2**30:.0f} GiB. The file is damaged or made to exhaust "
                "memory. Save the model again with model.save('model.keras')."
            )


def _row(tensor: Any) -> Shape:
    return tuple(tensor.shape[1:])


def _output_names(functional: Any) -> tuple[str, ...]:
    outputs = functional.output
    if isinstance(outputs, Mapping):
        keras: Any = importlib.import_module("keras")
        by_id = {id(tensor): str(key) for key, tensor in reversed(list(outputs.items()))}
        return tuple(by_id.get(id(t), "") for t in keras.tree.flatten(outputs))
    return tuple(str(tensor._keras_history[0].name) for tensor in functional.outputs)


def _flat(outputs: Any) -> list[Any]:
    keras: Any = importlib.import_module("keras")
    return list(keras.tree.flatten(outputs))
