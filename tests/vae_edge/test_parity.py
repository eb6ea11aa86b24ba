from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vae_edge.bundle import Bundle
from vae_edge.comparison import METRICS_OF, compare_decoder
from vae_edge.errors import (
    ArtifactError,
    BundleError,
    ParityError,
    RuntimeMissingError,
)
from vae_edge.manifest import MetricRecord, ParityRecord
from vae_edge.parity import (
    PAIR,
    SubjectParity,
    check_parity,
    golden_reference,
    live_reference,
    pairs,
)
from vae_edge.preprocessing import PLAIN_PICTURES, Preprocessing, Scaling
from vae_edge.terms import DataKind, Format, Likelihood, Precision
from vae_edge.tolerances import limits_for, parse_override


@pytest.fixture
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


@pytest.fixture
def judge(bundle):
    """Check the tiny bundle; gives the subjects by name."""

    def check(*overrides, **options):
        report = check_parity(
            bundle,
            options.pop("reference", None) or golden_reference(bundle),
            overrides=tuple(map(parse_override, overrides)),
            **options,
        )
        assert report.passed == all(subject.passed for subject in report.subjects)
        return {subject.subject: subject for subject in report.subjects}

    return check


@pytest.fixture
def encode(tiny):
    return lambda rows: dict(zip(("z_mean", "z_log_var"), tiny.encode(rows), strict=True))


@pytest.fixture
def decode(tiny):
    return lambda rows: {"reconstruction": tiny.decode(rows)}


def metric(subject, output, name):
    (found,) = [m for m in subject.metrics if (m.output, m.metric) == (output, name)]
    return found


def failed_metrics(subject):
    return {(m.output, m.metric) for m in subject.metrics if not m.passed}


def test_sound_bundle_passes_in_every_part(bundle):
    report = check_parity(bundle, golden_reference(bundle))

    assert report.passed
    assert [s.subject for s in report.subjects] == ["encoder", "decoder", PAIR]
    assert [s.file for s in report.subjects] == [
        "encoder.float32.onnx",
        "decoder.float32.onnx",
        None,
    ]
    assert [s.samples for s in report.subjects] == [5, 11, 5]
    assert all(s.failure is None for s in report.subjects)
    assert all(s.runtime.startswith("onnxruntime ") for s in report.subjects)


def test_report_says_what_was_compared_with_what(bundle):
    report = check_parity(bundle, golden_reference(bundle))

    assert (report.model, report.source_sha256) == ("tiny", "ab" * 32)
    assert report.reference == "golden vectors (noise)"
    assert report.schema_version == 4


def test_every_metric_of_every_output_is_recorded_with_its_limit(judge):
    subjects = judge()

    def measured(subject):
        return {(m.output, m.metric) for m in subjects[subject].metrics}

    def all_of(*outputs):
        return {(output, name) for output in outputs for name in METRICS_OF[output]}

    # The tiny encoder's images have no labels, and its batch is fixed.
    fixed = {("repeatability", "batch_error")}
    encoder = all_of(
        "z_mean", "z_log_var", "posterior", "edge_z_mean", "edge_z_log_var", "repeatability"
    )
    assert measured("encoder") == encoder - fixed - {("posterior", "neighbour_agreement")}
    decoder = all_of("reconstruction", "generation", "edge_reconstruction", "repeatability")
    assert measured("decoder") == (decoder | {("elbo", "loss_change_nats")}) - fixed
    assert measured(PAIR) == all_of("reconstruction", "elbo")
    assert metric(subjects["decoder"], "reconstruction", "max_abs_error").limit == 1e-4


def test_record_is_the_form_that_the_manifest_keeps():
    metrics = (MetricRecord(output="z_mean", metric="rmse", value=0.5, limit=1.0, passed=True),)
    subject = SubjectParity(
        subject="encoder",
        format=Format.ONNX,
        precision=Precision.INT8,
        file="encoder.int8.onnx",
        passed=True,
        samples=5,
        runtime="r 1",
        metrics=metrics,
        failure=None,
    )

    assert subject.record() == ParityRecord(passed=True, samples=5, runtime="r 1", metrics=metrics)


