"""Keras layers read as operators, against what the Keras models themselves compute."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.graph import Activation, KerasLayer
from vae_edge.errors import ExportError
from vae_edge.terms import Component

pytestmark = pytest.mark.host

keras = pytest.importorskip("keras", reason="needs the host extra")
layers = keras.layers
IMAGE = (7, 6, 4)


@keras.saving.register_keras_serializable("test_keras_graph")
class Halve(layers.Layer):
    def call(self, inputs, training=False):
        return inputs * (3.0 if training else 0.5)


class Dense(layers.Layer):
    """Somebody's own layer, of a name that Keras has."""

    def call(self, inputs):
        return inputs + 1.0


class Add(layers.Layer):
    """Somebody's own layer, of the name of an operation and a layer."""

    def call(self, first, second):
        return first + 2.0 * second


class Own(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.dense = layers.Dense(2)

    def call(self, image):
        return self.dense(image)


@pytest.fixture(scope="session")
def assert_read(from_keras, in_tensorflow):
    """Give every weight some noise, read the model, and compare what both compute."""

    def check(model, operators: dict[str, int]) -> list:
        rng = np.random.default_rng(3)
        # Variances stay positive, and everything else is away from where Keras starts it.
        model.set_weights([w + rng.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
        graph = from_keras(model)
        assert graph.operators() == operators
        rows = 3 * rng.standard_normal((3, *model.inputs[0].shape[1:]), np.float32)
        wanted = model(rows, training=False).numpy()
        found = in_tensorflow(graph, rows)["z_mean"]
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()
        return list(graph.nodes)

    return check


def one(layer, shape=IMAGE):
    image = keras.Input(shape)
    return keras.Model(image, layer(image))


CONVOLUTIONS = [
    (layers.Conv2D(3, (3, 2), padding="same"), {"Conv": 1}),
    (layers.Conv2D(3, 3, padding="valid", use_bias=False), {"Conv": 1}),
    (layers.Conv2D(3, (3, 4), strides=(2, 3), padding="same"), {"Conv": 1}),
    (layers.Conv2D(3, 2, strides=3, padding="same"), {"Conv": 1}),
    (layers.Conv2D(3, (3, 2), dilation_rate=(2, 3), padding="same"), {"Conv": 1}),
    (layers.Conv2D(6, 3, groups=2, padding="same"), {"Conv": 1}),
    (layers.Conv2D(8, 3, groups=4), {"Conv": 1}),
    (layers.Conv2D(3, 3, activation="relu"), {"Activate": 1, "Conv": 1}),
    (layers.DepthwiseConv2D(3, padding="same"), {"Conv": 1}),
    (layers.DepthwiseConv2D((2, 3), depth_multiplier=3, use_bias=False), {"Conv": 1}),
    (layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2), {"Conv": 1}),
    (layers.SeparableConv2D(5, 3, padding="same"), {"Conv": 2}),
    (
        layers.SeparableConv2D(5, (3, 2), strides=2, depth_multiplier=2, use_bias=False),
        {"Conv": 2},
    ),
    (
        layers.SeparableConv2D(3, 3, padding="same", activation="tanh"),
        {"Activate": 1, "Conv": 2},
    ),
    (layers.Conv2DTranspose(3, 3, strides=2, padding="same"), {"ConvTranspose": 1}),
    (layers.Conv2DTranspose(3, (2, 3), strides=(2, 1), use_bias=False), {"ConvTranspose": 1}),
    (
        layers.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1),
        {"ConvTranspose": 1},
    ),
    (
        layers.Conv2DTranspose(3, 2, strides=3, activation="sigmoid"),
        {"Activate": 1, "ConvTranspose": 1},
    ),
]
OTHERS = [
    (layers.Dense(5), {"Dense": 1}),
    (layers.Dense(5, use_bias=False, activation="elu"), {"Activate": 1, "Dense": 1}),
    (layers.Flatten(), {"Reshape": 1}),
    (layers.Reshape((12, -1)), {"Reshape": 1}),
    (layers.BatchNormalization(), {"Affine": 1}),
    (layers.BatchNormalization(scale=False, center=False, epsilon=0.1), {"Affine": 1}),
    (layers.BatchNormalization(axis=3), {"Affine": 1}),
    (layers.ZeroPadding2D(((1, 2), (0, 3))), {"Pad": 1}),
    (layers.ZeroPadding2D(2), {"Pad": 1}),
    (layers.UpSampling2D(2), {"Repeat": 1}),
    (layers.UpSampling2D((1, 3)), {"Repeat": 1}),
    (layers.Dropout(0.5), {"Reshape": 1}),
    (layers.SpatialDropout2D(0.5), {"Reshape": 1}),
    (layers.GaussianNoise(0.5), {"Reshape": 1}),
    (layers.ActivityRegularization(l2=0.1), {"Reshape": 1}),
    (layers.UpSampling2D(1), {"Reshape": 1}),
    (layers.UpSampling2D((2, 3), interpolation="bilinear"), {"Resize": 1}),
    (layers.Resizing(5, 9), {"Resize": 1}),
    (layers.Resizing(14, 6, interpolation="nearest"), {"Repeat": 1}),
    (layers.Cropping2D(((1, 2), (0, 3))), {"Slice": 1}),
    (layers.Permute((3, 1, 2)), {"Transpose": 1}),
    (layers.MaxPooling2D(2), {"Pool": 1}),
    (layers.MaxPooling2D((3, 2), strides=(2, 1), padding="same"), {"Pool": 1}),
    (layers.AveragePooling2D(3, strides=1, padding="same"), {"Pool": 1}),
    (layers.AveragePooling2D((2, 3)), {"Pool": 1}),
    (layers.GlobalAveragePooling2D(), {"Reduce": 1, "Reshape": 1}),
    (layers.GlobalMaxPooling2D(keepdims=True), {"Reduce": 1, "Reshape": 1}),
    (layers.LayerNormalization(), {"LayerNorm": 1}),
    (layers.LayerNormalization(scale=False, center=False, epsilon=0.1), {"LayerNorm": 1}),
    (layers.LayerNormalization(axis=(1, 2, 3)), {"LayerNorm": 1, "Reshape": 2}),
    (layers.GroupNormalization(2), {"GroupNorm": 1}),
    (layers.GroupNormalization(-1, epsilon=0.1, center=False), {"GroupNorm": 1}),
    (layers.Rescaling(1 / 127.5, offset=-1), {"Affine": 1}),
    (layers.Rescaling([1.0, 2.0, 3.0, 4.0], offset=0.5), {"Affine": 1}),
    (layers.Normalization(mean=[1, 2, 3, 4], variance=[1, 4, 0.5, 2]), {"Affine": 1}),
    (layers.Normalization(mean=2.0, variance=4.0, invert=True), {"Affine": 1}),
    (layers.PReLU(), {"PRelu": 1}),
    (layers.PReLU(shared_axes=[1, 2]), {"PRelu": 1}),
    (layers.ReLU(max_value=3.0), {"Clip": 1}),
    (layers.ReLU(negative_slope=0.5, max_value=2.0), {"Activate": 1, "Clip": 1}),
    (layers.Softmax(), {"Softmax": 1}),
]
# On (steps, channels); all of them as images of height 1.
SIGNALS = [
    (layers.Conv1D(3, 4, strides=2, padding="same"), {"Conv": 1, "Reshape": 2}),
    (layers.Conv1D(6, 3, groups=2, use_bias=False), {"Conv": 1, "Reshape": 2}),
    (layers.Conv1D(3, 3, padding="causal", dilation_rate=2), {"Conv": 1, "Reshape": 2}),
    (layers.Conv1DTranspose(3, 5, strides=2, padding="same"), {"ConvTranspose": 1, "Reshape": 2}),
    (layers.Conv1DTranspose(3, 3, strides=3), {"ConvTranspose": 1, "Reshape": 2}),
    (layers.DepthwiseConv1D(3, strides=2, depth_multiplier=2), {"Conv": 1, "Reshape": 2}),
    (layers.SeparableConv1D(5, 3, padding="same"), {"Conv": 2, "Reshape": 2}),
    (layers.MaxPooling1D(2), {"Pool": 1, "Reshape": 2}),
    (layers.AveragePooling1D(3, strides=2, padding="same"), {"Pool": 1, "Reshape": 2}),
    (layers.GlobalAveragePooling1D(), {"Reduce": 1, "Reshape": 1}),
    (layers.GlobalMaxPooling1D(), {"Reduce": 1, "Reshape": 1}),
    (layers.UpSampling1D(3), {"Repeat": 1, "Reshape": 2}),
    (layers.ZeroPadding1D((1, 2)), {"Pad": 1}),
    (layers.Cropping1D((2, 1)), {"Slice": 1}),
    (layers.BatchNormalization(), {"Affine": 1}),
    (layers.GroupNormalization(2), {"GroupNorm": 1, "Reshape": 2}),
    (layers.SpatialDropout1D(0.5), {"Reshape": 1}),
]
ACTIVATIONS = [
    (layers.Activation("relu"), (Activation.RELU, 0.0)),
    (layers.Activation("relu6"), (Activation.RELU6, 0.0)),
    (layers.Activation("leaky_relu"), (Activation.LEAKY_RELU, 0.2)),
    (layers.Activation("elu"), (Activation.ELU, 1.0)),
    (layers.Activation("tanh"), (Activation.TANH, 0.0)),
    (layers.Activation("sigmoid"), (Activation.SIGMOID, 0.0)),
    (layers.Activation("swish"), (Activation.SILU, 0.0)),
    (layers.Activation("gelu"), (Activation.GELU, 0.0)),
    (layers.Activation("softplus"), (Activation.SOFTPLUS, 0.0)),
    (layers.Activation("selu"), (Activation.SELU, 0.0)),
    (layers.Activation("mish"), (Activation.MISH, 0.0)),
    (layers.Activation("softsign"), (Activation.SOFTSIGN, 0.0)),
    (layers.Activation("hard_sigmoid"), (Activation.HARD_SIGMOID, 0.0)),
    (layers.Activation("hard_swish"), (Activation.HARD_SILU, 0.0)),
    (layers.Activation("exponential"), (Activation.EXP, 0.0)),
    (layers.ReLU(), (Activation.RELU, 0.0)),
    (layers.ReLU(max_value=6), (Activation.RELU6, 0.0)),
    (layers.ReLU(negative_slope=0.25), (Activation.LEAKY_RELU, 0.25)),
    (layers.LeakyReLU(0.125), (Activation.LEAKY_RELU, 0.125)),
    (layers.ELU(0.5), (Activation.ELU, 0.5)),
    (layers.Activation(layers.LeakyReLU(0.5)), (Activation.LEAKY_RELU, 0.5)),
]
OPAQUE = [
    (layers.ReLU(threshold=1.0), "ReLU"),
    (layers.Activation("squareplus"), "squareplus"),
    (layers.LayerNormalization(axis=1), "LayerNormalization"),
    (layers.GroupNormalization(7, axis=1), "GroupNormalization"),
    (layers.UpSampling2D(2, interpolation="bicubic"), "UpSampling2D"),
    (layers.Softmax(axis=1), "Softmax"),
    (layers.BatchNormalization(axis=1), "BatchNormalization"),
    (layers.Flatten(data_format="channels_first"), "Flatten"),
    (layers.ZeroPadding2D(1, data_format="channels_first"), "ZeroPadding2D"),
    (Halve(), "Halve"),
    (Dense(), "Dense"),
]


def name_of(value) -> str | None:
    return f"{value.name}" if isinstance(value, layers.Layer) else None


@pytest.mark.parametrize(("layer", "operators"), [*CONVOLUTIONS, *OTHERS], ids=name_of)
def test_layers_compute_what_keras_does(assert_read, layer, operators):
    assert_read(one(layer), operators)


@pytest.mark.parametrize(("layer", "operators"), SIGNALS, ids=name_of)
def test_layers_of_signals_compute_what_keras_does(assert_read, layer, operators):
    assert_read(one(layer, (12, 4)), operators)


def test_a_vector_is_repeated(assert_read):
    assert_read(one(layers.RepeatVector(3), (4,)), {"Repeat": 1, "Reshape": 2})


OPERATIONS = [
    (lambda x: 2.0 - x, {"Affine": 1}),
    (lambda x: x / np.float32([1, 2, 3, 4]), {"Affine": 1}),
    (lambda x: -x * 3, {"Affine": 2}),
    (lambda x: x[..., 1:3], {"Slice": 1}),
    (lambda x: x[:, 2][:, :, 0], {"Reshape": 2, "Slice": 2}),
    (lambda x: keras.ops.clip(x, -1.0, 2.0), {"Clip": 1}),
    (lambda x: keras.ops.maximum(x, 0.0), {"Activate": 1}),
    (lambda x: keras.ops.minimum(0.5, x), {"Clip": 1}),
    (lambda x: keras.ops.mean(x, axis=(1, 2)), {"Reduce": 1, "Reshape": 1}),
    (lambda x: keras.ops.sum(x, axis=-1, keepdims=True), {"Reduce": 1}),
    (lambda x: keras.ops.max(x, axis=1), {"Reduce": 1, "Reshape": 1}),
    (lambda x: keras.ops.gelu(x), {"Activate": 1}),
    (lambda x: keras.ops.leaky_relu(x, 0.3), {"Activate": 1}),
    (lambda x: keras.ops.transpose(x, (0, 3, 1, 2)), {"Transpose": 1}),
    (lambda x: keras.ops.reshape(x, (-1, 42, 4)), {"Reshape": 1}),
    (lambda x: keras.ops.concatenate([x, x], axis=-1), {"Concat": 1}),
    (lambda x: keras.ops.exp(keras.ops.tanh(x)), {"Activate": 2}),
    (lambda x: x * keras.ops.mean(x, axis=(1, 2), keepdims=True), {"Binary": 1, "Reduce": 1}),
    (lambda x: 1.0 / (keras.ops.abs(x) + 1.0), {"Activate": 1, "Affine": 1, "KerasLayer": 1}),
    (lambda x: keras.ops.cumsum(x, axis=1), {"KerasLayer": 1}),
]


@pytest.mark.parametrize(("operation", "operators"), OPERATIONS)
def test_operations_compute_what_keras_does(assert_read, operation, operators):
    image = keras.Input(IMAGE)
    assert_read(keras.Model(image, operation(image)), operators)


@pytest.mark.parametrize("parts", [2, [1, 3]])
def test_what_is_split_is_cut_out(assert_read, parts):
    image = keras.Input(IMAGE)
    cut = keras.ops.split(image, parts, axis=-1)
    model = keras.Model(image, layers.Concatenate()(cut[::-1]))
    assert_read(model, {"Concat": 1, "Slice": len(cut)})


@pytest.mark.parametrize(("layer", "wanted"), ACTIVATIONS, ids=name_of)
def test_activations_compute_what_keras_does(assert_read, layer, wanted):
    (node,) = assert_read(one(layer), {"Activate": 1})
    assert (node.op.activation, node.op.alpha) == wanted


@pytest.mark.parametrize("name", ["linear", None])
def test_no_activation_computes_nothing(assert_read, name):
    assert_read(one(layers.Dense(3, activation=name)), {"Dense": 1})
    assert_read(one(layers.Activation(name)), {"Reshape": 1})


def test_an_activation_may_be_a_layer_of_its_own(assert_read):
    layer = layers.Conv2D(3, 3, activation=layers.LeakyReLU(0.1))
    nodes = assert_read(one(layer), {"Activate": 1, "Conv": 1})
    assert nodes[1].op.alpha == pytest.approx(0.1)


@pytest.mark.parametrize(("layer", "kind"), OPAQUE, ids=name_of)
def test_unknown_layers_stay_what_they_are(assert_read, layer, kind):
    (node,) = assert_read(one(layer), {"KerasLayer": 1})
    assert node.op.kind == kind


def test_unknown_activations_stay_behind_their_layer(assert_read):
    nodes = assert_read(
        one(layers.Dense(3, activation="squareplus")), {"Dense": 1, "KerasLayer": 1}
    )
    assert nodes[1].op.kind == "squareplus"
    assert nodes[1].op.output_shape == (7, 6, 3)


@pytest.mark.parametrize(
    ("layer", "operator"),
    [
        (layers.Add(), "Binary"),
        (layers.Multiply(), "Binary"),
        (layers.Subtract(), "Binary"),
        (layers.Maximum(), "Binary"),
        (layers.Minimum(), "Binary"),
        (layers.Concatenate(), "Concat"),
    ],
)
def test_layers_of_two_tensors_compute_what_keras_does(assert_read, layer, operator):
    image = keras.Input(IMAGE)
    left, right = layers.Dense(3)(image), layers.Dense(3)(image)
    assert_read(keras.Model(image, layer([left, right])), {operator: 1, "Dense": 2})


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2])
def test_concatenation_counts_axes_as_keras_does(assert_read, axis):
    image = keras.Input((4, 4, 4))
    joined = layers.Concatenate(axis=axis)([image, layers.Activation("relu")(image), image])
    nodes = assert_read(keras.Model(image, joined), {"Activate": 1, "Concat": 1})
    assert nodes[-1].op.axis == axis % 4 - 1


