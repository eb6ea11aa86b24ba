"""What a user can say about a model that cannot be told from the model itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vae_edge.errors import UsageError

__all__ = ["Scale", "SplitOptions"]


class Scale(str, Enum):
    """What an encoder's second head says of the spread of z.

    `softplus` is a head whose softplus is the standard deviation.
    """

    LOG_VAR = "log-var"
    LOG_STD = "log-std"
    STD = "std"
    VARIANCE = "variance"
    SOFTPLUS = "softplus"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How to load a model and where to cut it. All of it may be left out.

    Attributes:
        imports: modules, or paths of `.py` files, that define and register custom layers.
            Importing them runs their code.
        encoder: file of the encoder, where the halves are two files.
        decoder: file of the decoder; the two go together.
        z_mean: name of the layer whose output is the mean of z.
        z_log_var: name of the layer whose output is the spread of z, as `scale` says.
        decoder_input: name of the layer whose output (else whose input) is z.
        scale: what the output of `z_log_var`, or the encoder's second output, is.
        reconstruction: name of the layer that gives the image, where a decoder gives several.
        logits: whether the decoder gives logits, so that a sigmoid belongs behind it.
        image_shape: of one image, for models that take any size.
    """

    imports: tuple[str, ...] = ()
    encoder: str | None = None
    decoder: str | None = None
    z_mean: str | None = None
    z_log_var: str | None = None
    decoder_input: str | None = None
    scale: Scale | None = None
    reconstruction: str | None = None
    logits: bool = False
    image_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what goes only together.

        Raises:
            UsageError: one file of two, one head of two, or a size below 1.
        """
        if self.image_shape is not None and min(self.image_shape, default=0) < 1:
            raise UsageError(
                f"--image-shape {','.join(map(str, self.image_shape))}: expected sizes of 1 or "
                "more, e.g. 64,64,3."
            )
        for first, second in (("encoder", "decoder"), ("z_mean", "z_log_var")):
            given = [name for name in (first, second) if getattr(self, name) is not None]
            if len(given) == 1:
                options = [f"--{name.replace('_', '-')}" for name in (first, second)]
                raise UsageError(
                    f"{' and '.join(options)} go together; received only "
                    f"--{given[0].replace('_', '-')}. Give the other one too."
                )
