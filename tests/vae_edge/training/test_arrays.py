from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_edge.errors import DataError
from vae_edge.training.arrays import as_images, as_labels


def test_bytes_become_floats_from_0_to_1() -> None:
    images = as_images(np.array([[[0, 51, 255]]], np.uint8), "here")
    assert images.dtype == np.float32
    assert images.shape == (1, 1, 3, 1)
    np.testing.assert_array_equal(images.ravel(), np.array([0, 0.2, 1], np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, bool])
def test_floats_and_bools_keep_their_values(dtype: Any) -> None:
    images = as_images(np.array([[[0, 1], [1, 0]]], dtype), "here")
    assert images.dtype == np.float32
    assert images[0, ..., 0].tolist() == [[0, 1], [1, 0]]


def test_colour_images_keep_their_channels() -> None:
    assert as_images(np.zeros((5, 4, 6, 3), np.uint8), "here").shape == (5, 4, 6, 3)


def test_the_result_is_the_callers_own() -> None:
    source = np.zeros((1, 2, 2, 1), np.float64)
    images = as_images(source, "here")
    source[...] = 1
    assert images.max() == 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((28, 28), np.uint8), r"expected images of shape.*received \(28, 28\)"),
        (np.zeros((5, 784), np.uint8), r"received \(5, 784\)"),
        (np.zeros((5, 8, 8, 4), np.uint8), r"received \(5, 8, 8, 4\)"),
        (np.zeros((5, 3, 8, 8), np.uint8), r"channels seem to stand second: np.moveaxis"),
        (np.zeros((0, 8, 8), np.uint8), r"at least one image; received shape \(0, 8, 8, 1\)"),
        (np.zeros((2, 8, 8), np.int64), "uint8 values 0..255 or floats.*received int64"),
        (np.zeros((2, 8, 8), complex), "received complex128"),
        (np.zeros((2, 8, 8), object), "received object"),
        (np.full((1, 2, 2), np.nan), "4 of 4 values are not finite"),
        (np.array([[[0.5, np.inf]]]), "1 of 2 values are not finite"),
        (np.full((1, 2, 2), 255.0), r"floats in \[0, 1\]; received 255 to 255"),
        (np.array([[[-0.1, 0.5]]]), r"received -0.1 to 0.5"),
    ],
)
def test_what_is_no_set_of_images_is_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        as_images(array, "file.npz, entry 'x'")
    assert str(caught.value).startswith("file.npz, entry 'x': ")


def test_labels_of_any_integer_type_become_int64() -> None:
    labels = as_labels(np.array([3, 1], np.uint8), 2, "here")
    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 1]


@pytest.mark.parametrize(
    "array", [np.zeros(3, np.int64), np.zeros((2, 10), np.int64), np.zeros(2), np.array(["a", "b"])]
)
def test_labels_that_are_not_one_number_per_image_are_refused(array: np.ndarray) -> None:
    with pytest.raises(DataError, match="one whole number for each of the 2 images"):
        as_labels(array, 2, "here")
