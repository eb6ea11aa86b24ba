from __future__ import annotations

import numpy as np
import pytest

import vae_edge
from vae_edge import EdgeVAE, Posterior
from vae_edge.bundle import Bundle
from vae_edge.errors import ArtifactError, BundleError, RuntimeMissingError
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.terms import Format

HALVES = ("encoder", "decoder")


def files(*groups):
    return tuple(f"{half}.{group}" for group in groups for half in HALVES)


@pytest.fixture
def vae(tiny_bundle):
    with EdgeVAE.open(tiny_bundle) as opened:
        yield opened


@pytest.fixture
def images(tiny):
    return tiny.golden().images(PLAIN_PICTURES)


def used(path, **options):
    with EdgeVAE.open(path, **options) as opened:
        return opened.encoder.name, opened.decoder.name


def test_public_names_are_importable_from_the_package():
    assert all(hasattr(vae_edge, name) for name in vae_edge.__all__)
    assert vae_edge.EdgeVAE is EdgeVAE


def test_encode_gives_the_posterior_of_each_image(vae, images, tiny):
    posterior = vae.encode(images)

    assert isinstance(posterior, Posterior)
    for values, expected in zip(posterior, tiny.encode(images), strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_decode_gives_the_image_of_each_latent(vae, tiny):
    z = np.array([[0.5, -1], [0, 0], [9, 9]], np.float32)

    values = vae.decode(z)

    assert values.dtype == np.float32
    np.testing.assert_allclose(values, tiny.decode(z), atol=1e-6)


def test_reconstruct_decodes_z_mean(vae, images, tiny):
    np.testing.assert_allclose(
        vae.reconstruct(images), tiny.decode(tiny.encode(images)[0]), atol=1e-5
    )


def test_shape_and_latent_dim_are_the_models(vae):
    assert (vae.image_shape, vae.latent_dim) == ((4, 4, 1), 2)


def test_single_image_and_single_latent_are_taken(vae, images):
    np.testing.assert_array_equal(vae.encode(images[1])[0], vae.encode(images)[0][1:2])
    np.testing.assert_array_equal(vae.decode([1.0, 2.0]), vae.decode([[1.0, 2.0]]))


def test_no_rows_give_no_rows(vae, images):
    assert vae.encode(images[:0]).z_mean.shape == (0, 2)
    assert vae.decode(np.empty((0, 2))).shape == (0, 4, 4, 1)
    assert vae.generate(0).shape == (0, 4, 4, 1)


@pytest.mark.parametrize("batch", [4, None])
def test_any_count_goes_through_any_batch(make_tiny_bundle, tiny, batch):
    z = np.random.default_rng(0).normal(size=(37, 2)).astype(np.float32)

    with EdgeVAE.open(make_tiny_bundle(batch=batch)) as vae:
        np.testing.assert_allclose(vae.decode(z), tiny.decode(z), atol=1e-6)


def test_results_are_the_callers_own(vae):
    first = vae.decode([[0.5, -1.0]])
    kept = first.copy()
    vae.decode([[-0.5, 1.0]])

    np.testing.assert_array_equal(first, kept)
    first[:] = 0


@pytest.mark.parametrize("shape", [(4, 4), (5, 4, 4), (2, 4, 4, 3), (2, 16), (2, 4, 5, 1), ()])
def test_images_of_another_shape_are_refused(vae, shape):
    with pytest.raises(
        ArtifactError, match=r"images must have the shape \(count, 4, 4, 1\); received \("
    ):
        vae.encode(np.zeros(shape, np.float32))


def test_eight_bit_images_are_levels_over_255(vae, tiny, images):
    levels = np.rint(images * 255).astype(np.uint8)

    z_mean, _ = vae.encode(levels)

    np.testing.assert_allclose(z_mean, tiny.encode(levels / 255)[0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["complex64", "U1", "O"])
def test_images_that_are_no_numbers_are_refused(vae, dtype):
    with pytest.raises(ArtifactError, match="images must be floats or uint8; received"):
        vae.encode(np.zeros((1, 4, 4, 1), dtype))


@pytest.mark.parametrize(
    ("value", "received"),
    [
        (-0.01, "-0.01 to 0"),
        (1.01, "0 to 1.01"),
        (255, "0 to 255"),
        (np.nan, "values that are not finite"),
        (np.inf, "inf"),
    ],
)
def test_values_out_of_range_are_refused(vae, value, received):
    images = np.zeros((2, 4, 4, 1))
    images[1, 2, 3, 0] = value

    with pytest.raises(ArtifactError, match=rf"must lie in \[0, 1\]; received .*{received}"):
        vae.encode(images)


def test_the_ends_of_the_range_and_other_float_types_are_taken(vae, tiny):
    images = np.zeros((2, 4, 4, 1))
    images[1] = 1

    for dtype in ("float64", "float16", "int64", "bool"):
        np.testing.assert_allclose(
            vae.encode(images.astype(dtype))[0], tiny.encode(images)[0], atol=1e-5
        )


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 2, 1), ()])
def test_latents_of_another_shape_are_refused(vae, shape):
    with pytest.raises(ArtifactError, match=r"z must have the shape \(count, 2\); received \("):
        vae.decode(np.zeros(shape, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_latents_that_are_not_finite_are_refused(vae, bad):
    with pytest.raises(ArtifactError, match=r"not finite \(NaN or infinity\)"):
        vae.decode([[0.0, bad]])


def test_sample_is_mean_plus_sigma_times_epsilon(vae):
    posterior = Posterior(
        np.array([[1.0, -2.0], [0.0, 3.0]], np.float32),
        np.log(np.array([[4.0, 9.0], [1.0, 0.25]], np.float32)),  # sigma 2, 3, 1, 0.5
    )
    epsilon = np.random.default_rng(7).standard_normal((2, 2), dtype=np.float32)

    z = vae.sample(posterior, seed=7)

    assert z.dtype == np.float32
    by_hand = [
        [1 + 2 * epsilon[0, 0], -2 + 3 * epsilon[0, 1]],
        [epsilon[1, 0], 3 + epsilon[1, 1] / 2],
    ]
    np.testing.assert_allclose(z, by_hand, rtol=1e-6)


def test_sample_takes_a_generator_and_moves_it_on(vae):
    posterior = Posterior(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32))
    rng = np.random.default_rng(7)

    first, second = vae.sample(posterior, seed=rng), vae.sample(posterior, seed=rng)

    np.testing.assert_array_equal(first, vae.sample(posterior, seed=7))
    assert not np.array_equal(first, second)


def test_sample_without_a_seed_is_fresh_each_time(vae):
    posterior = Posterior(np.zeros((4, 2), np.float32), np.zeros((4, 2), np.float32))

    assert not np.array_equal(vae.sample(posterior), vae.sample(posterior))


def test_generate_decodes_draws_of_the_prior(vae, tiny):
    z = np.random.default_rng(3).standard_normal((6, 2), dtype=np.float32)

    np.testing.assert_allclose(vae.generate(6, seed=3), tiny.decode(z), atol=1e-6)


def test_generate_is_repeatable_with_a_seed_only(vae):
    np.testing.assert_array_equal(vae.generate(4, seed=1), vae.generate(4, seed=1))
    assert not np.array_equal(vae.generate(4, seed=1), vae.generate(4, seed=2))
    assert not np.array_equal(vae.generate(4), vae.generate(4))


def test_negative_count_is_refused(vae):
    with pytest.raises(ArtifactError, match="count must be 0 or more; received -1"):
        vae.generate(-1)


def test_default_is_the_most_exact_precision(make_tiny_bundle):
    order = ["float32", "float16", "int16x8", "dynamic", "int8"]
    for index, best in enumerate(order):
        held = [f"{precision}.onnx" for precision in reversed(order[index:])]
        path = make_tiny_bundle(files(*held), name=best)

        assert used(path) == (f"encoder.{best}.onnx", f"decoder.{best}.onnx")


def test_format_and_precision_can_be_asked_for(make_tiny_bundle):
    path = make_tiny_bundle(files("float32.tflite", "float32.onnx", "int8.onnx"))

    assert used(path, format="onnx") == files("float32.onnx")
    assert used(path, format=Format.ONNX, precision="int8") == files("int8.onnx")
    assert used(path, precision="int8") == files("int8.onnx")
    assert used(path) == files("float32.tflite")


def test_format_without_a_runtime_is_passed_over(make_tiny_bundle, monkeypatch):
    path = make_tiny_bundle(files("float32.tflite", "float32.onnx"))
    real = Bundle.open_runner

    def open_runner(self, record, threads=1):
        if record.format is Format.TFLITE:
            raise RuntimeMissingError("no LiteRT")
        return real(self, record, threads)

    monkeypatch.setattr(Bundle, "open_runner", open_runner)

    assert used(path) == files("float32.onnx")
    with pytest.raises(RuntimeMissingError, match="no LiteRT"):
        EdgeVAE.open(path, format="tflite")


def test_no_runtime_at_all_is_said(tiny_bundle, monkeypatch):
    def open_runner(self, record, threads):
        raise RuntimeMissingError(f"no runtime for {record.format}, {threads}, {self.path.name}")

    monkeypatch.setattr(Bundle, "open_runner", open_runner)

    with pytest.raises(RuntimeMissingError, match="no runtime for onnx, 1, tiny"):
        EdgeVAE.open(tiny_bundle)


def test_runner_opened_before_a_failure_is_closed(tiny_bundle, monkeypatch, fake_runner):
    encoder = fake_runner("encoder")

    def open_runner(_self, record, _threads):
        if record.component == "encoder":
            return encoder
        raise ArtifactError("damaged")

    monkeypatch.setattr(Bundle, "open_runner", open_runner)

    with pytest.raises(ArtifactError, match="damaged"):
        EdgeVAE.open(tiny_bundle)
    assert encoder.closed == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onx"}, "unknown format 'onx'. Choose one of: tflite, onnx"),
        ({"precision": "int3"}, "unknown precision 'int3'. Choose one of: float32, float16"),
    ],
)
def test_unknown_words_are_refused(tiny_bundle, options, message):
    with pytest.raises(BundleError, match=message):
        EdgeVAE.open(tiny_bundle, **options)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"format": "tflite"}, "tflite"),
        ({"precision": "int8"}, "int8"),
        ({"precision": "int8", "format": "onnx"}, "int8 onnx"),
    ],
)
def test_what_the_bundle_does_not_hold_is_refused(tiny_bundle, options, asked):
    with pytest.raises(
        BundleError, match=rf"holds no {asked} artifact\. It holds: encoder float32 onnx, decoder"
    ):
        EdgeVAE.open(tiny_bundle, **options)


