"""Every format at every precision: names, operators, and how close it stays to Keras."""

from __future__ import annotations

import numpy as np
import pytest

from vae_edge.errors import ExportError
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import COMPONENT_OUTPUTS, Component, Format, Precision, Target

pytestmark = [pytest.mark.host, pytest.mark.slow]

TFLITE = (Precision.FLOAT32, Precision.FLOAT16, Precision.DYNAMIC, Precision.INT8)
ONNX = (Precision.FLOAT32, Precision.FLOAT16, Precision.DYNAMIC, Precision.INT8)
COMBINATIONS = [(Format.TFLITE, p) for p in TFLITE] + [(Format.ONNX, p) for p in ONNX]
# Largest error allowed, as a share of the reference's span: rounding of float32; 11 bits of
# float16; 8 bits of weights; 8 bits of weights and activations.
BOUNDS = {
    Precision.FLOAT32: 1e-5,
    Precision.FLOAT16: 2e-3,
    Precision.DYNAMIC: 0.05,
    Precision.INT8: 0.12,
}


def request_for(vae, representative, component: Component, precision: Precision, batch=1):
    from exporters.base import ExportRequest
    from exporters.representative import calibration_latents

    rows = (
        representative.calibration
        if component is Component.ENCODER
        else calibration_latents(vae, representative)
    )
    return ExportRequest(
        vae=vae, component=component, precision=precision, batch=batch, calibration=rows
    )


@pytest.fixture(scope="session")
def exported(tiny_vae, tiny_representative):
    """Every artifact, made once."""
    from exporters.registry import EXPORTERS

    return {
        (format, precision, component): EXPORTERS[format].export(
            request_for(tiny_vae, tiny_representative, component, precision)
        )
        for format, precision in COMBINATIONS
        for component in Component
    }


@pytest.mark.parametrize("component", list(Component))
@pytest.mark.parametrize(("format", "precision"), COMBINATIONS)
def test_artifact_computes_what_keras_computes(
    exported, tiny_vae, tiny_representative, format, precision, component
):
    rows = request_for(tiny_vae, tiny_representative, component, precision).calibration[:16]
    outputs = tiny_vae.component(component)(rows)
    expected = (
        {name: np.asarray(value) for name, value in outputs.items()}
        if component is Component.ENCODER
        else {"reconstruction": np.asarray(outputs)}
    )
    artifact = exported[format, precision, component]
    with open_artifact_bytes(artifact.content, format, name="a") as runner:
        name = runner.inputs[0].name
        for index, row in enumerate(rows):
            for output, value in runner.run({name: row[np.newaxis]}).items():
                span = np.ptp(expected[output])
                error = np.abs(value - expected[output][index : index + 1]).max()
                assert error <= BOUNDS[precision] * span, output


@pytest.mark.parametrize("component", list(Component))
@pytest.mark.parametrize(("format", "precision"), COMBINATIONS)
def test_artifact_keeps_names_and_float_boundary(exported, format, precision, component):
    artifact = exported[format, precision, component]
    with open_artifact_bytes(artifact.content, format, name="a") as runner:
        image = (1, 16, 16, 1)
        assert [(s.name, s.shape, s.dtype) for s in runner.inputs] == (
            [("image", image, "float32")]
            if component is Component.ENCODER
            else [("z", (1, 3), "float32")]
        )
        shapes = {"z_mean": (1, 3), "z_log_var": (1, 3), "reconstruction": image}
        assert [(s.name, s.shape, s.dtype) for s in runner.outputs] == [
            (name, shapes[name], "float32") for name in COMPONENT_OUTPUTS[component]
        ]


def test_tflite_signature_is_named_in_the_runtimes_own_list(exported):
    from ai_edge_litert.interpreter import Interpreter

    for component, names in (
        (Component.ENCODER, {"inputs": ["image"], "outputs": ["z_log_var", "z_mean"]}),
        (Component.DECODER, {"inputs": ["z"], "outputs": ["reconstruction"]}),
    ):
        for precision in TFLITE:
            content = exported[Format.TFLITE, precision, component].content
            signatures = Interpreter(model_content=content).get_signature_list()
            assert signatures == {"serving_default": names}


def test_no_artifact_holds_a_random_or_custom_operator(exported):
    for artifact in exported.values():
        names = [name.lower() for name in artifact.operators]
        assert not [n for n in names if "random" in n or "custom" in n or n.startswith("flex")]


