"""Everything that decides what a training run computes, as one validated value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from vae_edge.errors import UsageError

__all__ = ["Architecture", "TrainSettings", "Validation"]


class Validation(str, Enum):
    """What the weights of each epoch are judged on."""

    SPLIT = "split"
    """A seeded part of the training images, held out of training."""
    TEST = "test"
    """The test images; every training image is trained on."""

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a VAE: all that is needed to build its layers.

    Attributes:
        image_shape: (height, width, channels) of one image.
        latent_dim: size of `z`.
        encoder_filters: filters of the encoder's stride-2 convolutions, first to last.
        decoder_filters: filters of the decoder's stride-2 transposed convolutions, first to last.
        hidden_units: dense layers between the convolutions and the two heads; the decoder has
            them in reverse. Empty: the heads stand on the flattened convolutions.

    Raises:
        UsageError: a size below 1, or a height or width that the number of filters does not fit.
    """

    image_shape: tuple[int, ...] = (28, 28, 1)
    latent_dim: int = 2
    encoder_filters: tuple[int, ...] = (32, 64)
    decoder_filters: tuple[int, ...] = (64, 32)
    hidden_units: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise UsageError(
                "image_shape must be three positive numbers, (height, width, channels); received "
                f"{self.image_shape}."
            )
        _at_least("latent_dim", self.latent_dim, 1)
        for units in self.hidden_units:
            _at_least("hidden_units", units, 1)
        self._check_filters("encoder_filters", self.encoder_filters)
        self._check_filters("decoder_filters", self.decoder_filters)

    def _check_filters(self, name: str, filters: tuple[int, ...]) -> None:
        if not filters:
            raise UsageError(f"{name} must name at least one layer, e.g. (32, 64); received none.")
        for size in filters:
            _at_least(name, size, 1)
        # Each layer halves or doubles height and width; a remainder would change the size.
        factor = 2 ** len(filters)
        height, width, _ = self.image_shape
        if height % factor or width % factor:
            raise UsageError(
                f"images of {height}x{width} do not fit {len(filters)} stride-2 layers ({name} "
                f"{filters}): height and width must be multiples of {factor}. Pad or resize the "
                "images, or use fewer filters."
            )


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of a run; equal settings on equal data give equal weights on one machine.

    Attributes:
        dataset: name or path that `load_dataset` was given.
        image_shape, latent_dim, encoder_filters, decoder_filters, hidden_units: see
            `Architecture`.
        beta: weight of the KL term in the loss; 1 trains the ELBO itself.
        epochs: passes over the training images.
        batch_size: images per optimizer step.
        learning_rate: Adam's, at the start; falls along half a cosine to a hundredth of it.
        seed: of the initial weights, the held-out part, the order and the sampling.
        limit: use at most this many of the training images, drawn by `seed`; None for all.
        validation: what each epoch is judged on.
        validation_fraction: part of the training images held out with `Validation.SPLIT`.
        patience: stop after this many epochs without a better validation loss; 0 never stops.

    Raises:
        UsageError: a value that cannot be trained with, or a shape the filters do not fit.
    """

    dataset: str = "mnist"
    image_shape: tuple[int, ...] = (28, 28, 1)
    latent_dim: int = 2
    encoder_filters: tuple[int, ...] = (32, 64)
    decoder_filters: tuple[int, ...] = (64, 32)
    hidden_units: tuple[int, ...] = ()
    beta: float = 1.0
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 1e-3
    seed: int = 0
    limit: int | None = None
    validation: Validation = Validation.SPLIT
    validation_fraction: float = 0.1
    patience: int = 0

    def __post_init__(self) -> None:
        _at_least("epochs", self.epochs, 1)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("patience", self.patience, 0)
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"seed must lie between 0 and 2147483647; received {self.seed}.")
        if self.limit is not None:
            _at_least("limit", self.limit, 2)
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise UsageError(f"beta must be a finite number, 0 or more; received {self.beta}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(
                "learning_rate must be a finite number above 0, usually 0.0001 to 0.01; received "
                f"{self.learning_rate}."
            )
        if not 0 < self.validation_fraction < 1:
            raise UsageError(
                "validation_fraction must lie between 0 and 1, both excluded; received "
                f"{self.validation_fraction}."
            )
        _ = self.architecture  # validates itself

    @property
    def architecture(self) -> Architecture:
        """The part of the settings that shapes the model."""
        return Architecture(
            image_shape=self.image_shape,
            latent_dim=self.latent_dim,
            encoder_filters=self.encoder_filters,
            decoder_filters=self.decoder_filters,
            hidden_units=self.hidden_units,
        )


def _at_least(name: str, value: int, smallest: int) -> None:
    if value < smallest:
        raise UsageError(f"{name} must be {smallest} or more; received {value}.")
