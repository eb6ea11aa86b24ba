"""Models that take images of any size, built anew for one size: artifacts have fixed shapes."""

from __future__ import annotations

from typing import Any

from vae_edge.errors import ModelError
from vae_edge.splitting.flat_graph import Shape, Traced, flatten, functional_of
from vae_edge.splitting.lookup import shape_text
from vae_edge.splitting.rebuilding import Rebuilder

__all__ = ["fits", "of_fixed_shape", "with_fixed_layers"]


def of_fixed_shape(model: Any, shape: Shape | None, option: str, where: str) -> Any:
    """Give a functional model of one input for one size, of the same layers.

    Models of other kinds, and those whose shape is fixed, are given back as they are.

    Args:
        model: any Keras model.
        shape: of one row; None to leave the model as it is.
        option: that said so, for messages.
        where: which model, for messages.

    Raises:
        ModelError: the model does not take rows of that shape.
    """
    functional = functional_of(model)
    if shape is None or functional is None or len(functional.inputs) != 1:
        return model
    taken = tuple(functional.inputs[0].shape[1:])
    if not fits(shape, taken):
        raise ModelError(
            f"{where}: {option} {','.join(map(str, shape))}: the model takes {shape_text(taken)}."
        )
    if None not in taken:
        return model
    try:
        return Rebuilder().model(functional, [shape], model.name)
    except Exception as error:  # Keras raises whatever a layer makes of the size
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{where}: {option} {','.join(map(str, shape))}: the model cannot be built for that "
            f"size ({type(error).__name__}: {text}). Give one that its strides divide."
        ) from error


def with_fixed_layers(traced: Traced) -> Traced:
    """Build nested models that take any size anew for the size that they are given."""
    functional = functional_of(traced.model)
    shapes = [tuple(tensor.shape[1:]) for tensor in functional.inputs]
    undefined = any(
        None not in given.shape and None in tensor.shape[1:]
        for call in flatten(traced).calls
        if functional_of(call.model) is not None
        for given, tensor in zip(call.inputs, functional_of(call.model).inputs, strict=True)
    )
    if not undefined:
        return traced
    return Traced(
        model=Rebuilder().model(functional, shapes, traced.model.name), noise=traced.noise
    )


def fits(shape: Shape, pattern: Shape) -> bool:
    """Say whether a shape is what a pattern, in which None is any size, allows."""
    return len(shape) == len(pattern) and all(
        wanted in (None, n) for n, wanted in zip(shape, pattern, strict=True)
    )
