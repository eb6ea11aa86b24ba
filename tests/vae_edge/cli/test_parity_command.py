from __future__ import annotations

import json

import numpy as np
import pytest

import vae_edge.keras_vae
import vae_edge.parity
from vae_edge.bundle import Bundle
from vae_edge.errors import ModelError, RuntimeMissingError
from vae_edge.terms import Format


@pytest.fixture
def failing(make_tiny_bundle, tiny):
    """A bundle whose float32 decoder is off as int8 would be."""
    return make_tiny_bundle(contents={"decoder.float32.onnx": tiny.perturbed(0.01).onnx("decoder")})


@pytest.fixture
def everything_passes(tmp_path):
    """A file of limits that a decoder cannot miss."""
    path = tmp_path / "limits.toml"
    path.write_text(
        "[any.reconstruction]\nmax_abs_error = 1\nrmse = 1\npsnr_db = 0\nssim = -1\n"
        "[any.generation]\nmax_abs_error = 1\nrmse = 1\npsnr_db = 0\nssim = -1\n"
        "[any.elbo]\nloss_change_nats = 99\nelbo_change_nats = 99\n"
        "[any.edge_reconstruction]\nmax_abs_error = 1\nrmse = 1\n"
    )
    return path


class LiveModel:
    """Stands in for a loaded Keras model."""

    def __init__(self, sha256="ab" * 32, image_shape=(4, 4, 1), latent_dim=2):
        self.source_sha256, self.image_shape, self.latent_dim = sha256, image_shape, latent_dim
        self.notes = ()


@pytest.fixture
def live(monkeypatch, fake_runner):
    def install(**attributes):
        monkeypatch.setattr(
            vae_edge.keras_vae, "load_keras_vae", lambda *_: LiveModel(**attributes)
        )
        monkeypatch.setattr(
            vae_edge.keras_vae,
            "open_keras_runner",
            lambda _, component: fake_runner(str(component), batch=None),
        )

    return install


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_sound_bundle_exits_with_0(run_cli, tiny_bundle):
    ran = run_cli("parity", tiny_bundle)

    assert ran.code == 0
    assert "All 3 passed." in ran.out
    assert "Parity of tiny with golden vectors (noise)" in ran.out
    for subject in ("encoder", "decoder", "encoder+decoder"):
        assert any(row[:4] == [subject, "onnx", "float32", "passed"] for row in rows(ran.out))


def test_failed_bundle_exits_with_1_and_shows_what_failed(run_cli, failing):
    ran = run_cli("parity", failing)

    assert ran.code == 1
    assert "1 of 3 passed." in ran.out
    assert any(row[:4] == ["decoder", "onnx", "float32", "FAILED"] for row in rows(ran.out))
    assert any(row[:4] == ["encoder", "onnx", "float32", "passed"] for row in rows(ran.out))
    assert "reconstruction max_abs_error is" in ran.out
    assert "the limit 0.0001" in ran.out


@pytest.mark.parametrize("sound", [True, False])
def test_json_is_the_report(run_cli, tiny_bundle, failing, sound):
    ran = run_cli("parity", tiny_bundle if sound else failing, "--json")

    report = json.loads(ran.out)
    assert ran.code == (0 if sound else 1)
    assert report["passed"] is sound
    assert report["schema_version"] == 4
    assert [s["subject"] for s in report["subjects"]] == ["encoder", "decoder", "encoder+decoder"]
    assert report["subjects"][1]["passed"] is sound
    measured = report["subjects"][1]["metrics"]
    assert {(m["output"], m["metric"]) for m in measured} >= {
        ("reconstruction", "ssim"),
        ("generation", "psnr_db"),
        ("elbo", "loss_change_nats"),
        ("edge_reconstruction", "rmse"),
        ("repeatability", "again_error"),
    }
    for metric in measured:
        if metric["limit"] is not None and metric["margin"] is not None:
            assert metric["passed"] == (metric["margin"] >= 1)


