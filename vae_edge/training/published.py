"""MNIST and Fashion-MNIST: found on disk or in Keras's cache, or fetched and checked."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vae_edge.errors import DataError
from vae_edge.training.dataset import Dataset
from vae_edge.training.user_data import IDX_FILES, find_idx_files, load_idx_files, load_npz

__all__ = ["PUBLISHED", "PublishedSet", "load_published"]

_KERAS_MIRROR = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
# How the published test parts begin. Their files have the same names, so a directory meant for one
# is easily given for the other.
_FIRST_TEST_LABELS = MappingProxyType(
    {"mnist": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "fashion-mnist": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]}
)
# Without a network a fetch must fail while the user still looks at the screen.
_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """A named data set as Keras caches it.

    Attributes:
        name: what the user types.
        folder: its folder below Keras's `datasets`; empty for the folder itself.
        sha256: of each file, by file name.
    """

    name: str
    folder: str
    sha256: Mapping[str, str]

    def cache(self) -> Path:
        """Directory in which Keras keeps the files."""
        home = os.environ.get("KERAS_HOME")
        root = Path(home) if home else Path.home() / ".keras"
        return root / "datasets" / self.folder

    def is_cached(self) -> bool:
        """Whether every file is in the cache; their contents are not looked at."""
        return all((self.cache() / file).is_file() for file in self.sha256)


PUBLISHED: Mapping[str, PublishedSet] = MappingProxyType(
    {
        "mnist": PublishedSet(
            name="mnist",
            folder="",
            # As in keras.datasets.mnist.
            sha256={
                "mnist.npz": "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
            },
        ),
        "fashion-mnist": PublishedSet(
            name="fashion-mnist",
            folder="fashion-mnist",
            # As in TensorFlow Datasets, url_checksums/fashion_mnist.txt.
            sha256={
                "train-images-idx3-ubyte.gz": (
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
                ),
                "train-labels-idx1-ubyte.gz": (
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
                ),
                "t10k-images-idx3-ubyte.gz": (
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
                ),
                "t10k-labels-idx1-ubyte.gz": (
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
                ),
            },
        ),
    }
)


def load_published(name: str, data_dir: Path | None, *, allow_download: bool) -> Dataset:
    """Load a named set from `data_dir`, or else from Keras's cache, or else from the network.

    Raises:
        DataError: `data_dir` lacks files or holds damaged ones; a cached or fetched file is not
            the published one; the set is not at hand and cannot be fetched.
    """
    published = PUBLISHED[name]
    if data_dir is not None:
        return _load_from(published, data_dir)
    if not published.is_cached() and not allow_download:
        raise DataError(
            f"data set '{name}' is not in {published.cache()} and downloading is off. "
            + _remedy(name)
        )
    for file, sha256 in published.sha256.items():
        path = published.cache() / file
        if not path.is_file():
            _fetch(published, path)
        elif _sha256(path) != sha256:
            raise DataError(
                f"{path}: SHA-256 differs from that of the published file, so it is damaged or "
                "another file. Delete it and run again to download it anew, or name another copy "
                "with --data-dir."
            )
    if "mnist.npz" in published.sha256:
        return load_npz(published.cache() / "mnist.npz", name=name)
    return load_idx_files(published.cache(), name=name)


def _load_from(published: PublishedSet, data_dir: Path) -> Dataset:
    """Load from the user's own directory, whose files need not be the published ones."""
    if not data_dir.is_dir():
        raise DataError(
            f"{data_dir}: no such directory; expected one with the files of '{published.name}'. "
            "Check --data-dir or VAE_EDGE_DATA_DIR."
        )
    for folder in (data_dir / published.name, data_dir):
        if find_idx_files(folder):
            return _not_another(load_idx_files(folder, name=published.name))
        if published.name == "mnist" and (folder / "mnist.npz").is_file():
            return _not_another(load_npz(folder / "mnist.npz", name="mnist"))
    alternative = " or mnist.npz" if published.name == "mnist" else ""
    raise DataError(
        f"{data_dir}: holds no files of '{published.name}', nor does its sub-folder "
        f"'{published.name}': expected {', '.join(IDX_FILES)} (each may end in .gz){alternative}. "
        "Copy them there, or check --data-dir or VAE_EDGE_DATA_DIR."
    )


def _not_another(dataset: Dataset) -> Dataset:
    """Refuse the files of one published set that were found where another was asked for."""
    labels = [] if dataset.test_labels is None else dataset.test_labels[:10].tolist()
    for name, first in _FIRST_TEST_LABELS.items():
        if labels == first and name != dataset.name:
            raise DataError(
                f"{dataset.source}: expected '{dataset.name}', but these are the files of "
                f"'{name}'. Name the directory of '{dataset.name}' with --data-dir (or "
                f"VAE_EDGE_DATA_DIR), or use --dataset {name}."
            )
    return dataset


def _fetch(published: PublishedSet, path: Path) -> None:
    """Download one file beside its place, check it, and only then put it there."""
    url = f"{_KERAS_MIRROR}{path.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            part = Path(scratch) / path.name
            with (
                urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response,  # noqa: S310  https
                part.open("wb") as file,
            ):
                while piece := response.read(2**20):
                    file.write(piece)
            if _sha256(part) != published.sha256[path.name]:
                raise DataError(
                    f"{url}: SHA-256 of what was received differs from that of the published file. "
                    f"Try again later. {_remedy(published.name)}"
                )
            part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"data set '{published.name}' is not on this machine and {url} cannot be downloaded to "
            f"{path.parent} ({reason}). {_remedy(published.name)}"
        ) from error


def _remedy(name: str) -> str:
    files = "mnist.npz or the four IDX files" if name == "mnist" else "the four IDX files"
    return (
        f"Copy {files} to a directory and name it with --data-dir, or use the data set 'digits', "
        "which needs no download."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
