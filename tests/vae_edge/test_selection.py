"""Choices among made-up artifacts, each worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from vae_edge.errors import UsageError
from vae_edge.manifest import MetricRecord, ParityRecord, QualityBudget
from vae_edge.selection import (
    DEFAULT_BUDGET,
    Candidate,
    alike_by_median,
    budget_of,
    by_component,
    by_component_and_format,
    choose,
)

BUDGET = QualityBudget(min_psnr_db=40.0, max_error=0.01)


@pytest.fixture
def make(make_manifest):
    """`make(file, ms, size, psnr=..., rmse=..., passed=...)` gives a candidate."""

    def candidate(file, ms, size_bytes, *, psnr=50.0, rmse=0.003, passed=True, parity=True):
        record = make_manifest({file: b""}, b"golden").artifacts[0]
        metrics = tuple(
            MetricRecord(output="o", metric=name, value=value, limit=1.0, passed=True)
            for name, value in (("psnr_db", psnr), ("rmse", rmse))
        )
        verdict = ParityRecord(passed=passed, samples=5, runtime="r", metrics=metrics)
        record = replace(record, size_bytes=size_bytes, parity=verdict if parity else None)
        return Candidate(record=record, median_ms=ms)

    return candidate


def fates(record):
    return {c.file: (c.chosen, c.reason) for c in record.candidates}


def test_fastest_within_the_budget_wins(make):
    record = choose(
        [
            make("decoder.float32.tflite", 0.4, 900, psnr=147.0),
            make("decoder.int8.tflite", 0.2, 100, psnr=44.0),
            make("decoder.dynamic.tflite", 0.3, 80, psnr=43.0),
        ],
        BUDGET,
        group=by_component_and_format,
    )

    assert record.budget == BUDGET
    assert record.chosen == ("decoder.int8.tflite",)
    assert fates(record) == {
        "decoder.float32.tflite": (False, "2.0x the time"),
        "decoder.int8.tflite": (True, "fastest"),
        "decoder.dynamic.tflite": (False, "1.50x the time"),
    }


def test_only_what_could_have_been_chosen_is_eligible(make):
    record = choose(
        [
            make("decoder.float32.tflite", 0.4, 900),
            make("decoder.int8.tflite", 0.2, 100),
            make("decoder.dynamic.tflite", 0.1, 80, psnr=39.0),
        ],
        BUDGET,
        group=by_component,
    )

    assert [c.eligible for c in record.candidates] == [True, True, False]


def test_record_keeps_the_figures_that_decided(make):
    (record,) = choose(
        [make("encoder.int8.onnx", 0.25, 123, psnr=None, rmse=0.0)],
        BUDGET,
        group=by_component,
    ).candidates

    assert (record.size_bytes, record.median_ms, record.psnr_db, record.rmse) == (
        123,
        0.25,
        None,
        0.0,
    )


def test_image_below_the_budget_is_out_however_fast(make):
    record = choose(
        [
            make("decoder.int8.tflite", 0.1, 100, psnr=39.9),
            make("decoder.float16.tflite", 0.4, 500, psnr=40.0),
        ],
        BUDGET,
        group=by_component,
    )

    assert fates(record) == {
        "decoder.int8.tflite": (False, "below 40 dB"),
        "decoder.float16.tflite": (True, "fastest"),
    }


def test_latents_are_held_to_their_own_limit(make):
    """The encoder's PSNR is not what is asked for, the decoder's rmse neither."""
    record = choose(
        [
            make("encoder.int8.tflite", 0.1, 100, psnr=39.0, rmse=0.0101),
            make("encoder.dynamic.tflite", 0.2, 100, psnr=10.0, rmse=0.01),
            make("decoder.int8.tflite", 0.1, 100, psnr=41.0, rmse=0.5),
        ],
        BUDGET,
        group=by_component,
    )

    assert fates(record) == {
        "encoder.int8.tflite": (False, "latents off by 0.0101"),
        "encoder.dynamic.tflite": (True, "fastest"),
        "decoder.int8.tflite": (True, "fastest"),
    }


@pytest.mark.parametrize(
    ("changes", "ms", "reason"),
    [
        ({"passed": False}, 0.1, "fails parity"),
        ({"parity": False}, 0.1, "parity not checked"),
        ({}, None, "not measured"),
    ],
)
def test_what_was_not_proven_or_measured_is_out(make, changes, ms, reason):
    record = choose(
        [make("encoder.int8.onnx", ms, 1, **changes), make("encoder.float32.onnx", 0.9, 999)],
        BUDGET,
        group=by_component,
    )

    assert fates(record)["encoder.int8.onnx"] == (False, reason)
    assert record.chosen == ("encoder.float32.onnx",)


def test_on_a_tie_the_smaller_file_wins(make):
    record = choose(
        [
            make("decoder.float32.onnx", 0.100, 900),
            make("decoder.float16.onnx", 0.102, 450),
            make("decoder.int8.onnx", 0.104, 250),
        ],
        BUDGET,
        group=by_component,
    )

    # 2 % behind the fastest is a tie, 4 % is not.
    assert fates(record) == {
        "decoder.float32.onnx": (False, "as fast, but no smaller"),
        "decoder.float16.onnx": (True, "as fast as any, and smaller"),
        "decoder.int8.onnx": (False, "1.02x the time"),
    }


def test_of_two_of_one_size_the_faster_wins(make):
    record = choose(
        [make("decoder.int8.onnx", 0.101, 100), make("decoder.dynamic.onnx", 0.100, 100)],
        BUDGET,
        group=by_component,
    )

    assert record.chosen == ("decoder.dynamic.onnx",)


def test_measurement_may_know_ties_better_than_the_medians(make):
    candidates = [
        make("decoder.float32.onnx", 0.10, 900),
        make("decoder.int8.onnx", 0.12, 100),
    ]

    def choice(alike):
        return choose(candidates, BUDGET, group=by_component, alike=alike).chosen

    assert choice(lambda one, other: True) == ("decoder.int8.onnx",)
    assert choice(lambda one, other: False) == ("decoder.float32.onnx",)


def test_formats_compete_only_where_they_are_told_to(make):
    candidates = [
        make("decoder.int8.tflite", 0.1, 100),
        make("decoder.float32.onnx", 0.2, 100),
        make("encoder.float16.tflite", 0.3, 100),
        make("encoder.int8.onnx", 0.2, 100),
    ]

    assert choose(candidates, BUDGET, group=by_component_and_format).chosen == tuple(
        c.record.file for c in candidates
    )
    assert choose(candidates, BUDGET, group=by_component).chosen == (
        "decoder.int8.tflite",
        "encoder.int8.onnx",
    )


def test_none_is_chosen_where_none_keeps_the_budget(make):
    record = choose(
        [make("decoder.float32.onnx", 0.1, 9, psnr=120.0), make("encoder.float32.onnx", 0.1, 9)],
        QualityBudget(min_psnr_db=200.0, max_error=0.01),
        group=by_component,
    )

    assert record.chosen == ("encoder.float32.onnx",)
    assert fates(record)["decoder.float32.onnx"] == (False, "below 200 dB")


def test_identical_outputs_keep_every_budget(make):
    strict = QualityBudget(min_psnr_db=500.0, max_error=0.0)
    candidate = make("decoder.float32.onnx", 0.1, 9, psnr=None, rmse=0.0)

    assert choose([candidate], strict, group=by_component).chosen == ("decoder.float32.onnx",)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [(0.1, 0.1029, True), (0.1, 0.1032, False), (None, 0.1, False), (0.1, None, False)],
)
def test_medians_within_three_percent_are_alike(make, one, other, alike):
    candidates = (
        make("decoder.int8.onnx", one, 1),
        make("decoder.float32.onnx", other, 1),
    )

    assert alike_by_median(*candidates) is alike


def test_budget_is_the_default_where_nothing_is_set():
    assert budget_of(None, None) == DEFAULT_BUDGET == BUDGET
    assert budget_of(35.5, 0.0) == QualityBudget(min_psnr_db=35.5, max_error=0.0)


@pytest.mark.parametrize(
    ("psnr", "error", "option"),
    [
        (math.inf, None, "--min-psnr inf"),
        (math.nan, None, "--min-psnr nan"),
        (None, -0.1, "--max-error -0.1"),
        (None, math.nan, "--max-error nan"),
    ],
)
def test_impossible_budget_names_its_option(psnr, error, option):
    with pytest.raises(UsageError, match=option):
        budget_of(psnr, error)
