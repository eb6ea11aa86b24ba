"""`vae-edge reconstruct`: images through the encoder and the decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from vae_edge.cli.console import quiet, results
from vae_edge.cli.options import BundlePath, FormatChoice, Json, PrecisionChoice, Threads

__all__ = ["reconstruct"]

_COLUMNS = 16


def reconstruct(
    bundle: BundlePath,
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="A picture, a .npy file, or a folder.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="A picture (originals above their reconstructions), a .npy file, or a folder.",
        ),
    ] = Path("reconstructed.png"),
    format: FormatChoice = None,
    precision: PrecisionChoice = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Encode images, decode their z_mean, and say how far off each reconstruction is.

    Example: `vae-edge reconstruct build/mnist-vae digit.png --out pair.png`
    """
    from vae_edge.cli.image_output import check_output, is_sheet, write_images
    from vae_edge.edge_vae import EdgeVAE
    from vae_edge.images import read_images

    check_output(out)
    with (
        quiet(),
        EdgeVAE.open(bundle, format=format, precision=precision, threads=threads) as vae,
    ):
        originals = read_images(images, vae.image_shape)
        posterior = vae.encode(originals)
        reconstructions = vae.decode(posterior.z_mean)
        used = f"{vae.encoder.name} and {vae.decoder.name}"
    if is_sheet(out):
        rows = [
            part
            for start in range(0, len(originals), _COLUMNS)
            for part in _padded(originals, reconstructions, start)
        ]
        files = write_images(out, np.concatenate(rows), columns=min(_COLUMNS, len(originals)))
    else:
        files = write_images(out, reconstructions, columns=_COLUMNS)
    rmse = np.sqrt(np.square(reconstructions - originals).mean(axis=(1, 2, 3), dtype=np.float64))
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "artifacts": used,
                    "rmse": rmse.tolist(),
                    "z_mean": posterior.z_mean.tolist(),
                    "files": list(map(str, files)),
                }
            )
        )
        return
    results().print(
        f"{len(originals)} images through {used}: {out} (RMSE per pixel: mean {rmse.mean():.4f}, "
        f"worst {rmse.max():.4f})",
        soft_wrap=True,
    )


def _padded(
    originals: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    reconstructions: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    start: int,
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """One row of originals and the row of their reconstructions, the last ones filled up."""
    width = min(_COLUMNS, len(originals))
    rows = []
    for images in (originals, reconstructions):
        row = images[start : start + width]
        filler = np.zeros((width - len(row), *row.shape[1:]), np.float32)
        rows.append(np.concatenate([row, filler]))
    return rows
