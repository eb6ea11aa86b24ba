"""Data sets by name or by path: MNIST, Fashion-MNIST, digits, or the user's own images."""

from __future__ import annotations

import difflib
from pathlib import Path

from vae_edge.errors import DataError
from vae_edge.training.dataset import Dataset
from vae_edge.training.digits import load_digits
from vae_edge.training.published import PUBLISHED, load_published
from vae_edge.training.user_data import load_path

__all__ = ["DATASET_NAMES", "Dataset", "load_dataset", "quickstart_dataset"]

DATASET_NAMES = (*PUBLISHED, "digits")


def load_dataset(
    name_or_path: str | Path, data_dir: Path | None = None, *, allow_download: bool = True
) -> Dataset:
    """Load a data set.

    A name wins over a file of the same name in the working directory; write `./mnist` for that.
    MNIST and Fashion-MNIST are looked for in `data_dir` when it is given, and nowhere else then;
    otherwise in Keras's cache, and are downloaded into it when they are not there.

    Args:
        name_or_path: `mnist`, `fashion-mnist`, `digits`, or the path of an `.npz`, `.npy` or IDX
            file, or of a folder of images or IDX files.
        data_dir: directory with the named set's files.
        allow_download: whether a named set may be fetched.

    Raises:
        DataError: unknown name, no such path, or files that are missing, damaged or unfit.
    """
    name = str(name_or_path)
    if name == "digits":
        return load_digits()
    if name in PUBLISHED:
        return load_published(name, data_dir, allow_download=allow_download)
    path = Path(name_or_path)
    if path.exists():
        return load_path(path)
    close = difflib.get_close_matches(name.lower(), DATASET_NAMES, n=1)
    meant = f" Did you mean '{close[0]}'?" if close else ""
    raise DataError(
        f"data set '{name}' is neither a known name ({', '.join(DATASET_NAMES)}) nor an existing "
        f"path.{meant} Give a name, or the path of an .npz, .npy or IDX file or of a folder of "
        "images."
    )


def quickstart_dataset(data_dir: Path | None = None, *, allow_download: bool = False) -> Dataset:
    """Give MNIST where it is at hand, else digits, which ships with scikit-learn.

    A `data_dir` without usable MNIST files is an error, not a reason for digits.

    Args:
        data_dir: directory with MNIST's files; nothing else is looked at then.
        allow_download: fetch MNIST where neither is at hand; digits where that fails.

    Raises:
        DataError: MNIST's files are there but damaged, or `data_dir` does not hold them.
    """
    if data_dir is not None:
        return load_dataset("mnist", data_dir)
    if PUBLISHED["mnist"].is_cached():
        return load_dataset("mnist", allow_download=False)
    if allow_download:
        try:
            return load_dataset("mnist")
        except DataError:  # no network: what the other set is for
            return load_dataset("digits")
    return load_dataset("digits")