def test_encoder_only_bundle_encodes_and_says_that_it_cannot_decode(make_tiny_bundle, images):
    with EdgeVAE.open(make_tiny_bundle(("encoder.float32.onnx",))) as vae:
        assert vae.encode(images).z_mean.shape == (5, 2)
        for call in (lambda: vae.decode([[0, 0]]), lambda: vae.generate(1), lambda: vae.decoder):
            with pytest.raises(BundleError, match=r"without its decoder.*without --component"):
                call()


def test_decoder_only_bundle_generates_and_says_that_it_cannot_encode(make_tiny_bundle, images):
    with EdgeVAE.open(make_tiny_bundle(("decoder.float32.onnx",))) as vae:
        assert vae.generate(2).shape == (2, 4, 4, 1)
        with pytest.raises(BundleError, match="without its encoder"):
            vae.encode(images)


def test_one_precision_for_both_halves_is_preferred(make_tiny_bundle):
    path = make_tiny_bundle(("encoder.float32.onnx", "encoder.int8.onnx", "decoder.int8.onnx"))

    assert used(path) == files("int8.onnx")


def test_halves_of_two_precisions_go_together_where_there_is_no_other_way(make_tiny_bundle):
    path = make_tiny_bundle(("encoder.float32.onnx", "decoder.int8.onnx"))

    assert used(path) == ("encoder.float32.onnx", "decoder.int8.onnx")


