"""The proof on an emulated device: what it makes of what it sees, with a fake in its place."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import device_proof, device_steps
from benchmarks.device_bundle import choose_bundle, thinned
from benchmarks.device_machine import Device, Finished, Package, UnavailableError, build_wheel
from benchmarks.device_proof import Exit, main
from benchmarks.device_report import MEANING, DeviceProof, Figure, Step, figures_of, markdown
from benchmarks.device_steps import Seen
from benchmarks.emulation import Cpu
from vae_edge import codec
from vae_edge.bundle import Bundle
from vae_edge.errors import ArtifactError, BundleError, UsageError
from vae_edge.golden import GoldenVectors
from vae_edge.manifest import MetricRecord
from vae_edge.parity import ParityReport, SubjectParity, check_parity, golden_reference
from vae_edge.terms import Format, Precision

DEVICE = ("vae-edge", "numpy", "typer", "ai-edge-litert", "onnxruntime", "protobuf")


def finished(code: int | None = 0, out: str = "", err: str = "") -> Finished:
    return Finished(code=code, out=out, err=err, seconds=1.0)


class FakeMachine:
    """Answers the commands that a device is asked to run, by the name of the command."""

    prefix = Path("/device")

    def __init__(self, **answers: Callable[..., Finished]) -> None:
        self.answers = answers
        self.asked: list[list[str]] = []

    def install(self, *_: Path) -> tuple[Package, ...]:
        return tuple(Package(name=name, version="1") for name in DEVICE)

    def run(self, _: Cpu, __: Path, *arguments: str | Path) -> Finished:
        return self.answers["run"](*map(str, arguments))

    def vae_edge(self, _: Cpu, __: Path, *arguments: str | Path) -> Finished:
        self.asked.append([str(part) for part in arguments])
        return self.answers[str(arguments[0])](*map(str, arguments))


def subject(
    value: float | None = 0.001, *, passed: bool = True, file: str | None = "decoder.int8.tflite"
) -> SubjectParity:
    metric = MetricRecord(
        output="reconstruction" if file else "elbo",
        metric="max_abs_error" if file else "elbo_change_nats",
        value=value,
        limit=0.25,
        passed=passed,
        margin=8.0,
    )
    return SubjectParity(
        subject="decoder" if file else "encoder+decoder",
        format=Format.TFLITE,
        precision=Precision.INT8,
        file=file,
        passed=passed,
        samples=4,
        runtime="ai-edge-litert 2",
        metrics=(metric,),
        failure=None,
    )


def report(*subjects: SubjectParity) -> ParityReport:
    return ParityReport(
        schema_version=3,
        model="m",
        source_sha256="a" * 64,
        reference="golden vectors",
        passed=all(each.passed for each in subjects),
        subjects=subjects,
    )


# Packages


def test_packages_of_a_device_are_listed() -> None:
    seen = device_steps.install(FakeMachine(), Path("x.whl"), Path())
    assert seen.passed
    assert seen.detail.startswith("6 packages: vae-edge 1, numpy 1,")
    assert len(seen.packages) == 6


@pytest.mark.parametrize(
    "heavy", ["tensorflow", "tensorflow_cpu", "onnx", "Keras", "tf2onnx", "scikit-learn", "scipy"]
)
def test_what_only_a_host_needs_fails(heavy: str) -> None:
    packages = [Package(name=name, version="1") for name in (*DEVICE, heavy)]
    seen = device_steps.check_packages(packages)
    assert not seen.passed
    assert seen.detail == f"came along and should not: {heavy}"


def test_a_runtime_that_did_not_come_along_fails() -> None:
    packages = [Package(name=name, version="1") for name in DEVICE if name != "onnxruntime"]
    seen = device_steps.check_packages(packages)
    assert (seen.passed, seen.detail) == (False, "not installed: onnxruntime")


# Imports


def imports(**changes: object) -> FakeMachine:
    found = {
        "machine": "aarch64",
        "python": "3.11.2",
        "child_machine": "aarch64",
        "imported": 90,
        "failed": {},
        "heavy": [],
        "origins": {"vae_edge": "/device/lib/site-packages/vae_edge/__init__.py"},
    }
    return FakeMachine(run=lambda *_: finished(out=f"noise\n{json.dumps(found | changes)}\n"))


def test_imports_from_the_wheel_pass() -> None:
    seen = device_steps.check_imports(imports(), Cpu.A76, Path())
    assert seen.passed
    assert seen.detail.startswith("90 modules on aarch64, Python 3.11.2")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"failed": {"vae_edge.x": "ImportError: y"}}, "not imported: vae_edge.x (ImportError: y)"),
        ({"heavy": ["onnx"]}, "imported along: onnx"),
        ({"origins": {"vae_edge": "/checkout/vae_edge/__init__.py"}}, "not from the wheel: /ch"),
        ({"machine": "x86_64"}, "ran on x86_64"),
        ({"child_machine": "x86_64"}, "a process that it started ran on x86_64"),
        ({"child_machine": ""}, "a process that it started ran on nothing"),
    ],
)
def test_imports_that_prove_nothing_fail(change: dict[str, object], said: str) -> None:
    seen = device_steps.check_imports(imports(**change), Cpu.A76, Path())
    assert not seen.passed
    assert said in seen.detail


def test_a_python_that_does_not_start_fails_with_its_last_words() -> None:
    machine = FakeMachine(run=lambda *_: finished(139, err="qemu: uncaught signal 11"))
    seen = device_steps.check_imports(machine, Cpu.A76, Path())
    assert (seen.passed, seen.detail) == (False, "exit code 139: qemu: uncaught signal 11")


# Doctor


@pytest.mark.parametrize(
    ("done", "passed"),
    [
        (finished(0, "aarch64, 64-bit; ai-edge-litert ok 2; onnxruntime ok 1"), True),
        (finished(0, "x86_64, 64-bit; ai-edge-litert ok 2; onnxruntime ok 1"), False),
        (finished(2, err="no runtime"), False),
    ],
)
def test_doctor(done: Finished, passed: bool) -> None:
    machine = FakeMachine(doctor=lambda *_: done)
    assert device_steps.check_doctor(machine, Cpu.A72, Path()).passed is passed


# Parity


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def answer_parity(bundle: Bundle, **changes: object) -> Callable[..., Finished]:
    def answer(*arguments: str) -> Finished:
        wanted = Format(arguments[arguments.index("--format") + 1])
        subjects = [
            replace(subject(file=record.file), format=wanted, **changes)
            for record in bundle.select(formats=(wanted,))
        ]
        code = 0 if all(each.passed for each in subjects) else 1
        return finished(code, f"{json.dumps(codec.encode(report(*subjects)))}\n")

    return answer


def test_parity_asks_for_every_format_and_counts_every_artifact(bundle: Bundle) -> None:
    machine = FakeMachine(parity=answer_parity(bundle))
    seen = device_steps.check_parity(machine, Cpu.A76, Path(), bundle, 2)
    assert seen.passed
    assert {each.file for each in seen.subjects} == {r.file for r in bundle.manifest.artifacts}
    assert seen.detail.startswith(f"{len(bundle.manifest.artifacts)} artifacts and 0 pairs passed")
    formats = {str(record.format) for record in bundle.manifest.artifacts}
    assert {asked[asked.index("--format") + 1] for asked in machine.asked} == formats


def test_an_artifact_that_left_the_keras_model_fails_by_name(bundle: Bundle) -> None:
    machine = FakeMachine(parity=answer_parity(bundle, passed=False))
    seen = device_steps.check_parity(machine, Cpu.A76, Path(), bundle, 1)
    assert not seen.passed
    assert seen.detail.startswith("not the Keras model any more: decoder int8")
    assert seen.subjects


def test_an_artifact_that_was_passed_over_fails(bundle: Bundle) -> None:
    machine = FakeMachine(
        parity=lambda *_: finished(0, json.dumps(codec.encode(report(subject(file="other")))))
    )
    seen = device_steps.check_parity(machine, Cpu.A76, Path(), bundle, 1)
    assert not seen.passed
    assert "not checked: " in seen.detail


def test_a_bundle_that_fails_on_the_host_says_nothing_of_a_device(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = json.dumps(codec.encode(report(subject(passed=False))))
    monkeypatch.setattr(device_steps, "_on_host", lambda *_: finished(1, bad))
    with pytest.raises(UsageError, match=r"decoder int8 tflite.*--images"):
        device_steps.host_parity(bundle, Path())


@pytest.mark.parametrize(
    "done", [finished(2, err="error: no"), finished(0, ""), finished(0, "{}"), finished(None)]
)
def test_parity_without_a_report_fails(bundle: Bundle, done: Finished) -> None:
    machine = FakeMachine(parity=lambda *_: done)
    seen = device_steps.check_parity(machine, Cpu.A76, Path(), bundle, 1)
    assert not seen.passed
    assert seen.detail.startswith("vae-edge parity: ")


def test_fewer_golden_vectors_judge_the_same_way(
    bundle: Bundle, tmp_path: Path, fake_bundle_runners: Callable[..., None]
) -> None:
    whole = GoldenVectors.from_bytes(bundle.read(bundle.manifest.golden), "golden.npz")
    smaller = thinned(bundle, 2, tmp_path / "thin")
    kept = GoldenVectors.from_bytes(smaller.read(smaller.manifest.golden), "golden.npz")
    assert np.array_equal(kept.image, whole.image[:2])
    # z_mean of two images, a sample of the first one's posterior, two samples of the prior.
    images, sampled = len(whole.image), len(whole.epsilon)
    rows = [0, 1, images, images + sampled, images + sampled + 1]
    assert np.array_equal(kept.z, whole.z[rows])
    assert np.array_equal(kept.reconstruction, whole.reconstruction[rows])
    assert np.array_equal(kept.edge_image, whole.edge_image)
    assert Bundle.open(smaller.path).manifest.artifacts == bundle.manifest.artifacts
    fake_bundle_runners()
    judged = check_parity(smaller, golden_reference(smaller))
    assert judged.passed
    assert [s.samples for s in judged.subjects] == [2, 5, 2]


def test_a_bundle_with_few_golden_vectors_stays_as_it_is(bundle: Bundle, tmp_path: Path) -> None:
    assert thinned(bundle, 1000, tmp_path / "thin") is bundle
    assert not (tmp_path / "thin").exists()


def test_the_bundle_that_was_named_comes_before_quickstarts(bundle: Bundle, tmp_path: Path) -> None:
    assert choose_bundle(None, tmp_path, bundle.path).path == bundle.path
    assert choose_bundle(bundle.path, tmp_path, tmp_path / "none").path == bundle.path
    with pytest.raises(BundleError):
        choose_bundle(tmp_path / "none", tmp_path, bundle.path)


# Generate


def draw(levels: np.ndarray | None) -> FakeMachine:
    def generate(*arguments: str) -> Finished:
        if levels is not None:
            Image.fromarray(levels.astype(np.uint8)).save(arguments[arguments.index("--out") + 1])
        return finished()

    return FakeMachine(generate=generate)


# 4 x 4 images of 4 x 4 pixels, with a line of one pixel between them.
SHEET = (19, 19)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture of the host's: it has no part in what is judged."""
    monkeypatch.setattr(device_steps, "_on_host", lambda *_: finished(2))


