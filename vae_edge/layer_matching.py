"""Which tensor of an artifact holds the output of which Keras layer.

Converters rename tensors, fuse layers, and lay images out with their channels first or last, and
our own exporter rewrites layers into others. What stays is the values, so they decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ArtifactError
from vae_edge.terms import FloatArray, Precision
from vae_edge.traces import ArtifactTrace, LayerTrace, TensorTrace

__all__ = ["Layout", "Match", "layers_that_move", "match_layers", "sqnr_db"]

Layout = str

# A fit always gains a little. Weights that share one scale for all channels have gains off by a
# tenth, and those are errors; channels that were scaled on purpose lie further apart.
_LEAST_GAIN_DB = 3.0
_LEAST_SPREAD = 1.25
# Two tensors that are this close are equally good, and other things decide.
_TIE_DB = 0.01
_BEST_DB = 300.0
# A tensor that differs from a layer this much holds something else, if what reads the layer is
# right: an error as large as a third of the values does not heal.
_FOREIGN_DB = 10.0
_SOUND_DB = 30.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """A tensor as the output of a layer.

    Attributes:
        tensor: its place in the artifact's trace.
        values: float32, laid out and scaled as the layer's values are, (rows, ...).
        layout: `as in Keras` or `channels first`.
        scales: smallest and largest factor by which the tensor's channels were multiplied;
            None where they are the layer's as they stand.
        sqnr_db: +inf where the values are the same.
    """

    tensor: int
    values: FloatArray
    layout: Layout
    scales: tuple[float, float] | None
    sqnr_db: float


def sqnr_db(reference: FloatArray, candidate: FloatArray) -> float:
    """Signal-to-quantization-noise ratio in decibels, in float64.

    10 log10(sum(reference^2) / sum((reference - candidate)^2)). Values of the candidate that are
    not finite count as 0.

    Args:
        reference: float32, any shape.
        candidate: float32, the same shape.

    Returns:
        +inf when the arrays are identical, -inf when the reference is 0 throughout and the
        candidate is not.
    """
    wanted = reference.astype(np.float64)
    noise = float(np.square(wanted - np.where(np.isfinite(candidate), candidate, 0)).sum())
    signal = float(np.square(wanted).sum())
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 else 10 * math.log10(signal / noise)


def layers_that_move(layers: Sequence[LayerTrace]) -> Mapping[int, int]:
    """Find the layers that only hand their input on (Reshape, Flatten, Dropout).

    Returns:
        Place of the layer that really computed the values, by the place of the one that moves.
    """
    moves: dict[int, int] = {}
    for place, layer in enumerate(layers):
        if len(layer.inputs) == 1:
            source = layers[layer.inputs[0]]
            if source.size == layer.size and np.array_equal(
                source.values.ravel(), layer.values.ravel()
            ):
                moves[place] = moves.get(layer.inputs[0], layer.inputs[0])
    return moves


def match_layers(layers: Sequence[LayerTrace], artifact: ArtifactTrace) -> dict[int, Match]:
    """Find the tensor that holds the output of each layer.

    The artifact's input and outputs are known by their names. Then the pair of a layer and a tensor
    with the highest SQNR is taken, and so on, so that what is certain limits what is not: a tensor
    must come after those of the layers that its layer depends on, and before those of the layers
    that depend on it. Of tensors that are equally close, one that needs no scaling is taken, then
    one whose name holds the layer's name, then the earliest. A layer without a tensor is missing:
    it was folded into those that read it. Layers that move values have the tensor of the layer that
    computed them.

    Where the artifact computes with integers, a positive factor per channel may lie between a
    tensor and a rectified layer: the exporter scales the channels to one range, and the weights of
    the next layer back, which is exact.

    Raises:
        ArtifactError: the artifact's outputs are missing or not of the model's size.
    """
    moves = layers_that_move(layers)
    computing = [place for place in range(len(layers)) if place not in moves]
    ancestors = _ancestors(layers, moves)
    images = {layer.shape for layer in layers if len(layer.shape) > 1}
    scaled = artifact.precision not in (Precision.FLOAT32, Precision.FLOAT16)
    known = {0: 0, **_outputs(layers, artifact, moves)}
    pairs: dict[tuple[int, int], Match] = {}
    for place in computing:
        tensors = [known[place]] if place in known else range(len(artifact.tensors))
        for tensor in tensors:
            match = _best(layers[place], artifact.tensors[tensor], tensor, images, scaled)
            if match is not None:
                pairs[place, tensor] = match
    taken: dict[int, Match] = {}
    for place, tensor in sorted(
        pairs, key=lambda pair: _rank(pair, pairs, layers, artifact, known)
    ):
        if place not in taken and _fits(place, tensor, taken, ancestors):
            taken[place] = pairs[place, tensor]
    _drop_foreign(layers, artifact, moves, taken)
    moved = {
        place: replace(taken[made], values=taken[made].values.reshape(layers[place].values.shape))
        for place, made in moves.items()
        if made in taken
    }
    return taken | moved


def _outputs(
    layers: Sequence[LayerTrace], artifact: ArtifactTrace, moves: Mapping[int, int]
) -> dict[int, int]:
    known: dict[int, int] = {}
    for place, layer in enumerate(layers):
        for name in layer.outputs:
            if name not in artifact.outputs:
                raise ArtifactError(
                    f"{artifact.name}: has no output '{name}'; it has "
                    f"{', '.join(artifact.outputs) or 'none'}. Export it again with vae-edge."
                )
            size = artifact.tensors[artifact.outputs[name]].values.shape[1]
            if size != layer.size:
                raise ArtifactError(
                    f"{artifact.name}: '{name}' has {size} values; the model's has {layer.size}, "
                    "so it was not exported from this model. Give the model that it was exported "
                    "from with --reference."
                )
            known[moves.get(place, place)] = artifact.outputs[name]
    return known


def _ancestors(layers: Sequence[LayerTrace], moves: Mapping[int, int]) -> list[set[int]]:
    """Give the computing layers that each layer depends on, near and far."""
    found: list[set[int]] = []
    for layer in layers:
        near = {moves.get(source, source) for source in layer.inputs}
        found.append(near.union(*(found[source] for source in near)))
    return found


def _rank(
    pair: tuple[int, int],
    pairs: Mapping[tuple[int, int], Match],
    layers: Sequence[LayerTrace],
    artifact: ArtifactTrace,
    known: Mapping[int, int],
) -> tuple[bool, float, bool, bool, int]:
    place, tensor = pair
    level = round(min(pairs[pair].sqnr_db, _BEST_DB) / _TIE_DB)
    trace = artifact.tensors[tensor]
    named = _named(layers[place], trace)
    return place not in known, -level, pairs[pair].scales is not None, not named, tensor


def _named(layer: LayerTrace, tensor: TensorTrace) -> bool:
    own = layer.name.rsplit("/", 1)[-1]
    return any(own in name for name in (tensor.name, *tensor.aliases))


def _fits(
    place: int, tensor: int, taken: Mapping[int, Match], ancestors: Sequence[set[int]]
) -> bool:
    for other, match in taken.items():
        if other in ancestors[place] and match.tensor >= tensor:
            return False
        if place in ancestors[other] and match.tensor <= tensor:
            return False
    return True


def _drop_foreign(
    layers: Sequence[LayerTrace],
    artifact: ArtifactTrace,
    moves: Mapping[int, int],
    taken: dict[int, Match],
) -> None:
    """Unmatch a layer whose best tensor is far off although everything that reads it is right.

    A tensor that has the layer's name is the layer's all the same: what a sigmoid saturates may be
    far off before it.
    """
    readers: dict[int, set[int]] = {place: set() for place in taken}
    for place, layer in enumerate(layers):
        for source in layer.inputs if place not in moves else ():
            readers.setdefault(moves.get(source, source), set()).add(place)
    for place in sorted(taken, reverse=True):
        after = [taken[reader].sqnr_db for reader in readers[place] if reader in taken]
        off = taken[place].sqnr_db < _FOREIGN_DB and min(after, default=0) > _SOUND_DB
        if off and not _named(layers[place], artifact.tensors[taken[place].tensor]):
            del taken[place]


def _best(
    layer: LayerTrace,
    tensor: TensorTrace,
    place: int,
    images: Iterable[tuple[int, ...]],
    scaled: bool,
) -> Match | None:
    if tensor.values.shape[1] != layer.size or len(tensor.values) != len(layer.values):
        return None
    best: Match | None = None
    for layout, values, channels in _layouts(layer, tensor.values, images):
        found = _compared(layer, values, channels if scaled else 0)
        if best is None or found[1] > best.sqnr_db:
            scales, level, fitted = found
            best = Match(tensor=place, values=fitted, layout=layout, scales=scales, sqnr_db=level)
    return best


def _layouts(
    layer: LayerTrace, values: FloatArray, images: Iterable[tuple[int, ...]]
) -> Iterable[tuple[Layout, FloatArray, int]]:
    """Give a tensor's values in the layer's shape, read either way, and how many channels it has.

    A flat layer that is read as an image later on may be laid out as that image is.
    """
    rows = len(values)
    shapes = [layer.shape] if len(layer.shape) > 1 else []
    shapes += [shape for shape in images if not shapes and math.prod(shape) == layer.size]
    channels = shapes[0][-1] if shapes else layer.size
    yield "as in Keras", values.reshape(rows, *layer.shape), channels
    for shape in shapes:
        *grid, count = shape
        if count > 1 and math.prod(grid) > 1:
            turned = np.moveaxis(values.reshape(rows, count, *grid), 1, -1)
            yield "channels first", turned.reshape(rows, *layer.shape), count


def _compared(
    layer: LayerTrace, values: FloatArray, channels: int
) -> tuple[tuple[float, float] | None, float, FloatArray]:
    """Compare as they stand, and with channels scaled if that is what lies between the two."""
    plain = sqnr_db(layer.values, values)
    # s relu(v) = relu(s v), and no other layer's channels may be scaled: elsewhere a fit would
    # only hide an error of the gain.
    rectified = float(layer.values.min()) == 0
    if not channels or not rectified or not np.isfinite(values).all():
        return None, plain, values
    scales = _channel_scales(layer.values.reshape(-1, channels), values.reshape(-1, channels))
    if scales.max() < _LEAST_SPREAD * scales.min():
        return None, plain, values
    fitted = np.asarray(values.reshape(-1, channels) * scales, np.float32).reshape(values.shape)
    level = sqnr_db(layer.values, fitted)
    if not level > plain + _LEAST_GAIN_DB:
        return None, plain, values
    return (float(scales.min()), float(scales.max())), level, fitted


def _channel_scales(reference: FloatArray, candidate: FloatArray) -> npt.NDArray[np.float64]:
    """Least squares: sum(r c) / sum(c^2) of every channel; 1 where that is not positive."""
    r, c = reference.astype(np.float64), candidate.astype(np.float64)
    along, power = (r * c).sum(axis=0), np.square(c).sum(axis=0)
    return np.where(along > 0, along / np.where(power > 0, power, 1), 1.0)
