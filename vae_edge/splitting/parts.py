"""The parts that a model of the user's own class holds, and which of them are its halves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vae_edge.splitting.flat_graph import FlatGraph, Shape, Traced, functional_of
from vae_edge.splitting.tracing import open_layers, trace, trace_call

__all__ = ["is_plain", "pair_by_methods", "pair_by_name", "pair_by_structure", "parts_of"]


def parts_of(model: Any) -> dict[str, Any]:
    """Give the models, and layers of the user's own class, in a model, by attribute or name."""
    found: dict[str, Any] = {}
    for name, value in _named_parts(model):
        if value is not model and not any(value is each for each in found.values()):
            found.setdefault(name, value)
    return found


def _named_parts(model: Any) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(vars(model).items()):
        if not name.startswith("_") and _may_be_half(value):
            yield name, value
    for layer in getattr(model, "layers", ()):
        if _may_be_half(layer):
            yield layer.name, layer


def _may_be_half(value: Any) -> bool:
    if not hasattr(value, "_layers"):
        return False
    return functional_of(value) is not None or bool(value._layers)


def pair_by_name(parts: dict[str, Any]) -> tuple[Any, Any] | None:
    """Give the parts that are called encoder and decoder."""
    found = [
        next((p for key, p in parts.items() if half in (key, p.name)), None)
        for half in ("encoder", "decoder")
    ]
    return (found[0], found[1]) if None not in found else None


def pair_by_structure(parts: dict[str, Any]) -> tuple[Any, Any] | None:
    """Give the only two parts of which one makes of the image what the other makes it from."""
    graphs = {
        key: open_layers(traced, lambda *_: False)[0]
        for key, part in parts.items()
        for traced in [trace(part)]
        if traced.model is not None
    }
    pairs = [
        (parts[first], parts[second])
        for first, before in graphs.items()
        for second, behind in graphs.items()
        if first != second and _fit(before, behind)
    ]
    return pairs[0] if len(pairs) == 1 else None


def _fit(before: FlatGraph, behind: FlatGraph) -> bool:
    if len(before.inputs) != 1 or len(behind.inputs) != 1 or len(set(behind.outputs)) != 1:
        return False
    size, z = before.inputs[0].size, behind.inputs[0].size
    sizes = [value.size for value in dict.fromkeys(before.outputs)]
    heads = sizes.count(z) >= 2 or (z is not None and 2 * z in sizes)
    return size is not None and size == behind.outputs[0].size and z != size and heads


def pair_by_methods(model: Any, shape: Shape | None) -> tuple[Traced, Traced] | None:
    """Give what a model's methods `encode` and `decode` compute; None where it has none.

    Args:
        model: of the user's own class.
        shape: of one image.
    """
    encode, decode = (getattr(model, name, None) for name in ("encode", "decode"))
    if shape is None or not callable(encode) or not callable(decode):
        return None
    before = trace_call(encode, shape, "encoder")
    if before.model is None:
        return None
    for z in _shapes_of_z(before):
        behind = trace_call(decode, z, "decoder")
        if behind.model is not None:
            return before, behind
    return None


def _shapes_of_z(before: Traced) -> list[Shape]:
    """What shapes z may have: those of the heads, or of half of one that holds both."""
    whole = [tuple(tensor.shape[1:]) for tensor in functional_of(before.model).outputs]
    half = [(*s[:-1], s[-1] // 2) for s in whole if s and s[-1] is not None and s[-1] % 2 == 0]
    return list(dict.fromkeys((*whole, *half)))


def is_plain(encoder: Any, decoder: Any) -> bool:
    """Say whether both are what is wanted already."""
    if functional_of(encoder) is None or functional_of(decoder) is None:
        return False
    output = functional_of(encoder).output
    return isinstance(output, dict) and set(output) == {"z_mean", "z_log_var"}
