from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.report import BenchmarkReport, Part, Speedup
from benchmarks.report_csv import COLUMNS, report_csv
from benchmarks.report_plot import points_of, require_matplotlib, write_plot
from benchmarks.statistics import Interval
from benchmarks.sweep_plot import sweep_lines
from vae_edge.errors import RuntimeMissingError
from vae_edge.keras_vae import KerasCall
from vae_edge.manifest import CandidateRecord, QualityBudget, SelectionRecord
from vae_edge.terms import Component, Precision

MakeReport = Callable[[], BenchmarkReport]


def with_error(report: BenchmarkReport, rmse: float | None) -> BenchmarkReport:
    record = CandidateRecord(
        file="encoder.int8.tflite",
        size_bytes=100,
        median_ms=1.0,
        psnr_db=40.0,
        rmse=rmse,
        eligible=True,
        chosen=True,
        reason="fastest",
    )
    budget = QualityBudget(min_psnr_db=40.0, max_error=0.01)
    return replace(report, best=SelectionRecord(budget=budget, candidates=(record,)))


def test_csv_has_a_row_per_candidate_with_plain_figures(make_report: MakeReport) -> None:
    report = make_report()
    speedup = Speedup(against="k", interval=Interval(value=2.0, low=1.5, high=2.5, confidence=0.95))
    artifact = replace(
        report.candidates[0],
        batch=8,
        threads=2,
        peak_rss_bytes=4096,
        base_rss_bytes=1024,
        times_faster_than_keras=speedup,
    )
    both = replace(
        artifact,
        part=Part.BOTH,
        files=("e.tflite", "d.tflite"),
        encoder_precision=Precision.FLOAT16,
    )
    keras = replace(
        artifact,
        format=None,
        keras_call=KerasCall.FUNCTION,
        files=(),
        size_bytes=None,
        times_faster_than_keras=None,
    )
    text = report_csv(replace(report, machine='a "b", c', candidates=(artifact, both, keras)))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0] == {
        "component": "encoder",
        "format": "tflite",
        "precision": "int8",
        "keras_call": "",
        "files": "encoder.int8.tflite",
        "batch": "8",
        "threads": "2",
        "median_ms": "1.0",
        "p95_ms": "1.0",
        "p99_ms": "1.0",
        "mad_ms": "0.0",
        "throughput_per_s": "1000.0",
        "times_faster_than_keras": "2.0",
        "times_faster_than_keras_low": "1.5",
        "times_faster_than_keras_high": "2.5",
        "times_faster_than_float32": "",
        "times_faster_than_float32_low": "",
        "times_faster_than_float32_high": "",
        "size_bytes": "100",
        "alone": "true",
        "load_ms": "1.0",
        "first_inference_ms": "2.0",
        "peak_rss_bytes": "4096",
        "base_rss_bytes": "1024",
        "runtime": "fake 1.0",
        "machine": 'a "b", c',
    }
    assert rows[1]["files"] == "e.tflite+d.tflite"
    assert rows[1]["precision"] == "float16+int8"
    assert (rows[2]["keras_call"], rows[2]["format"], rows[2]["size_bytes"]) == (
        "tf.function",
        "",
        "",
    )


def test_points_are_single_artifacts_per_image(make_report: MakeReport) -> None:
    report = with_error(make_report(), 0.25)
    artifact = replace(report.candidates[0], batch=4)
    both = replace(artifact, part=Part.BOTH, files=("e.tflite", "d.tflite"))
    report = replace(report, candidates=(artifact, both))
    (point,) = points_of(report, Component.ENCODER)
    assert (point.latency_us, point.size_kb, point.error) == (250.0, 0.1, 0.25)
    assert points_of(report, Component.DECODER) == ()


def test_errors_are_none_where_unknown_and_never_zero(make_report: MakeReport) -> None:
    def error(report: BenchmarkReport) -> float | None:
        return points_of(report, Component.ENCODER)[0].error

    assert error(make_report()) is None
    assert error(with_error(make_report(), None)) is None
    assert error(with_error(make_report(), 0.0)) == 1e-8


@pytest.mark.host
@pytest.mark.parametrize("rmse", [0.25, None])
def test_a_picture_is_drawn(make_report: MakeReport, tmp_path: Path, rmse: float | None) -> None:
    path = tmp_path / "p.png"
    write_plot(with_error(make_report(), rmse), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def swept(report: BenchmarkReport) -> BenchmarkReport:
    """Two batches at one thread and one at two, and two of Keras's calls."""
    one = replace(report.candidates[0], throughput_per_s=10.0)
    eight = replace(one, name="eight", batch=8, throughput_per_s=40.0)
    two = replace(one, name="two", threads=2, throughput_per_s=15.0)
    slow = replace(one, name="k1", format=None, keras_call=KerasCall.CALL, files=(), sha256=())
    fast = replace(slow, name="k2", keras_call=KerasCall.FUNCTION, throughput_per_s=30.0)
    slow, fast = replace(slow, size_bytes=None), replace(fast, size_bytes=None)
    return replace(report, candidates=(eight, one, two, slow, fast))


def test_a_sweep_is_lines_over_the_batch(make_report: MakeReport) -> None:
    report = swept(make_report())
    lines = sweep_lines(report, Part.ENCODER)
    assert {key: {at: c.name for at, c in line.items()} for key, line in lines.items()} == {
        ("int8 tflite", 1): {1: "encoder int8 tflite", 8: "eight"},
        ("int8 tflite", 2): {1: "two"},
        ("Keras", 1): {1: "k2"},
    }
    # At one batch they are lines over threads.
    threads = replace(report, candidates=report.candidates[1:3])
    (line,) = sweep_lines(threads, Part.ENCODER).values()
    assert {at: c.name for at, c in line.items()} == {1: "encoder int8 tflite", 2: "two"}
    assert sweep_lines(swept(make_report()), Part.BOTH) == {}
    # Size and error are about one setting.
    (point,) = points_of(swept(make_report()), Component.ENCODER)
    assert point.candidate.name == "encoder int8 tflite"


@pytest.mark.host
@pytest.mark.parametrize("count", [None, 3])
def test_a_sweep_is_drawn(make_report: MakeReport, tmp_path: Path, count: int | None) -> None:
    report = swept(make_report())
    write_plot(replace(report, candidates=report.candidates[-4:count]), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_command_that_adds_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RuntimeMissingError, match="not installed: pip install matplotlib"):
        require_matplotlib()
