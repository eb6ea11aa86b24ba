"""Layer attribution: the arithmetic by hand, and real artifacts with one layer damaged."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from vae_edge.codec import encode
from vae_edge.errors import ArtifactError, ModelError, ParityError, RuntimeMissingError
from vae_edge.explain import compare_layers, explain_artifact, range_use
from vae_edge.layer_matching import match_layers, sqnr_db
from vae_edge.terms import Component, Format, Precision
from vae_edge.traces import ArtifactTrace, LayerTrace, StoredTensor, TensorTrace

ROWS = 6


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ROWS, *shape)).astype(np.float32)


def layer(name, values, *inputs, kind="Dense", outputs=()) -> LayerTrace:
    return LayerTrace(
        name=name, kind=kind, inputs=inputs, values=np.asarray(values, np.float32), outputs=outputs
    )


def chain(**values) -> tuple[LayerTrace, ...]:
    """Layers that each read the one before; the last is the decoder's output."""
    names = list(values)
    return tuple(
        layer(
            name,
            values[name],
            *([place - 1] if place else []),
            outputs=("reconstruction",) if place == len(names) - 1 else (),
        )
        for place, name in enumerate(names)
    )


def artifact(*values, precision=Precision.FLOAT32, names=None, last=None) -> ArtifactTrace:
    names = names or [f"t{place}" for place in range(len(values))]
    tensors = tuple(
        TensorTrace(name=name, values=np.asarray(v, np.float32).reshape(len(v), -1))
        for name, v in zip(names, values, strict=True)
    )
    end = len(tensors) - 1 if last is None else last
    return ArtifactTrace(
        name="decoder.tflite",
        precision=precision,
        tensors=tensors,
        outputs={"reconstruction": end},
    )


def with_noise(values: np.ndarray, level_db: float) -> np.ndarray:
    """The same values at exactly this SQNR."""
    noise = normal(*values.shape[1:], seed=99).astype(np.float64)
    energy = np.square(values.astype(np.float64)).sum() / np.square(noise).sum()
    return (values + noise * np.sqrt(energy) * 10 ** (-level_db / 20)).astype(np.float32)


def explained(layers, trace):
    return compare_layers(layers, trace, component=Component.DECODER, format=Format.TFLITE)


class TestSqnr:
    def test_values_worked_out_by_hand(self):
        # 3^2 + 4^2 = 25 over 0.5^2 = 0.25 is 100, 20 dB.
        assert sqnr_db(np.float32([3, 4]), np.float32([3, 3.5])) == pytest.approx(20)
        # A near miss: 25 over 1 is 13.98 dB.
        assert sqnr_db(np.float32([3, 4]), np.float32([3, 3])) == pytest.approx(13.9794)

    def test_identical_is_infinite_and_zero_reference_is_not_comparable(self):
        zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
        assert sqnr_db(ones, ones) == np.inf
        assert sqnr_db(zeros, zeros) == np.inf
        assert sqnr_db(zeros, ones) == -np.inf

    def test_what_is_not_finite_counts_as_zero(self):
        # 9 + 16 over 16: the second value is lost altogether.
        level = sqnr_db(np.float32([3, 4]), np.float32([3, np.nan]))
        assert level == pytest.approx(10 * np.log10(25 / 16))


class TestRangeUse:
    def test_steps_and_ends_are_counted(self):
        integers = np.array([[-128, -128, 0, 127], [-127, 5, 126, 127]], np.int8)

        use = range_use(StoredTensor(integers=integers, scale=0.5, zero_point=-128))

        assert use.steps == 256
        assert use.used == 1.0
        assert (use.at_low, use.at_high) == (0.25, 0.25)
        assert use.low_is_zero

    def test_a_narrow_range_uses_few_steps(self):
        integers = np.array([[100, 107], [101, 103]], np.uint8)

        use = range_use(StoredTensor(integers=integers, scale=0.5, zero_point=3))

        assert use.used == 8 / 256
        assert (use.at_low, use.at_high, use.low_is_zero) == (0, 0, False)

    def test_stored_values_are_dequantized(self):
        stored = StoredTensor(integers=np.array([[-128, 127]], np.int8), scale=0.5, zero_point=-128)
        np.testing.assert_array_equal(stored.real(), [[0, 127.5]])


