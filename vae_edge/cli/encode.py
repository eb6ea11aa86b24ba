"""`vae-edge encode`: images to latents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vae_edge.cli.console import counting, quiet, results
from vae_edge.cli.options import (
    BundlePath,
    FitChoice,
    FormatChoice,
    ImagesPath,
    Json,
    PrecisionChoice,
    Threads,
)

__all__ = ["encode"]


def encode(
    bundle: BundlePath,
    images: ImagesPath,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="An .npz (z_mean, z_log_var, and the names of a folder's files), a .npy (z_mean) "
            "or a .csv.",
        ),
    ] = Path("latents.npz"),
    fit: FitChoice = None,
    format: FormatChoice = None,
    precision: PrecisionChoice = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Give the posterior of each image: z_mean and z_log_var.

    Example: `vae-edge encode build/mnist-vae digits --out latents.npz`
    """
    from vae_edge.edge_vae import EdgeVAE
    from vae_edge.errors import UsageError
    from vae_edge.images import open_images
    from vae_edge.latent_files import LATENT_SUFFIXES, write_posteriors

    if out.suffix.lower() not in LATENT_SUFFIXES or out.is_dir():
        raise UsageError(
            f"--out {out}: expected the name of a file that ends in {', '.join(LATENT_SUFFIXES)}."
        )
    with (
        quiet(),
        EdgeVAE.open(bundle, format=format, precision=precision, threads=threads) as vae,
        open_images(images, vae.image_shape, fit=fit, preprocessing=vae.preprocessing) as source,
        counting("images", source.count) as counted,
    ):
        used, latent_dim = vae.encoder.name, vae.latent_dim
        write_posteriors(
            out,
            vae.encode_stream(counted(source.chunks())),
            count=source.count,
            latent_dim=latent_dim,
            files=source.files,
        )
    if as_json:
        result = {"artifact": used, "count": source.count, "latent_dim": latent_dim}
        typer.echo(json.dumps({**result, "files": [str(out)]}))
    else:
        results().print(
            f"{source.count} images to {latent_dim} latents each by {used}: {out}", soft_wrap=True
        )
