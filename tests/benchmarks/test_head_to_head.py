"""Ratios, tables, front and verdicts of a head to head, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.component_quality import DecoderErrors, EncoderErrors
from benchmarks.contestants import OURS, Engine
from benchmarks.environment import Environment, MachineState
from benchmarks.head_to_head_check import Verdict, check_targets, passed, verdict_table
from benchmarks.head_to_head_plot import error_of, pareto_front, write_plot
from benchmarks.head_to_head_report import (
    HeadToHead,
    Quality,
    Row,
    with_ratios,
    write_head_to_head,
)
from benchmarks.head_to_head_tables import markdown
from benchmarks.report import FitnessWarning, Settings
from benchmarks.stock_job import Failure
from benchmarks.targets import NOT_SLOWER, TARGETS, Figure, Target
from vae_edge import codec
from vae_edge.terms import Component, Format, Precision

STATE = MachineState(
    governor=None, clock_mhz=None, temperature_c=None, load_average=None, throttled=None
)
ENCODER = EncoderErrors(z_mean_max=0.1, z_mean_mean=0.004, z_log_var_max=0.2, z_log_var_mean=0.012)
DECODER = DecoderErrors(posterior_psnr_db=45.0, prior_psnr_db=40.0, max_error=0.07)


def row(
    tool: str,
    us: float,
    *,
    component: str = "decoder",
    format: str | None = "tflite",
    precision: str = "float32",
    size_bytes: int = 100_000,
    elbo_change: float = -0.02,
) -> Row:
    half, kind = Component(component), Precision(precision)
    encoder = half is Component.ENCODER
    return Row(
        name=f"{component} {precision} {format or 'SavedModel'}, {tool}",
        tool=tool,
        component=half,
        format=Format(format) if format else None,
        precision=kind,
        engine=Engine.ONNXRUNTIME if format == "onnx" else Engine.LITERT,
        runtime="a runtime 1.0",
        ours=tool == OURS,
        baseline=tool == "stock",
        file="a.file",
        size_bytes=size_bytes,
        loops=8,
        warmup_ns=(us * 2000,),
        samples_ns=(us * 1000,) * 4,
        median_us=us,
        mad_us=0.5,
        times_stock=None,
        times_float32=None,
        quality=Quality(
            images=100,
            encoder=ENCODER if encoder else None,
            decoder=None if encoder else DECODER,
            elbo_change=elbo_change,
        ),
        runner_overhead_us=2.0 if tool == OURS else None,
    )


def report(*rows: Row, **changes: object) -> HeadToHead:
    made = HeadToHead(
        schema_version=1,
        vae_edge_version="0.1.0",
        started_utc="2025-01-01T00:00:00+00:00",
        machine="a board",
        model="tiny",
        source_sha256="a" * 64,
        dataset="noise",
        settings=Settings(threads=1, rounds=4, warmup_rounds=1, min_sample_ms=2.0, seed=0),
        batch=1,
        environment=Environment(
            cpu_model="a CPU",
            cores=2,
            architecture="x86_64",
            system="Linux",
            python="3.11",
            numpy="2.0",
            emulated=False,
            before=STATE,
            after=STATE,
        ),
        tools={"onnxruntime": "1.0"},
        rows=with_ratios(rows, seed=0),
        failures=(),
        warnings=(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def ratios(*rows: Row) -> dict[str, tuple[float | None, float | None]]:
    return {
        r.name: (
            r.times_stock.interval.value if r.times_stock else None,
            r.times_float32.interval.value if r.times_float32 else None,
        )
        for r in with_ratios(rows, seed=0)
    }


def test_ratios_are_against_stock_and_our_float32_of_the_same_kind() -> None:
    found = ratios(
        row("stock", 300),
        row("stock", 120, precision="int8"),
        row(OURS, 60),
        row(OURS, 30, precision="int8"),
        row("other", 150),
        row("stock", 7, component="encoder"),
        row("stock", 9, format="onnx"),
    )
    assert found["decoder float32 tflite, vae-edge"] == (5.0, None)
    assert found["decoder int8 tflite, vae-edge"] == (4.0, 2.0)
    assert found["decoder float32 tflite, stock"] == (None, 0.2)
    assert found["decoder float32 tflite, other"] == (2.0, 0.4)
    assert found["encoder float32 tflite, stock"] == (None, None)


def test_float16_without_stock_is_compared_with_the_stock_float32() -> None:
    stock, ours = (
        row("stock", 300, format="onnx"),
        row(OURS, 100, format="onnx", precision="float16"),
    )
    assert ratios(stock, ours)[ours.name] == (3.0, None)
    own = row("stock", 200, format="onnx", precision="float16")
    assert ratios(stock, own, ours)[ours.name] == (2.0, None)
    other = row(OURS, 100, format="onnx", precision="int8")
    assert ratios(stock, other)[other.name] == (None, None)


def test_the_table_of_a_component() -> None:
    text = markdown(
        report(
            row(OURS, 60.04, size_bytes=264_123),
            row("stock", 17_000),
            row("Keras export", 353, format=None),
        )
    )
    lines, quality = text.splitlines(), "40.0 dB / 0.0700 | -0.020"
    at = lines.index("### Decoder")
    assert lines[at + 2].startswith("| format | precision | made by | size | median | x stock |")
    assert lines[at + 4 : at + 7] == [
        f"| tflite | float32 | stock | 100.0 KB | 17,000 ± 0.5 µs | stock | 0.00x | {quality} |",
        f"| tflite | float32 | **vae-edge** | 264.1 KB | 60.0 ± 0.5 µs | 283x |  | {quality} |",
        f"| SavedModel | float32 | Keras export | 100.0 KB | 353.0 ± 0.5 µs |  |  | {quality} |",
    ]
    assert "### Encoder" not in text
    assert "4 interleaved rounds" in text
    assert "LiteRT 2.00 µs" in text


def test_the_table_of_an_encoder_shows_latents() -> None:
    text = markdown(report(row(OURS, 6, component="encoder", precision="int8")))
    assert "| mean error z_mean / z_log_var |" in text
    assert "| 0.0040 / 0.0120 | -0.020 |" in text


def test_identical_images_and_unjudged_rows_are_said_to_be_so() -> None:
    same = DecoderErrors(posterior_psnr_db=None, prior_psnr_db=None, max_error=0.0)
    quality = Quality(images=100, encoder=None, decoder=same, elbo_change=0.0)
    assert "| identical | +0.000 |" in markdown(report(replace(row(OURS, 6), quality=quality)))
    assert "6.0 ± 0.5 µs |  |  |  |  |" in markdown(report(replace(row(OURS, 6), quality=None)))


def test_a_borrowed_baseline_is_marked() -> None:
    stock = row("stock", 300, format="onnx")
    ours = row(OURS, 100, format="onnx", precision="float16")
    assert "3.00x† |" in markdown(report(stock, ours))
    assert "against the stock float32" in markdown(report(stock, ours))
    assert "†" not in markdown(report(stock, row(OURS, 100, format="onnx")))


def test_fewer_images_for_slow_ones_are_named() -> None:
    slow = row("stock", 17_000)
    few = replace(slow, quality=replace(slow.quality, images=20))  # type: ignore[type-var]
    text = markdown(report(few, row(OURS, 60)))
    assert "on 100 test images of noise (of what is slow, on the first 20)" in text


def test_what_was_left_out_and_doubted_is_listed() -> None:
    text = markdown(
        report(
            row(OURS, 60),
            failures=(Failure(name="decoder float32 onnx, MNN", reason="not installed"),),
            warnings=(FitnessWarning(code="load", seen="It was busy.", remedy="Wait."),),
        )
    )
    assert "- decoder float32 onnx, MNN: not installed" in text
    assert "- It was busy. Wait." in text


def test_the_report_survives_json() -> None:
    whole = report(row("stock", 300), row(OURS, 60))
    assert codec.decode(HeadToHead, codec.loads(write_head_to_head(whole))) == whole


def test_the_front_of_five_points() -> None:
    #         0        1       2       3 beaten by 1  4 beaten by 2
    points = [(5, 1.0), (2, 4), (3, 2), (3.5, 4.5), (3, 3)]
    assert pareto_front(points) == (1, 2, 0)


def test_the_front_of_equal_points_is_the_first() -> None:
    assert pareto_front([(1, 1), (1, 1)]) == (0,)
    assert pareto_front([(1, 2), (1, 1), (2, 1)]) == (1,)
    assert pareto_front([]) == ()


def test_the_error_of_a_component() -> None:
    assert error_of(row(OURS, 1, component="encoder")) == pytest.approx(0.008)
    # the lower PSNR, 40 dB
    assert error_of(row(OURS, 1)) == pytest.approx(0.01)
    assert error_of(replace(row(OURS, 1), quality=None)) is None


@pytest.mark.host
def test_the_picture_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    rows = (row("stock", 17_000), row(OURS, 60), row(OURS, 6, component="encoder", format="onnx"))
    write_plot(report(*rows), path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.host
def test_a_picture_of_one_component_leaves_the_other_panel_empty(tmp_path: Path) -> None:
    write_plot(report(row(OURS, 60)), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def target(figure: Figure, required: float, aim: float, precision: str = "int8") -> Target:
    return Target(
        component=Component.DECODER,
        format=Format.TFLITE,
        precision=Precision(precision),
        figure=figure,
        required=required,
        aim=aim,
    )


@pytest.mark.parametrize(
    ("figure", "measured", "reached", "reached_aim"),
    [
        (Figure.TIMES_STOCK, 4.0, True, False),
        (Figure.TIMES_STOCK, 3.999, False, False),
        (Figure.TIMES_STOCK, 5.0, True, True),
        (Figure.TIMES_STOCK, None, False, False),
        (Figure.SIZE_BYTES, 4.0, True, True),
        (Figure.SIZE_BYTES, 5.0, False, True),
        (Figure.SIZE_BYTES, 5.001, False, False),
        (Figure.PSNR_DB, float("inf"), True, True),
    ],
)
def test_the_edges_of_a_target(
    figure: Figure, measured: float | None, reached: bool, reached_aim: bool
) -> None:
    verdict = Verdict(target=target(figure, 4.0, 5.0), measured=measured)
    assert (verdict.reached, verdict.reached_aim) == (reached, reached_aim)


def test_every_figure_is_taken_from_our_artifact() -> None:
    whole = report(
        row("stock", 120, precision="int8", size_bytes=1),
        row(OURS, 60),
        row(OURS, 30, precision="int8", size_bytes=99_000, elbo_change=-0.04),
    )
    asked = {
        Figure.TIMES_STOCK: 4.0,
        Figure.TIMES_FLOAT32: 2.0,
        Figure.SHARE_OF_FLOAT32: 0.5,
        Figure.PSNR_DB: 40.0,
        Figure.ELBO_CHANGE: 0.04,
        Figure.SIZE_BYTES: 99_000.0,
        Figure.RUNNER_OVERHEAD_US: 2.0,
        Figure.Z_MEAN_ERROR: None,
    }
    verdicts = check_targets(whole, [target(figure, 1, 1) for figure in asked])
    assert [v.measured for v in verdicts] == list(asked.values())


def test_the_errors_of_an_encoder() -> None:
    whole = report(row(OURS, 6, component="encoder", precision="int8"))
    figures = (Figure.Z_MEAN_ERROR, Figure.Z_LOG_VAR_ERROR)
    asked = [replace(target(f, 1, 1), component=Component.ENCODER) for f in figures]
    assert [v.measured for v in check_targets(whole, asked)] == [0.004, 0.012]


def test_a_target_for_all_is_the_median() -> None:
    rows = [
        replace(row(OURS, 60, precision=p), runner_overhead_us=us)
        for p, us in (("float32", 1.0), ("float16", 9.0), ("int8", 2.0))
    ]
    overhead = replace(target(Figure.RUNNER_OVERHEAD_US, 3, 1), component=None, precision=None)
    (verdict,) = check_targets(report(*rows), [overhead])
    assert verdict.measured == 2.0


def test_no_other_artifact_may_be_slower_than_stock() -> None:
    rows = (
        row("stock", 97, precision="int8"),
        row(OURS, 100, precision="int8"),
        row("stock", 96),
        row(OURS, 100),
    )
    verdicts = check_targets(report(*rows), [])
    assert [(v.target.required, v.reached) for v in verdicts] == [
        (NOT_SLOWER, True),
        (NOT_SLOWER, False),
    ]
    assert not passed(verdicts)
    # An artifact with a target of its own is not judged twice.
    own = [target(Figure.TIMES_STOCK, 0.5, 0.5), target(Figure.TIMES_STOCK, 0.5, 0.5, "float32")]
    assert passed(check_targets(report(*rows), own))
    assert len(check_targets(report(*rows), own)) == 2


def test_the_verdicts_as_a_table() -> None:
    whole = report(row("stock", 120, precision="int8"), row(OURS, 30, precision="int8"))
    table = verdict_table(
        check_targets(
            whole,
            [
                target(Figure.TIMES_STOCK, 4, 4.5),
                target(Figure.SIZE_BYTES, 120_000, 100_000),
                target(Figure.TIMES_FLOAT32, 2, 2),
            ],
        )
    )
    assert table.splitlines()[2:] == [
        "| decoder int8 tflite: times faster than stock | ≥ 4 | 4.5 | 4 | yes |",
        "| decoder int8 tflite: bytes | ≤ 120,000 | 100,000 | 100,000 | aim |",
        "| decoder int8 tflite: times faster than our float32 | ≥ 2 | 2 | not measured | **no** |",
    ]


def test_an_aim_is_never_weaker_than_what_is_required() -> None:
    for given in TARGETS:
        measured = Verdict(target=given, measured=given.aim)
        assert measured.reached, given


def test_the_json_has_no_infinity() -> None:
    same = DecoderErrors(posterior_psnr_db=None, prior_psnr_db=None, max_error=0.0)
    quality = Quality(images=1, encoder=None, decoder=same, elbo_change=0.0)
    text = write_head_to_head(report(replace(row(OURS, 6), quality=quality)))
    assert json.loads(text)["rows"][0]["quality"]["decoder"]["posterior_psnr_db"] is None