def test_artifact_that_does_not_load_exits_with_1_and_says_why(run_cli, tiny_bundle, plant):
    plant(tiny_bundle, "decoder.float32.onnx", b"not an ONNX file")

    ran = run_cli("parity", tiny_bundle)

    assert ran.code == 1
    assert "decoder float32 onnx: decoder.float32.onnx: onnxruntime" in ran.out
    assert "cannot load it" in ran.out


def test_reason_of_a_failure_is_not_taken_for_markup(run_cli, tiny_bundle, monkeypatch):
    reason = "at [node/3] of [/graph] of [red]x"

    def check(*args, **kwargs):
        from dataclasses import replace

        report = real(*args, **kwargs)
        broken = replace(report.subjects[0], passed=False, failure=reason)
        return replace(report, passed=False, subjects=(broken, *report.subjects[1:]))

    real = vae_edge.parity.check_parity
    monkeypatch.setattr(vae_edge.parity, "check_parity", check)
    ran = run_cli("parity", tiny_bundle)

    assert ran.code == 1
    assert reason in ran.out


@pytest.mark.parametrize("name", ["[red]evil[/blue]", "[/]"])
def test_names_in_a_manifest_are_not_taken_for_markup(run_cli, tiny_bundle, edit_manifest, name):
    edit_manifest(tiny_bundle, lambda d: d["model"].update(name=name))

    ran = run_cli("parity", tiny_bundle)

    assert ran.code == 0
    assert f"Parity of {name} with" in ran.out


def test_tolerance_can_let_pass_and_wins_over_the_file(run_cli, failing, everything_passes):
    wide = ("--tolerances", str(everything_passes))

    assert run_cli("parity", failing, *wide).code == 0
    assert run_cli("parity", failing, *wide, "--tolerance", "reconstruction.rmse=1e-9").code == 1
    assert (
        run_cli("parity", failing, *wide, "--tolerance", "int8:reconstruction.rmse=1e-9").code == 0
    )


def test_format_and_precision_select(run_cli, make_tiny_bundle):
    path = make_tiny_bundle(
        (
            "encoder.float32.onnx",
            "encoder.int8.onnx",
            "encoder.dynamic.onnx",
            "encoder.float32.tflite",
        )
    )

    def checked(*options):
        report = json.loads(run_cli("parity", path, "--json", *options).out)
        return [(s["format"], s["precision"]) for s in report["subjects"]]

    assert len(checked()) == 4
    assert checked("--format", "tflite") == [("tflite", "float32")]
    assert checked("--precision", "int8", "--precision", "dynamic") == [
        ("onnx", "dynamic"),
        ("onnx", "int8"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "tflite"), "no artifact matches, so nothing was compared"),
        (("--tolerance", "z_mean.rmse"), "expected [PRECISION:]OUTPUT.METRIC=LIMIT"),
        (("--tolerance", "z_mean.rmse=inf"), "expected [PRECISION:]OUTPUT.METRIC=LIMIT"),
        (("--tolerance", "z.rmse=1"), "unknown output 'z'"),
        (("--tolerances", "none.toml"), "none.toml: cannot be read"),
        (("--data", "none.npy"), "none.npy"),
        (("--tolerance", "int3:z_mean.rmse=1"), "unknown precision 'int3'"),
    ],
)
def test_what_cannot_be_checked_exits_with_2(run_cli, tiny_bundle, options, message):
    ran = run_cli("parity", tiny_bundle, *options)

    assert ran.code == 2
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert message in " ".join(ran.err.splitlines()[-1].split())


@pytest.fixture
def mixed(make_tiny_bundle, monkeypatch):
    """A bundle of both formats, on a machine without a runtime for one of them."""
    opened = Bundle.open_runner

    def open_runner(self, record, threads=1):
        if record.format is Format.TFLITE:
            raise RuntimeMissingError("A .tflite artifact needs LiteRT: pip install it.")
        return opened(self, record, threads)

    monkeypatch.setattr(Bundle, "open_runner", open_runner)
    return make_tiny_bundle(
        ("encoder.float32.onnx", "encoder.float32.tflite", "encoder.int8.tflite")
    )


