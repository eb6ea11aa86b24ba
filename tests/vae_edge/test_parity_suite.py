"""The pytest suite that users run, in processes of its own: that is how a plugin is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import vae_edge
from vae_edge.errors import BundleError, ParityError
from vae_edge.parity_checks import ParityCheck
from vae_edge.parity_suite import judging, suite
from vae_edge.parity_suite.judging import judge_bundle, named
from vae_edge.parity_suite.suite import ParityOptions, ParitySuite

SUITE = ("--pyargs", "vae_edge.parity_suite")


@dataclass(frozen=True)
class Session:
    code: int
    out: str

    def verdicts(self):
        """Verdicts by the names of the tests."""
        lines = [line for line in self.out.splitlines() if "::test_parity[" in line]
        return {
            line.partition("::test_parity[")[2].partition("]")[0]: line.split()[1]
            for line in lines
            if not line.startswith(("FAILED", "ERROR"))
        }


@pytest.fixture
def project(tmp_path):
    """Somebody's project, with pytest to be run in it."""
    root = tmp_path / "project"
    root.mkdir()

    def run(*arguments, conftest="", config="[pytest]\n", test=""):
        for name, text in (
            ("conftest.py", conftest),
            ("pytest.ini", config),
            ("test_own.py", test),
        ):
            if text:
                (root / name).write_text(text)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-v",
                "-W",
                "error",
                "-p",
                "no:hypothesispytest",
                *map(str, arguments),
            ],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Session(ran.returncode, ran.stdout + ran.stderr)

    return run


def test_sound_bundle_passes_check_by_check_whatever_a_project_configures(project, tiny_bundle):
    session = project(
        *SUITE,
        f"--bundle={tiny_bundle}",
        config="[pytest]\npython_files = check_*.py\npython_functions = check_*\n",
        conftest="import pytest\n@pytest.fixture(autouse=True)\ndef broken():\n    raise OSError\n",
    )

    assert session.code == 0, session.out
    verdicts = session.verdicts()
    assert {
        "encoder.float32.onnx-z_mean.rmse",
        "decoder.float32.onnx-reconstruction.max_abs_error",
        "encoder+decoder.float32.onnx-reconstruction.psnr_db",
    } <= set(verdicts)
    assert set(verdicts.values()) == {"PASSED"}


def test_drifted_artifact_fails_in_its_own_checks_with_reasons(project, make_tiny_bundle, tiny):
    drifted = {"decoder.float32.onnx": tiny.perturbed(0.5).onnx("decoder")}
    session = project(*SUITE, f"--bundle={make_tiny_bundle(contents=drifted)}")

    assert session.code == 1, session.out
    verdicts = session.verdicts()
    assert verdicts["encoder.float32.onnx-z_mean.rmse"] == "PASSED"
    assert verdicts["decoder.float32.onnx-reconstruction.rmse"] == "FAILED"
    assert verdicts["encoder+decoder.float32.onnx-reconstruction.rmse"] == "FAILED"
    assert "decoder.float32.onnx: reconstruction rmse is 0." in session.out
    assert "the tightest limit that would have passed is 0." in session.out
    assert "Traceback" not in session.out


def test_artifact_that_does_not_load_fails(project, tiny_bundle, plant):
    plant(tiny_bundle, "encoder.float32.onnx", b"not an artifact")
    session = project(*SUITE, f"--bundle={tiny_bundle}")

    assert session.code == 1, session.out
    verdicts = session.verdicts()
    assert verdicts["encoder.float32.onnx-comparison"] == "FAILED"
    assert verdicts["decoder.float32.onnx-reconstruction.rmse"] == "PASSED"


def test_without_a_bundle_it_fails_and_says_what_to_give(project):
    session = project(*SUITE)

    assert session.code == 2, session.out
    assert "no bundle was given. Add --bundle=DIR" in session.out
    assert "Traceback" not in session.out


def test_bundles_that_cannot_be_opened_fail_and_are_all_named(project, tiny_bundle):
    (tiny_bundle / "decoder.float32.onnx").write_bytes(b"damaged")
    session = project(*SUITE, "--bundle=nowhere", f"--bundle={tiny_bundle}")

    assert session.code == 2, session.out
    assert "nowhere: does not exist; expected a bundle directory" in session.out
    assert "decoder.float32.onnx: has 7 bytes" in session.out
    assert not session.verdicts()


