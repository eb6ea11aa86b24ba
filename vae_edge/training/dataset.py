"""What every source of images is turned into."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np

from vae_edge.errors import DataError
from vae_edge.terms import FloatArray
from vae_edge.training.arrays import LabelArray

__all__ = ["Dataset", "split"]

# For sets without a test part; fixed, so that runs with different seeds can be compared.
_SPLIT_SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images to train on and images held out for the final evaluation.

    Attributes:
        name: `mnist`, `digits`, or the file's or folder's name.
        source: where it was found, for people.
        train_images: float32 (count, height, width, channels) in [0, 1].
        train_labels: int64 (count,), or None where the classes are not known.
        test_images: as `train_images`.
        test_labels: as `train_labels`.

    Raises:
        DataError: training and test images differ in shape.
    """

    name: str
    source: str
    train_images: FloatArray
    train_labels: LabelArray | None
    test_images: FloatArray
    test_labels: LabelArray | None

    def __post_init__(self) -> None:
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"{self.source}: training images have shape {self.train_images.shape[1:]}, test "
                f"images {self.test_images.shape[1:]}. Bring all images to one size."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    def fingerprint(self) -> str:
        """SHA-256 over all images, by which a resumed run knows its data again."""
        digest = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray) and value.dtype == np.float32:
                digest.update(f"{field.name} {value.shape}".encode())
                digest.update(np.ascontiguousarray(value).data)
        return digest.hexdigest()


def split(
    *, name: str, source: str, images: FloatArray, labels: LabelArray | None, part: float = 0.1
) -> Dataset:
    """Hold a seeded part of the images out for testing.

    Raises:
        DataError: fewer than two images.
    """
    count = len(images)
    if count < 2:
        raise DataError(
            f"{source}: expected at least 2 images, to train on some and test on others; received "
            f"{count}. Add images."
        )
    order = np.random.default_rng(_SPLIT_SEED).permutation(count)
    held = max(1, round(part * count))
    test, train = np.sort(order[:held]), np.sort(order[held:])
    return Dataset(
        name=name,
        source=source,
        train_images=images[train],
        train_labels=None if labels is None else labels[train],
        test_images=images[test],
        test_labels=None if labels is None else labels[test],
    )