@pytest.mark.parametrize("component", list(Component))
def test_quantized_artifacts_are_smaller(exported, component):
    for format in Format:
        full = len(exported[format, Precision.FLOAT32, component].content)
        half = len(exported[format, Precision.FLOAT16, component].content)
        assert half < full


def test_tflite_dense_layers_stay_within_what_old_runtimes_know(exported):
    from exporters.tflite_model import TFLiteModel

    for (format, _, _), artifact in exported.items():
        if format is Format.TFLITE:
            model = TFLiteModel.parse(artifact.content)
            versions = [op.version for op in model.operators if op.name == "FULLY_CONNECTED"]
            # tflite-runtime 2.14 knows FULLY_CONNECTED up to version 11.
            assert versions
            assert max(versions) <= 11


def test_no_tflite_artifact_needs_more_than_the_last_tflite_runtime(exported):
    for (format, _, _), artifact in exported.items():
        if format is Format.TFLITE:
            oldest = artifact.oldest_runtime
            assert (oldest.name, oldest.version) == ("tflite-runtime", "2.14.0")


def test_dynamic_decoder_has_no_transposed_convolution_left(exported):
    artifact = exported[Format.TFLITE, Precision.DYNAMIC, Component.DECODER]
    # tflite-runtime 2.14 refuses those with int8 weights, and LiteRT runs them 60 times slower.
    assert "TRANSPOSE_CONV" not in artifact.operators
    full = exported[Format.TFLITE, Precision.FLOAT16, Component.DECODER]
    assert len(artifact.content) < len(full.content)


def test_onnx_states_its_opset_and_passes_the_checker(exported):
    import onnx

    for (format, _, component), artifact in exported.items():
        if format is Format.ONNX:
            model = onnx.load_model_from_string(artifact.content)
            onnx.checker.check_model(model, full_check=True)
            assert {o.version for o in model.opset_import if o.domain == ""} == {18}
            assert model.producer_name == "vae-edge"
            assert tuple(o.name for o in model.graph.output) == COMPONENT_OUTPUTS[component]


def test_onnx_float16_stores_large_weights_as_float16_only(exported):
    import onnx

    artifact = exported[Format.ONNX, Precision.FLOAT16, Component.DECODER]
    model = onnx.load_model_from_string(artifact.content)
    stored = {w.name: w.data_type for w in model.graph.initializer}
    kernels = [name for name in stored if "/kernel" in name]
    large = [n for n in kernels if stored[n] == onnx.TensorProto.FLOAT16]
    assert large
    widened = {n.input[0] for n in model.graph.node if n.op_type == "Cast"}
    assert set(large) <= widened


def test_onnx_int8_computes_inner_layers_with_integer_operators(exported):
    encoder = exported[Format.ONNX, Precision.INT8, Component.ENCODER].operators
    decoder = exported[Format.ONNX, Precision.INT8, Component.DECODER].operators
    # Its first convolution reads one channel and stays in float; both heads are one product.
    assert (encoder["Conv"], encoder["QLinearConv"], encoder["MatMulInteger"]) == (1, 1, 1)
    # Four phases for each of two transposed convolutions; the last layer is a product and a sum.
    assert (decoder["QLinearConv"], decoder["MatMulInteger"], decoder["Col2Im"]) == (8, 1, 1)
    assert "ConvTranspose" not in decoder


