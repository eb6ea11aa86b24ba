from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.environment import Environment, MachineState
from benchmarks.neighbours import Neighbours
from benchmarks.plan import Selection
from benchmarks.report import (
    BenchmarkReport,
    CandidateReport,
    FitnessWarning,
    LatencyStatistics,
    Part,
    RecordedLatency,
    ReferenceRecord,
    Settings,
    SkippedGroup,
    Speedup,
    SustainedRecord,
    read_report,
)
from benchmarks.statistics import Interval
from vae_edge.bundle_writer import BundleWriter
from vae_edge.cli import main
from vae_edge.cli.benchmark_conditions import conditions
from vae_edge.cli.benchmark_sustained import parse_duration
from vae_edge.cli.benchmark_tables import with_interval
from vae_edge.errors import ArtifactError
from vae_edge.keras_vae import KerasCall
from vae_edge.manifest import (
    SCHEMA_VERSION,
    ArtifactRecord,
    CandidateRecord,
    GoldenRecord,
    LatencyRecord,
    LoweringRecord,
    Manifest,
    ModelRecord,
    QualityBudget,
    QuantizationRecord,
    RuntimeRequirement,
    SelectionRecord,
)
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.terms import Component, Format, Precision
from vae_edge.verdict import Speed, Verdict

CONTENT = b"content of a file"
BUSY = FitnessWarning(code="load", seen="It was busy.", remedy="Wait.")
ONDEMAND = FitnessWarning(code="governor", seen="The governor is 'ondemand'.", remedy="Fix it.")
SHA256 = hashlib.sha256(CONTENT).hexdigest()
STATE = MachineState(
    governor=None, clock_mhz=None, temperature_c=None, load_average=None, throttled=None
)
MODEL = ModelRecord(
    name="tiny",
    source_sha256="b" * 64,
    latent_dim=2,
    image_shape=(4, 4, 1),
    preprocessing=PLAIN_PICTURES,
)
RECORDED = LatencyRecord(
    machine="the exporting desktop",
    runtime="ai-edge-litert 2.3.0",
    threads=1,
    batch=1,
    median_ms=0.0775,
    p95_ms=0.0812,
    times_faster_than_keras=6.25,
    times_faster_than_float32=None,
)


def candidate(name: str, **changes: Any) -> CandidateReport:
    base = CandidateReport(
        name=name,
        part=Part.ENCODER,
        format=Format.TFLITE,
        precision=Precision.INT8,
        keras_call=None,
        files=("encoder.int8.tflite",),
        sha256=("a" * 64,),
        size_bytes=37_600,
        runtime="fake 1.0",
        threads=2,
        batch=1,
        loops=4,
        alone=True,
        load_ms=1.0,
        first_inference_ms=2.0,
        warmup_ns=(1e6,),
        samples_ns=(1e6, 1e6),
        latency=LatencyStatistics(median_ms=1.234, p95_ms=2.345, p99_ms=3.456, mad_ms=0.1),
        throughput_per_s=810.4,
        peak_rss_bytes=None,
        base_rss_bytes=None,
        times_faster_than_keras=Speedup(
            against="encoder keras tf.function",
            interval=Interval(value=19.5, low=18.25, high=20.75, confidence=0.95),
        ),
        times_faster_than_float32=Speedup(
            against="encoder float32 tflite",
            interval=Interval(value=1.625, low=1.5, high=1.75, confidence=0.95),
        ),
    )
    return replace(base, **changes)


KERAS = candidate(
    "encoder keras tf.function",
    format=None,
    precision=Precision.FLOAT32,
    keras_call=KerasCall.FUNCTION,
    files=(),
    size_bytes=None,
    latency=LatencyStatistics(median_ms=24.0, p95_ms=25.0, p99_ms=26.0, mad_ms=0.1),
    times_faster_than_keras=None,
    times_faster_than_float32=None,
)
REPORT = BenchmarkReport(
    schema_version=4,
    vae_edge_version="0.1.0",
    started_utc="2030-01-01T00:00:00+00:00",
    machine="a small board, 4 cores",
    model=MODEL,
    settings=Settings(threads=2, rounds=30, warmup_rounds=2, min_sample_ms=2.0, seed=0),
    environment=Environment(
        cpu_model=None,
        cores=4,
        architecture=None,
        system="Linux",
        python="3.11",
        numpy="2.0",
        emulated=False,
        before=STATE,
        after=STATE,
    ),
    reference=ReferenceRecord(measured=True, note="m.keras", sha256="b" * 64, matches_bundle=True),
    candidates=(KERAS, candidate("encoder int8 tflite")),
    skipped=(),
    warnings=(),
)
WITHOUT_KERAS = replace(
    REPORT,
    reference=ReferenceRecord(
        measured=False, note="TensorFlow is not installed", sha256=None, matches_bundle=None
    ),
    candidates=(candidate("encoder int8 tflite", times_faster_than_keras=None),),
    recorded=(
        RecordedLatency(
            file="encoder.int8.tflite",
            component=Component.ENCODER,
            format=Format.TFLITE,
            precision=Precision.INT8,
            latency=RECORDED,
        ),
    ),
)


