from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vae_edge.errors import DataError
from vae_edge.images import IMAGE_SUFFIXES, read_images, tile, write_image

SHAPE = (2, 3, 1)
LEVELS = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
VALUES = np.float32([[0, 0.2, 0.4], [0.6, 0.8, 1]])


def save(path, pixels, mode=None):
    Image.fromarray(pixels).convert(mode or None).save(path)
    return path


def test_eight_bit_picture_is_read_as_levels_over_255(tmp_path):
    images = read_images(str(save(tmp_path / "a.png", LEVELS)), SHAPE)

    assert images.shape == (1, 2, 3, 1)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, ..., 0], VALUES, atol=1e-7)


def test_black_and_white_picture_is_read_as_zero_and_one(tmp_path):
    path = save(tmp_path / "a.png", (LEVELS > 100).astype(np.uint8) * 255, "1")

    np.testing.assert_array_equal(read_images(path, SHAPE)[0, ..., 0], LEVELS > 100)


def test_grey_picture_with_transparency_is_read(tmp_path):
    path = save(tmp_path / "a.png", LEVELS, "LA")

    np.testing.assert_allclose(read_images(path, SHAPE)[0, ..., 0], VALUES, atol=1e-7)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_coloured_picture_is_refused_by_a_grey_model(tmp_path, mode):
    path = save(tmp_path / "a.png", LEVELS, mode)

    with pytest.raises(DataError, match=rf"is 3x2 {mode}; the model takes 3x2 L\. Resize or"):
        read_images(path, SHAPE)


@pytest.mark.parametrize("fit", [None, "resize"])
def test_sixteen_bit_picture_is_scaled_to_the_same_grey(tmp_path, fit):
    """Pillow's own conversion would make everything from level 255 of 65535 on white."""
    path = tmp_path / "a.png"
    Image.fromarray(LEVELS.astype(np.uint16) * 257).save(path)

    assert np.array_equal(read_images(path, SHAPE, fit=fit), VALUES.reshape(1, *SHAPE))


def test_sixteen_bit_picture_of_another_size_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(LEVELS.T.astype(np.uint16) * 257).save(path)

    with pytest.raises(DataError, match="is 2x3 I;16; the model takes 3x2 L"):
        read_images(path, SHAPE)


def test_coloured_picture_is_read_by_a_colour_model(tmp_path):
    pixels = np.stack([LEVELS, LEVELS // 2, 255 - LEVELS], axis=-1)

    images = read_images(save(tmp_path / "a.png", pixels), (2, 3, 3))

    np.testing.assert_array_equal(images[0], pixels / np.float32(255))


def test_picture_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "a.png", LEVELS.T.copy())

    with pytest.raises(DataError, match="is 2x3 L; the model takes 3x2 L"):
        read_images(path, SHAPE)


def test_folder_is_read_in_the_order_of_names(tmp_path):
    for name, level in (("b.png", 255), ("a.png", 0), ("c.PNG", 51)):
        save(tmp_path / name, np.full((2, 3), level, np.uint8))
    (tmp_path / "notes.txt").write_text("not a picture")

    images = read_images(tmp_path, SHAPE)

    np.testing.assert_allclose(images[:, 0, 0, 0], [0, 1, 0.2], atol=1e-7)


def test_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no pictures \(\.png, \.jpg"):
        read_images(tmp_path, SHAPE)


def test_folder_names_the_picture_that_does_not_fit(tmp_path):
    save(tmp_path / "a.png", LEVELS)
    save(tmp_path / "b.png", LEVELS[:1])

    with pytest.raises(DataError, match=r"b\.png: is 3x1 L"):
        read_images(tmp_path, SHAPE)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.png: no such file\. Give a picture, a \.npy"):
        read_images(tmp_path / "a.png", SHAPE)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_file_that_is_no_picture_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"not a picture")

    with pytest.raises(DataError, match=r"cannot be read as a picture"):
        read_images(path, SHAPE)


def test_truncated_picture_is_refused(tmp_path):
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (2, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:45])

    with pytest.raises(DataError, match=r"cannot be read as a picture"):
        read_images(path, SHAPE)


def test_picture_of_monstrous_size_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    path = save(tmp_path / "a.png", LEVELS)

    with pytest.raises(DataError, match=r"cannot be read as a picture: .*decompression bomb"):
        read_images(path, SHAPE)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (1, 2, 3), (1, 2, 3, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "float16"])
