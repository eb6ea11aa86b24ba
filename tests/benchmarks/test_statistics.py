from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import (
    Summary,
    median_draws,
    median_ratio_interval,
    relative_spread,
    speedup_interval,
    summarize,
    taken,
)
from vae_edge.errors import UsageError


def test_summary_of_values_worked_out_by_hand() -> None:
    # sorted: 1 2 3 4 100. p95 stands at index 3.8: 4 + 0.8 * 96; p99 at 3.96: 4 + 0.96 * 96.
    # Deviations from 3: 2 1 0 1 97, their median is 1.
    found = summarize([4, 100, 1, 3, 2])
    assert found.median == 3
    assert found.p95 == pytest.approx(80.8)
    assert found.p99 == pytest.approx(96.16)
    assert found.mad == 1


def test_median_of_an_even_count_is_the_middle_of_two() -> None:
    assert summarize([1, 2, 10, 20]).median == 6


def test_one_sample_is_its_own_summary() -> None:
    assert summarize([5.0]) == Summary(median=5.0, p95=5.0, p99=5.0, mad=0.0)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(UsageError, match="no samples"):
        summarize([])


def test_relative_spread_scales_the_mad_to_a_standard_deviation() -> None:
    summary = Summary(median=10.0, p95=12.0, p99=13.0, mad=1.0)
    assert relative_spread(summary) == pytest.approx(0.14826)


def test_rounds_without_a_sample_are_left_out() -> None:
    assert taken([1.0, None, 3.0, None]) == [1.0, 3.0]


def test_what_disturbs_both_in_a_round_does_not_widen_the_interval() -> None:
    # Ten times slower in every single round, however much the rounds differ.
    candidate = [1.0, 5.0, 2.0, 9.0, 3.0]
    found = speedup_interval([10 * ns for ns in candidate], candidate, seed=0)
    assert (found.low, found.value, found.high) == (10.0, 10.0, 10.0)


def test_interval_from_all_resamples_of_two_rounds() -> None:
    # Resamples of (2, 4) over (1, 1): ratio 2 in a quarter, 3 in half, 4 in a quarter of them.
    found = speedup_interval([2.0, 4.0], [1.0, 1.0], seed=0)
    assert (found.low, found.value, found.high) == (2.0, 3.0, 4.0)
    assert found.confidence == 0.95
    # The middle 40 % leaves out 30 % on either side, so both quarters.
    narrow = speedup_interval([2.0, 4.0], [1.0, 1.0], seed=0, confidence=0.4)
    assert (narrow.low, narrow.high) == (3.0, 3.0)


def test_the_ratio_is_reference_over_candidate() -> None:
    assert speedup_interval([1.0, 1.0], [4.0, 4.0], seed=0).value == 0.25


def test_only_rounds_that_measured_both_count() -> None:
    found = speedup_interval([None, 10.0, 99.0, 10.0], [1.0, 5.0, None, 5.0], seed=0)
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)


def test_the_seed_decides_the_interval() -> None:
    reference = [3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.0, 6.0]
    candidate = [2.0, 7.0, 1.0, 8.0, 2.5, 8.5, 1.2, 8.1]
    first = speedup_interval(reference, candidate, seed=1)
    assert first == speedup_interval(reference, candidate, seed=1)
    assert first.low < first.value < first.high


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ([1.0, 2.0], [1.0]),
        ([], []),
        ([1.0, None], [None, 1.0]),
        ([1.0, 0.0], [1.0, 1.0]),
        ([1.0, 1.0], [1.0, -1.0]),
    ],
    ids=["lengths", "empty", "no shared round", "zero", "negative"],
)
def test_rounds_that_cannot_be_compared_are_an_error(
    reference: list[float | None], candidate: list[float | None]
) -> None:
    with pytest.raises(UsageError, match="the same rounds of both"):
        speedup_interval(reference, candidate, seed=0)


def test_ratio_of_two_runs_resamples_each_apart() -> None:
    # Of 2 and 4 the medians 2, 3, 4 come up at 1/4, 1/2, 1/4; of 1 and 1 only 1.
    found = median_ratio_interval([2.0, 4.0], [1.0, None, 1.0, 1.0], seed=0)
    assert (found.low, found.value, found.high) == (2.0, 3.0, 4.0)
    # The same row twice: paired rounds would give 1 alone.
    same = median_ratio_interval([2.0, 4.0], [2.0, 4.0], seed=0)
    assert (same.low, same.value, same.high) == (0.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("numerator", "denominator"), [([], [1.0]), ([1.0], [None]), ([0.0], [1.0]), ([1.0], [-1.0])]
)
def test_ratio_of_two_runs_needs_positive_samples_on_both_sides(
    numerator: list[float | None], denominator: list[float | None]
) -> None:
    with pytest.raises(UsageError, match="at least one sample on each side"):
        median_ratio_interval(numerator, denominator, seed=0)


def test_rows_of_one_run_are_drawn_together() -> None:
    slow = [1.0, 2.0, 4.0, 8.0, 16.0]
    found = median_draws([slow, [10 * sample for sample in slow]], seed=3)
    assert found.values.tolist() == [4.0, 40.0]
    assert found.draws.shape == (2, 2000)
    np.testing.assert_allclose(found.draws[1], 10 * found.draws[0])
    assert len(set(found.draws[0])) > 1


def test_rounds_that_were_left_out_are_not_drawn() -> None:
    found = median_draws([[2.0, None, None, None]], seed=0)
    assert set(found.draws[0]) == {2.0}


@pytest.mark.parametrize("row", [[], [None], [1.0, 0.0], [-1.0]])
def test_a_row_without_time_cannot_be_drawn_from(row: list[float | None]) -> None:
    with pytest.raises(UsageError, match="longer than 0"):
        median_draws([row], seed=0)
