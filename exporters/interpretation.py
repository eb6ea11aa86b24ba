"""What a Keras VAE's numbers mean: as its author says, and else as its layers show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporters.graph import Activate, Activation, Affine, Graph, Node, Repeat, Reshape, Slice
from exporters.keras_graph import read_graph
from exporters.operators import Pool, Resize
from vae_edge.codec import DecodeError
from vae_edge.errors import ExportError, UsageError
from vae_edge.keras_vae import KerasVAE
from vae_edge.preprocessing import Preprocessing, Scaling, can_be_pictures
from vae_edge.terms import ColourOrder, Component, DataKind, Fit, Likelihood

__all__ = ["Declared", "Interpretation", "interpret"]

# What leaves values within their range.
_PASSING = (Reshape, Resize, Repeat, Slice, Pool)
_UNIT = (0.0, 1.0)
_LEVELS = (0.0, 255.0)
_OF_ACTIVATION = {Activation.SIGMOID: _UNIT, Activation.TANH: (-1.0, 1.0)}
# Rescaling layers that make something of 8-bit levels: to [0, 1] and to [-1, 1].
_FROM_LEVELS = ((1 / 255, 0.0), (1 / 127.5, -1.0))


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What the author of a model says of its values. All of it may be left out.

    Attributes:
        value_range: lowest and highest value that the encoder was trained on; pictures' levels 0 to
            255 become that.
        output_range: the same of what the decoder gives.
        mean: of each channel, or of all; pictures' levels over 255 minus that, over std, is what
            the encoder was trained on. Instead of value_range.
        std: the same.
        colour_order: in which the model takes the channels of coloured pictures.
        fit: how pictures of another size were brought to the model's in training.
        likelihood: what the decoder's output stands for.
    """

    value_range: tuple[float, float] | None = None
    output_range: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    colour_order: ColourOrder | None = None
    fit: Fit | None = None
    likelihood: Likelihood | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            UsageError: an empty range, a mean without std or beside a range, a std not above 0.
        """
        for option, given in (
            ("--value-range", self.value_range),
            ("--output-range", self.output_range),
        ):
            if given is not None and not given[0] < given[1]:
                raise UsageError(
                    f"{option} {given[0]:g},{given[1]:g}: expected LOW,HIGH with LOW below HIGH."
                )
        if (self.mean is None) != (self.std is None):
            raise UsageError("--mean and --std go together; received only one of them.")
        if self.mean is not None and self.value_range is not None:
            raise UsageError(
                "--value-range and --mean with --std say the same thing in two ways. Give one."
            )
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std):
                raise UsageError(
                    f"--mean has {len(self.mean)} values and --std {len(self.std)}; expected one "
                    "for all channels, or one for each."
                )
            if min(self.std) <= 0:
                raise UsageError("--std: expected values above 0.")

    @property
    def input(self) -> Scaling | None:
        """From the unit range to what the encoder takes, where it is stated."""
        if self.mean is not None and self.std is not None:
            return Scaling(
                scale=tuple(1 / s for s in self.std),
                offset=tuple(-m / s for m, s in zip(self.mean, self.std, strict=True)),
            )
        return None if self.value_range is None else Scaling.between(*self.value_range)


@dataclass(frozen=True, kw_only=True)
class Interpretation:
    """What a model's numbers mean, and what was concluded and not stated.

    Attributes:
        preprocessing: for the manifest.
        notes: sentences for the author, who may know better.
    """

    preprocessing: Preprocessing
    notes: tuple[str, ...]


def interpret(vae: KerasVAE, declared: Declared) -> Interpretation:
    """Tell what a model's values mean.

    A decoder that ends in a sigmoid gives [0, 1], one that ends in tanh [-1, 1], and the encoder
    takes the same unless a first layer rescales 8-bit levels. Of a decoder that ends in neither
    nothing is assumed: without a stated range the model is taken for one of arrays.

    Raises:
        UsageError: what is stated does not fit the model's shapes.
    """
    activation, seen_output = _output_of(vae)
    seen_input = _input_of(vae)
    output = declared.output_range or seen_output or declared.value_range
    input_ = declared.input or _between(seen_input or output)
    if output is not None:
        out: Scaling | None = Scaling.between(*output)
    else:
        # Where the one is known and the other is not, they are the same.
        out = input_
    pictures = can_be_pictures(vae.image_shape) and input_ is not None and out is not None
    if declared.fit is not None and not pictures:
        raise UsageError(
            f"--fit: the model takes arrays of {vae.image_shape}, which are not fitted. Leave it "
            "out, or state the pictures' --value-range."
        )
    colours = pictures and vae.image_shape[-1] == 3
    if declared.colour_order is not None and not colours:
        raise UsageError(
            f"--colour-order: the model takes rows of {vae.image_shape}, which have no colours. "
            "Leave it out."
        )
    likelihood = declared.likelihood or (
        Likelihood.BERNOULLI
        if activation is Activation.SIGMOID and output == _UNIT
        else Likelihood.GAUSSIAN
    )
    if likelihood is Likelihood.BERNOULLI and (out is None or out != Scaling()):
        raise UsageError(
            "--likelihood bernoulli: the decoder's output must be probabilities, in [0, 1]. Leave "
            "it out, or state --output-range 0,1."
        )
    preprocessing = Preprocessing(
        kind=DataKind.PICTURE if pictures else DataKind.ARRAY,
        input=input_,
        output=out,
        likelihood=likelihood,
        colour_order=(declared.colour_order or ColourOrder.RGB) if colours else None,
        fit=declared.fit,
    )
    try:
        preprocessing.check_shape(vae.image_shape)
    except DecodeError as error:
        raise UsageError(f"--mean, --std: {error}.") from error
    return Interpretation(
        preprocessing=preprocessing, notes=tuple(_notes(vae, declared, preprocessing, seen_input))
    )


def _notes(
    vae: KerasVAE,
    declared: Declared,
    found: Preprocessing,
    seen_input: tuple[float, float] | None,
) -> list[str]:
    notes = []
    if found.input is None and can_be_pictures(vae.image_shape):
        notes.append(
            "the decoder ends in no activation that bounds it, so its range is not known and "
            "pictures cannot be turned into its values. Where it was trained on pictures, state "
            "how: --value-range LOW,HIGH; and where its loss was taken from logits, --logits."
        )
    if seen_input == _LEVELS and declared.input is None:
        notes.append("the encoder's first layer rescales, so it takes values from 0 to 255.")
    if found.input is not None and found.output is not None and found.input != found.output:
        notes.append(
            f"the encoder takes values in [{found.input.low:g}, {found.input.high:g}], the decoder "
            f"gives values in [{found.output.low:g}, {found.output.high:g}]."
        )
    return notes


def _between(bounds: tuple[float, float] | None) -> Scaling | None:
    return None if bounds is None else Scaling.between(*bounds)


def _read(vae: KerasVAE, component: Component) -> Graph | None:
    try:
        return read_graph(vae, component)
    except ExportError:
        # Said again, and to the end, where it is exported.
        return None


def _output_of(vae: KerasVAE) -> tuple[Activation | None, tuple[float, float] | None]:
    """Give the bounded activation that the decoder ends in, and the range of its output."""
    graph = _read(vae, Component.DECODER)
    if graph is None:
        return None, None
    makers = {node.output: node for node in graph.nodes}
    tensor, affines = graph.outputs["reconstruction"], []
    while (node := makers.get(tensor)) is not None and isinstance(node.op, (*_PASSING, Affine)):
        if isinstance(node.op, Affine):
            affines.append(node.op)
        tensor = node.inputs[0]
    if node is None or not isinstance(node.op, Activate):
        return None, None
    bounds = _OF_ACTIVATION.get(node.op.activation)
    if bounds is None:
        return None, None
    for affine in reversed(affines):
        scale, offset = np.unique(affine.scale), np.unique(affine.offset)
        if len(scale) != 1 or len(offset) != 1 or scale[0] <= 0:
            return None, None
        bounds = (
            float(bounds[0] * scale[0] + offset[0]),
            float(bounds[1] * scale[0] + offset[0]),
        )
    return node.op.activation, bounds


def _input_of(vae: KerasVAE) -> tuple[float, float] | None:
    """Give the range of the encoder's input where its first layer rescales 8-bit levels."""
    graph = _read(vae, Component.ENCODER)
    if graph is None:
        return None
    first: Node | None = next((n for n in graph.nodes if graph.input in n.inputs), None)
    if first is None or not isinstance(first.op, Affine):
        return None
    for scale, offset in _FROM_LEVELS:
        if np.allclose(first.op.scale, scale, rtol=1e-3) and np.allclose(
            first.op.offset, offset, atol=1e-3
        ):
            return _LEVELS
    return None