def test_operators_between_tensors_are_read_as_layers_are(assert_read):
    image = keras.Input(IMAGE)
    left, right = layers.Dense(3)(image), layers.Dense(3)(image)
    assert_read(keras.Model(image, left + right * left), {"Binary": 2, "Dense": 2})


def test_a_tensor_added_to_itself_is_read_twice(assert_read):
    image = keras.Input(IMAGE)
    (node,) = assert_read(keras.Model(image, layers.Add()([image, image])), {"Binary": 1})
    assert node.inputs == ("image", "image")


def test_sums_of_three_and_of_different_shapes_are_read(assert_read):
    image = keras.Input(IMAGE)
    narrow = layers.Dense(1)(image)
    total = layers.Average()([image, narrow, layers.Activation("relu")(image)])
    model = keras.Model(image, layers.Multiply()([total, narrow]))
    assert_read(model, {"Activate": 1, "Affine": 1, "Binary": 3, "Dense": 1})


def test_a_class_of_the_same_name_as_an_operation_is_somebodys_own(assert_read):
    image = keras.Input(IMAGE)
    left, right = layers.Dense(3)(image), layers.Dense(3)(image)
    nodes = assert_read(keras.Model(image, Add()(left, right)), {"Dense": 2, "KerasLayer": 1})
    assert nodes[-1].op.kind == "Add"