class TestMatching:
    def test_a_tensor_with_its_channels_first_is_read_so(self):
        image = normal(2, 3, 4, seed=1)
        layers = chain(z=normal(2), conv=image, end=normal(5, seed=2))
        turned = image.transpose(0, 3, 1, 2)

        match = match_layers(layers, artifact(layers[0].values, turned, layers[2].values))[1]

        assert (match.tensor, match.layout, match.sqnr_db) == (1, "channels first", np.inf)
        np.testing.assert_array_equal(match.values, image)

    def test_a_flat_layer_may_lie_as_the_image_that_it_is_read_as(self):
        image = normal(2, 3, 4, seed=1)
        layers = chain(z=normal(2), dense=image.reshape(ROWS, 24), reshape=image, end=normal(5))
        turned = image.transpose(0, 3, 1, 2)

        matches = match_layers(layers, artifact(layers[0].values, turned, layers[3].values))

        assert [matches[place].tensor for place in range(4)] == [0, 1, 1, 2]
        assert matches[1].layout == "channels first"
        assert matches[1].sqnr_db == matches[2].sqnr_db == np.inf
        assert matches[2].values.shape == image.shape

    def test_scaled_channels_of_a_rectified_layer_are_scaled_back(self):
        rectified = np.maximum(normal(2, 3, 3, seed=1), 0)
        layers = chain(z=normal(2), conv=rectified, end=normal(5))
        stored = rectified * np.float32([1, 2, 4])
        values = (layers[0].values, stored, with_noise(layers[2].values, 25))

        match = match_layers(layers, artifact(*values, precision=Precision.INT8))[1]
        unscaled = match_layers(layers, artifact(*values, precision=Precision.FLOAT32))[1]

        assert match.scales == pytest.approx((0.25, 1))
        assert match.sqnr_db > 140
        assert unscaled.scales is None
        assert unscaled.sqnr_db < 0

    def test_no_other_layer_is_scaled(self):
        """A wrong gain of a linear layer is an error, and not the exporter's doing."""
        linear = normal(2, 3, 3, seed=1)
        layers = chain(z=normal(2), conv=linear, end=normal(5))
        wrong = linear * np.float32([1, 2, 4])
        values = (layers[0].values, wrong, with_noise(layers[2].values, 25))

        match = match_layers(layers, artifact(*values, precision=Precision.INT8))[1]

        assert match.scales is None
        assert match.sqnr_db < 0

    def test_gains_that_differ_by_a_tenth_are_errors(self):
        rectified = np.maximum(normal(2, 3, 3, seed=1), 0)
        layers = chain(z=normal(2), conv=rectified, end=normal(5))
        values = (layers[0].values, rectified * np.float32([1, 1.1, 1.1]), layers[2].values)

        match = match_layers(layers, artifact(*values, precision=Precision.INT8))[1]

        assert match.scales is None
        assert 19 < match.sqnr_db < 25

    def test_a_later_layer_is_not_matched_with_an_earlier_tensor(self):
        """It has the very values of the input, which comes before the layer that it reads."""
        x = normal(4)
        layers = chain(z=x, negated=-x, back=x * np.float32(0.999), end=normal(5))
        noisy = with_noise(x, 30)

        matches = match_layers(layers, artifact(x, -x, noisy, layers[3].values))

        assert [matches[place].tensor for place in range(4)] == [0, 1, 2, 3]

    def test_names_break_ties(self):
        x = normal(4, seed=3)
        layers = chain(z=normal(2), middle=x, end=normal(5))
        values = (layers[0].values, x, x, layers[2].values)

        def named(*names):
            return match_layers(layers, artifact(*values, names=("z", *names, "out")))[1].tensor

        assert named("a", "b") == 1
        assert named("a", "model/middle/Relu") == 2

    def test_branches_may_come_in_any_order(self):
        x, first, second = normal(3), normal(4, seed=1), normal(4, seed=2)
        layers = (
            layer("image", x),
            layer("z_mean", first, 0, outputs=("z_mean",)),
            layer("z_log_var", second, 0, outputs=("z_log_var",)),
        )
        trace = replace(artifact(x, second, first), outputs={"z_mean": 2, "z_log_var": 1})

        matches = match_layers(layers, trace)

        assert [matches[place].tensor for place in range(3)] == [0, 2, 1]

    def test_outputs_of_another_size_are_another_models(self):
        layers = chain(z=normal(2), end=normal(5))
        with pytest.raises(
            ArtifactError, match=r"'reconstruction' has 4 values; the model's has 5"
        ):
            match_layers(layers, artifact(layers[0].values, normal(4)))

    def test_missing_output(self):
        layers = chain(z=normal(2), end=normal(5))
        trace = replace(artifact(*(each.values for each in layers)), outputs={})
        with pytest.raises(ArtifactError, match="has no output 'reconstruction'; it has none"):
            match_layers(layers, trace)