def test_latents_are_judged_in_shares_of_their_span(judge, fake_bundle_runners, encode, bundle):
    span = float(np.ptp(golden_reference(bundle).outputs["z_mean"]))

    def shifted(rows):
        outputs = encode(rows)
        return {**outputs, "z_mean": outputs["z_mean"] + np.float32(0.5)}

    fake_bundle_runners(encoder=shifted)
    encoder = judge()["encoder"]

    assert metric(encoder, "z_mean", "max_abs_error").value == pytest.approx(0.5 / span, rel=1e-5)
    assert metric(encoder, "z_log_var", "max_abs_error").value < 1e-6
    assert not encoder.passed


def test_images_are_judged_in_grey_levels(judge, fake_bundle_runners, decode):
    fake_bundle_runners(
        decoder=lambda z: {"reconstruction": decode(z)["reconstruction"] + np.float32(0.01)}
    )
    decoder = judge()["decoder"]

    assert metric(decoder, "reconstruction", "max_abs_error").value == pytest.approx(0.01, rel=1e-4)
    assert metric(decoder, "reconstruction", "psnr_db").value == pytest.approx(40, abs=0.01)


def test_constant_reference_is_judged_without_dividing_by_its_span(bundle, fake_bundle_runners):
    golden = golden_reference(bundle)
    flat = {**golden.outputs, "z_mean": np.ones_like(golden.outputs["z_mean"])}
    reference = replace(golden, source="flat", outputs=flat)
    fake_bundle_runners(
        encoder=lambda rows: {
            "z_mean": np.full((len(rows), 2), 1.25, np.float32),
            "z_log_var": np.resize(golden.outputs["z_log_var"], (len(rows), 2)),
        }
    )

    encoder = check_parity(bundle, reference).subjects[0]

    assert metric(encoder, "z_mean", "max_abs_error").value == 0.25


def test_identical_values_have_an_infinite_psnr_which_passes(judge, fake_bundle_runners):
    fake_bundle_runners()
    subjects = judge()

    assert metric(subjects["decoder"], "reconstruction", "psnr_db").value is None
    assert metric(subjects["decoder"], "reconstruction", "psnr_db").passed
    assert all(subject.passed for subject in subjects.values())


def test_one_metric_out_of_bounds_fails_the_artifact(judge, fake_bundle_runners, decode):
    def one_pixel_off(z):
        values = decode(z)["reconstruction"]
        if len(z) == 11:  # the decoder alone, not the pair
            values.flat[3] += np.float32(2e-4)
        return {"reconstruction": values}

    fake_bundle_runners(decoder=one_pixel_off)
    # Typical error 2e-4 / sqrt(128) = 1.8e-5 is allowed here, and so only the largest one fails.
    subjects = judge(
        "reconstruction.rmse=2e-5", "reconstruction.psnr_db=90", "repeatability.batch_error=1"
    )

    assert failed_metrics(subjects["decoder"]) == {("reconstruction", "max_abs_error")}
    assert not subjects["decoder"].passed
    assert subjects["encoder"].passed
    assert subjects[PAIR].passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_candidate_fails(judge, fake_bundle_runners, decode, bad):
    def poisoned(z):
        values = decode(z)["reconstruction"]
        values[-1, 2, 3, 0] = bad
        return {"reconstruction": values}

    fake_bundle_runners(decoder=poisoned)
    decoder = judge()["decoder"]

    assert not decoder.passed
    assert decoder.metrics == ()
    assert decoder.failure == (
        "decoder.float32.onnx: 'reconstruction': 1 of 176 candidate values are not finite "
        "(first at [10, 2, 3, 0])."
    )


def test_wide_limits_do_not_let_nan_pass(judge, fake_bundle_runners, decode):
    fake_bundle_runners(
        decoder=lambda z: {"reconstruction": np.full_like(decode(z)["reconstruction"], np.nan)}
    )
    subjects = judge(
        "reconstruction.max_abs_error=1e9",
        "reconstruction.rmse=1e9",
        "reconstruction.cosine_similarity=-9",
        "reconstruction.psnr_db=-999",
    )

    assert not subjects["decoder"].passed
    assert not subjects[PAIR].passed