@pytest.mark.parametrize(("target", "kind"), [("any", 2), ("x86", 2), ("arm64", 3)])
def test_onnx_integers_are_signed_for_arm64_alone(tiny_vae, tiny_representative, target, kind):
    """uint8 is 2 and int8 is 3 in ONNX's own numbering."""
    from dataclasses import replace

    import onnx

    from exporters.registry import EXPORTERS

    request = request_for(tiny_vae, tiny_representative, Component.ENCODER, Precision.INT8)
    artifact = EXPORTERS[Format.ONNX].export(replace(request, target=Target(target)))

    model = onnx.load_model_from_string(artifact.content)
    types = {w.name: w.data_type for w in model.graph.initializer}
    read = {types[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert read == {kind}
    assert artifact.quantization.activations == {2: "uint8", 3: "int8"}[kind]


def test_int8_leaves_boundary_layers_in_float(exported):
    from exporters.tflite_model import TFLiteModel

    def names(component: Component) -> list[str]:
        content = exported[Format.TFLITE, Precision.INT8, component].content
        return [op.name for op in TFLiteModel.parse(content).operators]

    decoder = names(Component.DECODER)
    assert decoder.index("FULLY_CONNECTED") < decoder.index("QUANTIZE")
    assert decoder[-2:] == ["DEQUANTIZE", "LOGISTIC"]
    encoder = exported[Format.TFLITE, Precision.INT8, Component.ENCODER]
    # The first convolution, and the sums of the heads' two parts.
    assert encoder.float_operators == {"CONV_2D": 1, "FULLY_CONNECTED": 2}
    decoder_floats = exported[Format.TFLITE, Precision.INT8, Component.DECODER].float_operators
    assert decoder_floats == {"FULLY_CONNECTED": 1, "LOGISTIC": 1}


def test_int8_quantizes_dense_layers_inside_the_graph(tmp_path, tiny_representative):
    """A dense VAE must not come out of int8 as a float one."""
    from exporters.registry import EXPORTERS
    from exporters.tflite_model import TFLiteModel
    from vae_edge.keras_vae import load_keras_vae
    from vae_edge.training.model import VAE
    from vae_edge.training.settings import Architecture

    shape = Architecture(
        image_shape=(16, 16, 1),
        latent_dim=3,
        encoder_filters=(8,),
        decoder_filters=(8,),
        hidden_units=(48,),
    )
    VAE(shape, seed=1).save(tmp_path / "dense.keras")
    vae = load_keras_vae(tmp_path / "dense.keras")
    request = request_for(vae, tiny_representative, Component.DECODER, Precision.INT8)
    tflite = TFLiteModel.parse(EXPORTERS[Format.TFLITE].export(request).content)
    dense = [op.in_float for op in tflite.operators if op.name == "FULLY_CONNECTED"]
    # The small one that reads z, and the large one behind it.
    assert dense == [True, False]
    onnx = EXPORTERS[Format.ONNX].export(request).operators
    # The large dense layer, and the last convolution's products.
    assert (onnx["Gemm"], onnx["MatMulInteger"]) == (1, 2)


@pytest.mark.parametrize("format", list(Format))
def test_without_lowering_the_standard_converter_is_published(
    tiny_vae, tiny_representative, format
):
    from dataclasses import replace

    from exporters.registry import EXPORTERS

    for precision in (Precision.FLOAT32, Precision.DYNAMIC, Precision.INT8):
        request = request_for(tiny_vae, tiny_representative, Component.DECODER, precision)
        artifact = EXPORTERS[format].export(replace(request, lowering=False))
        stock = "TRANSPOSE_CONV" if format is Format.TFLITE else "ConvTranspose"
        assert artifact.operators[stock] == 3
        assert artifact.lowering.target is None
        assert not artifact.lowering.applied
        with open_artifact_bytes(artifact.content, format, name="a") as runner:
            assert [spec.name for spec in runner.outputs] == ["reconstruction"]
    if format is Format.ONNX:
        # What stands between DequantizeLinear and QuantizeLinear is one integer operator when it
        # runs; no runtime has such a transposed convolution.
        assert artifact.float_operators == {"ConvTranspose": 3}


@pytest.mark.parametrize(
    ("precision", "narrow"), [(Precision.FLOAT16, "FLOAT16"), (Precision.DYNAMIC, "INT8")]
)
def test_a_transposed_convolution_that_stays_one_is_stored_narrow(
    tiny_vae, tiny_representative, precision, narrow
):
    """Where ONNX keeps it, because it is too small to gain from another form."""
    import onnx

    from exporters.registry import EXPORTERS

    request = request_for(tiny_vae, tiny_representative, Component.DECODER, precision)
    model = onnx.load_model_from_string(EXPORTERS[Format.ONNX].export(request).content)

    kept = {n.input[1] for n in model.graph.node if n.op_type == "ConvTranspose"}
    assert kept
    widened = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type in ("Cast", "Mul")}
    types = {w.name: onnx.TensorProto.DataType.Name(w.data_type) for w in model.graph.initializer}
    for name in kept:
        while name in widened:
            name = widened[name]
        assert types[name] == narrow


def test_the_target_chooses_the_form_and_the_manifest_says_so():
    from dataclasses import replace

    from exporters.base import ExportRequest
    from exporters.registry import EXPORTERS
    from vae_edge.keras_vae import load_keras_vae, shipped_model_path

    vae = load_keras_vae(shipped_model_path())
    rows = np.random.default_rng(0).standard_normal((8, vae.latent_dim), np.float32)
    request = ExportRequest(
        vae=vae,
        component=Component.DECODER,
        precision=Precision.FLOAT32,
        batch=1,
        calibration=rows,
    )
    made = {
        target: EXPORTERS[Format.ONNX].export(replace(request, target=target)) for target in Target
    }
    # Blocked convolutions on x86, one per phase and one for the last layer; gathered rows and
    # matrix products on arm64 and by default.
    assert made[Target.X86].operators["Conv"] == 9
    for target in (Target.ANY, Target.ARM64):
        assert "Conv" not in made[target].operators
        assert made[target].lowering.target is target
        passes = [applied.name for applied in made[target].lowering.applied]
        assert "conv_as_product" in passes
    z = rows[:1]
    results = []
    for artifact in made.values():
        with open_artifact_bytes(artifact.content, Format.ONNX, name="a") as runner:
            results.append(runner.run({"z": z})["reconstruction"])
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


@pytest.mark.parametrize("format", list(Format))
@pytest.mark.parametrize("component", list(Component))
def test_integer_inputs_and_outputs(tiny_vae, tiny_representative, format, component):
    from dataclasses import replace

    from exporters.registry import EXPORTERS

    request = replace(
        request_for(tiny_vae, tiny_representative, component, Precision.INT8), integer_io=True
    )
    artifact = EXPORTERS[format].export(request)
    dtype = "int8" if format is Format.TFLITE else "uint8"
    with open_artifact_bytes(artifact.content, format, name="a") as runner:
        for spec in (*runner.inputs, *runner.outputs):
            assert spec.dtype == dtype
            assert spec.scale is not None
        rows = request.calibration[:8]
        expected = tiny_vae.function(component)(rows)
        for index, row in enumerate(rows):
            outputs = runner.run({runner.inputs[0].name: row[np.newaxis]})
            for name, value in outputs.items():
                assert value.dtype == np.float32
                span = float(np.ptp(expected[name]))
                error = np.abs(value - np.asarray(expected[name])[index : index + 1]).max()
                assert error <= 0.2 * span
    if format is Format.TFLITE:
        # Nothing but integers: what microcontrollers and NPUs can run.
        assert artifact.float_operators == {}


def test_integer_inputs_go_with_int8_alone(tiny_vae, tiny_representative):
    from dataclasses import replace

    request = request_for(tiny_vae, tiny_representative, Component.DECODER, Precision.FLOAT16)
    with pytest.raises(ExportError, match=r"go with precision int8; received float16"):
        replace(request, integer_io=True)


@pytest.mark.parametrize("format", list(Format))
@pytest.mark.parametrize("batch", [4, None])
def test_batch_can_be_larger_or_free(tiny_vae, tiny_representative, format, batch):
    from exporters.registry import EXPORTERS

    for component in Component:
        request = request_for(tiny_vae, tiny_representative, component, Precision.FLOAT32, batch)
        artifact = EXPORTERS[format].export(request)
        with open_artifact_bytes(artifact.content, format, name="a") as runner:
            assert {spec.batch for spec in (*runner.inputs, *runner.outputs)} == {batch}
            for count in (4,) if batch else (1, 5):
                rows = request.calibration[:count]
                outputs = runner.run({runner.inputs[0].name: rows})
                alone = tiny_vae.function(component)(rows)
                for name, value in outputs.items():
                    np.testing.assert_allclose(value, alone[name], atol=1e-5)


def test_batch_below_one_is_refused(tiny_vae, tiny_representative):
    with pytest.raises(ExportError, match="batch must be 1 or more"):
        request_for(tiny_vae, tiny_representative, Component.DECODER, Precision.FLOAT32, 0)


def test_precisions_that_do_not_pay_are_refused_with_what_was_measured():
    from exporters.registry import check_combinations

    check_combinations(list(Format), [Precision.INT8])
    with pytest.raises(ExportError) as caught:
        check_combinations(list(Format), [Precision.INT8, Precision.INT16X8])
    message = str(caught.value)
    assert "'int16x8' is not exported: 16-bit activations have no fast kernel" in message
    assert "float32, float16, dynamic, int8" in message
    with pytest.raises(ExportError, match="'int4' is not exported: 4-bit weights have no fast"):
        check_combinations([Format.ONNX], [Precision.INT4])