def test_opaque_layers_take_tensors_and_settings_as_they_were_called(assert_read):
    image = keras.Input((5, 4))
    attended = layers.MultiHeadAttention(2, 3)(image, value=layers.Dense(4)(image))
    assert_read(keras.Model(image, attended), {"Dense": 1, "KerasLayer": 1})
    rolled = keras.ops.roll(image, 2, axis=1)
    assert_read(keras.Model(image, rolled), {"KerasLayer": 1})


def test_opaque_layers_are_called_as_at_inference(assert_read):
    image = keras.Input(IMAGE)
    assert_read(keras.Model(image, Halve()(image, training=True)), {"KerasLayer": 1})


def test_models_inside_models_are_read_layer_by_layer(assert_read):
    inner = keras.Sequential([layers.Conv2D(4, 3, padding="same"), layers.ReLU()], name="inner")
    middle_image = keras.Input(IMAGE)
    middle = keras.Model(middle_image, inner(layers.BatchNormalization()(middle_image)))
    image = keras.Input(IMAGE)
    model = keras.Model(image, layers.Flatten()(middle(image)))
    assert_read(model, {"Activate": 1, "Affine": 1, "Conv": 1, "Reshape": 1})


def test_sequential_models_are_read(assert_read):
    model = keras.Sequential(
        [keras.Input(IMAGE), layers.Flatten(), layers.Dense(6, "relu"), layers.Dense(2)]
    )
    assert_read(model, {"Activate": 1, "Dense": 2, "Reshape": 1})


