"""Intervals from blocks: whether they hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from core.intervals import block_ratio, mean_interval, student95, unpaired_ratio


def test_students_quantiles_are_those_of_the_tables() -> None:
    for freedom, value in (
        (1, 12.706),
        (2, 4.303),
        (4, 2.776),
        (5, 2.571),
        (9, 2.262),
        (19, 2.093),
        (99, 1.984),
        (10**6, 1.960),
    ):
        assert student95(freedom) == pytest.approx(value, abs=0.004)


def test_a_mean_of_three_has_a_wide_interval() -> None:
    """By hand: 3 values of mean 3.153 and deviation 0.425, so 4.303 * 0.425 / sqrt(3) to each side."""
    assert mean_interval([3.47, 2.67, 3.32]) == pytest.approx((2.097, 4.210), abs=0.002)
    assert mean_interval([1.0, 1.0]) == (1.0, 1.0)


@pytest.mark.parametrize("blocks", [6, 20])
def test_the_interval_of_few_blocks_holds_the_truth_as_often_as_it_says(blocks: int) -> None:
    random, missed = np.random.default_rng(7), 0
    for _ in range(1000):
        low, high = block_ratio(list(np.exp(random.normal(0.1, 0.05, blocks))))[1]
        missed += not low <= np.exp(0.1) <= high
    assert 20 <= missed <= 70  # of 1000; 31 are expected of 6 blocks, 48 of 20, as ranks are whole numbers


def test_a_few_disturbed_blocks_do_not_hide_a_difference() -> None:
    """As recorded on a machine that is slow for seconds at a time: five of twenty blocks are worth nothing."""
    random = np.random.default_rng(9)
    ratios = np.exp(random.normal(np.log(0.95), 0.01, 20))
    ratios[3::4] *= [0.55, 1.8, 1.6, 0.5, 1.9]
    ratio, (low, high) = block_ratio(list(ratios))
    assert 0.93 < low < ratio < high < 1


@pytest.mark.parametrize(("blocks", "rank"), [(6, 0), (7, 2), (10, 8), (20, 52), (50, 434)])
def test_the_ranks_are_those_of_the_tables(blocks: int, rank: int) -> None:
    """Blocks whose means of two are all different and known: powers of two, as logarithms."""
    logs = np.array([2.0**-place for place in range(blocks)])
    means = np.sort([(logs[i] + logs[j]) / 2 for i in range(blocks) for j in range(i, blocks)])
    low, high = block_ratio(list(np.exp(logs)))[1]
    assert (np.log(low), np.log(high)) == pytest.approx((means[rank], means[-1 - rank]))


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
