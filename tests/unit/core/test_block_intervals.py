"""Intervals from blocks: whether they hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from core.intervals import block_ratio, student95, unpaired_ratio


def test_students_quantiles_are_those_of_the_tables() -> None:
    for freedom, value in ((4, 2.776), (5, 2.571), (9, 2.262), (19, 2.093), (99, 1.984), (10**6, 1.960)):
        assert student95(freedom) == pytest.approx(value, abs=0.004)


@pytest.mark.parametrize("blocks", [6, 20])
def test_the_interval_of_few_blocks_holds_the_truth_as_often_as_it_says(blocks: int) -> None:
    random, missed = np.random.default_rng(7), 0
    for _ in range(1000):
        low, high = block_ratio(list(np.exp(random.normal(0.1, 0.05, blocks))))[1]
        missed += not low <= np.exp(0.1) <= high
    assert 30 <= missed <= 75  # of 1000; 50 are expected, and the plain percentile bootstrap of 6 blocks misses 120


def test_separate_sets_of_blocks_compare_by_their_means() -> None:
    random, missed = np.random.default_rng(8), 0
    for _ in range(500):
        one, two = np.exp(random.normal(0.2, 0.05, 10)), np.exp(random.normal(0.1, 0.05, 10))
        ratio, (low, high) = unpaired_ratio(list(one), list(two))
        assert low < ratio < high
        missed += not low <= np.exp(0.1) <= high
    assert 8 <= missed <= 40  # of 500


def test_equal_blocks_leave_no_doubt() -> None:
    ratio, interval = block_ratio([2.0] * 8)
    assert (ratio, *interval) == pytest.approx((2.0, 2.0, 2.0))
