"""What converters cannot do: which layer, which operator, and what can be had instead."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.base import ExportRequest
from exporters.registry import EXPORTERS
from vae_edge.errors import ExportError
from vae_edge.terms import Component, Format, Precision

pytestmark = [pytest.mark.host, pytest.mark.slow]

keras = pytest.importorskip("keras", reason="needs the host extra")
layers = keras.layers
SHAPE = (8, 8, 1)


class Gamma(layers.Layer):
    def call(self, inputs):
        import tensorflow as tf

        return tf.math.lgamma(inputs + 1.0)


class Fourier(layers.Layer):
    def call(self, inputs):
        import tensorflow as tf

        return tf.math.real(tf.signal.fft2d(tf.cast(inputs[..., 0], tf.complex64)))


class Double(layers.Layer):
    def call(self, inputs):
        import tensorflow as tf

        return tf.cast(tf.cast(inputs, tf.float64) * 2.0, tf.float32)


def vae_with(layer, shape=SHAPE):
    from vae_edge.keras_vae import KerasVAE

    image = keras.Input(shape)
    flat = layers.Flatten()(layer(image))
    heads = {name: layers.Dense(2)(flat) for name in ("z_mean", "z_log_var")}
    z = keras.Input((2,))
    image_again = layers.Reshape(shape)(layers.Dense(int(np.prod(shape)), "sigmoid")(z))
    return KerasVAE(
        name="test",
        source_sha256="0" * 64,
        encoder=keras.Model(image, heads),
        decoder=keras.Model(z, image_again),
        latent_dim=2,
        image_shape=shape,
    )


def reason(vae, format: Format, precision: Precision = Precision.FLOAT32) -> str:
    rows = np.random.default_rng(0).uniform(size=(16, *vae.image_shape)).astype(np.float32)
    request = ExportRequest(
        vae=vae, component=Component.ENCODER, precision=precision, batch=1, calibration=rows
    )
    with pytest.raises(ExportError) as caught:
        EXPORTERS[format].export(request)
    return str(caught.value)


@pytest.mark.parametrize("format", list(Format))
def test_layer_and_operator_are_named(format):
    assert reason(vae_with(Fourier(name="spectrum")), format) == (
        f"encoder cannot be converted to float32 {format}: layer 'spectrum' (Fourier) needs the "
        f"operator FFT2D, which {format} does not have. Build it of other operations, or export "
        "another --format."
    )


def test_float64_is_named():
    assert "layer 'twice' (Double) computes Mul in float64, for which tflite has no kernel" in (
        reason(vae_with(Double(name="twice")), Format.TFLITE)
    )


def test_a_loop_is_not_calibrated():
    # TensorFlow's calibrator would end this process.
    found = reason(vae_with(layers.GRU(2), (4, 3)), Format.TFLITE, Precision.INT8)
    assert "it holds a loop, as recurrent layers do" in found
    assert "--precision float16 or dynamic, or as --format onnx" in found


def test_the_rest_of_the_bundle_survives(tmp_path):
    from exporters.pipeline import ExportPlan, export_bundle
    from exporters.representative import Representative

    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (80, *SHAPE)).astype(np.float32) / np.float32(255)
    vae = vae_with(Gamma(name="gamma"))
    plan = ExportPlan(
        destination=tmp_path / "bundle",
        formats=tuple(Format),
        precisions=dict.fromkeys(Format, (Precision.FLOAT32,)),
    )
    data = Representative(
        source="noise",
        seed=0,
        preprocessing=vae.preprocessing,
        calibration=rows[:64],
        golden=rows[64:],
    )
    result = export_bundle(vae, plan, data)
    assert {record.file for record in result.bundle.manifest.artifacts} == {
        "encoder.float32.tflite",
        "decoder.float32.tflite",
        "decoder.float32.onnx",
    }
    (left_out,) = result.left_out
    assert left_out.file == "encoder.float32.onnx"
    assert "layer 'gamma' (Gamma) needs the operator Lgamma" in left_out.reason
    assert left_out.reason.endswith("What could be: encoder.float32.tflite.")