def test_wrong_shape_fails(judge, fake_bundle_runners, decode):
    fake_bundle_runners(decoder=lambda z: {"reconstruction": decode(z)["reconstruction"][:, :2]})

    assert "shape is (11, 2, 4, 1); expected (11, 4, 4, 1)" in judge()["decoder"].failure


def test_missing_output_fails(tiny, make_tiny_bundle, edit_manifest):
    path = make_tiny_bundle(
        contents={"encoder.float32.onnx": tiny.onnx("encoder", rename={"z_mean": "mu"})}
    )
    edit_manifest(path, lambda d: d["artifacts"][0]["outputs"][0].update(name="mu"))
    bundle = Bundle.open(path)

    encoder, decoder = check_parity(bundle, golden_reference(bundle)).subjects

    assert not encoder.passed
    assert encoder.failure == "encoder.float32.onnx: the output 'z_mean' is missing."
    assert decoder.passed


def test_swapped_heads_fail(judge, fake_bundle_runners, tiny):
    fake_bundle_runners(
        encoder=lambda rows: dict(zip(("z_log_var", "z_mean"), tiny.encode(rows), strict=True))
    )
    subjects = judge()

    assert not subjects["encoder"].passed
    assert not subjects[PAIR].passed
    assert subjects["decoder"].passed


def test_artifact_that_does_not_load_is_a_failed_verdict(tiny_bundle, plant):
    plant(tiny_bundle, "decoder.float32.onnx", b"not an ONNX file")
    bundle = Bundle.open(tiny_bundle)

    report = check_parity(bundle, golden_reference(bundle))

    assert not report.passed
    encoder, decoder = report.subjects  # and no pair
    assert encoder.passed
    assert "cannot load it" in decoder.failure
    assert (decoder.runtime, decoder.metrics) == ("none", ())


def test_missing_runtime_is_not_a_verdict(bundle, monkeypatch):
    def missing(*_):
        raise RuntimeMissingError("no runtime")

    monkeypatch.setattr(Bundle, "open_runner", missing)

    with pytest.raises(RuntimeMissingError, match="no runtime"):
        check_parity(bundle, golden_reference(bundle))


@pytest.fixture
def without(monkeypatch, fake_bundle_runners):
    """Take runtimes away, by the format that they run."""

    def take(*formats):
        fake_bundle_runners()
        opened = Bundle.open_runner

        def open_runner(self, record, threads=1):
            if record.format in formats:
                raise RuntimeMissingError(f"{record.format}: pip install it.")
            return opened(self, record, threads)

        monkeypatch.setattr(Bundle, "open_runner", open_runner)

    return take


MIXED = ("encoder.float32.onnx", "decoder.float32.onnx", "encoder.int8.tflite")


def test_what_has_no_runtime_is_listed_where_the_rest_is_judged(make_tiny_bundle, without):
    bundle = Bundle.open(make_tiny_bundle(MIXED))
    without(Format.TFLITE)
    seen = []

    report = check_parity(
        bundle, golden_reference(bundle), partial=True, on_subject=lambda name: seen.append(name)
    )

    assert [s.subject for s in report.subjects] == ["encoder", "decoder", PAIR]
    assert all(subject.passed for subject in report.subjects)
    assert len(seen) == 3
    (left,) = report.not_run
    assert (left.subject, left.file) == ("encoder", "encoder.int8.tflite")
    assert (left.format, left.precision) == (Format.TFLITE, Precision.INT8)
    assert left.reason == "tflite: pip install it."
    # Nothing failed, and yet not everything was found to be sound.
    assert not report.failed
    assert not report.passed
    assert check_parity(
        bundle, golden_reference(bundle), partial=True, formats=(Format.ONNX,)
    ).passed


def test_one_missing_runtime_is_an_error_unless_a_part_will_do(make_tiny_bundle, without):
    """An export must not publish what it could not prove."""
    bundle = Bundle.open(make_tiny_bundle(MIXED))
    without(Format.TFLITE)

    with pytest.raises(RuntimeMissingError, match=r"^tflite: pip install it\.$"):
        check_parity(bundle, golden_reference(bundle))