def test_layers_and_models_that_are_shared_are_computed_wherever_they_stand(assert_read):
    dense = layers.Dense(4)
    inner = keras.Sequential([keras.Input(IMAGE), layers.Conv2D(4, 1)])
    image = keras.Input(IMAGE)
    model = keras.Model(image, dense(inner(dense(inner(image)))))
    nodes = assert_read(model, {"Conv": 2, "Dense": 2})
    assert len({node.output for node in nodes}) == 4
    assert {node.name for node in nodes} == {dense.name, inner.layers[0].name}


def test_layers_are_named_as_in_keras(from_keras):
    image = keras.Input(IMAGE)
    layer = layers.Conv2D(3, 3, activation="relu", name="first")
    graph = from_keras(keras.Model(image, layers.Flatten(name="flat")(layer(image))))
    assert [node.name for node in graph.nodes] == ["first", "first", "flat"]
    assert (graph.input, graph.input_shape) == ("image", IMAGE)


def test_layers_that_no_output_needs_are_left_out(from_keras):
    image = keras.Input(IMAGE)
    graph = from_keras(keras.Model(image, layers.Flatten()(image)))
    assert graph.operators() == {"Reshape": 1}


def vae_of(**halves):
    from vae_edge.keras_vae import KerasVAE

    settings = {"encoder": None, "decoder": None, "latent_dim": 3, "image_shape": IMAGE, **halves}
    return KerasVAE(name="test", source_sha256="", **settings)