class TestRule:
    def layers(self):
        return chain(z=normal(3), a=normal(4, seed=1), b=normal(5, seed=2), c=normal(6, seed=3))

    def at(self, *levels, precision=Precision.INT8):
        layers = self.layers()
        values = [
            each.values if level is None else with_noise(each.values, level)
            for each, level in zip(layers, (None, *levels), strict=True)
        ]
        return explained(layers, artifact(*values, precision=precision))

    def test_a_layer_under_the_floor_diverges(self):
        result = self.at(30, 19.9, 19)

        assert result.first == "b"
        assert [each.diverges for each in result.layers] == [False, False, True, True]
        assert result.layers[2].sqnr_db == pytest.approx(19.9, abs=0.01)
        assert result.layers[2].input_sqnr_db == pytest.approx(30, abs=0.01)
        assert "first layer that diverges is b (Dense)" in result.finding
        expected = "it has 19.9 dB; after an input with 30.0 dB at least 24.0 dB are expected."
        assert expected in result.finding

    def test_a_layer_far_below_its_input_diverges(self):
        assert self.at(32, 25.9, 25).first == "b"
        assert self.at(32, 26.1, 26).first is None

    def test_what_is_far_above_the_floor_may_fall(self):
        """The input without error and a layer at 60 dB count as 35 dB."""
        assert self.at(60, 29.5, 29).first is None
        assert self.at(29.1, 29, 29).first is None
        assert self.at(28.9, 28, 28).first == "a"

    def test_floors_follow_the_precision(self):
        assert self.at(90, 79, 79, precision=Precision.FLOAT32).first == "b"
        assert self.at(90, 85, 85, precision=Precision.FLOAT32).first is None
        assert self.at(55, 44, 44, precision=Precision.FLOAT16).first == "b"
        assert self.at(55, 50, 50, precision=Precision.FLOAT16).first is None

    def test_nothing_diverges_and_the_layer_that_loses_most_is_named(self):
        result = self.at(40, 30, 28.5)

        assert result.first is None
        # Error energy added: 0.0001, 0.0009, then 10^-2.85 - 0.001 = 0.00041.
        assert result.loses_most == "b"
        assert result.finding == (
            "Nothing diverges. b adds most error: 40.0 dB before it, 30.0 dB after it."
        )

    def test_identical_layers_lose_nothing(self):
        result = self.at(None, None, None)

        assert (result.first, result.loses_most) == (None, None)
        assert result.finding == "Nothing diverges: every layer is identical."
        assert [each.sqnr_db for each in result.layers] == [None] * 4

    def test_a_layer_that_the_outputs_make_up_for_does_not_diverge(self):
        result = self.at(35, 12, 31)

        assert result.first is None
        assert [each.recovers for each in result.layers] == [False, False, True, False]
        assert result.layers[2].note == "off, but the outputs are right"
        assert "Inside, b is off" in result.finding
        # Less than 10 dB above the floor the output is not right beyond doubt.
        assert self.at(35, 12, 29).first == "b"

    def test_what_is_not_finite_diverges(self):
        """Even where so little is lost that the SQNR would not show it."""
        layers = self.layers()
        layers[2].values[0, 0] = layers[2].values[3, 1] = 1e-6
        values = [each.values.copy() for each in layers]
        values[2][0, 0] = values[2][3, 1] = np.nan

        result = explained(layers, artifact(*values))

        assert result.first == "b"
        assert result.layers[2].not_finite == 2
        assert result.layers[2].max_abs_error is None
        assert "2 of its values are not finite" in result.finding
        json.dumps(encode(result), allow_nan=False)

    def test_errors_are_in_the_layers_units(self):
        layers = self.layers()
        values = [each.values.copy() for each in layers]
        values[1][2, 1] += 0.25

        result = explained(layers, artifact(*values))

        assert result.layers[1].max_abs_error == pytest.approx(0.25, rel=1e-5)
        assert result.layers[2].max_abs_error == 0

    def test_a_layer_without_a_tensor_is_folded_into_the_next(self):
        layers = self.layers()
        values = [layers[0].values, with_noise(layers[2].values, 10), layers[3].values * 0]

        result = explained(layers, artifact(*values))

        assert result.layers[1].tensor is None
        assert result.layers[1].note == "folded into b"
        assert not result.layers[1].diverges
        # What is computed in one step cannot be told apart, and the reader is told so.
        assert result.first == "b"
        assert "b (Dense, with a folded into it)" in result.finding

    def test_a_tensor_that_only_happens_to_have_the_size_is_no_match(self):
        """A convolution before its folded normalization stands nowhere, but its size does."""
        x, y = normal(4, seed=1), normal(4, seed=2)
        layers = chain(z=normal(3), conv=x, norm=y, end=normal(6))
        values = [layers[0].values, normal(4, seed=7), y, layers[3].values]

        result = explained(layers, artifact(*values))

        assert result.layers[1].note == "folded into norm"
        assert result.first is None

        named = artifact(*values, names=("z", "model/conv/Conv2D", "norm", "end"))
        assert explained(layers, named).layers[1].recovers