def test_all_missing_runtimes_are_named_once_each(make_tiny_bundle, without):
    bundle = Bundle.open(make_tiny_bundle(MIXED))
    without(Format.TFLITE, Format.ONNX)

    with pytest.raises(
        RuntimeMissingError, match=r"^tflite: pip install it\. onnx: pip install it\.$"
    ):
        check_parity(bundle, golden_reference(bundle), partial=True)


@pytest.mark.parametrize(
    "selection", [{"formats": (Format.TFLITE,)}, {"precisions": (Precision.INT8,)}]
)
def test_empty_selection_could_not_run(bundle, selection):
    with pytest.raises(
        ParityError, match=r"nothing was compared\. It holds: encoder float32 onnx, decoder float32"
    ):
        check_parity(bundle, golden_reference(bundle), **selection)


def test_pair_decodes_the_encoders_own_z_mean(judge, fake_bundle_runners, encode, decode):
    """A wrong encoder and a decoder that is right on golden latents: only the pair shows both."""
    seen = []

    def shifted(rows):
        outputs = encode(rows)
        return {**outputs, "z_mean": outputs["z_mean"] + np.float32(0.25)}

    def watching(z):
        seen.append(z)
        return decode(z)

    fake_bundle_runners(encoder=shifted, decoder=watching)
    subjects = judge()

    assert subjects["decoder"].passed
    assert not subjects[PAIR].passed
    np.testing.assert_array_equal(seen[-1][:5], seen[0][:5] + np.float32(0.25))


def test_pair_is_left_out_where_one_half_is_missing(make_tiny_bundle):
    files = ("encoder.float32.onnx", "encoder.int8.onnx", "decoder.float32.tflite")
    bundle = Bundle.open(make_tiny_bundle(files))

    report = check_parity(bundle, golden_reference(bundle))

    assert [s.file for s in report.subjects] == [
        "decoder.float32.tflite",
        "encoder.float32.onnx",
        "encoder.int8.onnx",
    ]


def test_halves_of_different_precisions_are_a_pair_where_no_equal_ones_are(make_tiny_bundle):
    files = ("encoder.int8.onnx", "decoder.float16.onnx")
    bundle = Bundle.open(make_tiny_bundle(files))

    report = check_parity(bundle, golden_reference(bundle))

    assert [(s.subject, s.precisions) for s in report.subjects] == [
        ("decoder", "float16"),
        ("encoder", "int8"),
        (PAIR, "int8+float16"),
    ]
    pair = report.subjects[-1]
    assert (pair.precision, pair.encoder_precision) == (Precision.FLOAT16, Precision.INT8)
    assert (pair.file, pair.samples) == (None, 5)
    assert [s.encoder_precision for s in report.subjects[:2]] == [None, None]


def test_equal_precisions_are_no_mixed_pair(make_tiny_bundle):
    files = ("encoder.int8.onnx", "decoder.int8.onnx", "decoder.float32.onnx")
    bundle = Bundle.open(make_tiny_bundle(files))

    report = check_parity(bundle, golden_reference(bundle))

    assert [s.precisions for s in report.subjects if s.subject == PAIR] == ["int8"]


def test_mixed_pair_is_of_the_most_exact_halves(make_tiny_bundle):
    files = ("encoder.int8.onnx", "encoder.dynamic.onnx", "decoder.float16.onnx")
    bundle = Bundle.open(make_tiny_bundle(files))

    ((encoder, decoder),) = pairs(bundle.manifest.artifacts)

    assert (encoder.file, decoder.file) == ("encoder.dynamic.onnx", "decoder.float16.onnx")


@pytest.mark.parametrize(
    ("files", "sound"),
    [
        (("encoder.int8.onnx", "decoder.float16.onnx"), {"encoder", PAIR}),
        (("encoder.float16.onnx", "decoder.int8.onnx"), {"encoder", "decoder", PAIR}),
        (("encoder.float16.onnx", "decoder.float32.onnx"), {"encoder"}),
    ],
)
def test_mixed_pair_is_held_to_the_looser_limits(
    make_tiny_bundle, fake_bundle_runners, decode, files, sound
):
    """Off by 0.004 everywhere is 48 dB: int8 allows 38, float16 asks for 66, float32 for 100."""
    bundle = Bundle.open(make_tiny_bundle(files))
    fake_bundle_runners(
        decoder=lambda z: {"reconstruction": decode(z)["reconstruction"] + np.float32(0.004)}
    )

    report = check_parity(bundle, golden_reference(bundle))

    assert {s.subject for s in report.subjects if s.passed} == sound
    assert len(report.subjects) == 3
    (pair,) = [s for s in report.subjects if s.subject == PAIR]
    assert metric(pair, "reconstruction", "psnr_db").value == pytest.approx(47.96, abs=0.01)