class FakeRun:
    """Stands in for `run_benchmark`: keeps what it was given, returns a prepared report."""

    def __init__(self) -> None:
        self.report, self.failure = REPORT, None
        self.path: Path | None = None
        self.options: dict[str, Any] = {}

    def __call__(self, path: Path, **options: Any) -> BenchmarkReport:
        self.path, self.options = path, options
        if self.failure is not None:
            raise self.failure
        options["on_progress"](1, 1)
        return self.report

    failure: BaseException | None


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    fake = FakeRun()
    monkeypatch.setattr("benchmarks.latency.run_benchmark", fake)
    return fake


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    record = ArtifactRecord(
        file="encoder.int8.tflite",
        size_bytes=len(CONTENT),
        sha256=SHA256,
        component=Component.ENCODER,
        format=Format.TFLITE,
        precision=Precision.INT8,
        quantization=QuantizationRecord(
            weights="int8",
            weight_granularity="per-channel",
            weights_symmetric=True,
            activations="int8",
            activations_symmetric=False,
            note="",
        ),
        lowering=LoweringRecord(target=None, applied=(), refused=(), note=""),
        inputs=(),
        outputs=(),
        oldest_runtime=RuntimeRequirement(name="tflite-runtime", version="2.14", detail=""),
        operators={},
        float_operators={},
        parity=None,
        latency=RECORDED,
    )
    golden = GoldenRecord(
        file="golden.npz",
        size_bytes=len(CONTENT),
        sha256=SHA256,
        source="made up",
        images=1,
        latents=2,
    )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model=MODEL,
        artifacts=(record,),
        calibration=None,
        golden=golden,
        tools={},
    )
    with BundleWriter(tmp_path / "tiny") as writer:
        writer.add(record.file, CONTENT)
        writer.add(golden.file, CONTENT)
        writer.stage(manifest)
        writer.publish()
    return tmp_path / "tiny"