# Real artifacts


@pytest.fixture(scope="module")
def vae():
    from vae_edge.keras_vae import KerasVAE
    from vae_edge.training.model import VAE
    from vae_edge.training.settings import Architecture

    shape = Architecture(
        image_shape=(16, 16, 1), latent_dim=3, encoder_filters=(8, 24), decoder_filters=(24, 8)
    )
    model = VAE(shape, seed=7)
    # Untrained biases are zero; a lost bias would go unnoticed.
    rng = np.random.default_rng(0)
    for half in (model.encoder, model.decoder):
        half.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in half.get_weights()])
    return KerasVAE(
        name="tiny",
        source_sha256="ab" * 32,
        encoder=model.encoder,
        decoder=model.decoder,
        latent_dim=3,
        image_shape=(16, 16, 1),
    )


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    return {
        Component.ENCODER: rng.random((40, 16, 16, 1), np.float32),
        Component.DECODER: rng.standard_normal((40, 3), np.float32),
    }


@pytest.fixture(scope="module")
def exported(vae, rows):
    """Give an artifact's bytes; each is made once."""
    from exporters.base import ExportRequest
    from exporters.registry import EXPORTERS

    made = {}

    def export(component, format, precision=Precision.FLOAT32, batch=1, lowering=True):
        key = (component, format, precision, batch, lowering)
        if key not in made:
            request = ExportRequest(
                vae=vae,
                component=component,
                precision=precision,
                batch=batch,
                calibration=rows[component],
                lowering=lowering,
            )
            made[key] = EXPORTERS[format].export(request).content
        return made[key]

    return export


