"""The ways in which an artifact is damaged: one function each, and one entry of `DAMAGES`.

Every damage is one that an export could do by mistake, from a kernel that was not flipped down to
a single weight that is one percent off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from benchmarks.sabotage_file import Layer, ModelFile, Weights
from benchmarks.sabotage_onnx import OnnxFile
from benchmarks.sabotage_tflite import TFLiteFile
from vae_edge.manifest import ArtifactRecord
from vae_edge.terms import Component, Format

__all__ = ["DAMAGES", "Damage", "open_file"]

Apply = Callable[[ModelFile, Component], bool]
_BOTH = tuple(Component)
_DECODER = (Component.DECODER,)
_ENCODER = (Component.ENCODER,)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One way to damage an artifact.

    Attributes:
        name: what was done to it.
        gross: nobody could use the artifact any more, so parity must not pass it; else it may be
            too small to tell from what the precision itself costs.
        apply: does it, and says whether there was anything to do it to.
        components: that have what it damages.
    """

    name: str
    gross: bool
    apply: Apply
    components: tuple[Component, ...] = _BOTH

    def of(self, content: bytes, record: ArtifactRecord) -> bytes | None:
        """Give the damaged file; None where the artifact has nothing of the kind."""
        if record.component not in self.components:
            return None
        file = open_file(content, record.format)
        return file.content() if self.apply(file, record.component) else None


def open_file(content: bytes, format: Format) -> ModelFile:
    """Take an artifact apart."""
    return OnnxFile(content) if format is Format.ONNX else TFLiteFile(content)


def _main_layer(file: ModelFile) -> Layer | None:
    """The largest convolution, of those in 8 bits where there are any."""
    layers = file.layers()
    for wanted in (
        [layer for layer in layers if layer.taps > 1 and layer.scaled],
        [layer for layer in layers if layer.taps > 1],
        layers,
    ):
        if wanted:
            return max(wanted, key=lambda layer: layer.size)
    return None


def _one_weight(factor: float, file: ModelFile, _: Component) -> bool:
    """The largest weight, so that it is one that is used."""
    layer = _main_layer(file)
    if layer is None:
        return False
    weights = file.read(layer)
    kernel = weights.kernel.copy()
    kernel.flat[np.abs(kernel).argmax()] *= factor
    file.write(layer, replace(weights, kernel=kernel))
    return True


def _exchange_channels(whole: bool, file: ModelFile, _: Component) -> bool:
    """The two whose weights differ most.

    Args:
        whole: in all convolutions that a transposed convolution became, or in the largest alone.
        file: to damage.
    """
    layer = _main_layer(file)
    if layer is None:
        return False
    parts = _parts(file, layer)
    if len(parts) == 1 and not whole:
        return False
    mine = file.read(layer)
    size = mine.kernel.shape[-1]
    channels = _channels(mine, size)
    if channels < 2:
        return False
    features = mine.kernel[..., :channels].reshape(-1, channels)
    apart = np.square(features[:, :, np.newaxis] - features[:, np.newaxis]).sum(axis=0)
    first, second = np.unravel_index(apart.argmax(), apart.shape)
    blocks = np.arange(size).reshape(-1, channels)
    blocks[:, [first, second]] = blocks[:, [second, first]]
    order = blocks.reshape(-1)
    damaged = []
    for part in parts if whole else (layer,):
        weights = file.read(part)
        bias = None if weights.bias is None else weights.bias[order]
        damaged.append((part, Weights(kernel=weights.kernel[..., order], bias=bias)))
    for part, weights in damaged:
        file.write(part, weights)
    return True


def _parts(file: ModelFile, layer: Layer) -> tuple[Layer, ...]:
    """All convolutions that one transposed convolution became, this one among them."""
    mine = file.read(layer)
    return tuple(
        other
        for other in file.layers()
        if other == layer
        or (
            file.read(other).kernel.shape[1:] == mine.kernel.shape[1:]
            and _one_bias(mine, file.read(other))
        )
    )


def _channels(weights: Weights, size: int) -> int:
    """Channels of the image: fewer than outputs where a convolution makes several phases."""
    if weights.bias is None:
        return size
    if size % 2:
        return size
    half = size // 2
    return half if np.allclose(weights.bias[:half], weights.bias[half:], rtol=0.01) else size