def test_artifact_with_other_output_names_is_refused(make_tiny_bundle, tiny, edit_manifest):
    path = make_tiny_bundle(
        contents={"encoder.float32.onnx": tiny.onnx("encoder", rename={"z_mean": "mu"})}
    )
    edit_manifest(path, lambda d: d["artifacts"][0]["outputs"][0].update(name="mu"))

    with pytest.raises(
        ArtifactError,
        match=r"encoder\.float32\.onnx: gives mu, z_log_var; expected z_mean, z_log_var",
    ):
        EdgeVAE.open(path)


def test_fewer_than_one_thread_is_refused(tiny_bundle):
    with pytest.raises(ArtifactError, match="threads must be 1 or more; received 0"):
        EdgeVAE.open(tiny_bundle, threads=0)


def test_block_closes_both_halves(fake_runner):
    encoder, decoder = fake_runner("encoder"), fake_runner("decoder")

    with EdgeVAE(latent_dim=2, image_shape=(4, 4, 1), encoder=encoder, decoder=decoder) as vae:
        assert (vae.encoder, vae.decoder) == (encoder, decoder)

    assert (encoder.closed, decoder.closed) == (1, 1)


def test_closed_vae_refuses_to_run_and_closes_again(tiny_bundle):
    vae = EdgeVAE.open(tiny_bundle)
    vae.close()
    vae.close()

    with pytest.raises(ArtifactError, match="the runner is closed"):
        vae.generate(1)
