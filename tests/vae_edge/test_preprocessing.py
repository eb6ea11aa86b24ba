from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vae_edge.codec import DecodeError, decode, encode
from vae_edge.edge_vae import EdgeVAE
from vae_edge.errors import ArtifactError, DataError
from vae_edge.images import read_images
from vae_edge.preprocessing import PLAIN_PICTURES, Preprocessing, Scaling
from vae_edge.terms import ColourOrder, DataKind, Fit, Likelihood

CENTRED = Preprocessing(
    kind=DataKind.PICTURE,
    input=Scaling.between(-1, 1),
    output=Scaling.between(-1, 1),
    likelihood=Likelihood.GAUSSIAN,
)
ARRAYS = Preprocessing(kind=DataKind.ARRAY, input=None, output=None, likelihood=Likelihood.GAUSSIAN)
LEVELS = np.uint8([0, 51, 102, 255])


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (Scaling(), [0, 0.2, 0.4, 1]),
        (Scaling.between(-1, 1), [-1, -0.6, -0.2, 1]),
        (Scaling.between(0, 255), [0, 51, 102, 255]),
        (Scaling(scale=(1 / 0.25,), offset=(-0.5 / 0.25,)), [-2, -1.2, -0.4, 2]),
    ],
)
def test_levels_become_the_values_of_training_and_back(scaling, expected):
    preprocessing = replace(CENTRED, input=scaling, output=scaling)

    values = preprocessing.from_levels(LEVELS)

    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, atol=1e-5)
    np.testing.assert_array_equal(preprocessing.input_levels(values), LEVELS)
    np.testing.assert_allclose(preprocessing.unit_output(values), LEVELS / 255, atol=1e-6)


def test_channels_have_scales_of_their_own():
    scaling = Scaling(scale=(2.0, 4.0, 8.0), offset=(0.0, -1.0, -2.0))

    values = scaling.apply(np.float32([[0, 0, 0], [0.5, 0.5, 0.5], [1, 1, 1]]))

    np.testing.assert_array_equal(values, [[0, -1, -2], [1, 1, 2], [2, 3, 6]])
    np.testing.assert_array_equal(scaling.invert(values)[1], [0.5, 0.5, 0.5])
    assert (scaling.low, scaling.high) == (-2, 6)


def test_targets_are_in_the_range_of_the_output():
    # Standardized on the way in, a sigmoid on the way out.
    mixed = replace(PLAIN_PICTURES, input=Scaling(scale=(4.0,), offset=(-2.0,)))

    np.testing.assert_allclose(mixed.target(np.float32([-2, 0, 2])), [0, 0.5, 1])


@pytest.mark.parametrize(
    ("scale", "offset"),
    [((), ()), ((1.0,), (0.0, 0.0)), ((0.0,), (0.0,)), ((-1.0,), (0.0,)), ((1.0,), (np.inf,))],
)
def test_scalings_that_are_none_are_refused(scale, offset):
    with pytest.raises(DecodeError, match="as many scales, all above 0, as offsets"):
        Scaling(scale=scale, offset=offset)


@pytest.mark.parametrize(
    ("preprocessing", "shape", "message"),
    [
        (PLAIN_PICTURES, (128, 6), r"pictures are \(height, width, 1 or 3\)"),
        (PLAIN_PICTURES, (8, 8, 4), r"pictures are \(height, width, 1 or 3\)"),
        (
            replace(PLAIN_PICTURES, input=Scaling(scale=(1.0, 1.0, 1.0), offset=(0.0, 0.0, 0.0))),
            (8, 8, 1),
            "3 scales for 1 channels",
        ),
    ],
)
def test_what_cannot_hold_for_a_shape_is_refused(preprocessing, shape, message):
    with pytest.raises(DecodeError, match=message):
        preprocessing.check_shape(shape)


def test_pictures_have_a_range():
    with pytest.raises(DecodeError, match="pictures have a range"):
        replace(PLAIN_PICTURES, input=None)


def test_probabilities_lie_between_0_and_1():
    with pytest.raises(DecodeError, match="a Bernoulli decoder gives values from 0 to 1"):
        replace(CENTRED, likelihood=Likelihood.BERNOULLI)


def test_it_survives_the_manifest():
    preprocessing = replace(CENTRED, colour_order=ColourOrder.BGR, fit=Fit.CROP)

    assert decode(Preprocessing, encode(preprocessing), "") == preprocessing


def test_models_of_arrays_take_no_levels():
    for convert, values in (
        (ARRAYS.from_levels, LEVELS),
        (ARRAYS.to_picture, np.zeros((1, 2, 2, 1), np.float32)),
        (ARRAYS.input_levels, np.zeros((1, 2, 2, 1), np.float32)),
    ):
        with pytest.raises(DataError, match="--value-range LOW,HIGH"):
            convert(values)


def test_arrays_may_be_off_every_scale_but_finite():
    ARRAYS.check_values(np.float32([1e9]), "windows")
    with pytest.raises(DataError, match="windows must be finite; received values that are not"):
        ARRAYS.check_values(np.float32([np.nan]), "windows")