def test_heads_are_found_by_their_names(in_tensorflow):
    from exporters.keras_graph import read_graph

    image = keras.Input(IMAGE)
    flat = layers.Flatten()(image)
    log_var, mean = layers.Dense(3)(flat), layers.Dense(3)(flat)
    # A dict is flattened by its keys, not in the order in which it was written.
    encoder = keras.Model(image, {"z_mean": mean, "also": mean, "z_log_var": log_var, "z": mean})
    graph = read_graph(vae_of(encoder=encoder), Component.ENCODER)
    assert list(graph.outputs) == ["z_mean", "z_log_var"]
    rows = np.random.default_rng(0).standard_normal((2, *IMAGE), np.float32)
    wanted, found = encoder(rows), in_tensorflow(graph, rows)
    for name in graph.outputs:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5)


def test_an_encoder_may_be_a_model_around_another(in_tensorflow):
    from exporters.keras_graph import read_graph

    inner_image = keras.Input(IMAGE)
    flat = layers.Flatten()(inner_image)
    heads = {"z_mean": layers.Dense(3)(flat), "z_log_var": layers.Dense(3)(flat)}
    inner = keras.Model(inner_image, heads)
    image = keras.Input(IMAGE)
    outputs = inner(image)
    encoder = keras.Model(image, {"z_mean": outputs["z_mean"], "z_log_var": outputs["z_log_var"]})
    graph = read_graph(vae_of(encoder=encoder), Component.ENCODER)
    assert graph.operators() == {"Dense": 2, "Reshape": 1}
    rows = np.random.default_rng(0).standard_normal((2, *IMAGE), np.float32)
    wanted, found = encoder(rows), in_tensorflow(graph, rows)
    for name in graph.outputs:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda y: y, lambda y: [y], lambda y: {"any": y}])
