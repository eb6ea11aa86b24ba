"""Standard quantizers: what costs too much stays in float, and the record says what does."""

from __future__ import annotations

import dataclasses
from unittest import mock

import numpy as np
import pytest

from exporters.base import ExportRequest
from exporters.converter_guard import keep_within, kept_in_float
from exporters.registry import EXPORTERS
from vae_edge.manifest import QuantizationRecord
from vae_edge.runners.batching import run_batched
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import Component, Format, Precision
from vae_edge.tolerances import TOLERANCES

pytestmark = pytest.mark.host

CONVERTERS = {
    Format.TFLITE: "exporters.tf_converter.keep_within",
    Format.ONNX: "exporters.tf2onnx_converter.keep_within",
}


@dataclasses.dataclass(frozen=True)
class Priced:
    """A judge to whom each node that is quantized costs so much; a file is the nodes' letters."""

    costs: dict[str, float]

    def ranking(self):
        return self

    def excess(self, content: bytes) -> float:
        return sum(self.costs[letter] for letter in content.decode())


def kept(**costs: float):
    """Give the nodes that stay in float, and what is quantized."""

    def make(left_out):
        return "".join(name for name in costs if name not in left_out).encode()

    found = keep_within(Priced(costs), list(costs), make)
    return found and (found[1], found[0].decode())


def test_nothing_goes_back_where_all_is_within():
    assert kept(a=0.5, b=0.25) == ((), "ab")


def test_the_node_that_costs_most_goes_back():
    assert kept(a=0.25, b=2.0, c=0.5) == (("b",), "ac")


def test_as_many_go_back_as_it_takes_in_the_graphs_order():
    assert kept(a=0.75, b=2.0, c=0.5, d=0.25, e=3.0) == (("a", "b", "e"), "cd")


def test_nothing_is_given_where_no_node_may_be_quantized():
    assert kept(a=1.5, b=2.0) is None


def test_neighbours_of_many_nodes_go_together():
    names = [chr(0x100 + place) for place in range(100)]
    # Three at a time: 48 trials are made at most.
    costs = {**dict.fromkeys(names, 0.001), names[4]: 2.0}
    assert kept(**costs)[0] == tuple(names[3:6])


def test_one_that_costs_much_by_itself_returns_where_others_do():
    class Together(Priced):
        def excess(self, content):
            present = set(content.decode())
            alone = {"a": 3.0, "b": 2.0}
            # With b in float, a costs nothing any more, but for where it is alone.
            if len(present) == 1:
                return alone.get(content.decode(), 0.0)
            return 2.0 if "b" in present else 0.0

    def make(left_out):
        return "".join(name for name in "abcd" if name not in left_out).encode()

    assert keep_within(Together({}), list("abcd"), make)[1] == ("b",)


def test_a_note_lists_a_dozen_nodes():
    record = QuantizationRecord(
        weights="int8",
        weight_granularity="per-channel",
        weights_symmetric=True,
        activations="int8",
        activations_symmetric=False,
        note="pairs",
    )
    assert kept_in_float(record, ()) == record
    note = kept_in_float(record, [f"n{place}" for place in range(14)]).note
    assert note.startswith("pairs; kept in float, because")
    assert note.endswith("n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11 and 2 more")


def custom(function):
    """Give a layer that no reader of vae-edge knows."""
    keras = pytest.importorskip("keras", reason="needs the host extra")

    class Custom(keras.layers.Layer):
        def call(self, inputs):
            return function(inputs)

        def compute_output_shape(self, shape):
            return function(np.zeros([1, *shape[1:]], np.float32)).shape

    return Custom(name="custom")


def vae_with(*chosen, shape):
    """Give a VAE with layers before the heads of its encoder."""
    keras = pytest.importorskip("keras", reason="needs the host extra")
    from vae_edge.keras_vae import KerasVAE

    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input(shape)
    x = image
    for layer in chosen:
        x = layer(x)
    x = layers.Flatten()(x)
    heads = {name: layers.Dense(2, name=name)(x) for name in ("z_mean", "z_log_var")}
    z = keras.Input((2,))
    return KerasVAE(
        name="test",
        source_sha256="0" * 64,
        encoder=keras.Model(image, heads),
        decoder=keras.Model(z, layers.Reshape(shape)(layers.Dense(int(np.prod(shape)))(z))),
        latent_dim=2,
        image_shape=shape,
    )


def draw(vae, count=128, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *vae.image_shape)).astype(np.float32)


def export(vae, format, precision, component=Component.ENCODER):
    latents = np.random.default_rng(0).standard_normal((128, 2)).astype(np.float32)
    return EXPORTERS[format].export(
        ExportRequest(
            vae=vae,
            component=component,
            precision=precision,
            batch=1,
            calibration=draw(vae) if component is Component.ENCODER else latents,
        )
    )


