"""Options that several commands share, declared once so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vae_edge.errors import UsageError
from vae_edge.terms import Fit, Format, Precision

__all__ = [
    "BundlePath",
    "DataDir",
    "ExportFormats",
    "FitChoice",
    "FormatChoice",
    "ImagesOut",
    "ImagesPath",
    "Json",
    "MaxError",
    "MinPsnr",
    "OnlyFormats",
    "PrecisionChoice",
    "Threads",
    "Verbose",
    "parse_formats",
]

BundlePath = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Bundle directory that `vae-edge export` wrote.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="VAE_EDGE_DATA_DIR",
        help="Directory that holds the data set's files (MNIST: the four IDX files, gzipped or "
        "not, or mnist.npz).",
    ),
]
FitChoice = Annotated[
    Fit | None,
    typer.Option(
        "--fit",
        help="What to do with pictures of another size, and with colour where the model is grey: "
        "stretch, cut out the middle, or add black. Default: refuse them.",
        show_default=False,
    ),
]
# Texts, and no choice that is made before packages are looked at which may add one.
_FORMATS = "|".join(Format)


def _checked_format(value: str | None) -> str | None:
    parse_formats(None if value is None else [value])
    return value


FormatChoice = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar=_FORMATS,
        callback=_checked_format,
        help="Default: the first in the bundle that a runtime is installed for.",
        show_default=False,
    ),
]
OnlyFormats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar=_FORMATS,
        help="Only this format. Repeatable.",
        show_default=False,
    ),
]
ExportFormats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar=_FORMATS,
        help="Repeat for several. Default: both. Or one that an installed package adds.",
        show_default=False,
    ),
]
ImagesOut = Annotated[
    Path,
    typer.Option("--out", help="A picture (one sheet), a .npy file, or a folder of pictures."),
]
ImagesPath = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGES",
        help="A picture, a folder, a .npy, an .npz with `images`, `x_test`, `x_train` or `x`, or "
        "`-` for a .npy on stdin.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
# The defaults are those of vae_edge.selection, which a command imports only when it runs.
MinPsnr = Annotated[
    float | None,
    typer.Option(
        "--min-psnr",
        metavar="DB",
        help="Budget of the choice: least PSNR of the decoder's images on the golden vectors. "
        "Default: 40, an error of 2.6 of 255 grey levels.",
        show_default=False,
    ),
]
MaxError = Annotated[
    float | None,
    typer.Option(
        "--max-error",
        metavar="SHARE",
        help="Budget of the choice: largest rmse of the encoder's latents, as a share of their "
        "span. Default: 0.01.",
        show_default=False,
    ),
]
PrecisionChoice = Annotated[
    Precision | None,
    typer.Option("--precision", help="Default: the most exact in the bundle.", show_default=False),
]
Threads = Annotated[
    int, typer.Option("--threads", min=1, max=256, help="Threads each runtime may use.")
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", help="Show what TensorFlow and the converters print, and tracebacks."
    ),
]


def parse_formats(given: list[str] | None) -> tuple[Format, ...]:
    """Read `--format`, in the order given and each once; empty where it is left out.

    Raises:
        UsageError: neither a format nor one that an installed package adds.
    """
    found = []
    for text in given or ():
        try:
            found.append(Format(text))
        except ValueError:
            raise UsageError(
                f"--format {text}: expected {' or '.join(Format)}, or a format that an installed "
                "package adds (docs/api.md)."
            ) from None
    return tuple(dict.fromkeys(found))