@pytest.mark.usefixtures("alone")
def test_a_picture_with_something_in_it_passes(bundle: Bundle, tmp_path: Path) -> None:
    levels = np.zeros(SHEET)
    levels[5, 5] = 200
    seen = device_steps.check_picture(draw(levels), Cpu.A76, tmp_path, bundle)
    assert seen.passed
    assert seen.detail == "16 images, 19 x 19 pixels, grey levels span 200 of 255"


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("levels", "said"),
    [
        (np.full(SHEET, 128), "blank: its grey levels span 0 of 255"),
        (np.eye(20) * 255, "20 x 20 pixels; expected 19 x 19"),
        (None, "exit code 0, and no generated-a76.png"),
    ],
    ids=["blank", "size", "none"],
)
def test_a_picture_that_shows_nothing_fails(
    bundle: Bundle, tmp_path: Path, levels: np.ndarray | None, said: str
) -> None:
    seen = device_steps.check_picture(draw(levels), Cpu.A76, tmp_path, bundle)
    assert (seen.passed, seen.detail) == (False, said)


# Benchmark


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = SimpleNamespace(
        environment=SimpleNamespace(emulated=True),
        machine="Raspberry Pi 5 (emulated), 2 cores",
        warnings=(SimpleNamespace(code="emulated"),),
        candidates=(1, 2),
    )
    monkeypatch.setattr(device_steps, "read_report", lambda text, where: found)
    return found


