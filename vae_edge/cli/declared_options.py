"""What `vae-edge export` is told of the values that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.errors import UsageError
from vae_edge.terms import ColourOrder, Fit, Likelihood

if TYPE_CHECKING:
    from exporters.interpretation import Declared

__all__ = [
    "ColourOrderOption",
    "LikelihoodOption",
    "MeanOption",
    "OutputRangeOption",
    "StdOption",
    "TrainedFitOption",
    "ValueRangeOption",
    "parse_declared",
]

_PANEL = "What the model's values mean"
ValueRangeOption = Annotated[
    str | None,
    typer.Option(
        "--value-range",
        metavar="LOW,HIGH",
        help="Of the encoder's input, as in training; pictures' levels 0 to 255 become that. "
        "Default: as the decoder's last activation shows.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
OutputRangeOption = Annotated[
    str | None,
    typer.Option(
        "--output-range",
        metavar="LOW,HIGH",
        help="The same of the decoder's output, where it is another.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        "--mean",
        metavar="M[,M,M]",
        help="Of each channel or of all: the encoder was trained on (level / 255 - mean) / std.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
StdOption = Annotated[
    str | None,
    typer.Option(
        "--std",
        metavar="S[,S,S]",
        help="Goes with --mean.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ColourOrderOption = Annotated[
    ColourOrder | None,
    typer.Option(
        "--colour-order",
        help="In which the model takes the channels of coloured pictures. Default: rgb.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
TrainedFitOption = Annotated[
    Fit | None,
    typer.Option(
        "--fit",
        help="How pictures of another size were brought to the model's in training, and shall be "
        "everywhere. Default: they are refused.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
LikelihoodOption = Annotated[
    Likelihood | None,
    typer.Option(
        "--likelihood",
        help="What the decoder's output stands for, which decides the reconstruction loss. "
        "Default: bernoulli after a sigmoid, else gaussian.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]


def parse_declared(
    *,
    value_range: str | None,
    output_range: str | None,
    mean: str | None,
    std: str | None,
    colour_order: ColourOrder | None,
    fit: Fit | None,
    likelihood: Likelihood | None,
) -> Declared:
    """Read the options.

    Raises:
        UsageError: not numbers, not as many as expected, or what does not go together.
    """
    from exporters.interpretation import Declared

    return Declared(
        value_range=_range("--value-range", value_range),
        output_range=_range("--output-range", output_range),
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        colour_order=colour_order,
        fit=fit,
        likelihood=likelihood,
    )


def _range(option: str, text: str | None) -> tuple[float, float] | None:
    numbers = _numbers(option, text)
    if numbers is None:
        return None
    if len(numbers) != 2:
        raise UsageError(f"{option} {text}: expected LOW,HIGH, e.g. {option} -1,1.")
    return numbers[0], numbers[1]


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    parts: Sequence[str] = text.split(",")
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = ()
    if not numbers or any(n != n or n in (float("inf"), float("-inf")) for n in numbers):
        raise UsageError(f"{option} {text}: expected numbers with commas between them.")
    return numbers
