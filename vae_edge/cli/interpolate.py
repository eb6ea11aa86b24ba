"""`vae-edge interpolate`: the way from one image or latent to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_edge.cli.console import quiet, results
from vae_edge.cli.options import (
    BundlePath,
    FitChoice,
    FormatChoice,
    ImagesOut,
    Json,
    PrecisionChoice,
    Threads,
)
from vae_edge.terms import Fit, Interpolation

if TYPE_CHECKING:
    from vae_edge.edge_vae import EdgeVAE
    from vae_edge.terms import FloatArray

__all__ = ["interpolate"]

_END_HELP = "A picture, or a .npy of one image or of one row of latents."


def interpolate(
    bundle: BundlePath,
    start: Annotated[Path, typer.Argument(metavar="A", help=_END_HELP)],
    end: Annotated[Path, typer.Argument(metavar="B", help=_END_HELP)],
    steps: Annotated[
        int, typer.Option("--steps", min=2, help="How many images, both ends included.")
    ] = 8,
    method: Annotated[
        Interpolation,
        typer.Option("--method", help="Straight between the two z_mean, or along the arc."),
    ] = Interpolation.LINEAR,
    out: ImagesOut = Path("interpolated.png"),
    fit: FitChoice = None,
    format: FormatChoice = None,
    precision: PrecisionChoice = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Decode latents on the way from A to B; of a picture its z_mean is taken.

    linear: (1 - t) A + t B. slerp: (sin((1 - t) w) A + sin(t w) B) / sin(w), w being the angle
    between A and B (T. White, Sampling Generative Networks, arXiv:1609.04468, 2016).

    Example: `vae-edge interpolate build/mnist-vae one.png seven.png --steps 9 --out way.png`
    """
    from vae_edge.cli.image_output import check_output, image_files, write_images
    from vae_edge.edge_vae import EdgeVAE
    from vae_edge.latents import interpolate_latents

    check_output(out)
    with (
        quiet(),
        EdgeVAE.open(bundle, format=format, precision=precision, threads=threads) as vae,
    ):
        used = vae.decoder.name
        a, b = (_latent(vae, path, fit) for path in (start, end))
        write_images(
            out,
            vae.decode_stream(interpolate_latents(a, b, steps, method=method)),
            count=steps,
            image_shape=vae.image_shape,
            preprocessing=vae.preprocessing,
            columns=steps,
        )
    if as_json:
        files = [str(file) for file in image_files(out, steps)]
        ways = {"method": str(method), "z": [a.tolist(), b.tolist()]}
        typer.echo(json.dumps({"artifact": used, "count": steps, **ways, "files": files}))
    else:
        results().print(f"{steps} images from {used}, {method}: {out}", soft_wrap=True)


def _latent(vae: EdgeVAE, path: Path, fit: Fit | None) -> FloatArray:
    """Give the latent that a row holds or that an image has: float32 (latent_dim,)."""
    import numpy as np

    from vae_edge.errors import DataError
    from vae_edge.images import open_images
    from vae_edge.latent_files import open_latents
    from vae_edge.npy_stream import open_npy

    if path.suffix.lower() == ".npy" and path.is_file():
        with open_npy(path) as stream:
            row = stream.shape in ((vae.latent_dim,), (1, vae.latent_dim))
        if row:
            with open_latents(path, vae.latent_dim) as latents:
                return np.asarray(next(latents.chunks())[0])
    with open_images(path, vae.image_shape, fit=fit, preprocessing=vae.preprocessing) as source:
        if source.count != 1:
            raise DataError(f"{path}: holds {source.count} images; expected one end of the way.")
        return np.asarray(vae.encode(next(source.chunks())).z_mean[0])
