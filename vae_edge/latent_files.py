"""Latents in files: what `vae-edge encode` writes and `vae-edge decode` reads."""

from __future__ import annotations

import contextlib
import csv
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_edge.edge_vae import Posterior
from vae_edge.errors import DataError
from vae_edge.files import replaced_file
from vae_edge.npy_stream import NpyStream, open_npy, write_npy, write_npy_part, written
from vae_edge.terms import FloatArray

__all__ = ["LATENT_KEYS", "LATENT_SUFFIXES", "LatentSource", "open_latents", "write_posteriors"]

LATENT_KEYS = ("z", "z_mean")
LATENT_SUFFIXES = (".npz", ".npy", ".csv")


@dataclass(frozen=True, kw_only=True)
class LatentSource:
    """Latents that are read when they are asked for, once.

    Attributes:
        count: how many rows there are, at least 1.
        latent_dim: of each row.
        stream: the file.
    """

    count: int
    latent_dim: int
    stream: NpyStream

    def chunks(self, rows: int = 32) -> Iterator[FloatArray]:
        """Give the latents in order, at most `rows` at a time: float32 (n, latent_dim).

        Raises:
            DataError: the file is damaged.
        """
        if len(self.stream.shape) == 1:
            yield np.asarray(self.stream.whole(), np.float32)[np.newaxis]
            return
        for piece in self.stream.chunks(rows):
            yield np.asarray(piece, np.float32)


@contextlib.contextmanager
def open_latents(path: Path, latent_dim: int) -> Iterator[LatentSource]:
    """Open latents for reading in chunks.

    Args:
        path: a `.npy` of numbers, (count, latent_dim) or one (latent_dim,); an `.npz` with such an
            entry `z` or `z_mean`; `-` for such a `.npy` on stdin.
        latent_dim: of the model.

    Raises:
        DataError: cannot be read, no such entry, another shape, no numbers or no rows.
    """
    with open_npy(path, LATENT_KEYS) as stream:
        shape = (1, *stream.shape) if len(stream.shape) == 1 else stream.shape
        if len(shape) != 2 or shape[1] != latent_dim or stream.dtype.kind not in "fiu":
            raise DataError(
                f"{stream.name}: holds {stream.dtype} {stream.shape}; expected latents of shape "
                f"(count, {latent_dim}), as numbers."
            )
        if not shape[0]:
            raise DataError(f"{stream.name}: holds no latents.")
        yield LatentSource(count=shape[0], latent_dim=latent_dim, stream=stream)


def write_posteriors(
    out: Path,
    chunks: Iterable[Posterior],
    *,
    count: int,
    latent_dim: int,
    files: tuple[str, ...] | None = None,
) -> None:
    """Write posteriors as they come; `out` is either whole or not there.

    `.npz`: z_mean and z_log_var, float32 (count, latent_dim), and, where given, `files`, text
    (count,). `.npy`: z_mean. `.csv`: a row per image with `file` or `index` first, then z_mean_0,
    ..., z_log_var_0, ..., in digits that give the same float32 again.

    Args:
        out: a name that ends in one of `LATENT_SUFFIXES`.
        chunks: the posteriors, in order.
        count: of all rows together.
        latent_dim: of the model.
        files: a name per row, or None.

    Raises:
        DataError: another suffix, or it cannot be written.
    """
    suffix, shape = out.suffix.lower(), (count, latent_dim)
    if suffix == ".npz":
        _write_npz(out, chunks, shape, files)
    elif suffix == ".npy":
        write_npy(out, shape, (posterior.z_mean for posterior in chunks))
    elif suffix == ".csv":
        _write_csv(out, chunks, latent_dim, files)
    else:
        raise DataError(f"{out}: expected a name that ends in {', '.join(LATENT_SUFFIXES)}.")


def _write_npz(
    out: Path, chunks: Iterable[Posterior], shape: tuple[int, int], files: tuple[str, ...] | None
) -> None:
    with (
        written(out),
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.") as folder,
        replaced_file(out) as part,
    ):
        # An archive takes one entry after the other, and the rows of both come together.
        entries = [Path(folder) / f"{name}.npy" for name in Posterior._fields]
        with write_npy_part(entries[0], shape) as mean, write_npy_part(entries[1], shape) as log:
            for z_mean, z_log_var in chunks:
                mean(z_mean)
                log(z_log_var)
        with zipfile.ZipFile(part, "w") as archive:
            for entry in entries:
                archive.write(entry, entry.name)
            if files is not None:
                with archive.open("files.npy", "w") as file:
                    np.lib.format.write_array(file, np.array(files), allow_pickle=False)


def _write_csv(
    out: Path, chunks: Iterable[Posterior], latent_dim: int, files: tuple[str, ...] | None
) -> None:
    columns = [f"{name}_{i}" for name in Posterior._fields for i in range(latent_dim)]
    with (
        written(out),
        replaced_file(out) as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["index" if files is None else "file", *columns])
        row = 0
        for posterior in chunks:
            for values in np.concatenate(posterior, axis=1):
                first = row if files is None else files[row]
                table.writerow([first, *(f"{value:.9g}" for value in values)])
                row += 1