def answer_benchmark(printed: str, code: int = 1) -> FakeMachine:
    def answer(*arguments: str) -> Finished:
        Path(arguments[arguments.index("--out") + 1]).write_text("{}")
        return finished(code, printed)

    return FakeMachine(benchmark=answer)


MARKED = "Latency of m, under emulation: NOT the latency on a device\n emulated us  p95 us\n"


@pytest.mark.usefixtures("measured")
def test_a_benchmark_that_says_that_it_is_emulated_passes(bundle: Bundle, tmp_path: Path) -> None:
    machine = answer_benchmark(MARKED)
    seen = device_steps.check_benchmark(machine, Cpu.A76, tmp_path, bundle)
    assert seen.passed
    assert seen.printed == MARKED
    assert "--require-quiet" in machine.asked[0]


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("printed", "code", "said"),
    [
        (MARKED, 0, "--require-quiet has to end with 1 under emulation"),
        (MARKED.replace("emulated us", "median us"), 1, "the table's head"),
        (MARKED.replace("under emulation", "measured here"), 1, "the table's title"),
        (MARKED + "Best choice for this device", 1, "a choice that rests on times"),
    ],
)
def test_figures_that_look_like_a_devices_fail(
    bundle: Bundle, tmp_path: Path, printed: str, code: int, said: str
) -> None:
    seen = device_steps.check_benchmark(answer_benchmark(printed, code), Cpu.A76, tmp_path, bundle)
    assert not seen.passed
    assert said in seen.detail


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"environment": SimpleNamespace(emulated=False)}, "its JSON"),
        ({"machine": "Raspberry Pi 5, 4 cores"}, "the machine's line"),
        ({"warnings": ()}, "its warnings"),
    ],
)
def test_a_report_that_looks_like_a_devices_fails(
    bundle: Bundle, tmp_path: Path, measured: SimpleNamespace, change: dict[str, object], said: str
) -> None:
    vars(measured).update(change)
    seen = device_steps.check_benchmark(answer_benchmark(MARKED), Cpu.A76, tmp_path, bundle)
    assert (seen.passed, seen.detail) == (False, f"not marked as emulated: {said}")