def test_several_bundles_are_told_apart(project, make_tiny_bundle, tiny):
    sound = make_tiny_bundle(name="sound")
    drifted = make_tiny_bundle(
        name="drifted",
        contents={"decoder.float32.onnx": tiny.perturbed(0.5).onnx("decoder")},
    )
    session = project(*SUITE, "--bundle=../sound", "--bundle=../drifted", f"--bundle={sound}")

    assert drifted.is_dir()
    assert session.code == 1, session.out
    verdicts = session.verdicts()
    assert verdicts["../sound-decoder.float32.onnx-reconstruction.rmse"] == "PASSED"
    assert verdicts["../drifted-decoder.float32.onnx-reconstruction.rmse"] == "FAILED"
    assert not [name for name in verdicts if not name.startswith(("../sound-", "../drifted-"))]


def test_tolerances_of_a_file_are_used(project, tiny_bundle):
    (tiny_bundle.parent / "project" / "limits.toml").write_text(
        "[float32.z_mean]\nrmse = 1e-30\n", encoding="utf-8"
    )
    session = project(*SUITE, f"--bundle={tiny_bundle}", "--parity-tolerances=limits.toml")

    assert session.code == 1, session.out
    failed = [name for name, verdict in session.verdicts().items() if verdict != "PASSED"]
    assert failed == ["encoder.float32.onnx-z_mean.rmse"]


def test_bundle_is_no_directory_of_tests(project, tiny_bundle):
    """Its conftest.py would run with the rights of whoever checks somebody else's bundle."""
    (tiny_bundle / "conftest.py").write_text("raise SystemExit('conftest.py was run')")

    session = project(*SUITE, "--bundle", tiny_bundle)

    assert session.code == 0, session.out


def test_bundle_that_pytest_would_write_into_is_refused(project, tiny_bundle):
    session = project(*SUITE, f"--bundle={tiny_bundle}", f"--rootdir={tiny_bundle}")

    assert session.code == 4, session.out
    assert "takes the bundle" in session.out
    assert not (tiny_bundle / ".pytest_cache").exists()


OWN_OPTION = """
import pytest
def pytest_addoption(parser):
    parser.addoption("--bundle", action="store_true")
    parser.addoption("--parity-tolerances")
"""


def test_option_that_a_project_has_already_stays_its_own(project, tiny_bundle):
    session = project("--bundle", "test_own.py", conftest=OWN_OPTION, test="def test_own(): pass\n")
    assert session.code == 0, session.out

    session = project(*SUITE, conftest=OWN_OPTION)
    assert session.code == 2, session.out
    assert "Add --vae-edge-bundle=DIR" in session.out

    session = project(*SUITE, f"--vae-edge-bundle={tiny_bundle}", conftest=OWN_OPTION)
    assert session.code == 0, session.out
    assert session.verdicts()["encoder.float32.onnx-z_mean.rmse"] == "PASSED"


def test_other_projects_runs_import_nothing_of_vae_edge(project):
    session = project(
        test="import sys\ndef test_own(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('pytest_vae_edge')\n"
        "    assert not {'vae_edge', 'numpy'} & set(sys.modules)\n"
    )

    assert session.code == 0, session.out
    assert "1 passed" in session.out


def test_suite_is_not_collected_unless_it_is_asked_for(project, tmp_path):
    package = Path(vae_edge.__file__).parent
    other = tmp_path / "project" / "test_parity_suite_of_their_own.py"
    other.write_text("def test_own(): pass\n")

    session = project(package, other)

    assert session.code == 0, session.out
    assert "1 passed" in session.out


def check(subject="encoder.int8.tflite", name="z_mean.rmse", passed=True):
    return ParityCheck(subject=subject, name=name, passed=passed, compared=True, message="found")


def test_names_of_one_bundle_have_no_prefix():
    (only,) = named({"build/mine": (check(),)})

    assert only == ("encoder.int8.tflite-z_mean.rmse", check())


