"""What a model's numbers mean: what its layers show, and what its author says."""

from __future__ import annotations

import pytest

from exporters.interpretation import Declared, interpret
from vae_edge.errors import UsageError
from vae_edge.keras_vae import KerasVAE
from vae_edge.preprocessing import Scaling
from vae_edge.terms import ColourOrder, DataKind, Fit, Likelihood

pytestmark = pytest.mark.host

UNIT, CENTRED, LEVELS = Scaling(), Scaling.between(-1, 1), Scaling.between(0, 255)


def vae(shape=(4, 4, 1), *, first=None, last=("sigmoid",), nested=False):
    """A dense VAE whose encoder begins and whose decoder ends with some layers."""
    import keras
    from keras import layers

    image = keras.Input(shape)
    x = layers.Flatten()(image if first is None else first(image))
    heads = {name: layers.Dense(2, name=name)(x) for name in ("z_mean", "z_log_var")}
    z = keras.Input((2,))
    count = 1
    for n in shape:
        count *= n
    y = layers.Reshape(shape)(layers.Dense(count)(z))
    for each in last:
        y = layers.Activation(each)(y) if isinstance(each, str) else each(y)
    decoder = keras.Model(z, y)
    if nested:
        outer = keras.Input((2,))
        decoder = keras.Model(outer, layers.Reshape(shape)(decoder(outer)))
    return KerasVAE(
        name="v",
        source_sha256="0" * 64,
        encoder=keras.Model(image, heads),
        decoder=decoder,
        latent_dim=2,
        image_shape=shape,
    )


def found(model, **declared):
    return interpret(model, Declared(**declared)).preprocessing


def test_a_sigmoid_gives_probabilities():
    result = interpret(vae(), Declared())

    assert result.notes == ()
    seen = result.preprocessing
    assert (seen.kind, seen.input, seen.output) == (DataKind.PICTURE, UNIT, UNIT)
    assert (seen.likelihood, seen.colour_order, seen.fit) == (Likelihood.BERNOULLI, None, None)


def test_tanh_gives_values_around_0():
    seen = found(vae(last=("tanh",)))

    assert (seen.kind, seen.input, seen.output) == (DataKind.PICTURE, CENTRED, CENTRED)
    assert seen.likelihood is Likelihood.GAUSSIAN


def test_the_last_activation_is_found_behind_reshapes_and_in_nested_models():
    assert found(vae(nested=True)).output == UNIT


def test_the_last_activation_is_found_behind_a_change_of_size():
    from keras import layers

    size = layers.Resizing(8, 8)
    cut = layers.Cropping2D(2)

    assert found(vae(last=("tanh", size, cut))).output == CENTRED


def test_a_rescaling_after_the_activation_is_followed():
    from keras import layers

    seen = found(vae(last=("sigmoid", layers.Rescaling(255.0))))

    assert seen.output == seen.input == LEVELS
    assert seen.likelihood is Likelihood.GAUSSIAN


@pytest.mark.parametrize(("scale", "offset"), [(1 / 255, 0.0), (1 / 127.5, -1.0)])
def test_a_rescaling_at_the_input_takes_levels(scale, offset):
    from keras import layers

    result = interpret(vae(first=layers.Rescaling(scale, offset)), Declared())

    assert (result.preprocessing.input, result.preprocessing.output) == (LEVELS, UNIT)
    assert result.preprocessing.likelihood is Likelihood.BERNOULLI
    assert any("takes values from 0 to 255" in note for note in result.notes)


def test_nothing_is_assumed_of_a_linear_decoder():
    result = interpret(vae(last=()), Declared())

    seen = result.preprocessing
    assert (seen.kind, seen.input, seen.output) == (DataKind.ARRAY, None, None)
    assert seen.likelihood is Likelihood.GAUSSIAN
    assert any("--value-range LOW,HIGH" in note for note in result.notes)


def test_a_stated_range_makes_pictures_of_a_linear_decoder_s():
    seen = found(vae(last=()), value_range=(0.0, 1.0))

    assert (seen.kind, seen.input, seen.output) == (DataKind.PICTURE, UNIT, UNIT)
    assert seen.likelihood is Likelihood.GAUSSIAN


def test_stated_mean_and_std_are_per_channel():
    seen = found(vae((4, 4, 3), last=()), mean=(0.5, 0.4, 0.2), std=(0.25, 0.2, 0.1))

    assert seen.input == seen.output
    assert seen.input is not None
    assert seen.input.scale == pytest.approx((4, 5, 10))
    assert seen.input.offset == pytest.approx((-2, -2, -2))
    assert seen.colour_order is ColourOrder.RGB


def test_standardized_in_and_probabilities_out():
    result = interpret(vae((4, 4, 3)), Declared(mean=(0.5,), std=(0.25,)))

    assert result.preprocessing.output == UNIT
    assert result.preprocessing.likelihood is Likelihood.BERNOULLI
    assert any("takes values in [-2, 2], the decoder gives" in n for n in result.notes)


def test_everything_stated_is_kept():
    seen = found(
        vae((4, 4, 3)),
        value_range=(-1.0, 1.0),
        output_range=(0.0, 1.0),
        colour_order=ColourOrder.BGR,
        fit=Fit.CROP,
        likelihood=Likelihood.GAUSSIAN,
    )

    assert (seen.input, seen.output) == (CENTRED, UNIT)
    assert (seen.colour_order, seen.fit) == (ColourOrder.BGR, Fit.CROP)
    assert seen.likelihood is Likelihood.GAUSSIAN


@pytest.mark.parametrize("shape", [(12,), (16, 3), (4, 4, 2), (2, 2, 2, 1)])
def test_other_shapes_are_arrays(shape):
    seen = found(vae(shape))

    assert (seen.kind, seen.output) == (DataKind.ARRAY, UNIT)
    assert seen.likelihood is Likelihood.BERNOULLI


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"value_range": (1.0, 0.0)}, "--value-range 1,0: expected LOW,HIGH with LOW below HIGH"),
        ({"output_range": (1.0, 1.0)}, "--output-range 1,1: expected"),
        ({"mean": (0.5,)}, "--mean and --std go together"),
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "--mean has 1 values and --std 2"),
        ({"mean": (0.5,), "std": (0.0,)}, "--std: expected values above 0"),
        (
            {"mean": (0.5,), "std": (0.5,), "value_range": (0.0, 1.0)},
            "say the same thing in two ways",
        ),
    ],
)
def test_what_cannot_be_stated_is_refused(declared, message):
    with pytest.raises(UsageError, match=message):
        Declared(**declared)


@pytest.mark.parametrize(
    ("shape", "last", "declared", "message"),
    [
        ((16, 3), (), {"fit": Fit.CROP}, "--fit: the model takes arrays"),
        ((4, 4, 1), ("sigmoid",), {"colour_order": ColourOrder.BGR}, "which have no colours"),
        ((4, 4, 1), ("tanh",), {"likelihood": Likelihood.BERNOULLI}, "must be probabilities"),
        (
            (4, 4, 1),
            ("sigmoid",),
            {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)},
            "--mean, --std: .*3 scales for 1 channels",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused(shape, last, declared, message):
    with pytest.raises(UsageError, match=message):
        found(vae(shape, last=last), **declared)