# Tables


def test_errors_of_devices_stand_beside_the_hosts() -> None:
    pair = subject(0.01, file=None)
    figures = figures_of(
        report(subject(0.001), pair),
        {Cpu.A76: (subject(0.002), pair), Cpu.A72: (subject(0.5, passed=False), pair)},
    )
    assert figures[0] == Figure(
        artifact="decoder.int8.tflite",
        output="reconstruction",
        metric="max_abs_error",
        host=0.001,
        device={"a76": 0.002, "a72": 0.5},
        limit=0.25,
        passed=False,
    )
    assert (figures[1].artifact, figures[1].passed) == ("encoder+decoder int8 tflite", True)


PROOF = DeviceProof(
    schema_version=1,
    meaning=MEANING,
    emulated=True,
    passed=True,
    emulator="qemu-aarch64 version 7.2",
    host="x86_64",
    wheel="vae_edge-1-py3-none-any.whl",
    bundle="build/mnist-vae",
    golden_images=4,
    packages=(Package(name="numpy", version="2"),),
    steps=(
        Step(name="install", cpu=None, passed=True, detail="1 package", seconds=2.0),
        Step(name="doctor", cpu=Cpu.A76, passed=True, detail="a | b", seconds=2.0),
    ),
    figures=figures_of(report(subject(0.0011)), {Cpu.A76: (subject(None),)}),
    benchmark={"a76": "emulated us"},
)