def test_part_that_could_not_run_exits_with_2_after_the_verdict_on_the_rest(
    run_cli, mixed, tmp_path
):
    ran = run_cli("parity", mixed, "--junit", tmp_path / "p.xml")

    assert ran.code == 2
    assert any(row[:4] == ["encoder", "onnx", "float32", "passed"] for row in rows(ran.out))
    assert [row[:5] for row in rows(ran.out) if "tflite" in row] == [
        ["encoder", "tflite", "float32", "not", "run"],
        ["encoder", "tflite", "int8", "not", "run"],
    ]
    assert ran.out.splitlines()[-1] == "All 1 that ran passed; 2 artifacts were not run."
    assert ran.err.splitlines()[-1] == (
        "error: 2 artifacts were not run, so nothing is known of them. A .tflite artifact needs "
        "LiteRT: pip install it. To ask for the others alone: --format onnx."
    )
    assert (tmp_path / "p.xml").read_text().count("<skipped") == 2


def test_report_has_what_was_not_run(run_cli, mixed):
    ran = run_cli("parity", mixed, "--json")

    report = json.loads(ran.out)
    assert ran.code == 2
    assert report["passed"] is False
    assert [s["passed"] for s in report["subjects"]] == [True]
    assert [left["file"] for left in report["not_run"]] == [
        "encoder.float32.tflite",
        "encoder.int8.tflite",
    ]
    assert "pip install it" in report["not_run"][0]["reason"]


def test_what_can_run_may_be_asked_for_alone(run_cli, mixed):
    ran = run_cli("parity", mixed, "--format", "onnx")

    assert ran.code == 0
    assert "All 1 passed." in ran.out


def test_failure_counts_more_than_what_was_not_run(run_cli, mixed):
    ran = run_cli("parity", mixed, "--tolerance", "z_mean.cosine_similarity=1.1")

    assert ran.code == 1
    assert "0 of 1 that ran passed; 2 artifacts were not run." in ran.out
    assert "warning: 2 artifacts were not run" in ran.err


@pytest.mark.usefixtures("mixed")
def test_own_images_are_judged_beside_what_can_run(run_cli, make_tiny_bundle, tmp_path):
    path = make_tiny_bundle(
        ("encoder.float32.tflite", "encoder.float32.onnx", "decoder.float32.onnx")
    )
    np.save(tmp_path / "mine.npy", np.zeros((3, 4, 4, 1), np.uint8))

    ran = run_cli("parity", path, "--data", tmp_path / "mine.npy", "--format", "onnx")

    assert ran.code == 0
    assert "note: compared with encoder.float32.onnx and decoder.float32.onnx" in ran.err


def test_own_images_of_another_size_are_fitted_where_asked(run_cli, tiny_bundle, tmp_path):
    path = tmp_path / "mine.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (3, 9, 7), np.uint8))

    refused = run_cli("parity", tiny_bundle, "--data", path)
    fitted = run_cli("parity", tiny_bundle, "--data", path, "--fit", "crop")

    assert refused.code == 2
    assert "--fit resize, crop or pad" in refused.err
    assert fitted.code == 0
    assert "--fit says" in run_cli("parity", tiny_bundle, "--fit", "crop").error


def test_damaged_bundle_exits_with_2(run_cli, tiny_bundle):
    (tiny_bundle / "decoder.float32.onnx").unlink()

    assert "decoder.float32.onnx: is missing" in run_cli("parity", tiny_bundle).error


def test_nan_from_an_artifact_exits_with_1(run_cli, tiny_bundle, fake_bundle_runners):
    fake_bundle_runners(
        decoder=lambda z: {"reconstruction": np.full((len(z), 4, 4, 1), np.nan, np.float32)}
    )

    ran = run_cli("parity", tiny_bundle, "--json")

    assert ran.code == 1
    assert "values are not finite" in json.loads(ran.out)["subjects"][1]["failure"]


def test_identical_outputs_are_null_in_json_and_inf_in_the_table(
    run_cli, tiny_bundle, fake_bundle_runners
):
    fake_bundle_runners()

    report = json.loads(run_cli("parity", tiny_bundle, "--json").out)
    psnr = [m for m in report["subjects"][1]["metrics"] if m["metric"] == "psnr_db"]
    assert [m["value"] for m in psnr] == [None, None]  # of reconstruction and generation
    lines = rows(run_cli("parity", tiny_bundle, "--all").out)
    assert ["reconstruction", "psnr_db", "inf", "100"] in [line[-4:] for line in lines]