def test_override_of_the_looser_precision_reaches_the_mixed_pair(make_tiny_bundle):
    bundle = Bundle.open(make_tiny_bundle(("encoder.int8.onnx", "decoder.float16.onnx")))
    overrides = tuple(
        parse_override(f"{scope}reconstruction.{limit}")
        for scope, limit in (("float16:", "psnr_db=20"), ("int8:", "psnr_db=999"))
    )

    report = check_parity(bundle, golden_reference(bundle), overrides=overrides)

    (pair,) = [s for s in report.subjects if s.subject == PAIR]
    assert metric(pair, "reconstruction", "psnr_db").limit == 999
    assert not pair.passed


def test_selection_and_order_of_groups(make_tiny_bundle):
    files = tuple(
        f"{half}.{rest}"
        for half in ("decoder", "encoder")
        for rest in ("int8.onnx", "float32.onnx", "float32.tflite")
    )
    bundle = Bundle.open(make_tiny_bundle(files))
    told = []

    report = check_parity(
        bundle,
        golden_reference(bundle),
        precisions=(Precision.FLOAT32, Precision.INT8),
        on_subject=told.append,
    )

    assert report.passed
    assert told == [
        f"{half} {group}"
        for group in ("float32 tflite", "float32 onnx", "int8 onnx")
        for half in ("decoder", "encoder", PAIR)
    ]


def test_precision_decides_the_limits(make_tiny_bundle, tiny):
    """Weights off by 0.1% are within what int8 may do, and outside float32."""
    off = tiny.perturbed(0.001)
    bundle = Bundle.open(
        make_tiny_bundle(
            ("encoder.int8.onnx", "encoder.float32.onnx"),
            contents={"encoder.float32.onnx": off.onnx("encoder")},
        )
    )

    verdicts = {
        str(s.precision): s.passed for s in check_parity(bundle, golden_reference(bundle)).subjects
    }

    assert verdicts == {"int8": True, "float32": False}


def test_override_can_fail_and_can_rescue(judge, fake_bundle_runners, decode):
    fake_bundle_runners(
        decoder=lambda z: {"reconstruction": decode(z)["reconstruction"] + np.float32(5e-4)}
    )
    rescue = (
        "reconstruction.max_abs_error=1e-3",
        "reconstruction.rmse=1e-3",
        "reconstruction.psnr_db=60",
        "reconstruction.ssim=0.9",
        "generation.max_abs_error=1e-3",
        "generation.rmse=1e-3",
        "generation.psnr_db=60",
        "generation.ssim=0.9",
        "edge_reconstruction.rmse=1e-3",
        "elbo.loss_change_nats=1",
    )

    assert not judge()["decoder"].passed
    assert judge(*rescue)["decoder"].passed
    assert not judge(*rescue, "reconstruction.rmse=1e-4")["decoder"].passed
    assert judge(*rescue, "int8:reconstruction.rmse=1e-4")["decoder"].passed
    assert not judge(*rescue, "float32:reconstruction.rmse=1e-4")["decoder"].passed


def test_overridden_limit_is_the_one_recorded(judge):
    assert metric(judge("z_mean.rmse=0.5")["encoder"], "z_mean", "rmse").limit == 0.5


def test_threads_reach_the_runner(bundle, monkeypatch):
    asked = []
    real = Bundle.open_runner

    def open_runner(self, record, threads=1):
        asked.append(threads)
        return real(self, record, threads)

    monkeypatch.setattr(Bundle, "open_runner", open_runner)
    check_parity(bundle, golden_reference(bundle), threads=3)

    # Each half, itself with another number of threads, and the pair.
    assert asked == [3, 1, 3, 1, 3]


