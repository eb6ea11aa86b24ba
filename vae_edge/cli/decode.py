"""`vae-edge decode`: latents to images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from vae_edge.cli.console import counting, quiet, results
from vae_edge.cli.options import (
    BundlePath,
    FormatChoice,
    ImagesOut,
    Json,
    PrecisionChoice,
    Threads,
)

__all__ = ["decode"]


def decode(
    bundle: BundlePath,
    latents: Annotated[
        Path,
        typer.Argument(
            metavar="LATENTS",
            help="A .npy of (count, latent_dim), an .npz with `z` or `z_mean`, or `-` for a .npy "
            "on stdin.",
        ),
    ],
    out: ImagesOut = Path("decoded.png"),
    format: FormatChoice = None,
    precision: PrecisionChoice = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Give the image of each latent.

    Example: `vae-edge decode build/mnist-vae latents.npz --out digits.png`
    """
    from vae_edge.cli.image_output import check_output, image_files, write_images
    from vae_edge.edge_vae import EdgeVAE
    from vae_edge.latent_files import open_latents

    check_output(out)
    with (
        quiet(),
        EdgeVAE.open(bundle, format=format, precision=precision, threads=threads) as vae,
        open_latents(latents, vae.latent_dim) as source,
        counting("images", source.count) as counted,
    ):
        used, count = vae.decoder.name, source.count
        write_images(
            out,
            counted(vae.decode_stream(source.chunks())),
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
