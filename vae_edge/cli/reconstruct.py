"""`vae-edge reconstruct`: images through the encoder and the decoder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from vae_edge.edge_vae import EdgeVAE
    from vae_edge.terms import FloatArray

__all__ = ["reconstruct"]

_COLUMNS = 16


def reconstruct(
    bundle: BundlePath,
    images: ImagesPath,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="A picture (originals above their reconstructions), a .npy file, or a folder.",
        ),
    ] = Path("reconstructed.png"),
    fit: FitChoice = None,
    format: FormatChoice = None,
    precision: PrecisionChoice = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Encode images, decode their z_mean, and say how far off each reconstruction is.

    Example: `vae-edge reconstruct build/mnist-vae digit.png --out pair.png`
    """
    from vae_edge.cli.image_output import check_output, image_files, is_sheet, write_images
    from vae_edge.edge_vae import EdgeVAE
    from vae_edge.images import open_images

    check_output(out)
    figures = _Figures(keep_all=as_json)
    with (
        quiet(),
        EdgeVAE.open(bundle, format=format, precision=precision, threads=threads) as vae,
        open_images(images, vae.image_shape, fit=fit, preprocessing=vae.preprocessing) as source,
        counting("images", source.count) as counted,
    ):
        used = f"{vae.encoder.name} and {vae.decoder.name}"
        count, columns = source.count, min(_COLUMNS, source.count)
        pairs = _pairs(vae, counted(source.chunks()), figures)
        shown = _rows(list(pairs), columns) if is_sheet(out) else (copies for _, copies in pairs)
        write_images(
            out,
            shown,
            count=count,
            image_shape=vae.image_shape,
            preprocessing=vae.preprocessing,
            columns=columns,
        )
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "artifacts": used,
                    "rmse": figures.rmse,
                    "z_mean": figures.z_mean,
                    "files": [str(file) for file in image_files(out, count)],
                }
            )
        )
        return
    results().print(
        f"{count} images through {used}: {out} (RMSE per pixel: mean {figures.total / count:.4f}, "
        f"worst {figures.worst:.4f})",
        soft_wrap=True,
    )


class _Figures:
    """RMSE per pixel, and z_mean, of the images so far; of each image only with `keep_all`.

    Pictures in grey levels from 0 to 1, arrays in their own values.
    """

    def __init__(self, *, keep_all: bool) -> None:
        self.total = self.worst = 0.0
        self.rmse: list[float] = []
        self.z_mean: list[list[float]] = []
        self._keep_all = keep_all

    def add(self, originals: FloatArray, copies: FloatArray, z_mean: FloatArray) -> None:
        axes = tuple(range(1, originals.ndim))
        import numpy as np

        rmse = np.sqrt(np.square(copies - originals).mean(axis=axes, dtype=np.float64))
        self.total += float(rmse.sum())
        self.worst = max(self.worst, float(rmse.max()))
        if self._keep_all:
            self.rmse += rmse.tolist()
            self.z_mean += z_mean.tolist()


def _pairs(
    vae: EdgeVAE, chunks: Iterable[FloatArray], figures: _Figures
) -> Iterator[tuple[FloatArray, FloatArray]]:
    for originals in chunks:
        z_mean = vae.encode(originals).z_mean
        copies = vae.decode(z_mean)
        # As the decoder should have given them.
        wanted = vae.preprocessing.target(originals)
        unit_output = vae.preprocessing.unit_output
        figures.add(unit_output(wanted), unit_output(copies), z_mean)
        yield wanted, copies


def _rows(pairs: list[tuple[FloatArray, FloatArray]], columns: int) -> Iterator[FloatArray]:
    """Rows of originals, each above the row of their copies, the last ones filled up."""
    import numpy as np

    originals, copies = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    for start in range(0, len(originals), columns):
        for images in (originals, copies):
            row = images[start : start + columns]
            filler = np.zeros((columns - len(row), *row.shape[1:]), np.float32)
            yield np.concatenate([row, filler])