def damaged(content: bytes, format: Format, layer_name: str) -> bytes:
    """The same artifact with noise on a layer's weights."""
    rng = np.random.default_rng(5)

    def noisy(values: np.ndarray) -> np.ndarray:
        noise = rng.standard_normal(values.shape).astype(np.float32)
        return values + np.float32(0.02) * values.std() * noise

    return (_damaged_tflite if format is Format.TFLITE else _damaged_onnx)(
        content, layer_name, noisy
    )


def _damaged_onnx(content, layer_name, noisy) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    changed = 0
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if layer_name in weight.name and values.dtype == np.float32 and values.ndim > 1:
            weight.CopyFrom(onnx.numpy_helper.from_array(noisy(values), weight.name))
            changed += 1
    assert changed
    return model.SerializeToString()


def _damaged_tflite(content, layer_name, noisy) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as fb

    model = fb.ModelT.InitFromObj(fb.Model.GetRootAsModel(content, 0))
    changed = 0
    for tensor in model.subgraphs[0].tensors:
        buffer = model.buffers[tensor.buffer]
        # The sum of a transposed convolution is done by a kernel of ones and zeros.
        if (
            layer_name in tensor.name.decode()
            and "sums" not in tensor.name.decode()
            and buffer.data is not None
            and tensor.type == fb.TensorType.FLOAT32
            and len(tensor.shape) > 1
        ):
            values = np.asarray(buffer.data, np.uint8).view(np.float32)
            buffer.data = noisy(values).view(np.uint8)
            changed += 1
    assert changed
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


LAYERS = {
    Component.ENCODER: ("encoder_conv_0", "encoder_conv_1", "z_mean", "z_log_var"),
    Component.DECODER: ("decoder_dense_0", "decoder_conv_0", "decoder_conv_1", "logits"),
}


@pytest.mark.host
@pytest.mark.parametrize("format", list(Format))
@pytest.mark.parametrize(
    ("component", "name"), [(half, name) for half, names in LAYERS.items() for name in names]
)
def test_the_damaged_layer_is_named(vae, rows, exported, format, component, name):
    content = exported(component, format)
    sound = explain_artifact(content, format, component, vae, rows[component], "sound")

    result = explain_artifact(
        damaged(content, format, name), format, component, vae, rows[component], "damaged"
    )

    assert sound.first is None
    assert sound.precision is result.precision is Precision.FLOAT32
    assert sound.rows == 32
    assert all(each.sqnr_db is None or each.sqnr_db > 120 for each in sound.layers)
    assert result.first == name
    before = [each.layer for each in result.layers].index(name)
    # With noise of 2% of the weights, some 34 dB are left.
    assert 20 < result.layers[before].sqnr_db < 60
    assert not any(each.diverges for each in result.layers[:before])


@pytest.mark.host
@pytest.mark.parametrize("format", list(Format))
@pytest.mark.parametrize("component", list(Component))
def test_stock_exports_and_free_batches_are_read_too(vae, rows, exported, format, component):
    for batch, lowering in ((1, False), (None, True), (3, True)):
        content = exported(component, format, batch=batch, lowering=lowering)

        result = explain_artifact(content, format, component, vae, rows[component], "it")

        assert result.first is None, (batch, lowering)
        assert all(each.tensor is not None for each in result.layers), (batch, lowering)
        assert all(each.sqnr_db is None or each.sqnr_db > 110 for each in result.layers)


@pytest.mark.host
@pytest.mark.parametrize("format", list(Format))
def test_integers_are_dequantized_and_their_range_is_reported(vae, rows, exported, format):
    content = exported(Component.ENCODER, format, Precision.INT8)

    result = explain_artifact(content, format, Component.ENCODER, vae, rows[Component.ENCODER], "e")

    assert result.precision is Precision.INT8
    stored = [each for each in result.layers if each.range_use is not None]
    assert {"encoder_conv_0", "encoder_conv_1"} <= {each.layer for each in stored}
    for each in stored:
        assert each.dtype in ("int8", "uint8")
        assert each.range_use.steps == 256
        assert 0.5 < each.range_use.used <= 1
        assert each.sqnr_db > 20


