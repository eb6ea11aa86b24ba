"""`vae-edge generate`: new images from N(0, I)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from vae_edge.cli.console import counting, quiet, results
from vae_edge.cli.options import BundlePath, FormatChoice, ImagesOut, Json, PrecisionChoice, Threads

__all__ = ["generate"]


def generate(
    bundle: BundlePath,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many images.")] = 16,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="For the same images again.", show_default=False),
    ] = None,
    out: ImagesOut = Path("generated.png"),
    format: FormatChoice = None,
    precision: PrecisionChoice = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Decode latents drawn from the prior N(0, I) into new images.

    Example: `vae-edge generate build/mnist-vae --count 16 --seed 7 --out digits.png`
    """
    from vae_edge.cli.image_output import check_output, image_files, write_images
    from vae_edge.edge_vae import EdgeVAE

    check_output(out)
    with (
        quiet(),
        EdgeVAE.open(bundle, format=format, precision=precision, threads=threads) as vae,
    ):
        used = vae.decoder.name
        with counting("images", count) as counted:
            write_images(
                out,
                counted(vae.generate_stream(count, seed=seed)),
                count=count,
                image_shape=vae.image_shape,
                preprocessing=vae.preprocessing,
                columns=math.ceil(math.sqrt(count)),
            )
    if as_json:
        files = [str(file) for file in image_files(out, count)]
        typer.echo(json.dumps({"artifact": used, "count": count, "files": files}))
    else:
        results().print(f"{count} images from {used}: {out}", soft_wrap=True)
