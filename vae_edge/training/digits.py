"""1797 real handwritten digits that ship with scikit-learn, laid out as MNIST lays out its own.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998: 8x8 images
with values 0..16.
"""

from __future__ import annotations

import numpy as np

from vae_edge.errors import RuntimeMissingError
from vae_edge.terms import FloatArray
from vae_edge.training.dataset import Dataset

__all__ = ["load_digits"]

# MNIST scales a digit into 20x20 pixels in the middle of 28x28.
_BOX, _SIDE = 20, 28
_TEST_PART = 0.2
_SEED = 0


def load_digits() -> Dataset:
    """Give the digits at 28x28, about 1440 to train on and 360 held out, the same every time.

    Raises:
        RuntimeMissingError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise RuntimeMissingError(
            "data set 'digits' needs scikit-learn, which is not installed: pip install "
            "'vae-edge[host]'"
        ) from error
    bunch = load()
    images = np.stack([_enlarge(image) for image in bunch.images.astype(np.float32) / 16])
    labels = bunch.target.astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    rng = np.random.default_rng(_SEED)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        test[members[: round(_TEST_PART * len(members))]] = True
    return Dataset(
        name="digits",
        source="handwritten digits of scikit-learn (UCI), 8x8 enlarged to 28x28",
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
    )


def _enlarge(image: FloatArray) -> FloatArray:
    from PIL import Image

    box = Image.fromarray(image).resize((_BOX, _BOX), Image.Resampling.BILINEAR)
    margin = (_SIDE - _BOX) // 2
    # Interpolation stays within [0, 1] but for rounding.
    return np.pad(np.clip(np.asarray(box, np.float32), 0, 1), margin)[..., np.newaxis]