def test_pictures_are_checked_against_the_range_of_training():
    CENTRED.check_values(np.float32([-1, 1]), "images")
    with pytest.raises(DataError, match=r"must lie in \[-1, 1\]; received values from 0 to 200"):
        CENTRED.check_values(np.float32([0, 200]), "images")


# Files and arrays of one picture, through every way into a model.


@pytest.fixture
def red(tmp_path):
    """A red pixel, a green one, a blue one and a grey one, as a file."""
    pixels = np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [51, 51, 51]]])
    Image.fromarray(pixels).save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_files_are_given_in_the_model_s_order_and_range(red):
    bgr = replace(CENTRED, colour_order=ColourOrder.BGR)

    (image,) = read_images(red, (2, 2, 3), preprocessing=bgr)

    np.testing.assert_allclose(image[0, 0], [-1, -1, 1])
    np.testing.assert_allclose(image[1, 0], [1, -1, -1])
    np.testing.assert_allclose(image[1, 1], [-0.6, -0.6, -0.6], atol=1e-6)
    np.testing.assert_allclose(bgr.to_picture(image)[0, 0], [1, 0, 0], atol=1e-6)


def test_arrays_are_taken_in_the_model_s_order(tmp_path):
    bgr = replace(CENTRED, colour_order=ColourOrder.BGR)
    np.save(tmp_path / "a.npy", np.uint8([[[[0, 51, 255]]]]))

    (image,) = read_images(tmp_path / "a.npy", (1, 1, 3), preprocessing=bgr)

    np.testing.assert_allclose(image[0, 0], [-1, -0.6, 1], atol=1e-6)


def test_fit_is_what_the_manifest_says_unless_asked_for_otherwise(tmp_path):
    picture = np.zeros((2, 4), np.uint8)
    picture[:, 1:3] = 255
    Image.fromarray(picture).save(tmp_path / "wide.png")
    cropping = replace(PLAIN_PICTURES, fit=Fit.CROP)

    cropped = read_images(tmp_path / "wide.png", (2, 2, 1), preprocessing=cropping)
    padded = read_images(tmp_path / "wide.png", (4, 4, 1), preprocessing=cropping, fit="pad")

    np.testing.assert_array_equal(cropped.ravel(), [1, 1, 1, 1])
    np.testing.assert_array_equal(padded[0, :, 1, 0], [0, 1, 1, 0])


def test_floats_of_another_size_are_fitted_in_their_range(tmp_path):
    np.save(tmp_path / "a.npy", np.full((1, 4, 4, 1), -0.6, np.float32))

    images = read_images(tmp_path / "a.npy", (2, 2, 1), preprocessing=CENTRED, fit="resize")

    np.testing.assert_allclose(images.ravel(), [-0.6] * 4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
def test_windows_are_read_as_they_are(tmp_path, dtype):
    windows = np.arange(24).reshape(2, 6, 2).astype(dtype)
    np.save(tmp_path / "w.npy", windows)

    read = read_images(tmp_path / "w.npy", (6, 2), preprocessing=ARRAYS)

    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, windows)


def test_windows_of_one_channel_may_lack_it(tmp_path):
    np.save(tmp_path / "w.npy", np.zeros((3, 6), np.float32))

    assert read_images(tmp_path / "w.npy", (6, 1), preprocessing=ARRAYS).shape == (3, 6, 1)


def test_windows_of_another_length_are_refused(tmp_path):
    np.save(tmp_path / "w.npy", np.zeros((3, 5, 2), np.float32))

    with pytest.raises(DataError, match=r"expected arrays of \(6, 2\), in the values of training"):
        read_images(tmp_path / "w.npy", (6, 2), preprocessing=ARRAYS)


def test_pictures_are_refused_by_models_of_arrays(red):
    with pytest.raises(DataError, match=r"takes arrays of \(6, 2\): give a \.npy"):
        read_images(red, (6, 2), preprocessing=ARRAYS)


class _Seen:
    """A runner that keeps what it was given."""

    name = "seen"

    def __init__(self, tiny_runner):
        self.rows = []
        self._runner = tiny_runner

    def __getattr__(self, name):
        return getattr(self._runner, name)

    def run(self, feeds):
        self.rows.append(feeds["image"])
        return self._runner.run(feeds)


def test_levels_given_to_an_edge_vae_reach_the_encoder_as_in_training(tiny_bundle):
    with EdgeVAE.open(tiny_bundle) as plain:
        seen = _Seen(plain.encoder)
        vae = EdgeVAE(
            latent_dim=2,
            image_shape=(4, 4, 1),
            encoder=seen,  # type: ignore[arg-type]
            decoder=None,
            preprocessing=CENTRED,
        )
        vae.encode(np.full((1, 4, 4, 1), 255, np.uint8))
        with pytest.raises(ArtifactError, match=r"must lie in \[-1, 1\]"):
            vae.encode(np.full((1, 4, 4, 1), 255, np.float32))

    np.testing.assert_array_equal(seen.rows[0], np.ones((1, 4, 4, 1)))
