"""Which of the tensors that are decoded is the reconstruction."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vae_edge.errors import ModelError
from vae_edge.split_options import SplitOptions
from vae_edge.splitting.flat_graph import FlatGraph, Value
from vae_edge.splitting.heads import is_mean_name, scale_of_name
from vae_edge.splitting.lookup import find_output, shape_text

__all__ = ["find_reconstruction", "like_image", "listed"]

_RECONSTRUCTION = re.compile(r"recon|x_?hat|x_?rec|decoded|restored|(^|_)(image|picture)s?($|_)")


def find_reconstruction(
    graph: FlatGraph, decoded: Sequence[Value], image: Value, options: SplitOptions, where: str
) -> tuple[Value, tuple[str, ...]]:
    """Give the tensor that is the image again, and what was assumed.

    The only one of the image's shape, else of its size; of several the one whose name says so.

    Args:
        graph: that the decoder is in.
        decoded: what the decoder gives.
        image: what the encoder takes.
        options: where the user may name it.
        where: which model, for messages.

    Raises:
        ModelError: none of them is of the image's size, or several are and none is told apart.
    """
    if options.reconstruction is not None:
        layer = options.reconstruction
        return find_output(graph, layer, "--reconstruction", where, like=image), ()
    distinct = list(dict.fromkeys(decoded))
    if len(distinct) == 1:
        return distinct[0], ()
    fitting = like_image(distinct, image)
    if len(fitting) == 1:
        return fitting[0], ()
    if not fitting:
        raise ModelError(
            f"{where}: the decoder gives {listed(distinct)}, none of which is of the image's shape "
            f"{shape_text(image.shape)}. One of them has to be the reconstruction."
        )
    labels = {value: _label(graph, value) for value in fitting}
    named = [value for value in fitting if _says_reconstruction(labels[value])] or [
        value for value in fitting if is_mean_name(labels[value])
    ]
    told = ", ".join(f"{label} {shape_text(v.shape)}" for v, label in labels.items())
    if len(named) != 1:
        raise ModelError(
            f"{where}: the decoder gives {len(fitting)} tensors of the image's shape: {told}. Say "
            "which is the reconstruction with --reconstruction LAYER."
        )
    note = (
        f"of what the decoder gives, '{labels[named[0]]}' was taken for the reconstruction by its "
        "name; --reconstruction says otherwise."
    )
    return named[0], (note,)


def like_image(values: Sequence[Value], image: Value) -> list[Value]:
    """Give those of the image's shape; where there are none, those of its size."""
    exact = [value for value in values if value.shape == image.shape]
    return exact or [v for v in values if v.size is not None and v.size == image.size]


def listed(values: Sequence[Value]) -> str:
    """Count tensors and give their shapes, as messages do."""
    shapes = [shape_text(value.shape) for value in values]
    return f"{len(shapes)} tensors ({', '.join(shapes)})" if len(shapes) != 1 else shapes[0]


def _says_reconstruction(name: str) -> bool:
    own = name.rsplit("/", maxsplit=1)[-1].lower()
    return scale_of_name(own) is None and _RECONSTRUCTION.search(own) is not None


def _label(graph: FlatGraph, value: Value) -> str:
    """A key of what the model gives, else the layer; either can be asked for."""
    keys = dict(zip(graph.outputs, graph.output_names, strict=True))
    if value.step is None:
        return keys.get(value, "input")
    own = value.step.operation.name
    key = keys.get(value, own)
    told_apart = key != own and graph.output_names.count(key) == 1
    return key if key and told_apart else value.step.label