def test_a_decoder_gives_its_only_output(in_tensorflow, wrap):
    from exporters.keras_graph import read_graph

    z = keras.Input((3,))
    y = layers.Reshape(IMAGE)(layers.Dense(7 * 6 * 4, "sigmoid")(z))
    decoder = keras.Model(z, wrap(y))
    graph = read_graph(vae_of(decoder=decoder), Component.DECODER)
    assert (graph.input, graph.input_shape) == ("z", (3,))
    assert graph.shapes[graph.outputs["reconstruction"]] == IMAGE
    rows = np.random.default_rng(0).standard_normal((2, 3), np.float32)
    found = in_tensorflow(graph, rows)["reconstruction"]
    wanted = keras.Model(z, y)(rows)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_both_halves_of_the_real_model_compute_what_keras_does(tiny_vae, in_tensorflow):
    from exporters.keras_graph import read_graph

    rng = np.random.default_rng(2)
    for component in Component:
        graph = read_graph(tiny_vae, component)
        assert graph.opaque() == ()
        rows = rng.standard_normal((3, *tiny_vae.row_shape(component)), np.float32)
        wanted = tiny_vae.function(component)(rows)
        for name, value in in_tensorflow(graph, rows).items():
            reference = np.asarray(wanted[name])
            assert np.abs(value - reference).max() <= 1e-6 * np.abs(reference).max()


