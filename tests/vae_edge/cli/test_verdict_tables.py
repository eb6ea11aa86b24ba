"""How `export` and `benchmark` end, on a terminal of 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vae_edge.cli.verdict_tables import print_best, print_selection, print_verdicts
from vae_edge.manifest import CandidateRecord, QualityBudget, SelectionRecord
from vae_edge.verdict import Speed, Verdict

BUDGET = QualityBudget(min_psnr_db=40.0, max_error=0.01)


@pytest.fixture
def printed():
    """`printed(function, ...)` gives the lines that it prints, none wider than the terminal."""

    def run(function, *arguments):
        out = Console(file=io.StringIO(), width=80, highlight=False, markup=False)
        function(out, *arguments)
        lines = out.file.getvalue().splitlines()
        assert max(map(len, lines), default=0) <= 80
        return lines

    return run


def words(lines):
    return [" ".join(line.split()) for line in lines]


def verdict(file, **changes):
    values = {
        "speed": Speed.FASTER,
        "times_faster": 2.34,
        "low": None,
        "high": None,
        "times_smaller": 2.4,
        "psnr_db": 44.31,
        "max_abs_error": 0.1,
        "paid": True,
        "reasons": (),
        "sentence": "",
    }
    return Verdict(file=file, **{**values, **changes})


def candidate(file, *, chosen=False, reason="fastest", **changes):
    values = {
        "size_bytes": 48_000,
        "median_ms": 0.0077,
        "psnr_db": 54.3,
        "rmse": 0.002,
        "eligible": True,
    }
    return CandidateRecord(file=file, chosen=chosen, reason=reason, **{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({}, "yes e.int8.onnx 2.3x faster 2.4x smaller 44.3 dB"),
        (
            {"speed": Speed.AS_FAST, "times_faster": 1.01},
            "in size e.int8.onnx as fast 2.4x smaller 44.3 dB",
        ),
        (
            {"speed": Speed.SLOWER, "times_faster": 0.71, "paid": False, "times_smaller": 1.0},
            "no e.int8.onnx slower (0.71x) no smaller 44.3 dB",
        ),
        (
            {"speed": None, "times_faster": None, "paid": None},
            "? e.int8.onnx not measured 2.4x smaller 44.3 dB",
        ),
        (
            {"speed": None, "times_faster": None, "paid": None, "times_smaller": None},
            "? e.int8.onnx no float32 - 44.3 dB",
        ),
        ({"psnr_db": None}, "yes e.int8.onnx 2.3x faster 2.4x smaller exact"),
        (
            {"psnr_db": None, "max_abs_error": None},
            "yes e.int8.onnx 2.3x faster 2.4x smaller -",
        ),
    ],
)
def test_verdict_is_one_row(printed, changes, row):
    assert row in words(printed(print_verdicts, [verdict("e.int8.onnx", **changes)]))


def test_reasons_stand_below_beside_their_artifact(printed):
    reasons = (
        "ConvTranspose x3, Sigmoid compute in float",
        "ONNX Runtime has no integer ConvTranspose",
    )
    lines = printed(
        print_verdicts, [verdict("fine.onnx"), verdict("decoder.int8.onnx", reasons=reasons)]
    )

    start = lines.index("Not faster, because:")
    assert [line.rstrip() for line in lines[start + 1 :]] == [
        "  decoder.int8.onnx  ConvTranspose x3, Sigmoid compute in float; ONNX Runtime",
        "                     has no integer ConvTranspose",
        "",
    ]


def test_nothing_to_judge_prints_nothing(printed):
    assert printed(print_verdicts, []) == []


def test_selection_shows_all_and_marks_the_chosen(printed):
    selection = SelectionRecord(
        budget=BUDGET,
        candidates=(
            candidate("encoder.dynamic.tflite", chosen=True, reason="as fast as any, and smaller"),
            candidate(
                "encoder.int8.tflite", reason="latents off by 0.0123", psnr_db=38.2, eligible=False
            ),
            candidate("encoder.float32.tflite", reason="2.4x the time", median_ms=None),
        ),
    )

    lines = words(printed(print_selection, selection, "Chosen"))

    assert lines[0] == "Chosen"
    assert "> encoder.dynamic.tflite 48.0 KB 7.7 us 54.3 dB as fast as any, and smaller" in lines
    assert "encoder.int8.tflite 48.0 KB 7.7 us 38.2 dB out: latents off by 0.0123" in lines
    assert "encoder.float32.tflite 48.0 KB - 54.3 dB 2.4x the time" in lines
    assert "Budget: images of at least 40 dB, latents within 0.01 of their span (rmse)." in lines


def test_best_choice_shows_the_chosen_alone(printed):
    best = SelectionRecord(
        budget=BUDGET,
        candidates=(candidate("encoder.int8.onnx", chosen=True), candidate("encoder.float32.onnx")),
    )

    text = "\n".join(printed(print_best, best))

    assert text.startswith("Best choice for this device")
    assert "encoder.int8.onnx" in text
    assert "encoder.float32.onnx" not in text
    assert "In one format" not in text


def test_best_choice_of_two_formats_names_that_of_one_as_well(printed):
    best = SelectionRecord(budget=BUDGET, candidates=(candidate("e.int8.onnx", chosen=True),))
    pair = (candidate("e.int8.tflite", median_ms=0.01), candidate("d.int8.tflite", median_ms=0.02))

    assert (
        "In one format, for one runtime: e.int8.tflite and d.int8.tflite, 30.0 us together."
        in " ".join(words(printed(print_best, best, pair)))
    )


def test_what_is_not_good_enough_is_named_beside_the_best_choice(printed):
    unfit = candidate("decoder.int8.onnx", eligible=False, reason="below 40 dB")
    best = SelectionRecord(budget=BUDGET, candidates=(candidate("e.int8.onnx", chosen=True), unfit))

    lines = words(printed(print_best, best))

    assert lines[-3:] == ["Not good enough:", "decoder.int8.onnx below 40 dB", ""]


def test_no_choice_says_so(printed):
    unfit = candidate("decoder.int8.onnx", eligible=False, reason="below 40 dB")
    best = SelectionRecord(budget=BUDGET, candidates=(unfit,))

    text = " ".join(words(printed(print_best, best)))

    assert text.startswith("Best choice for this device: none. Budget: images of at least 40 dB")
    assert "decoder.int8.onnx below 40 dB" in text