def test_live_model_can_be_the_reference(run_cli, tiny_bundle, live):
    live()

    ran = run_cli("parity", tiny_bundle, "--reference", "model.keras", "--json")

    assert ran.code == 0
    assert json.loads(ran.out)["reference"] == "live model: encoder.fake, decoder.fake"
    assert "note:" not in ran.err


def test_live_model_other_than_the_exported_one_is_noted(run_cli, tiny_bundle, live):
    live(sha256="cd" * 32)

    ran = run_cli("parity", tiny_bundle, "--reference", "model.keras")

    assert ran.code == 0
    assert "note: model.keras is not the file that the bundle was exported from" in ran.err


def test_another_model_altogether_is_said_once_and_not_a_hundred_times(
    run_cli, make_tiny_bundle, tiny, live
):
    path = make_tiny_bundle(
        contents={
            "encoder.float32.onnx": tiny.perturbed(1.0).onnx("encoder"),
            "decoder.float32.onnx": tiny.perturbed(1.0).onnx("decoder"),
        }
    )
    live(sha256="cd" * 32)

    ran = run_cli("parity", path, "--reference", "model.keras")
    full = run_cli("parity", path, "--reference", "model.keras", "--all")

    assert ran.code == full.code == 1
    assert ran.err.count("SHA-256 differ") == 1
    assert "it is another model, and this verdict says nothing of the export" in ran.err
    told = [line for line in ran.out.splitlines() if " onnx: " in line]
    assert [line.split()[0] for line in told] == ["encoder", "decoder", "encoder+decoder"]
    assert all(line.endswith("more (--all)") for line in told)
    assert len([line for line in full.out.splitlines() if " onnx: " in line]) > 20


def test_only_the_worst_reasons_are_named_unless_all_are_asked_for(run_cli, make_tiny_bundle, tiny):
    path = make_tiny_bundle(contents={"decoder.float32.onnx": tiny.perturbed(1.0).onnx("decoder")})

    def told(*options):
        lines = run_cli("parity", path, *options).out.splitlines()
        return [line for line in lines if line.startswith("decoder float32 onnx: ")]

    short, full = told(), told("--all")
    assert len(short) == 5
    assert short[-1].endswith(f"; ... and {len(full) - 5} more (--all)")
    assert {line.partition("; ... and")[0] for line in short} < set(full)


@pytest.mark.parametrize("shape", [{"image_shape": (8, 8, 1)}, {"latent_dim": 3}])
def test_live_model_of_another_shape_is_refused(run_cli, tiny_bundle, live, shape):
    live(**shape)

    ran = run_cli("parity", tiny_bundle, "--reference", "model.keras")

    assert ran.code == 2
    assert "Give the model that the bundle was exported from." in ran.err


def test_live_model_that_cannot_be_loaded_is_refused(run_cli, tiny_bundle, monkeypatch):
    def refuse(*_):
        raise ModelError("model.keras: not a model.")

    monkeypatch.setattr(vae_edge.keras_vae, "load_keras_vae", refuse)

    ran = run_cli("parity", tiny_bundle, "--reference", "model.keras")

    assert ran.code == 2
    assert "error: model.keras: not a model." in ran.err