def test_reference_that_is_not_finite_fails(bundle):
    golden = golden_reference(bundle)
    outputs = {**golden.outputs, "z_log_var": golden.outputs["z_log_var"] * np.float32(np.nan)}
    reference = replace(golden, source="nan", outputs=outputs)

    encoder = check_parity(bundle, reference).subjects[0]

    assert "10 of 10 reference values are not finite" in encoder.failure


def test_empty_reference_fails(bundle):
    golden = golden_reference(bundle)
    nothing = {name: values[:0] for name, values in golden.outputs.items()}
    reference = replace(
        golden, source="empty", images=golden.images[:0], z=golden.z[:0], outputs=nothing
    )

    report = check_parity(bundle, reference)

    assert not report.passed
    assert all("there is nothing to compare" in s.failure for s in report.subjects)


def test_golden_reference_gives_the_golden_vectors(bundle, tiny):
    golden, reference = tiny.golden(), golden_reference(bundle)

    np.testing.assert_array_equal(reference.images, golden.images(PLAIN_PICTURES))
    np.testing.assert_array_equal(reference.z, golden.z)
    for name in ("z_mean", "z_log_var", "reconstruction"):
        np.testing.assert_array_equal(reference.outputs[name], getattr(golden, name))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["model"].update(image_shape=[2, 8, 1]),
        lambda d: d["model"].update(latent_dim=3),
        lambda d: d["golden"].update(images=4),
        lambda d: d["golden"].update(latents=9),
    ],
)
def test_golden_vectors_of_another_model_are_refused(tiny_bundle, edit_manifest, change):
    edit_manifest(tiny_bundle, change)

    with pytest.raises(ParityError, match=r"golden\.npz: holds vectors of another model"):
        golden_reference(Bundle.open(tiny_bundle))


def test_live_reference_runs_the_live_model_on_the_golden_inputs(bundle, fake_runner, tiny):
    live = tiny.perturbed(0.5)
    encoder = fake_runner(
        "encoder",
        lambda rows: dict(zip(("z_mean", "z_log_var"), live.encode(rows), strict=True)),
        batch=4,
    )
    decoder = fake_runner("decoder", lambda z: {"reconstruction": live.decode(z)}, batch=None)

    reference = live_reference(bundle, encoder, decoder)

    golden = golden_reference(bundle)
    np.testing.assert_array_equal(reference.z, golden.z)
    np.testing.assert_array_equal(reference.outputs["z_mean"], live.encode(golden.images)[0])
    np.testing.assert_array_equal(reference.outputs["reconstruction"], live.decode(golden.z))
    assert reference.source == "live model: encoder.fake, decoder.fake"


def test_live_reference_that_drifted_from_the_bundle_fails(bundle, fake_runner, tiny):
    live = tiny.perturbed(0.5)
    decoder = fake_runner("decoder", lambda z: {"reconstruction": live.decode(z)}, batch=None)

    report = check_parity(bundle, live_reference(bundle, fake_runner("encoder"), decoder))

    verdicts = {s.subject: s.passed for s in report.subjects}
    assert verdicts["encoder"]
    assert not verdicts["decoder"]


def test_live_reference_of_the_same_model_passes_in_every_part(bundle, fake_runner):
    live = live_reference(bundle, fake_runner("encoder"), fake_runner("decoder"))

    assert check_parity(bundle, live).passed


def test_boundary_mismatch_is_the_bundles_fault_and_no_verdict(tiny_bundle, edit_manifest):
    edit_manifest(tiny_bundle, lambda d: d["artifacts"][0]["inputs"][0].update(name="picture"))
    bundle = Bundle.open(tiny_bundle)

    with pytest.raises(BundleError, match="not those in the manifest"):
        check_parity(bundle, golden_reference(bundle))


def test_failure_while_running_is_a_failed_verdict(judge, fake_bundle_runners):
    def refuse(_):
        raise ArtifactError("x.onnx: onnxruntime cannot run it")

    fake_bundle_runners(decoder=refuse)
    subjects = judge()

    assert subjects["encoder"].passed
    assert not subjects["decoder"].passed
    assert subjects["decoder"].failure == "x.onnx: onnxruntime cannot run it"
    assert PAIR not in subjects