def test_tables() -> None:
    head, _, row, blank, *rest = markdown(PROOF).splitlines()
    assert head == (
        "| artifact | output | metric | x86_64 | arm64, emulated Cortex-A76 | limit |  |"
    )
    assert row == (
        "| decoder.int8.tflite | reconstruction | max_abs_error | 0.0011 | - | 0.25 | passed |"
    )
    assert blank == ""
    assert rest[2] == "| install | once | passed | 1 package |"
    assert rest[3] == "| doctor | emulated Cortex-A76 | passed | a / b |"
    assert "No Raspberry Pi took part." in rest[-1]


# The command


@pytest.fixture
def proving(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> Iterator[SimpleNamespace]:
    """The command with a fake in the place of the device; `proof` or `failure` is what it gives."""
    state = SimpleNamespace(proof=PROOF, failure=None, bundle=bundle.path, options=None)

    def prove(_: object, given: Bundle, **options: object) -> DeviceProof:
        state.options = {"bundle": given.path, **options}
        if state.failure:
            raise state.failure
        return state.proof

    monkeypatch.setattr(device_proof, "prove", prove)
    monkeypatch.setattr(device_proof.Device, "prepare", lambda root, qemu: None)
    return state


def test_command_proves_and_writes_json(
    proving: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "proof.json"
    arguments = (tmp_path, proving.bundle, "--json", out, "--cpu", "a72", "--images", "1000")
    assert main([*map(str, arguments)]) == Exit.PROVEN == 0
    assert "| decoder.int8.tflite |" in capsys.readouterr().out
    assert codec.decode(DeviceProof, json.loads(out.read_text())) == PROOF
    assert proving.options["cpus"] == (Cpu.A72,)
    assert proving.options["bundle"] == proving.bundle


def test_a_step_that_failed_is_exit_1_and_named(
    proving: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = replace(PROOF.steps[1], passed=False, detail="no runtime")
    proving.proof = replace(PROOF, passed=False, steps=(PROOF.steps[0], wrong))
    assert main([str(tmp_path), str(proving.bundle)]) == Exit.FAILED == 1
    printed = capsys.readouterr()
    assert "| doctor | emulated Cortex-A76 | FAILED | no runtime |" in printed.out
    assert printed.err == "failed: doctor on an emulated Cortex-A76: no runtime\n"


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (ArtifactError("no wheel."), 1, "failed: no wheel."),
        (UnavailableError("no mirror."), 3, "not proven, and not refuted: no mirror."),
        (BundleError("no bundle."), 2, "error: no bundle."),
    ],
)
def test_what_ends_it_early(
    proving: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    failure: Exception,
    code: int,
    said: str,
) -> None:
    proving.failure = failure
    assert main([str(tmp_path), str(proving.bundle)]) == code
    assert capsys.readouterr().err == said + "\n"


def test_a_folder_to_keep_things_in_is_not_overwritten(
    proving: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), str(proving.bundle), "--keep", str(proving.bundle)]) == Exit.USAGE
    assert "is not empty" in capsys.readouterr().err


def test_without_an_emulator_nothing_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "root"), "--qemu", "no-such-qemu"]) == Exit.UNAVAILABLE == 3
    assert "apt-get install qemu-user" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


