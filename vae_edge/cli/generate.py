"""`vae-edge generate`: new images from N(0, I)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from vae_edge.cli.console import quiet, results
from vae_edge.cli.options import BundlePath, FormatChoice, Json, PrecisionChoice, Threads

__all__ = ["generate"]


def generate(
    bundle: BundlePath,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many images.")] = 16,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="For the same images again.", show_default=False),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", help="A picture (one sheet), a .npy file, or a folder of pictures."),
    ] = Path("generated.png"),
    format: FormatChoice = None,
    precision: PrecisionChoice = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Decode latents drawn from the prior N(0, I) into new images.

    Example: `vae-edge generate build/mnist-vae --count 16 --seed 7 --out digits.png`
    """
    from vae_edge.cli.image_output import check_output, write_images
    from vae_edge.edge_vae import EdgeVAE

    check_output(out)
    with (
        quiet(),
        EdgeVAE.open(bundle, format=format, precision=precision, threads=threads) as vae,
    ):
        images = vae.generate(count, seed=seed)
        used = vae.decoder.name
    files = write_images(out, images, columns=math.ceil(math.sqrt(count)))
    if as_json:
        typer.echo(json.dumps({"artifact": used, "count": count, "files": list(map(str, files))}))
    else:
        results().print(f"{count} images from {used}: {out}", soft_wrap=True)
