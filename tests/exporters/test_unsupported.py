"""What converters cannot do: which layer, which operator, and what can be had instead."""

from __future__ import annotations

import dataclasses
import re
from unittest import mock

import numpy as np
import pytest

from exporters.base import ExportRequest
from exporters.registry import EXPORTERS
from vae_edge.errors import ExportError
from vae_edge.runners.registry import open_artifact_bytes
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


@pytest.mark.parametrize("format", list(Format))
def test_function_outside_of_layers_is_named(format):
    image = keras.Input(SHAPE)
    plane = image[..., 0]
    real, _ = keras.ops.fft2((plane, keras.ops.zeros_like(plane)))
    flat = layers.Flatten()(real)
    heads = {name: layers.Dense(2)(flat) for name in ("z_mean", "z_log_var")}
    vae = dataclasses.replace(
        vae_with(layers.Activation("relu")), encoder=keras.Model(image, heads)
    )
    found = reason(vae, format)
    assert re.search(r"keras\.ops\.fft2\S* .*needs the operators? Complex", found)


def test_runtime_that_does_not_open_a_file_leaves_out_that_file(
    tmp_path, tiny_vae, tiny_representative
):
    from exporters.pipeline import ExportPlan, export_bundle

    class HalfBroken:
        """Writes one half so that no runtime opens it."""

        def __init__(self):
            self._sound = EXPORTERS[Format.ONNX]
            self.format, self.precisions = Format.ONNX, self._sound.precisions
            self.tools = self._sound.tools

        def export(self, request):
            artifact = self._sound.export(request)
            if request.component is Component.ENCODER:
                return dataclasses.replace(artifact, content=b"no model")
            return artifact

    plan = ExportPlan(
        destination=tmp_path / "bundle",
        formats=(Format.ONNX,),
        precisions={Format.ONNX: (Precision.FLOAT32,)},
    )
    with mock.patch("exporters.pipeline.exporter_of", return_value=HalfBroken()):
        result = export_bundle(tiny_vae, plan, tiny_representative)
    assert [each.file for each in result.bundle.manifest.artifacts] == ["decoder.float32.onnx"]
    assert [each.file for each in result.left_out] == ["encoder.float32.onnx"]
    assert "encoder.float32.onnx" in result.left_out[0].reason


def test_recurrent_layers_are_quantized_for_onnx():
    # Their loops take tensors of the graph around them, which the quantizer's order leaves out.
    vae = vae_with(layers.LSTM(3), (6, 2))
    rows = np.random.default_rng(0).uniform(size=(16, 6, 2)).astype(np.float32)
    request = ExportRequest(
        vae=vae,
        component=Component.ENCODER,
        precision=Precision.INT8,
        batch=1,
        calibration=rows,
    )
    artifact = EXPORTERS[Format.ONNX].export(request)
    with open_artifact_bytes(artifact.content, Format.ONNX, name="encoder") as runner:
        found = runner.run({"image": rows[:1]})
    expected = np.asarray(vae.encoder(rows[:1])["z_mean"])
    np.testing.assert_allclose(found["z_mean"], expected, atol=0.05)


@pytest.mark.parametrize(
    ("format", "settings", "found"),
    [
        pytest.param(
            Format.ONNX,
            {"kernel_size": 2, "strides": 3},
            "becomes ConvTranspose, of which the converter makes an invalid onnx: Attribute pads "
            "must not contain negative values",
            id="onnx",
        ),
        pytest.param(
            Format.TFLITE,
            {"kernel_size": 3, "data_format": "channels_first"},
            "becomes BiasAdd, of which the converter makes an invalid tflite: x should be of the "
            "same rank with y, got x of rank 5, and y of rank 4",
            id="tflite",
        ),
    ],
)
def test_operator_that_is_converted_wrongly_is_named(format, settings, found):
    layer = layers.Conv3DTranspose(2, padding="same", name="up", **settings)
    assert reason(vae_with(layer, (2, 4, 4, 1)), format) == (
        f"encoder cannot be converted to float32 {format}: layer 'up' (Conv3DTranspose) {found}. "
        "Give it other settings, e.g. of data_format, padding or strides, or export another "
        "--format."
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