def test_array_of_one_image_in_every_accepted_form(tmp_path, shape, dtype):
    values = LEVELS if dtype == "uint8" else VALUES
    np.save(tmp_path / "a.npy", values.reshape(shape).astype(dtype))

    images = read_images(tmp_path / "a.npy", SHAPE)

    assert images.shape == (1, 2, 3, 1)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, ..., 0], VALUES, atol=1e-3)


def test_array_of_several_images_keeps_their_order(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([VALUES, 1 - VALUES]))

    images = read_images(tmp_path / "a.npy", SHAPE)

    np.testing.assert_array_equal(images[..., 0], [VALUES, 1 - VALUES])


def test_array_for_a_colour_model_keeps_its_channels(tmp_path):
    pixels = np.random.default_rng(0).random((4, 2, 3, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", pixels)

    np.testing.assert_array_equal(read_images(tmp_path / "a.npy", (2, 3, 3)), pixels)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 2), np.float32),
        np.zeros((1, 2, 3, 3), np.float32),
        np.zeros((1, 1, 2, 3, 1), np.float32),
        np.zeros((), np.float32),
        np.zeros((2, 3), np.int64),
        np.zeros((2, 3), bool),
        np.zeros((2, 3), np.complex64),
    ],
)
def test_array_of_another_shape_or_type_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)

    with pytest.raises(DataError, match=rf"holds {array.dtype} \(.*expected images of \(2, 3, 1\)"):
        read_images(tmp_path / "a.npy", SHAPE)


def test_array_of_no_images_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 2, 3, 1), np.float32))

    with pytest.raises(DataError, match=r"a\.npy: holds no images"):
        read_images(tmp_path / "a.npy", SHAPE)


@pytest.mark.parametrize(
    "content", [b"", b"not an array", b"PK\x03\x04broken", b"\x93NUMPY\x01\x00"]
)
def test_file_that_is_no_array_is_refused(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)

    with pytest.raises(DataError, match=r"a\.npy: cannot be read as a \.npy array"):
        read_images(tmp_path / "a.npy", SHAPE)


def test_array_is_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)

    with pytest.raises(DataError, match=r"cannot be read as a \.npy array: .*no plain numbers"):
        read_images(tmp_path / "a.npy", SHAPE)


def test_several_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=VALUES)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")

    with pytest.raises(DataError, match="holds several arrays; expected one"):
        read_images(tmp_path / "a.npy", SHAPE)


def test_written_picture_reads_back(tmp_path):
    path = tmp_path / "sub" / "a.png"

    write_image(path, VALUES[..., np.newaxis])

    np.testing.assert_allclose(read_images(path, SHAPE)[0, ..., 0], VALUES, atol=1e-7)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_written_colours_read_back(tmp_path):
    pixels = np.stack([LEVELS, LEVELS // 2, 255 - LEVELS], axis=-1) / np.float32(255)

    write_image(tmp_path / "a.png", pixels)

    np.testing.assert_array_equal(read_images(tmp_path / "a.png", (2, 3, 3))[0], pixels)


def test_values_out_of_range_are_cut_and_others_rounded(tmp_path):
    write_image(tmp_path / "a.png", np.float32([[[-1], [2], [0.5019]]]))

    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 255, 128]]


@pytest.mark.parametrize("name", ["a", "a.npy", "a.pdf"])
def test_picture_is_not_written_under_another_kind_of_name(tmp_path, name):
    with pytest.raises(DataError, match="not a picture's name; end it in"):
        write_image(tmp_path / name, np.zeros((2, 2, 1), np.float32))


def test_picture_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match=r"a\.png: cannot be written"):
        write_image(tmp_path / "file" / "a.png", np.zeros((2, 2, 1), np.float32))


def test_tiles_stand_in_rows_with_a_grey_line_between():
    images = np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1, 1)

    sheet = tile(images, columns=2)

    np.testing.assert_array_equal(
        sheet[..., 0], np.float32([[0.1, 0.5, 0.2], [0.5, 0.5, 0.5], [0.3, 0.5, 0]])
    )


def test_tiles_keep_their_size_and_channels():
    images = np.random.default_rng(0).random((2, 2, 3, 3)).astype(np.float32)

    sheet = tile(images, columns=2)

    assert sheet.shape == (2, 7, 3)
    np.testing.assert_array_equal(sheet[:, :3], images[0])
    np.testing.assert_array_equal(sheet[:, 4:], images[1])
    np.testing.assert_array_equal(sheet[:, 3], np.full((2, 3), 0.5))


def test_sheet_is_no_wider_than_its_images():
    assert tile(np.zeros((2, 4, 4, 1), np.float32), columns=9).shape == (4, 9, 1)