def invoke(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["benchmark", *map(str, arguments)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def row(text: str, *first: str) -> list[str]:
    """The table's row that begins with these words."""
    (found,) = [
        line.split() for line in text.splitlines() if line.split()[: len(first)] == [*first]
    ]
    return found[len(first) :]


@pytest.mark.usefixtures("run")
def test_the_table_shows_keras_and_artifacts(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(bundle) == 0
    out, _, _ = capsys.readouterr().out.partition("Opening it")
    assert "a small board, 4 cores; 2 threads" in out
    assert "median ms" in out
    assert row(out, "encoder", "Keras", "tf.function")[:2] == ["24.0", "25.0"]
    figures = "1.234 2.345 3.456 810.4 37.6 KB 19.5x (18.2-20.8) 1.62x (1.50-1.75)"
    assert " ".join(row(out, "encoder", "tflite", "int8")) == figures
    flowing = " ".join(out.split())
    assert "its fastest call (tf.function), with the 95% confidence interval" in flowing


@pytest.mark.usefixtures("run")
def test_conditions_and_versions_are_named(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(bundle) == 0
    assert "\nfake 1.0, numpy 2.0, Python 3.11\n" in capsys.readouterr().out


def test_conditions_before_and_after() -> None:
    before = replace(STATE, governor="ondemand", clock_mhz=600.4, load_average=0.25, throttled=())
    after = replace(before, clock_mhz=1800.0, temperature_c=61.04)
    neighbours = Neighbours(seconds=9.0, others=0.127, stolen=0.0, busiest=())
    environment = replace(REPORT.environment, before=before, after=after, neighbours=neighbours)
    assert conditions(replace(REPORT, environment=environment)) == (
        "governor ondemand; MHz 600 > 1800; deg C - > 61.0; load average 0.2; firmware ok; "
        "other programs 0.13 cores; fake 1.0, numpy 2.0, Python 3.11"
    )
    hot = replace(after, throttled=("throttled now",))
    text = conditions(replace(REPORT, environment=replace(environment, after=hot)))
    assert "firmware throttled now;" in text


@pytest.mark.usefixtures("run")
def test_the_original_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(bundle) == 0
    out = capsys.readouterr().out
    assert "Original Keras model: m.keras." in out
    assert "Recorded at export" not in out


def test_a_fast_artifact_turns_the_whole_table_to_microseconds(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = LatencyStatistics(median_ms=0.0421, p95_ms=0.05, p99_ms=0.06, mad_ms=0.001)
    run.report = replace(REPORT, candidates=(KERAS, candidate("a", latency=fast)))
    assert invoke(bundle) == 0
    out, _, _ = capsys.readouterr().out.partition("Opening it")
    assert "median us" in out
    assert row(out, "encoder", "tflite", "int8")[0] == "42.1"
    assert row(out, "encoder", "Keras", "tf.function")[0] == "24,000"


def test_without_keras_recorded_figures_stand_apart_with_their_machine(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.report = WITHOUT_KERAS
    assert invoke(bundle) == 0
    out = capsys.readouterr().out
    here, _, recorded = out.partition("Recorded at export on another occasion, ")
    assert "Original Keras model: not measured here (TensorFlow is not installed)." in here
    assert "6.25x" not in here
    assert recorded.startswith("NOT measured in this run: the exporting desktop")
    assert row(recorded, "encoder", "tflite", "int8") == ["1", "0.077", "0.081", "0.484", "6.25x"]


def test_json_is_the_report_alone_on_stdout(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.report = replace(REPORT, warnings=(BUSY,))
    assert invoke(bundle, "--json") == 0
    captured = capsys.readouterr()
    assert read_report(captured.out, "stdout") == run.report
    assert "warning: It was busy." in captured.err


@pytest.mark.usefixtures("run")
def test_out_holds_the_report_and_stdout_the_table(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(bundle, "--out", tmp_path / "r.json") == 0
    assert read_report((tmp_path / "r.json").read_text(), "r.json") == REPORT
    assert "median ms" in capsys.readouterr().out


def test_an_out_that_cannot_be_written_is_refused_before_the_run(
    run: FakeRun, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(bundle, "--out", tmp_path / "no" / "r.json") == 2
    assert "error: --out" in capsys.readouterr().err
    assert run.path is None


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every text that is to be written find no space."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refuse)


@pytest.mark.usefixtures("run", "full_disk")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_full_disk_does_not_lose_the_run(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    options = ("--json",) if as_json else ()
    assert invoke(bundle, "--out", tmp_path / "r.json", *options) == 2
    captured = capsys.readouterr()
    if as_json:
        assert read_report(captured.out, "stdout") == REPORT
    else:
        assert "median ms" in captured.out
    last = captured.err.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path / 'r.json'}: cannot be written: No space left")
    assert "make space" in last
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.usefixtures("run", "full_disk")
def test_a_full_disk_is_said_before_a_sustained_run_and_does_not_stop_it(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said_before = []

    def with_sustained(report: BenchmarkReport, *_: Any, **__: Any) -> BenchmarkReport:
        said_before.append(capsys.readouterr())
        return report

    monkeypatch.setattr("benchmarks.sustained.with_sustained", with_sustained)
    assert invoke(bundle, "--sustained", "10m", "--out", tmp_path / "r.json") == 2
    (before,) = said_before
    assert "median ms" in before.out
    assert "warning: " in before.err
    assert "cannot be written: No space left" in before.err


@pytest.mark.usefixtures("run")
def test_csv_is_written_beside_the_table(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(bundle, "--csv", tmp_path / "r.csv") == 0
    lines = (tmp_path / "r.csv").read_bytes().split(b"\r\n")
    assert lines[0].startswith(b"component,format,precision,")
    assert lines[2].startswith(b"encoder,tflite,int8,,encoder.int8.tflite,1,2,1.234,")
    assert "median ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "file", "message"),
    [
        ("--csv", "no/r.csv", "error: --csv"),
        ("--plot", "no/r.png", "error: --plot"),
        ("--plot", "r.doc", "expected a file that ends in .png"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_the_run(
    run: FakeRun,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    file: str,
    message: str,
) -> None:
    assert invoke(bundle, option, tmp_path / file) == 2
    assert message in capsys.readouterr().err
    assert run.path is None


def test_a_plot_without_matplotlib_is_refused_before_the_run(
    run: FakeRun,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert invoke(bundle, "--plot", tmp_path / "r.png") == 2
    assert "pip install matplotlib" in capsys.readouterr().err
    assert run.path is None


def test_warnings_and_skipped_runtimes_go_to_stderr(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.report = replace(
        REPORT,
        skipped=(SkippedGroup(name="int8 onnx", reason="pip install onnxruntime"),),
        warnings=(
            FitnessWarning(code="governor", seen="The governor is 'ondemand'.", remedy="Fix it."),
        ),
    )
    assert invoke(bundle) == 0
    captured = capsys.readouterr()
    assert "warning: The governor is 'ondemand'. Fix it." in captured.err
    assert "note: int8 onnx was not measured. pip install onnxruntime" in captured.err
    assert "governor" not in captured.out
    assert "Latency of tiny, measured here; not to be quoted: 1 warning below" in captured.out


def test_require_quiet_fails_after_the_result_and_its_reasons(
    run: FakeRun, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(bundle, "--require-quiet") == 0
    assert "failed:" not in capsys.readouterr().err
    run.report = replace(REPORT, warnings=(BUSY,))
    assert invoke(bundle, "--require-quiet", "--out", tmp_path / "r.json") == 1
    captured = capsys.readouterr()
    assert "median ms" in captured.out
    assert "warning: It was busy." in captured.err
    assert "failed: --require-quiet, and the run has 1 warning." in captured.err
    assert read_report((tmp_path / "r.json").read_text(), "r.json") == run.report


@pytest.mark.usefixtures("run")
def test_a_sustained_run_follows_and_is_shown_and_written(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = SustainedRecord(
        file="encoder.int8.tflite",
        duration_s=600.0,
        window_s=60.0,
        samples=9,
        first_ms=1.0,
        last_ms=1.5,
        last_over_first=Interval(value=1.5, low=1.25, high=1.75, confidence=0.95),
        windows_ms=(1.0, 1.5),
        before=replace(STATE, clock_mhz=1800.0, temperature_c=45.25),
        after=replace(STATE, clock_mhz=1500.0, throttled=("throttled now",)),
    )
    asked = []

    def with_sustained(
        report: BenchmarkReport, path: Path, seconds: float, start: Any, on_progress: Any
    ) -> BenchmarkReport:
        assert callable(start)
        asked.append((path, seconds))
        on_progress("encoder.int8.tflite", 1.0)
        return replace(report, sustained=(record,))

    monkeypatch.setattr("benchmarks.sustained.with_sustained", with_sustained)
    assert invoke(bundle, "--sustained", "10m", "--out", tmp_path / "r.json") == 0
    assert asked == [(bundle, 600.0)]
    assert read_report((tmp_path / "r.json").read_text(), "r.json").sustained == (record,)
    _, _, end = capsys.readouterr().out.partition("Sustained for 600 s: the first 60 s")
    assert row(end, "encoder.int8.tflite") == (
        ["1,000.0", "1,500.0", "1.500", "1.250-1.750", "1800", ">", "1500", "45.2", ">", "-"]
    )
    assert "encoder.int8.tflite: the firmware reports throttled now." in end


def test_an_emulated_run_says_so_above_its_figures_and_chooses_nothing(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.report = replace(REPORT, environment=replace(REPORT.environment, emulated=True))
    assert invoke(bundle) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "under emulation: NOT the latency on a device" in printed
    assert "emulated ms" in printed
    assert "median" not in printed
    assert "measured here" not in printed
    assert "No verdicts and no best choice: this machine is emulated." in printed
    assert "Best choice for this device" not in printed


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 M ", 120), ("24h", 86400)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "0s", "0.5s", "25h", "1d", "nanm", "1e3s"])
def test_what_is_no_duration_is_refused_before_the_run(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert invoke(bundle, f"--sustained={text}") == 2
    assert "expected 1s to 24h" in capsys.readouterr().err
    assert run.path is None


def test_options_reach_the_run(run: FakeRun, bundle: Path) -> None:
    options = ["--threads", "3", "--rounds", "7", "--format", "onnx", "--precision", "int8"]
    options += ["--precision", "float16", "--component", "decoder", "--verbose"]
    assert invoke(bundle, *options) == 0
    assert run.path == bundle
    assert (run.options["threads"], run.options["rounds"]) == ((3,), 7)
    assert run.options["verbose"] is True
    assert run.options["only"] == Selection(
        formats=(Format.ONNX,),
        precisions=(Precision.INT8, Precision.FLOAT16),
        parts=(Part.DECODER,),
    )


def test_everything_is_measured_by_default(run: FakeRun, bundle: Path) -> None:
    assert invoke(bundle) == 0
    assert run.options["only"] == Selection()
    assert run.options["reference"] is None
    assert run.options["reference_note"] == "no --reference MODEL given"


def test_budget_reaches_the_run(run: FakeRun, bundle: Path) -> None:
    assert invoke(bundle, "--min-psnr", "33.5", "--max-error", "0.25") == 0
    assert run.options["budget"] == QualityBudget(min_psnr_db=33.5, max_error=0.25)

    assert invoke(bundle) == 0
    assert run.options["budget"] == QualityBudget(min_psnr_db=40.0, max_error=0.01)


def test_an_impossible_budget_is_refused_before_the_run(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(bundle, "--min-psnr", "nan") == 2
    assert "error: --min-psnr nan: expected a number of decibels" in capsys.readouterr().err
    assert run.path is None


def test_it_ends_with_what_paid_and_with_the_best_choice(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = CandidateRecord(
        file="encoder.int8.tflite",
        size_bytes=37_600,
        median_ms=1.234,
        psnr_db=50.0,
        rmse=0.003,
        eligible=True,
        chosen=True,
        reason="fastest",
    )
    verdict = Verdict(
        file="encoder.int8.tflite",
        speed=Speed.FASTER,
        times_faster=1.625,
        low=1.5,
        high=1.75,
        times_smaller=2.5,
        psnr_db=50.0,
        max_abs_error=0.1,
        paid=True,
        reasons=(),
        sentence="",
    )
    budget = QualityBudget(min_psnr_db=40.0, max_error=0.01)
    best = SelectionRecord(budget=budget, candidates=(chosen,))
    run.report = replace(REPORT, verdicts=(verdict,), best=best)

    assert invoke(bundle) == 0
    _, _, end = capsys.readouterr().out.partition("Did it pay?")
    paid, _, choice = end.partition("Best choice for this device")
    assert row(paid, "yes") == (
        ["encoder.int8.tflite", "1.62x", "faster", "2.5x", "smaller", "50.0", "dB"]
    )
    assert row(choice, ">") == (
        ["encoder.int8.tflite", "37.6", "KB", "1,234.0", "us", "50.0", "dB", "fastest"]
    )

    assert invoke(bundle, "--json") == 0
    assert read_report(capsys.readouterr().out, "stdout") == run.report


@pytest.mark.host
def test_a_reference_that_is_another_model_is_measured_with_a_warning(
    run: FakeRun, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "other.keras"
    model.write_bytes(b"another model")
    assert invoke(bundle, "--reference", model) == 0
    assert run.options["reference"] == model
    err = capsys.readouterr().err
    assert "warning:" in err
    assert "is not the model that the bundle was exported from" in err


def test_a_failed_run_is_one_paragraph_and_exit_2(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.failure = ArtifactError("decoder.int8.tflite: it fell over.")
    assert invoke(bundle) == 2
    captured = capsys.readouterr()
    assert "error: decoder.int8.tflite: it fell over." in captured.err
    assert captured.out == ""


def test_an_interrupted_run_is_130(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.failure = KeyboardInterrupt()
    assert invoke(bundle) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_what_is_no_bundle_is_refused(
    run: FakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(tmp_path) == 2
    assert "manifest.json" in capsys.readouterr().err
    assert run.path is None


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("--help") == 0
    assert "vae-edge benchmark build/mnist-vae" in capsys.readouterr().out


@pytest.mark.usefixtures("run")
def test_json_is_plain_json(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invoke(bundle, "--json")
    assert json.loads(capsys.readouterr().out)["schema_version"] == 4


@pytest.mark.usefixtures("run")
def test_opening_and_memory_are_shown(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(bundle) == 0
    _, _, opening = capsys.readouterr().out.partition("Opening it")
    assert row(opening, "encoder", "tflite", "int8") == ["1.0", "2.00", "-", "-"]


def test_memory_of_its_own_and_what_was_not_alone(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = {"peak_rss_bytes": 53_000_000, "base_rss_bytes": 47_000_000}
    keras = replace(KERAS, alone=False, peak_rss_bytes=700_000_000)
    run.report = replace(REPORT, candidates=(keras, candidate("encoder int8 tflite", **memory)))
    assert invoke(bundle) == 0
    _, _, opening = capsys.readouterr().out.partition("Opening it")
    assert row(opening, "encoder", "tflite", "int8")[2:] == ["53.0", "MB", "6.0", "MB"]
    shown = row(opening, "encoder", "Keras", "tf.function")
    assert shown == ["1.0", "*", "2.00", "*", "700.0", "MB", "*", "-"]
    assert "*: in a process that held other candidates too" in " ".join(opening.split())


def test_a_sweep_has_a_row_per_threads_and_a_column_per_batch(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def setting(base: CandidateReport, threads: int, batch: int, ms: float) -> CandidateReport:
        return replace(
            base,
            name=f"{base.name} {threads} {batch}",
            threads=threads,
            batch=batch,
            latency=replace(base.latency, median_ms=ms),
            throughput_per_s=batch / ms * 1000,
        )

    fixed = candidate("encoder int8 tflite")
    free = candidate("encoder int8 onnx", format=Format.ONNX, files=("encoder.int8.onnx",))
    slower = replace(KERAS, name="encoder keras call", keras_call=KerasCall.CALL)
    run.report = replace(
        REPORT,
        candidates=(
            *(setting(KERAS, 2, batch, 20.0) for batch in (1, 8)),
            setting(slower, 2, 1, 50.0),
            setting(slower, 2, 8, 10.0),
            setting(fixed, 2, 1, 1.0),
            setting(fixed, 4, 1, 0.5),
            setting(free, 2, 1, 2.0),
            setting(free, 2, 8, 4.0),
        ),
    )
    assert invoke(bundle) == 0
    out = capsys.readouterr().out
    _, _, sweep = out.partition("Throughput: rows per second")
    sweep, _, _ = sweep.partition("Opening it")
    assert "batch 1 batch 8" in " ".join(sweep.split())
    assert row(sweep, "encoder", "Keras") == (
        ["float32", "2", "50", "(20.0)", "800", "(10.0)"]  # of two calls the faster one
    )
    assert row(sweep, "encoder", "tflite", "int8", "2") == [
        "1,000",
        "(1.000)",
        "1",
        "at",
        "a",
        "time",
    ]
    assert row(sweep, "encoder", "tflite", "int8", "4") == [
        "2,000",
        "(0.500)",
        "1",
        "at",
        "a",
        "time",
    ]
    assert row(sweep, "encoder", "onnx", "int8", "2") == ["500", "(2.000)", "2,000", "(4.000)"]
    assert "one after the other" in " ".join(sweep.split())
    # The first table and the verdicts are about one setting.
    assert row(out.partition("Throughput: ")[0], "encoder", "onnx", "int8")[0] == "2.000"


def test_several_threads_and_batches_reach_the_run(run: FakeRun, bundle: Path) -> None:
    assert invoke(bundle, "--threads", "1,2", "--threads", "4,2", "--batch", "1, 8") == 0
    assert (run.options["threads"], run.options["batches"]) == ((1, 2, 4), (1, 8))
    assert invoke(bundle) == 0
    assert (run.options["threads"], run.options["batches"]) == ((1,), ())


@pytest.mark.parametrize("option", ["--threads", "--batch"])
@pytest.mark.parametrize("text", ["", "0", "-1", "1,", "two", "1.5", "1e3", "999999999", "1 2"])
def test_what_is_no_number_is_refused_before_the_run(
    run: FakeRun, bundle: Path, capsys: pytest.CaptureFixture[str], option: str, text: str
) -> None:
    assert invoke(bundle, f"{option}={text}") == 2
    assert f"{option} {text}: expected whole numbers from 1 to" in capsys.readouterr().err
    assert run.path is None


def test_ratio_and_interval_are_rounded_alike() -> None:
    assert with_interval(20.04, 20.1, 21.46) == "20.0x (20.1-21.5)"
    assert with_interval(9.5, 9.0, 9.994) == "9.50x (9.00-9.99)"
    assert with_interval(1234.5, 900.0, 2000.0) == "1,234x (900-2,000)"