def _drop_bias(file: ModelFile, _: Component) -> bool:
    """The one that is largest as a whole."""
    biased = []
    for layer in file.layers():
        weights = file.read(layer)
        if weights.bias is not None and weights.bias.any():
            biased.append((float(np.linalg.norm(weights.bias)), layer))
    if not biased:
        return False
    layer = max(biased, key=lambda each: each[0])[1]
    weights = file.read(layer)
    if weights.bias is not None:
        file.write(layer, replace(weights, bias=np.zeros_like(weights.bias)))
    return True


def _rotate_kernel(file: ModelFile, _: Component) -> bool:
    """What convolution and correlation differ in."""
    layer = _main_layer(file)
    if layer is None or layer.taps < 2:
        return False
    weights = file.read(layer)
    file.write(layer, replace(weights, kernel=weights.kernel[::-1]))
    return True


def _double_weight_scale(file: ModelFile, _: Component) -> bool:
    scaled = [layer for layer in file.layers() if layer.scaled]
    if not scaled:
        return False
    return file.scale_weights(max(scaled, key=lambda layer: layer.size), 2.0)


def _misread(scale: float, zero_point: int, file: ModelFile, _: Component) -> bool:
    integer = [layer for layer in file.layers() if layer.integer]
    if not integer:
        return False
    return file.misread(max(integer, key=lambda layer: layer.size), scale, zero_point)


def _exchange_outputs(file: ModelFile, _: Component) -> bool:
    return file.exchange_outputs()


def _drop_sigmoid(file: ModelFile, _: Component) -> bool:
    return file.drop_sigmoid()


def _shift_padding(file: ModelFile, _: Component) -> bool:
    return file.shift_padding()


def _transpose_image(file: ModelFile, component: Component) -> bool:
    return file.transpose_image(component)


def _exchange_phases(file: ModelFile, _: Component) -> bool:
    """The kernels of two phases where they are of one size, else the places of what they make."""
    layers = [layer for layer in file.layers() if layer.taps > 1]
    for first, second in pairwise(layers):
        one, other = file.read(first), file.read(second)
        if one.kernel.shape == other.kernel.shape and _one_bias(one, other):
            file.write(first, replace(one, kernel=other.kernel))
            file.write(second, replace(other, kernel=one.kernel))
            return True
    return file.exchange_phases()


def _one_bias(one: Weights, other: Weights) -> bool:
    """All phases of a transposed convolution have its bias, but for rounding."""
    if one.bias is None or other.bias is None:
        return False
    apart = float(np.linalg.norm(one.bias - other.bias))
    return apart <= 0.05 * float(np.linalg.norm(one.bias))


DAMAGES = (
    Damage(name="one weight 1 % smaller", gross=False, apply=partial(_one_weight, 0.99)),
    Damage(name="one weight 10 % smaller", gross=False, apply=partial(_one_weight, 0.9)),
    Damage(name="one weight lost", gross=False, apply=partial(_one_weight, 0.0)),
    Damage(name="one weight 100 times as large", gross=True, apply=partial(_one_weight, 100.0)),
    Damage(
        name="two output channels exchanged",
        gross=True,
        apply=partial(_exchange_channels, True),
    ),
    Damage(
        name="two output channels of one phase exchanged",
        gross=False,
        apply=partial(_exchange_channels, False),
        components=_DECODER,
    ),
    Damage(name="a layer's bias dropped", gross=True, apply=_drop_bias),
    Damage(name="a kernel rotated by 180°", gross=True, apply=_rotate_kernel),
    Damage(name="activation scale 1 % off", gross=False, apply=partial(_misread, 1.01, 0)),
    Damage(name="activation scale doubled", gross=True, apply=partial(_misread, 2.0, 0)),
    Damage(name="zero point off by 1", gross=False, apply=partial(_misread, 1.0, 1)),
    Damage(name="zero point off by 10", gross=False, apply=partial(_misread, 1.0, 10)),
    Damage(name="a layer's weight scales doubled", gross=True, apply=_double_weight_scale),
    Damage(
        name="z_mean and z_log_var exchanged",
        gross=True,
        apply=_exchange_outputs,
        components=_ENCODER,
    ),
    Damage(name="last sigmoid missing", gross=True, apply=_drop_sigmoid, components=_DECODER),
    Damage(name="padding shifted by one pixel", gross=True, apply=_shift_padding),
    Damage(name="height and width exchanged", gross=True, apply=_transpose_image),
    Damage(
        name="two phases of a transposed convolution exchanged",
        gross=True,
        apply=_exchange_phases,
        components=_DECODER,
    ),
)