def test_a_subclassed_model_is_refused():
    from exporters.keras_graph import read_graph

    own = Own()
    own(np.zeros((1, 5), np.float32))
    with pytest.raises(ExportError, match="own: is a subclassed Own, so its layers cannot be"):
        read_graph(vae_of(decoder=own), Component.DECODER)


def test_a_subclassed_model_inside_is_computed_as_it_is(assert_read):
    image = keras.Input((5,))
    model = keras.Model(image, layers.Dense(3)(Own()(image)))
    nodes = assert_read(model, {"Dense": 1, "KerasLayer": 1})
    assert nodes[0].op.kind == "Own"


def test_every_output_of_an_unknown_layer_is_computed(assert_read):
    image = keras.Input((6, 4))
    sequence, hidden, cell = layers.LSTM(3, return_sequences=True, return_state=True)(image)
    total = layers.Add()([layers.Flatten()(sequence), layers.Dense(18)(hidden)])
    model = keras.Model(image, layers.Concatenate()([total, cell]))
    operators = {"Binary": 1, "Concat": 1, "Dense": 1, "KerasLayer": 3, "Reshape": 1}
    assert_read(model, operators)


def test_a_layer_of_no_fixed_shape_is_refused(from_keras):
    image = keras.Input((None, 4))
    with pytest.raises(ExportError, match="the shape of its output is not fixed"):
        from_keras(keras.Model(image, keras.ops.cumsum(image, axis=1)))


def test_batch_normalisation_is_worked_out_by_hand(from_keras):
    layer = layers.BatchNormalization(epsilon=1.0)
    model = one(layer, (2,))
    # gamma, beta, mean, variance
    model.set_weights([np.float32(v) for v in ([6, 8], [1, 2], [3, 4], [8, 15])])
    (node,) = from_keras(model).nodes
    np.testing.assert_allclose(node.op.scale, [6 / 3, 8 / 4])
    np.testing.assert_allclose(node.op.offset, [1 - 3 * 2, 2 - 4 * 2])


def test_an_opaque_node_knows_its_kind_and_shape(from_keras):
    graph = from_keras(one(Halve()))
    (node,) = graph.opaque()
    assert isinstance(node.op, KerasLayer)
    assert graph.shapes[node.output] == IMAGE