@pytest.fixture
def suite_of(tmp_path):
    def make(*bundles):
        return ParitySuite(
            ParityOptions(
                bundles=bundles,
                option="--bundle",
                tolerances=None,
                model=None,
                directory=tmp_path,
            )
        )

    return make


def test_each_bundle_is_run_once_in_a_session(suite_of, monkeypatch, tmp_path):
    ran = []

    def judge(path, **options):
        assert options == {"tolerances": None, "model": None}
        ran.append(path)
        return (check(),)

    monkeypatch.setattr(suite, "judge_bundle", judge)
    session = suite_of("a", "./b", "b", tmp_path / "a")

    names = [name for name, _ in session.checks()]
    assert list(session.checks()) == list(session.checks())

    assert ran == [tmp_path / "a", tmp_path / "b"]
    assert names == ["a-encoder.int8.tflite-z_mean.rmse", "./b-encoder.int8.tflite-z_mean.rmse"]


def test_bundle_that_failed_to_open_fails_again(suite_of):
    session = suite_of("nowhere")

    for _ in range(2):
        with pytest.raises(pytest.Collector.CollectError, match="nowhere: does not exist"):
            list(session.checks())


def test_what_has_no_runtime_is_skipped_and_the_rest_is_tested(project, make_tiny_bundle):
    bundle = make_tiny_bundle(("encoder.float32.onnx", "encoder.float32.tflite"))
    session = project(
        *SUITE,
        "-rs",
        f"--bundle={bundle}",
        conftest="import sys\nsys.modules['ai_edge_litert'] = None\n"
        "sys.modules['tflite_runtime'] = None\n",
    )

    assert session.code == 0, session.out
    verdicts = session.verdicts()
    assert verdicts.pop("encoder.float32.tflite-comparison") == "SKIPPED"
    assert verdicts["encoder.float32.onnx-z_mean.rmse"] == "PASSED"
    assert set(verdicts.values()) == {"PASSED"}
    assert "not run: Running a .tflite artifact needs LiteRT" in session.out


def test_report_without_a_check_is_an_error_and_no_success(tiny_bundle, monkeypatch):
    monkeypatch.setattr(judging, "all_checks", lambda report: ())

    with pytest.raises(ParityError, match="nothing was compared"):
        judge_bundle(tiny_bundle)


def test_missing_bundle_is_an_error(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        judge_bundle(tmp_path / "nowhere")


@pytest.fixture
def keras_model(monkeypatch, fake_runner, tiny):
    """Make every .keras file a model; `install(sha256, latent_dim)`."""

    def install(source_sha256, latent_dim=2, function=None):
        vae = SimpleNamespace(
            source_sha256=source_sha256, image_shape=tiny.image_shape, latent_dim=latent_dim
        )
        monkeypatch.setattr(judging, "load_keras_vae", lambda path: vae)
        monkeypatch.setattr(
            judging,
            "open_keras_runner",
            lambda vae, half: fake_runner(half, function if half == "decoder" else None),
        )

    return install


def test_live_model_is_compared_with_where_it_is_given(tiny_bundle, keras_model, tiny):
    keras_model("ab" * 32)
    assert all(check.passed for check in judge_bundle(tiny_bundle, model=Path("m.keras")))

    live = tiny.perturbed(0.5)
    keras_model("ab" * 32, function=lambda z: {"reconstruction": live.decode(z)})
    verdicts = {
        f"{check.subject}-{check.name}": check.passed
        for check in judge_bundle(tiny_bundle, model=Path("m.keras"))
    }
    assert verdicts["encoder.float32.onnx-z_mean.rmse"]
    assert not verdicts["decoder.float32.onnx-reconstruction.rmse"]


def test_live_model_of_another_file_is_warned_of(tiny_bundle, keras_model):
    keras_model("cd" * 32)

    with pytest.warns(UserWarning, match=r"m\.keras is not the file that .* was exported from"):
        judge_bundle(tiny_bundle, model=Path("m.keras"))


def test_live_model_of_another_shape_is_refused(tiny_bundle, keras_model):
    keras_model("ab" * 32, latent_dim=3)

    with pytest.raises(ParityError, match=r"m\.keras: takes images of .* has latent_dim 3"):
        judge_bundle(tiny_bundle, model=Path("m.keras"))