def test_interrupt_leaves_with_130_and_says_that_nothing_was_decided(
    run_cli, tiny_bundle, monkeypatch
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(vae_edge.parity, "check_parity", interrupt)
    ran = run_cli("parity", tiny_bundle)

    assert ran.code == 130
    assert ran.out == ""
    assert "Interrupted. Nothing was decided." in ran.err
    assert "Traceback" not in ran.err


def test_pair_of_different_precisions_is_shown_as_such(run_cli, make_tiny_bundle):
    path = make_tiny_bundle(("encoder.int8.onnx", "decoder.dynamic.onnx"))

    ran = run_cli("parity", path, "--tolerance", "int8:reconstruction.rmse=0")

    assert ran.code == 1
    assert "encoder+decoder onnx int8+dynamic FAILED" in " ".join(ran.out.split())
    assert "encoder+decoder int8+dynamic onnx: reconstruction rmse is" in ran.out
    assert "2 of 3 passed." in ran.out


def test_every_figure_is_shown_and_explained_where_asked(run_cli, tiny_bundle):
    from vae_edge.comparison import ALL_METRICS

    plain, full = run_cli("parity", tiny_bundle).out, run_cli("parity", tiny_bundle, "--all").out

    assert "max_shift_sigmas" not in plain
    assert "max_shift_sigmas" in full
    for name, metric in ALL_METRICS.items():
        assert name in full
        assert " ".join(metric.meaning.split()[:3]) in full


def test_a_verdict_is_said_in_the_models_own_words(run_cli, make_tiny_bundle):
    path = make_tiny_bundle(("encoder.int8.onnx", "decoder.int8.onnx"))

    out = run_cli("parity", path).out

    assert "z_mean moves" in out
    assert "sigma" in out
    assert "levels" in out
    assert "nats" in out


def test_junit_is_written_beside_the_report(run_cli, failing, tmp_path):
    from xml.etree import ElementTree

    path = tmp_path / "ci" / "parity.xml"
    ran = run_cli("parity", failing, "--junit", path)

    assert ran.code == 1
    root = ElementTree.fromstring(path.read_text())
    cases = list(root.iter("testcase"))
    assert len(cases) > 20
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    assert "reconstruction.max_abs_error" in failed


def test_junit_that_cannot_be_written_is_said(run_cli, tiny_bundle, tmp_path):
    (tmp_path / "file").write_text("")

    ran = run_cli("parity", tiny_bundle, "--junit", tmp_path / "file" / "x.xml")

    # The verdict is shown all the same.
    assert ran.code == 2
    assert "All 3 passed." in ran.out
    assert "--junit" in ran.err
    assert "name a file elsewhere" in ran.err


def test_junit_that_cannot_be_written_does_not_hide_a_failure(run_cli, failing, tmp_path):
    (tmp_path / "file").write_text("")

    ran = run_cli("parity", failing, "--junit", tmp_path / "file" / "x.xml")

    assert ran.code == 1
    assert "1 of 3 passed." in ran.out
    assert "warning: --junit" in ran.err


def test_own_images_are_judged_beside_the_most_exact_artifacts(
    run_cli, make_tiny_bundle, tiny, tmp_path
):
    off = tiny.perturbed(0.5)
    path = make_tiny_bundle(
        ("encoder.float32.onnx", "decoder.float32.onnx", "decoder.int8.onnx"),
        contents={"decoder.int8.onnx": off.onnx("decoder")},
    )
    images = tmp_path / "mine.npy"
    np.save(images, np.random.default_rng(0).random((7, 4, 4, 1), np.float32))

    ran = run_cli("parity", path, "--data", images, "--json")

    report = json.loads(ran.out)
    assert ran.code == 1
    assert str(images) in report["reference"]
    verdicts = {s["file"]: (s["passed"], s["samples"]) for s in report["subjects"] if s["file"]}
    assert verdicts == {
        "encoder.float32.onnx": (True, 7),
        "decoder.float32.onnx": (True, 7 + 4 + 3),
        "decoder.int8.onnx": (False, 7 + 4 + 3),
    }
    assert "note: compared with encoder.float32.onnx and decoder.float32.onnx" in ran.err


def test_a_failure_says_whose_error_it_is(run_cli, make_tiny_bundle, tiny):
    path = make_tiny_bundle(
        ("decoder.float32.onnx", "decoder.int8.onnx"),
        contents={"decoder.int8.onnx": tiny.perturbed(0.5).onnx("decoder")},
    )

    ran = run_cli("parity", path)

    assert ran.code == 1
    assert "conversion to float32 made" in ran.out
    assert "would have passed" in ran.out


def test_what_cannot_be_explained_does_not_change_the_verdict(run_cli, failing):
    """The tiny bundle's model is not known, so that there are no layers to look at."""
    ran = run_cli("parity", failing, "--explain")

    assert ran.code == 1
    assert "1 of 3 passed." in ran.out
    assert "note: --explain:" in ran.err