# The device


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What `setup.sh --system` leaves, without content."""
    root = tmp_path / "a root"
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "share" / "python-wheels").mkdir(parents=True)
    (root / "usr" / "share" / "python-wheels" / "pip-23-py3-none-any.whl").touch()
    (root / "usr" / "bin" / "python3.11").touch()
    (root / "usr" / "bin" / "python3").symlink_to("python3.11")
    (root / ".system").touch()
    return root


def test_python_runs_in_the_emulator_under_its_own_name(root: Path, tmp_path: Path) -> None:
    """So that `sys.executable` is the program that starts the emulator again."""
    qemu = script(tmp_path / "qemu", 'for part; do echo "$part"; done; env\n')
    device = Device.prepare(root, str(qemu))
    done = device.run(Cpu.A72, tmp_path, "-c", "a b")
    program = root / "device" / "bin" / "python-a72"
    assert done.out.splitlines()[:9] == [
        *("-cpu", "cortex-a72", "-L", str(root / "views" / "a72"), "-0", str(program)),
        *(str(root / "usr" / "bin" / "python3.11"), "-c", "a b"),
    ]
    assert f"HOME={tmp_path}" in done.out
    assert "PYTHONPATH" not in done.out
    assert "asimddp" not in (root / "views" / "a72" / "proc" / "cpuinfo").read_text()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("WARNING: Retrying (Retry(total=4)) after connection broken by 'X'", UnavailableError),
        ("ERROR: No matching distribution found for numpy>=99 (from versions: 2.0)", ArtifactError),
    ],
)
def test_an_index_that_is_away_is_told_from_a_package_that_does_not_fit(
    root: Path, tmp_path: Path, words: str, kind: type[Exception], wheel: Path
) -> None:
    qemu = script(tmp_path / "qemu", f'echo "{words}" >&2; exit 1\n')
    with pytest.raises(kind, match="pip install failed on the emulated device"):
        Device.prepare(root, str(qemu)).install(wheel, tmp_path)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    import zipfile

    path = tmp_path / "vae_edge-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vae_edge-1.dist-info/METADATA", "Name: vae-edge\nRequires-Dist: numpy\n")
    return path


def test_dependencies_are_kept_where_the_wheel_asks_for_the_same(
    root: Path, tmp_path: Path, wheel: Path
) -> None:
    log = tmp_path / "log"
    qemu = script(tmp_path / "qemu", f'echo "$*" >> "{log}"\n')
    device = Device.prepare(root, str(qemu))
    device.install(wheel, tmp_path)
    old = device.site / "old"
    old.touch()
    device.install(wheel, tmp_path)
    first, _, second, check = log.read_text().splitlines()
    assert "--no-deps" not in first
    assert "--no-deps --force-reinstall" in second
    assert check.endswith("/pip check")
    assert old.exists()
    (root / "device" / "requirements.json").write_text("others")
    device.install(wheel, tmp_path)
    assert not old.exists()


def test_a_system_that_cannot_be_had_is_no_failure(tmp_path: Path, monkeypatch) -> None:
    script(tmp_path / "bin" / "apt-get", "echo 'E: Failed to fetch' >&2; exit 100\n")
    script(tmp_path / "bin" / "dpkg-deb", "")
    qemu = script(tmp_path / "qemu", "")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(UnavailableError, match=r"cannot be prepared: .*E: Failed to fetch"):
        Device.prepare(tmp_path / "root", str(qemu))


def test_what_is_no_checkout_has_no_wheel(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"has no pyproject\.toml"):
        build_wheel(tmp_path / "wheel", tmp_path)


# The real one, where it was prepared


def _prepared() -> Path | None:
    named = os.environ.get("VAE_EDGE_ARM64_ROOT")
    root = Path(named) if named else Path(__file__).parents[2] / "build" / "arm64"
    ready = (root / "device" / "requirements.json").exists() and shutil.which("qemu-aarch64")
    return root if ready else None


@pytest.mark.slow
@pytest.mark.skipif(
    _prepared() is None,
    reason="no emulated device: run python -m benchmarks.device_proof build/arm64",
)
def test_the_installed_package_imports_on_the_emulated_device(tmp_path: Path) -> None:
    root = _prepared()
    assert root is not None
    seen: Seen = device_steps.check_imports(Device.prepare(root), Cpu.A76, tmp_path)
    assert seen.passed, seen.detail
