from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.environment import Environment, MachineState
from benchmarks.report import (
    SCHEMA_VERSION,
    BenchmarkReport,
    CandidateReport,
    FitnessWarning,
    LatencyStatistics,
    Part,
    ReferenceRecord,
    Settings,
    write_report,
)
from vae_edge.cli import main
from vae_edge.cli.compare import parse_share
from vae_edge.errors import UsageError
from vae_edge.manifest import ModelRecord
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.terms import Format, Precision

STATE = MachineState(
    governor=None, clock_mhz=None, temperature_c=None, load_average=None, throttled=None
)


# What is matched is what an artifact is, and not what it is called.
PRECISIONS = dict(zip(("a", "b", "gone", "new"), Precision, strict=False))


def candidate(name: str, micros: float, size_bytes: int = 1000) -> CandidateReport:
    return CandidateReport(
        name=name,
        part=Part.ENCODER,
        format=Format.TFLITE,
        precision=PRECISIONS[name],
        keras_call=None,
        files=(f"{name}.tflite",),
        sha256=(f"{name} {micros}",),
        size_bytes=size_bytes,
        runtime="fake 1.0",
        threads=1,
        batch=1,
        loops=4,
        alone=True,
        load_ms=1.0,
        first_inference_ms=2.0,
        warmup_ns=(1e6,),
        samples_ns=(micros * 1e3,) * 3,
        latency=LatencyStatistics(
            median_ms=micros / 1e3, p95_ms=micros / 1e3, p99_ms=micros / 1e3, mad_ms=0.0
        ),
        throughput_per_s=1e6 / micros,
        peak_rss_bytes=None,
        base_rss_bytes=None,
        times_faster_than_keras=None,
        times_faster_than_float32=None,
    )


def report(*candidates: CandidateReport) -> BenchmarkReport:
    return BenchmarkReport(
        schema_version=SCHEMA_VERSION,
        vae_edge_version="0.1.0",
        started_utc="2030-01-01T00:00:00+00:00",
        machine="a board",
        model=ModelRecord(
            name="m",
            source_sha256="b" * 64,
            latent_dim=2,
            image_shape=(4, 4, 1),
            preprocessing=PLAIN_PICTURES,
        ),
        settings=Settings(threads=1, rounds=3, warmup_rounds=1, min_sample_ms=2.0, seed=0),
        environment=Environment(
            cpu_model="cpu",
            cores=4,
            architecture="aarch64",
            system="Linux",
            python="3.11",
            numpy="2.0",
            emulated=False,
            before=STATE,
            after=STATE,
        ),
        reference=ReferenceRecord(measured=False, note="none", sha256=None, matches_bundle=None),
        candidates=candidates,
        skipped=(),
        warnings=(),
    )


BEFORE = report(candidate("a", 100.0), candidate("b", 100.0), candidate("gone", 1.0))
AFTER = report(candidate("a", 120.0, 1500), candidate("b", 50.0), candidate("new", 1.0))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "a.json", tmp_path / "b.json"
    for path, content in zip(paths, (BEFORE, AFTER), strict=True):
        path.write_text(write_report(content))
    return paths


