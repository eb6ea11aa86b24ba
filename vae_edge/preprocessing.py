"""What a model's numbers mean: how a picture becomes its input, and its output a picture again.

Declared once at export, kept in the manifest, and applied alike to calibration data, golden
vectors, parity and what a device is given.

Floats are always the model's own values, as it was trained on them. 8-bit levels, which is what
pictures are made of, become such values by a scaling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vae_edge import codec
from vae_edge.errors import DataError
from vae_edge.terms import ColourOrder, DataKind, Fit, FloatArray, Likelihood

__all__ = ["PLAIN_PICTURES", "Preprocessing", "Scaling", "can_be_pictures"]

_LEVELS = 255
# Scaling in float32 may round beyond the range.
_SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """An affine map from the unit range, in which 0 is black and 1 is white, to a model's values.

    value = unit * scale + offset, e.g. 2 and -1 for values in [-1, 1]; 1 / std and -mean / std for
    values that were standardized channel by channel.

    Attributes:
        scale: one for all channels, or one each; above 0.
        offset: as many.

    Raises:
        codec.DecodeError: not as many of the one as of the other, none, a scale that is not above
            0, or a value that is not finite.
    """

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        values = (*self.scale, *self.offset)
        fits = len(self.scale) == len(self.offset) > 0 and all(map(math.isfinite, values))
        if not fits or min(self.scale) <= 0:
            raise codec.DecodeError(
                "preprocessing: a scaling has as many scales, all above 0, as offsets"
            )

    @classmethod
    def between(cls, low: float, high: float) -> Scaling:
        """Give the scaling to values in [low, high]."""
        return cls(scale=(high - low,), offset=(low,))

    @property
    def low(self) -> float:
        """The smallest value of any channel."""
        return min(self.offset)

    @property
    def high(self) -> float:
        """The largest value of any channel."""
        return max(s + o for s, o in zip(self.scale, self.offset, strict=True))

    @property
    def channels(self) -> int:
        """Channels that it has a scale for; 1 where one serves all."""
        return len(self.scale)

    def apply(self, unit: FloatArray) -> FloatArray:
        """Give unit values, (..., channels), as the model's: float32."""
        if self == Scaling():
            return unit
        scale, offset = np.asarray(self.scale, np.float32), np.asarray(self.offset, np.float32)
        return np.asarray(unit * scale + offset, np.float32)

    def invert(self, values: FloatArray) -> FloatArray:
        """Give the model's values, (..., channels), in the unit range: float32."""
        if self == Scaling():
            return values
        scale, offset = np.asarray(self.scale, np.float32), np.asarray(self.offset, np.float32)
        return np.asarray((values - offset) / scale, np.float32)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a model's numbers mean.

    Attributes:
        kind: what a row of its input is.
        input: from the unit range to what the encoder takes; None for arrays of no stated range.
        output: the same of what the decoder gives.
        likelihood: what the decoder's output stands for.
        colour_order: of the channels; None where they are no colours.
        fit: how pictures of another size were brought to the model's in training, and are wherever
            nothing else is asked for; None: they are refused.

    Raises:
        codec.DecodeError: pictures without a range, or probabilities that are none.
    """

    kind: DataKind
    input: Scaling | None
    output: Scaling | None
    likelihood: Likelihood
    colour_order: ColourOrder | None = None
    fit: Fit | None = None

    def __post_init__(self) -> None:
        if self.kind is DataKind.PICTURE and (self.input is None or self.output is None):
            raise codec.DecodeError("preprocessing: pictures have a range of values")
        if self.likelihood is Likelihood.BERNOULLI and self.output != Scaling():
            raise codec.DecodeError("preprocessing: a Bernoulli decoder gives values from 0 to 1")

    def check_shape(self, row_shape: tuple[int, ...]) -> None:
        """Refuse what cannot hold for rows of a shape.

        Raises:
            codec.DecodeError: pictures that are not (height, width, 1 or 3), or a scale for each of
                another number of channels.
        """
        if self.kind is DataKind.PICTURE and not can_be_pictures(row_shape):
            raise codec.DecodeError(
                f"preprocessing: pictures are (height, width, 1 or 3); received {row_shape}"
            )
        for scaling in (self.input, self.output):
            if scaling is not None and scaling.channels not in (1, row_shape[-1]):
                raise codec.DecodeError(
                    f"preprocessing: {scaling.channels} scales for {row_shape[-1]} channels"
                )

    @property
    def levels(self) -> Scaling:
        """From 8-bit levels divided by 255 to what the encoder takes.

        Raises:
            DataError: the model takes no pictures.
        """
        if self.kind is not DataKind.PICTURE or self.input is None:
            raise DataError(
                "the model takes arrays of floats, and it is not known how pictures or 8-bit "
                "values become such. Where it was trained on pictures, export it with "
                "--value-range LOW,HIGH."
            )
        return self.input

    def from_levels(self, levels: npt.NDArray[np.uint8]) -> FloatArray:
        """Give 8-bit levels, in the model's order of channels, as the encoder takes them: float32.

        Raises:
            DataError: the model takes no pictures.
        """
        return self.levels.apply(levels.astype(np.float32) / np.float32(_LEVELS))

    def input_levels(self, values: FloatArray) -> npt.NDArray[np.uint8]:
        """Give what the encoder takes as the nearest 8-bit levels.

        Raises:
            DataError: the model takes no pictures.
        """
        return _nearest_levels(self.levels.invert(values))

    def from_picture(self, unit: FloatArray) -> FloatArray:
        """Give a picture's pixels as the encoder takes them.

        Args:
            unit: float32, (..., 1 or 3), in [0, 1]; colours as files have them, red first.

        Raises:
            DataError: the model takes no pictures.
        """
        return self.levels.apply(self._reordered(unit))

    def to_picture(self, values: FloatArray) -> FloatArray:
        """Give what the decoder gave as a picture's pixels: in [0, 1], red first.

        Raises:
            DataError: the model gives no pictures.
        """
        _ = self.levels
        return np.clip(self._reordered(self.unit_output(values)), 0, 1)

    def _reordered(self, unit: FloatArray) -> FloatArray:
        return unit[..., ::-1] if self.colour_order is ColourOrder.BGR else unit

    def output_levels(self, values: FloatArray) -> npt.NDArray[np.uint8]:
        """Give what the decoder gave as the nearest 8-bit levels, in the model's order of channels.

        Raises:
            DataError: the model gives no pictures.
        """
        _ = self.levels
        return _nearest_levels(self.unit_output(values))

    def unit_output(self, values: FloatArray) -> FloatArray:
        """Give what the decoder gave in the unit range, or as it is where there is none."""
        return values if self.output is None else self.output.invert(values)

    def target(self, values: FloatArray) -> FloatArray:
        """Give what the encoder takes as the decoder should give it back."""
        if self.input is None or self.output is None or self.input == self.output:
            return values
        return self.output.apply(self.input.invert(values))

    def as_input(self, values: FloatArray) -> FloatArray:
        """Give what the decoder gave as the encoder takes it."""
        if self.input is None or self.output is None or self.input == self.output:
            return values
        return self.input.apply(self.output.invert(values))

    def check_values(self, values: FloatArray, what: str) -> None:
        """Refuse what cannot be meant: pictures outside their range, and what is not finite.

        Arrays may lie anywhere: a reading that is off every scale is what an anomaly looks like.

        Raises:
            DataError: where it lies, and where it should.
        """
        pictures = self.kind is DataKind.PICTURE and self.input is not None
        low, high = (self.input.low, self.input.high) if pictures and self.input else (0.0, 0.0)
        must = f"must lie in [{low:g}, {high:g}]" if pictures else "must be finite"
        if not np.isfinite(values).all():
            raise DataError(
                f"{what} {must}; received values that are not finite (NaN or infinity)."
            )
        if not pictures or not values.size:
            return
        slack = 0.0 if self.input == Scaling() else _SLACK * (high - low)
        least, most = float(values.min()), float(values.max())
        if least < low - slack or most > high + slack:
            divide = "Divide 8-bit values by 255, or g" if self.input == Scaling() else "G"
            raise DataError(
                f"{what} {must}; received values from {least:g} to {most:g}. "
                f"{divide}ive pixels as uint8."
            )


def _nearest_levels(unit: FloatArray) -> npt.NDArray[np.uint8]:
    return np.rint(np.clip(unit, 0, 1) * _LEVELS).astype(np.uint8)


def can_be_pictures(row_shape: tuple[int, ...]) -> bool:
    """Tell whether rows of this shape may be pictures: (height, width, 1 or 3)."""
    return len(row_shape) == 3 and row_shape[-1] in (1, 3)


# What `vae-edge train` makes: levels divided by 255, and a sigmoid.
PLAIN_PICTURES = Preprocessing(
    kind=DataKind.PICTURE,
    input=Scaling(),
    output=Scaling(),
    likelihood=Likelihood.BERNOULLI,
)
