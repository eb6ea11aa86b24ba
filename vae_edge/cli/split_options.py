"""What commands that load a Keras model are told of how to load it and take it apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vae_edge.cli.console import note
from vae_edge.errors import UsageError
from vae_edge.split_options import Scale, SplitOptions

__all__ = [
    "DecoderFile",
    "DecoderInput",
    "EncoderFile",
    "ImageShapeOption",
    "Imports",
    "LogitsOption",
    "ReconstructionOption",
    "ScaleOption",
    "ZLogVar",
    "ZMean",
    "print_notes",
    "split_options",
]

_PANEL = "How the model is taken apart"


def _layer(option: str, text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        option, metavar="LAYER", help=text, show_default=False, rich_help_panel=_PANEL
    )
    return info


Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="Python module, or .py file, that defines and registers the model's own layers. "
        "Importing it runs its code. Repeatable.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
EncoderFile = Annotated[
    Path | None,
    typer.Option(
        "--encoder",
        metavar="FILE",
        help="The encoder's .keras file, where the halves are two files.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
DecoderFile = Annotated[
    Path | None,
    typer.Option(
        "--decoder",
        metavar="FILE",
        help="The decoder's; goes with --encoder.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ZMean = Annotated[
    str | None, _layer("--z-mean", "Layer that gives the mean of z. Default: found by itself.")
]
ZLogVar = Annotated[
    str | None, _layer("--z-log-var", "Layer that gives the spread of z; goes with --z-mean.")
]
DecoderInput = Annotated[
    str | None, _layer("--decoder-input", "Layer that gives z, or the first that takes it.")
]
ScaleOption = Annotated[
    Scale | None,
    typer.Option(
        "--scale",
        help="What the spread is. Default: as the sampling shows, or else log-var.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ReconstructionOption = Annotated[
    str | None,
    _layer("--reconstruction", "Layer that gives the image, where the decoder gives several."),
]
LogitsOption = Annotated[
    bool,
    typer.Option(
        "--logits",
        help="The decoder gives logits, as for a loss with from_logits=True: a sigmoid is put "
        "behind it.",
        rich_help_panel=_PANEL,
    ),
]
ImageShapeOption = Annotated[
    str | None,
    typer.Option(
        "--image-shape",
        metavar="N,N,N",
        help="Of one image, as the model takes it, e.g. 64,64,3; for models that take any size.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]


def split_options(
    *,
    imports: Sequence[str] | None,
    encoder: Path | None,
    decoder: Path | None,
    z_mean: str | None,
    z_log_var: str | None,
    decoder_input: str | None,
    scale: Scale | None,
    reconstruction: str | None,
    logits: bool,
    image_shape: str | None,
) -> SplitOptions:
    """Gather the options.

    Raises:
        UsageError: one file or one head of two, or a shape that is none.
    """
    return SplitOptions(
        imports=tuple(imports or ()),
        encoder=None if encoder is None else str(encoder),
        decoder=None if decoder is None else str(decoder),
        z_mean=z_mean,
        z_log_var=z_log_var,
        decoder_input=decoder_input,
        scale=scale,
        reconstruction=reconstruction,
        logits=logits,
        image_shape=_shape(image_shape),
    )


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--image-shape {text}: expected whole numbers, e.g. 64,64,3.")
    return tuple(map(int, parts))


def print_notes(notes: Sequence[str]) -> None:
    """Say on stderr how a model was taken apart, where that was not the plain case."""
    for sentence in notes:
        note(f"note: {sentence}")
