from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vae_edge.errors import DataError
from vae_edge.images import read_images
from vae_edge.pixels import fit_picture, to_levels
from vae_edge.terms import Fit
from vae_edge.training.image_folder import load_image_folder

WIDE = np.repeat(np.array([0, 0, 100, 200, 0, 0], np.uint8)[np.newaxis], 2, axis=0)


def fitted(pixels, shape, fit):
    levels = fit_picture(Image.fromarray(pixels), shape, Fit(fit)) * 255
    assert levels.dtype == np.float32
    return np.rint(levels).astype(int)


def test_colour_becomes_grey_by_the_weights_of_bt_601():
    red_green_blue_mixed = np.array(
        [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8
    )

    levels = to_levels(Image.fromarray(red_green_blue_mixed), 1)

    # 0.299, 0.587 and 0.114 of 255; 2.99 + 11.74 + 3.42
    assert levels[0, :, 0].tolist() == [76, 150, 29, 18]


def test_grey_becomes_three_equal_channels():
    levels = to_levels(Image.fromarray(WIDE), 3)

    assert levels.shape == (2, 6, 3)
    np.testing.assert_array_equal(levels, np.stack([WIDE] * 3, axis=-1))


def test_training_and_devices_read_the_same_file_alike(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(4):
        pixels = rng.integers(0, 256, (6, 5, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")

    dataset = load_image_folder(tmp_path)

    trained = np.concatenate([dataset.train_images, dataset.test_images])
    read = read_images(tmp_path, (6, 5, 3))
    assert sorted(map(bytes, trained)) == sorted(map(bytes, read))


def test_crop_keeps_the_middle_in_its_proportions():
    np.testing.assert_array_equal(fitted(WIDE, (2, 2, 1), "crop")[..., 0], [[100, 200]] * 2)


def test_pad_keeps_everything_and_adds_black():
    tall = np.full((4, 2), 80, np.uint8)

    levels = fitted(tall, (4, 4, 1), "pad")

    np.testing.assert_array_equal(levels[..., 0], [[0, 80, 80, 0]] * 4)


def test_pad_in_colour_adds_black():
    levels = fitted(np.full((4, 2, 3), 80, np.uint8), (4, 4, 3), "pad")

    np.testing.assert_array_equal(levels[0], [[0] * 3, [80] * 3, [80] * 3, [0] * 3])


def test_resize_uses_every_pixel_whatever_the_proportions():
    """A checkerboard halved is its mean; picking single pixels would give black or white."""
    board = np.indices((8, 16)).sum(axis=0) % 2 * 200

    levels = fitted(board.astype(np.uint8), (4, 4, 1), "resize")

    assert levels.shape == (4, 4, 1)
    np.testing.assert_allclose(levels, 100, atol=15)


@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
def test_what_fits_already_is_left_as_it_is(fit):
    np.testing.assert_array_equal(fitted(WIDE, (2, 6, 1), fit)[..., 0], WIDE)


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, byte_order):
    """White stays white; a level of 8 bits is 257 of 16; half a level away it is the next."""
    deep = np.array([[0, 128, 129, 257, 32896, 65406, 65407, 65535]], f"{byte_order}u2")
    path = tmp_path / "a.tif"
    Image.fromarray(deep).save(path)

    with Image.open(path) as picture:
        assert picture.mode == ("I;16" if byte_order == "<" else "I;16B")
        assert to_levels(picture, 1).ravel().tolist() == [0, 0, 1, 1, 128, 254, 255, 255]
        assert to_levels(picture, 3)[0, 4].tolist() == [128] * 3


@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
def test_16_bit_pictures_fit_as_those_of_8_bits_do(tmp_path, fit):
    Image.fromarray(WIDE).save(tmp_path / "8.png")
    Image.fromarray(WIDE.astype(np.uint16) * 257).save(tmp_path / "16.png")

    for shape in [(2, 6, 1), (2, 2, 1), (2, 2, 3)]:
        np.testing.assert_array_equal(
            read_images(tmp_path / "16.png", shape, fit=fit),
            read_images(tmp_path / "8.png", shape, fit=fit),
        )


def test_training_reads_16_bit_pictures_as_those_of_8_bits(tmp_path):
    for bits, scale, dtype in ((8, 1, np.uint8), (16, 257, np.uint16)):
        (tmp_path / str(bits)).mkdir()
        for index in range(4):
            pixels = np.full((2, 2), 60 * index * scale, dtype)
            Image.fromarray(pixels).save(tmp_path / str(bits) / f"{index}.png")

    deep, shallow = (load_image_folder(tmp_path / bits) for bits in ("16", "8"))

    np.testing.assert_array_equal(deep.train_images, shallow.train_images)
    np.testing.assert_array_equal(deep.test_images, shallow.test_images)


@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
@pytest.mark.parametrize(("dtype", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_pictures_of_32_bits_are_refused_with_any_fit(tmp_path, dtype, mode, fit):
    Image.fromarray(WIDE.astype(dtype)).save(tmp_path / "a.tif")

    with pytest.raises(DataError, match=rf"a\.tif: has Pillow mode '{mode}', more than 16 bits"):
        read_images(tmp_path / "a.tif", (2, 2, 1), fit=fit)


def test_deep_tiff_that_is_white_at_0_is_refused(tmp_path):
    """Pillow would give its negative."""
    deep = Image.fromarray(WIDE.astype(np.uint16) * 257)
    deep.save(tmp_path / "a.tif", tiffinfo={262: 0})

    with pytest.raises(DataError, match=r"TIFF of 16 bits per channel whose lowest level is white"):
        read_images(tmp_path / "a.tif", (2, 2, 1), fit="crop")


def test_tiff_of_12_bits_is_refused():
    """Its white is 4095, which Pillow gives as it stands: a sixteenth of white."""
    picture = Image.fromarray(np.full((2, 2), 4095, np.uint16))
    picture.tag_v2 = {258: (12,), 262: 1}

    with pytest.raises(DataError, match=r"TIFF of 12 bits per channel\. Save it with 8 or 16"):
        to_levels(picture, 1)


def test_refusal_names_the_option(tmp_path):
    Image.fromarray(WIDE).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", WIDE)

    for name in ("a.png", "a.npy"):
        with pytest.raises(DataError, match="--fit resize, crop or pad"):
            read_images(tmp_path / name, (2, 2, 1))


def test_unknown_fit_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"unknown fit 'squeeze'\. Choose one of: resize, crop, pad"
    ):
        read_images(tmp_path, (2, 2, 1), fit="squeeze")


@pytest.mark.parametrize("shape", [(2, 6), (1, 2, 6), (1, 2, 6, 1)])
@pytest.mark.parametrize("scale", [1, np.float32(1 / 255)])
def test_arrays_fit_as_the_same_picture_does(tmp_path, shape, scale):
    Image.fromarray(WIDE).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", (WIDE * scale).reshape(shape))
    kept = np.load(tmp_path / "a.npy").dtype
    assert kept == (np.uint8 if scale == 1 else np.float32)

    for fit in Fit:
        np.testing.assert_array_equal(
            read_images(tmp_path / "a.npy", (4, 4, 1), fit=fit),
            read_images(tmp_path / "a.png", (4, 4, 1), fit=fit),
        )


def test_coloured_picture_and_array_become_grey_with_a_fit(tmp_path):
    pixels = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", pixels)

    for name in ("a.png", "a.npy"):
        images = read_images(tmp_path / name, (4, 4, 1), fit="crop")
        np.testing.assert_allclose(images, np.full((1, 4, 4, 1), 76 / 255), atol=1e-6)


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan])
def test_values_out_of_range_are_refused_before_they_are_rounded(tmp_path, value):
    np.save(tmp_path / "a.npy", np.full((3, 5, 5), value, np.float32))

    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        read_images(tmp_path / "a.npy", (4, 4, 1), fit="resize")


def test_array_of_monstrous_images_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    np.save(tmp_path / "a.npy", np.zeros((3, 5, 5), np.float32))

    with pytest.raises(DataError, match="images of 5x5 are too large"):
        read_images(tmp_path / "a.npy", (4, 4, 1), fit="resize")


def test_model_of_other_channels_takes_no_pictures(tmp_path):
    Image.fromarray(WIDE).save(tmp_path / "a.png")

    with pytest.raises(DataError, match=r"1 or 3 channels; the model takes 2"):
        read_images(tmp_path / "a.png", (2, 6, 2))