def _limits(reference, precision=Precision.INT8):
    return {
        (output, metric): limit
        for output in ("posterior", "elbo")
        for metric, limit in limits_for(precision, output, scale=reference.scale).items()
    }


def test_limits_in_nats_follow_the_size_of_the_model(bundle):
    small = golden_reference(bundle)
    # 32 x 32 pixels of even odds, each log 2 nats; 64 latents at 2, each 2 nats of KL.
    latents, pixels = 64, (32, 32, 1)
    z_mean, z_log_var = np.full((4, latents), 2, np.float32), np.zeros((4, latents), np.float32)
    large = replace(
        small,
        images=np.full((4, *pixels), 0.5, np.float32),
        epsilon=np.zeros((2, latents), np.float32),
        z=np.zeros((10, latents), np.float32),
        outputs={
            "z_mean": z_mean,
            "z_log_var": z_log_var,
            "reconstruction": np.full((10, *pixels), 0.5, np.float32),
        },
    )

    before, after = _limits(small), _limits(large)
    grown = {key: after[key] / before[key] for key in before if after[key] != before[key]}

    loss, kl, of_latents = 1024 * np.log(2) / 230, 128 / 10, 64 / 8
    assert grown == pytest.approx(
        {
            ("posterior", "mean_kl_nats"): of_latents,
            ("posterior", "max_kl_nats"): of_latents,
            ("posterior", "kl_term_change_nats"): kl,
            ("elbo", "kl_term_change_nats"): kl,
            ("elbo", "loss_change_nats"): loss,
            ("elbo", "elbo_change_nats"): loss,
        }
    )


def test_gaussian_loss_may_change_by_what_the_allowed_noise_costs(bundle):
    # Values from -4 to 4: noise of 0.012 of that span is 0.096, and costs half its square each.
    gaussian = replace(
        golden_reference(bundle),
        preprocessing=Preprocessing(
            kind=DataKind.ARRAY,
            input=None,
            output=Scaling.between(-4, 4),
            likelihood=Likelihood.GAUSSIAN,
        ),
        images=np.zeros((5, 100, 50), np.float32),
        outputs={
            **golden_reference(bundle).outputs,
            "reconstruction": np.zeros((11, 100, 50), np.float32),
        },
    )
    # One off in every value is half a nat each: 2,500 of them.
    lossy = replace(gaussian, images=np.ones((5, 100, 50), np.float32))

    assert _limits(gaussian)["elbo", "loss_change_nats"] == pytest.approx(5000 / 2 * 0.096**2)
    float32 = _limits(lossy, Precision.FLOAT32)["elbo", "loss_change_nats"]
    assert float32 == pytest.approx(0.001 * 2500 / 230)


def test_limits_of_the_user_s_own_stay_as_they_are(bundle):
    override = parse_override("int8:elbo.loss_change_nats=0.01")
    scale = golden_reference(bundle).scale

    limits = limits_for(Precision.INT8, "elbo", [override], scale=scale)

    assert limits["loss_change_nats"] == 0.01


def test_errors_are_shares_of_the_range_of_pictures(bundle):
    reference, centred = golden_reference(bundle), Scaling.between(-1, 1)
    made, edges = reference.outputs["reconstruction"], reference.edge_outputs
    other = replace(
        reference,
        preprocessing=replace(
            PLAIN_PICTURES, input=centred, output=centred, likelihood=Likelihood.GAUSSIAN
        ),
        outputs={**reference.outputs, "reconstruction": centred.apply(made)},
        edge_outputs={**edges, "reconstruction": centred.apply(edges["reconstruction"])},
    )

    figures = {
        (f.output, f.metric): f.value
        for f in compare_decoder(
            other,
            {"reconstruction": centred.apply(made + np.float32(0.01))},
            {"reconstruction": centred.apply(edges["reconstruction"])},
        )
    }

    # A hundredth of black to white, whatever black and white are.
    assert figures["reconstruction", "max_abs_error"] == pytest.approx(0.01, rel=1e-3)
    assert figures["generation", "psnr_db"] == pytest.approx(40, abs=0.01)
    assert figures["edge_reconstruction", "rmse"] == pytest.approx(0, abs=1e-6)