def invoke(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["compare", *map(str, arguments)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_table_shows_ratios_sizes_and_verdicts(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(*files) == 0
    captured = capsys.readouterr()
    lines = [" ".join(line.split()) for line in captured.out.splitlines()]
    assert "a 1 100.0 120.0 1.200 1.200 (1.200-1.200) 1.0 KB > 1.5 KB (+50.0%) slower" in lines
    assert "b 1 100.0 50.0 0.500 0.500 (0.500-0.500) changed faster" in lines
    assert "Only in A: gone." in lines
    assert "Only in B: new." in lines
    assert "note: Nothing in both reports is surely the same" in captured.err


@pytest.mark.parametrize(
    ("allowed", "code"), [("10%", 1), ("0.1", 1), ("19.9%", 1), ("20.1%", 0), ("0.25", 0)]
)
def test_fail_if_slower(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], allowed: str, code: int
) -> None:
    assert invoke(*files, "--fail-if-slower", allowed) == code
    assert ("slower than allowed: a, 1.200 times" in capsys.readouterr().err) is (code == 1)


def test_json_is_the_comparison_alone(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(*files, "--json", "--fail-if-slower", "10%") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 2
    assert [d["change"] for d in document["differences"]] == ["slower", "faster"]
    assert document["only_after"] == ["new"]


def test_another_device_is_refused_unless_asked_for(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = replace(AFTER, environment=replace(AFTER.environment, cores=8))
    files[1].write_text(write_report(elsewhere))
    assert invoke(*files) == 2
    captured = capsys.readouterr()
    assert "cannot be compared: cores: 4 and 8." in captured.err
    assert captured.out == ""
    assert invoke(*files, "--anyway") == 0
    captured = capsys.readouterr()
    assert "warning: compared although they differ in cores: 4 and 8" in captured.err
    assert "faster" in captured.out


def test_threads_of_both_are_shown(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    two = tuple(replace(candidate, threads=2) for candidate in AFTER.candidates)
    files[1].write_text(write_report(replace(AFTER, candidates=two)))
    assert invoke(*files, "--anyway") == 0
    assert "1/2" in capsys.readouterr().out


def test_another_batch_leaves_nothing_to_compare(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files[0].write_text(write_report(report(candidate("a", 1.0))))
    files[1].write_text(write_report(report(replace(candidate("a", 1.0), batch=8))))
    assert invoke(*files) == 2
    assert "batch of a.tflite: 1 and 8" in capsys.readouterr().err
    assert invoke(*files, "--anyway") == 2
    assert "no artifact of the same batch in common" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["10%", "50%"])
def test_an_unfit_machine_leaves_it_undecided(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], share: str
) -> None:
    warning = FitnessWarning(code="load", seen="busy", remedy="wait")
    files[0].write_text(write_report(replace(BEFORE, warnings=(warning,))))
    assert invoke(*files) == 0
    captured = capsys.readouterr()
    assert "not comparable with confidence: the first report was measured" in captured.err
    assert "(load)" in captured.err
    assert "slower?" in captured.out
    assert invoke(*files, "--fail-if-slower", share) == 3
    captured = capsys.readouterr()
    assert "undecided: --fail-if-slower needs two runs on a fit machine" in captured.err
    assert ("perhaps slower than allowed: a" in captured.err) is (share == "10%")
    assert invoke(*files, "--fail-if-slower", share, "--anyway") == (1 if share == "10%" else 0)


def test_a_machine_that_was_slower_as_a_whole_is_said_and_fails_nothing(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    same = {name: replace(candidate(name, 100.0), sha256=(name,)) for name in ("a", "b")}
    slow = {name: replace(candidate(name, 130.0), sha256=(name,)) for name in ("a", "b")}
    files[0].write_text(write_report(report(*same.values())))
    files[1].write_text(write_report(report(*slow.values())))
    assert invoke(*files, "--fail-if-slower", "10%") == 0
    out = capsys.readouterr().out
    assert "Everything is 1.30x slower in B (1.30-1.30), what cannot have changed too" in out
    assert "the machine, not the artifacts" in out
    assert "no difference" in out
    assert invoke(files[1], files[0]) == 0
    assert "Everything is 1.30x faster in B" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"schema_version": 1}', "schema_version must be"),
        (f'{{"schema_version": {SCHEMA_VERSION}}}', "missing key"),
    ],
)
def test_what_is_no_report_is_refused(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    files[1].write_text(text)
    assert invoke(*files) == 2
    err = capsys.readouterr().err
    assert "b.json" in err
    assert message in err


def test_a_missing_report_is_refused(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(files[0], files[1].with_name("no.json")) == 2
    assert "no.json" in capsys.readouterr().err


def test_share_is_read_in_both_ways() -> None:
    assert parse_share("10%") == pytest.approx(0.1)
    assert parse_share(" 0.1 ") == 0.1
    assert parse_share("0") == 0


@pytest.mark.parametrize("text", ["", "%", "ten", "-1%", "nan", "inf", "1e9"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected a share such as 10% or 0\.1"):
        parse_share(text)