@pytest.mark.host
def test_float16_weights_are_known_by_their_type(vae, rows, exported):
    for format in Format:
        content = exported(Component.ENCODER, format, Precision.FLOAT16)
        result = explain_artifact(
            content, format, Component.ENCODER, vae, rows[Component.ENCODER], "e"
        )
        assert (result.precision, result.floor_db, result.first) == (Precision.FLOAT16, 45, None)


@pytest.mark.host
def test_layers_folded_by_a_converter_and_nested_models(vae):
    """Normalization is folded into the convolution, whose own output then stands nowhere."""
    import keras

    from exporters.base import ExportRequest
    from exporters.registry import EXPORTERS

    inner = keras.Sequential(
        [
            keras.layers.Conv2D(6, 3, padding="same", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(name="relu"),
        ],
        name="inner",
    )
    image = keras.Input((8, 8, 1), name="image")
    flat = keras.layers.Flatten(name="flat")(keras.layers.Dropout(0.5, name="drop")(inner(image)))
    heads = {name: keras.layers.Dense(2, name=name)(flat) for name in ("z_mean", "z_log_var")}
    encoder = keras.Model(image, heads)
    rng = np.random.default_rng(4)
    encoder.set_weights([np.abs(rng.standard_normal(w.shape)) for w in encoder.get_weights()])
    small = replace(vae, encoder=encoder, latent_dim=2, image_shape=(8, 8, 1))
    images = rng.standard_normal((8, 8, 8, 1)).astype(np.float32)
    for format in Format:
        request = ExportRequest(
            vae=small,
            component=Component.ENCODER,
            precision=Precision.FLOAT32,
            batch=1,
            calibration=images,
        )
        content = EXPORTERS[format].export(request).content

        result = explain_artifact(content, format, Component.ENCODER, small, images, "e")

        notes = {each.layer: each.note for each in result.layers}
        assert result.first is None
        assert notes["inner/conv"].startswith("folded into inner/")
        assert notes["drop"] == notes["flat"] == "values of inner/relu, moved"


@pytest.mark.host
class TestErrors:
    def test_another_models_rows(self, vae, exported):
        content = exported(Component.DECODER, Format.TFLITE)
        with pytest.raises(
            ArtifactError, match=r"'z' takes rows of \(3,\); the model's are \(4,\)"
        ):
            explain_artifact(
                content, Format.TFLITE, Component.DECODER, vae, np.zeros((2, 4), np.float32), "d"
            )

    def test_no_rows(self, vae):
        with pytest.raises(ParityError, match="no rows"):
            explain_artifact(
                b"", Format.ONNX, Component.DECODER, vae, np.zeros((0, 3), np.float32), "d"
            )

    def test_a_damaged_file(self, vae, rows):
        z = rows[Component.DECODER]
        with pytest.raises(ArtifactError, match="d: not a TFLite file"):
            explain_artifact(b"", Format.TFLITE, Component.DECODER, vae, z, "d")

    def test_a_subclassed_component(self, vae, rows, exported):
        import keras

        class Subclassed(keras.Model):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            @property
            def inputs(self):
                return self.inner.inputs

            def call(self, z):
                return self.inner(z)

        odd = replace(vae, decoder=Subclassed(vae.decoder))
        content = exported(Component.DECODER, Format.TFLITE)
        with pytest.raises(ModelError, match="is a subclassed Subclassed, so its layers cannot"):
            explain_artifact(
                content, Format.TFLITE, Component.DECODER, odd, rows[Component.DECODER], "d"
            )

    @pytest.mark.parametrize(
        ("format", "package"),
        [(Format.ONNX, "onnx"), (Format.TFLITE, "ai_edge_litert.schema_py_generated")],
    )
    def test_a_missing_host_package(self, vae, rows, exported, monkeypatch, format, package):
        content = exported(Component.DECODER, format)
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(RuntimeMissingError, match=r"pip install 'vae-edge\[host\]'"):
            explain_artifact(content, format, Component.DECODER, vae, rows[Component.DECODER], "d")