def rmse(vae, artifact, format):
    """Give z_mean's on rows that no quantizer has seen, as a share of what it spans."""
    rows = draw(vae, seed=1)
    wanted = np.asarray(vae.encoder(rows)["z_mean"])
    with open_artifact_bytes(artifact.content, format, name="encoder") as runner:
        given = run_batched(runner, rows)["z_mean"]
    return float(np.sqrt(np.mean((given - wanted) ** 2)) / np.ptp(wanted))


def uneven():
    """Give a layer inside of which one tensor has two scales, of which 8 bits hold the larger."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((64, 64)).astype(np.float32) / 8 for _ in range(2))
    sizes = np.where(np.arange(64) < 1, 1e4, 1).astype(np.float32)

    def compute(x):
        wide = tf.nn.relu(tf.matmul(x, tf.constant(first))) * sizes
        # The sum keeps converters from making one of the two scales.
        return tf.nn.relu(tf.matmul((wide + x) / sizes, tf.constant(second)))

    return custom(compute)


@pytest.mark.slow
@pytest.mark.parametrize("format", list(Format))
def test_what_int8_cannot_hold_stays_in_float(format):
    layers = pytest.importorskip("keras").layers
    fine = (layers.Dense(64, "relu"), layers.Dense(64, "relu"))
    vae = vae_with(*fine, uneven(), shape=(64,))
    limit = TOLERANCES[Precision.INT8]["z_mean"]["rmse"]
    with mock.patch(CONVERTERS[format], lambda judge, nodes, make: (make(()), ())):
        plain = export(vae, format, Precision.INT8)
    assert rmse(vae, plain, format) > limit
    artifact = export(vae, format, Precision.INT8)
    assert rmse(vae, artifact, format) < limit
    assert "kept in float, because the limits" in artifact.quantization.note
    assert artifact.quantization.weights == "int8"
    float32 = export(vae, format, Precision.FLOAT32)
    assert len(artifact.content) < len(float32.content)


@pytest.mark.slow
@pytest.mark.parametrize("format", list(Format))
def test_weights_that_8_bits_cannot_hold_stay_in_float(format):
    import tensorflow as tf

    # Quantized per tensor, all weights but one are less than half a step.
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) / 8
    weights[0, 0] = 1e3
    sizes = np.where(np.arange(64) < 1, 1e-3, 1).astype(np.float32)
    layer = custom(lambda x: tf.nn.relu(tf.matmul(tf.nn.relu(x * sizes), tf.constant(weights))))
    vae = vae_with(layer, shape=(64,))
    artifact = export(vae, format, Precision.DYNAMIC)
    assert rmse(vae, artifact, format) < TOLERANCES[Precision.DYNAMIC]["z_mean"]["rmse"]
    record = artifact.quantization
    if format is Format.TFLITE:
        assert (record.weights, record.activations) == ("float16", "float32")
        assert record.note.startswith("nothing is quantized at dynamic: quantized, it exceeds")
    else:
        assert "kept in float, because the limits" in record.note


@pytest.mark.slow
def test_what_cannot_be_quantized_says_so():
    keras = pytest.importorskip("keras", reason="needs the host extra")
    z = keras.Input((2,))
    x = keras.layers.Reshape((1, 2, 2, 2))(keras.layers.Dense(8)(z))
    volume = keras.layers.Conv3DTranspose(2, 2, strides=2, name="up")(x)
    vae = vae_with(shape=volume.shape[1:])
    vae = dataclasses.replace(vae, decoder=keras.Model(z, volume))
    record = export(vae, Format.TFLITE, Precision.INT8, Component.DECODER).quantization
    assert (record.weights, record.activations) == ("float16", "float32")
    assert record.note.startswith("nothing is quantized at int8: TensorFlow's quantizer takes none")


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.DYNAMIC])
def test_weights_of_a_loop_are_narrow(precision):
    layers = pytest.importorskip("keras").layers
    vae = vae_with(layers.GRU(128), shape=(6, 8))
    artifact = export(vae, Format.ONNX, precision)
    halved = export(vae, Format.ONNX, Precision.FLOAT16)
    # Of (128 + 8) x 384 weights, a byte each less.
    assert len(halved.content) - len(artifact.content) > 0.8 * (128 + 8) * 384
    assert artifact.quantization.weights == "int8"
    assert "widened once, when the model loads" in artifact.quantization.note
    assert rmse(vae, artifact, Format.ONNX) < TOLERANCES[precision]["z_mean"]["rmse"]
