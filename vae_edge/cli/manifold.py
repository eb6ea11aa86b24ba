"""`vae-edge manifold`: a plane of the latent space, decoded."""

from __future__ import annotations

import json
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

__all__ = ["manifold"]


def manifold(
    bundle: BundlePath,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Images each way.")] = 20,
    span: Annotated[
        float | None,
        typer.Option(
            "--span",
            help="Outermost images, in standard deviations of the prior, up to 6. Default: each "
            "image stands for an equal part of the whole prior.",
            show_default=False,
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            "--axes",
            metavar="I,J",
            help="Latents that run to the right and upwards; all others are 0. Needed where the "
            "model has more than two.",
            show_default=False,
        ),
    ] = None,
    out: ImagesOut = Path("manifold.png"),
    format: FormatChoice = None,
    precision: PrecisionChoice = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Decode a grid over two latents, at steps of equal probability under N(0, 1).

    Example: `vae-edge manifold build/mnist-vae --steps 20 --span 2 --out plane.png`
    """
    from vae_edge.cli.image_output import check_output, image_files, write_images
    from vae_edge.edge_vae import EdgeVAE
    from vae_edge.latents import manifold_latents

    check_output(out)
    chosen = None if axes is None else _parsed(axes)
    with (
        quiet(),
        EdgeVAE.open(bundle, format=format, precision=precision, threads=threads) as vae,
        counting("images", steps * steps) as counted,
    ):
        used = vae.decoder.name
        z = manifold_latents(steps, vae.latent_dim, span=span, axes=chosen)
        write_images(
            out,
            counted(vae.decode_stream(z)),
            count=len(z),
            image_shape=vae.image_shape,
            preprocessing=vae.preprocessing,
            columns=steps,
        )
    if as_json:
        files = [str(file) for file in image_files(out, len(z))]
        shown = {"axes": chosen or (0, 1), "span": span}
        typer.echo(json.dumps({"artifact": used, "count": len(z), **shown, "files": files}))
    else:
        results().print(f"{steps} by {steps} images from {used}: {out}", soft_wrap=True)


def _parsed(axes: str) -> tuple[int, int]:
    from vae_edge.errors import UsageError

    try:
        across, up = map(int, axes.split(","))
    except ValueError:
        raise UsageError(f"--axes {axes}: expected two numbers of latents, e.g. 0,1.") from None
    return across, up
