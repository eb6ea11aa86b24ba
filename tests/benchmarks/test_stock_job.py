"""Building stock exports: one that fails is recorded, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contestants import Engine, size_of
from benchmarks.stock_job import Build, StockJob, StockTool, build_stock, one_line
from vae_edge.errors import ExportError
from vae_edge.terms import Component, Format, Precision


def tool(name: str, build: Build, suffix: str = "float32.tflite") -> StockTool:
    return StockTool(
        tool=name,
        format=Format.TFLITE,
        precision=Precision.FLOAT32,
        suffix=suffix,
        build=build,
        engine=Engine.LITERT,
        baseline=True,
    )


def write(job: StockJob, path: Path) -> None:
    print("a tool's chatter")  # noqa: T201
    path.write_bytes(str(job.component).encode())


def fail(_job: StockJob, _path: Path) -> None:
    raise RuntimeError("Op type not registered:\n  'FlexThing'")


def needs_float32(job: StockJob, path: Path) -> None:
    path.write_bytes(job.float32(Format.TFLITE).read_bytes() * 2)


@pytest.fixture
def jobs(tmp_path: Path) -> tuple[StockJob, ...]:
    return tuple(
        StockJob(
            component=component, model=None, rows=np.zeros((2, 3), np.float32), directory=tmp_path
        )
        for component in Component
    )


def test_a_failing_builder_is_recorded_and_the_others_go_on(jobs: tuple[StockJob, ...]) -> None:
    tools = (tool("bad", fail, "bad.tflite"), tool("good", write))
    made, failures = build_stock(jobs, tools)
    assert [contestant.name for contestant in made] == [
        "encoder float32 tflite, good",
        "decoder float32 tflite, good",
    ]
    assert [failure.name for failure in failures] == [
        "encoder float32 tflite, bad",
        "decoder float32 tflite, bad",
    ]
    assert failures[0].reason == "Op type not registered: 'FlexThing'"


def test_a_contestant_says_what_it_is(jobs: tuple[StockJob, ...]) -> None:
    (made,), _ = build_stock(jobs[:1], (tool("good", write),))
    assert (made.component, made.format, made.baseline, made.ours) == (
        Component.ENCODER,
        Format.TFLITE,
        True,
        False,
    )
    assert made.path.read_bytes() == b"encoder"


def test_what_tools_print_is_no_result(
    jobs: tuple[StockJob, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    build_stock(jobs, (tool("good", write),))
    assert capsys.readouterr().out == ""


def test_a_quantizer_starts_from_the_float32_file(jobs: tuple[StockJob, ...]) -> None:
    tools = (tool("good", write), tool("quantizer", needs_float32, "q.tflite"))
    made, failures = build_stock(jobs[:1], tools)
    assert made[1].path.read_bytes() == b"encoderencoder"
    assert failures == ()


def test_an_earlier_run_s_float32_file_is_not_taken(jobs: tuple[StockJob, ...]) -> None:
    build_stock(jobs, (tool("good", write),))
    tools = (tool("now bad", fail), tool("quantizer", needs_float32, "q.tflite"))
    made, failures = build_stock(jobs, tools)
    assert made == ()
    assert failures[1].reason == "needs the stock float32 tflite, which was not made"


def test_a_reason_is_one_short_line() -> None:
    assert one_line(ExportError("a\n b")) == "a b"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ExportError("x" * 500))) == 200


def test_size_of_a_directory_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"123")
    (tmp_path / "variables" / "data").write_bytes(b"4567")
    assert size_of(tmp_path) == 7
    assert size_of(tmp_path / "saved_model.pb") == 3


@pytest.fixture
def collect() -> Callable[..., list[str]]:
    seen: list[str] = []

    def run(jobs: tuple[StockJob, ...]) -> list[str]:
        build_stock(jobs, (tool("bad", fail),), on_step=seen.append)
        return seen

    return run


def test_each_export_is_announced(
    jobs: tuple[StockJob, ...], collect: Callable[..., list[str]]
) -> None:
    assert collect(jobs) == ["encoder float32 tflite, bad", "decoder float32 tflite, bad"]
