"""Thresholds from histograms that were made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from builder.ranges import BINS, entropy_range, percentile_range


def counted(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], tuple[float, float]]:
    """The histogram of some values and their extremes."""
    most = np.abs(values).max()
    return np.histogram(values, 2 * BINS, (-most, most))[0], (float(values.min()), float(values.max()))


def test_a_percentile_leaves_the_rarest_out_at_both_ends() -> None:
    low, high = percentile_range(*counted(np.linspace(-1, 3, 400_001)), percentile=99.0)
    assert (low, high) == pytest.approx((-0.98, 2.98), abs=3 * 3 / BINS)


def test_a_percentile_does_not_reach_beyond_what_occurred() -> None:
    assert percentile_range(*counted(np.array([0.0, 1.0, 2.0, 2.0])), percentile=99.99) == (0.0, 2.0)
    assert percentile_range(np.zeros(2 * BINS, np.int64), (0.0, 0.0), percentile=99.99) == (0.0, 0.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_entropy_cuts_an_outlier_off_and_keeps_the_rest(sign: int) -> None:
    values = np.random.default_rng(0).normal(size=200_000)
    usual = float(np.abs(values).max())
    low, high = entropy_range(*counted(np.append(values, sign * 100 * usual)))
    assert -10 * usual < low < -3 * values.std()
    assert 3 * values.std() < high < 10 * usual


def test_entropy_keeps_what_is_evenly_spread() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 200_000)
    assert entropy_range(*counted(values)) == pytest.approx((-1, 1), abs=0.02)


def test_entropy_of_one_side_ignores_the_heap_of_zeros_after_a_relu() -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=200_000), 0)
    low, high = entropy_range(*counted(np.append(values, 500.0)))
    assert low == 0
    assert 2.5 < high < 60


@pytest.mark.parametrize("count", [20, 3000])
def test_entropy_of_few_values_does_not_take_gaps_for_shape(count: int) -> None:
    values = np.random.default_rng(0).normal(size=count)
    low, high = entropy_range(*counted(values))
    assert (low, high) == pytest.approx((values.min(), values.max()), abs=0.3)


def test_entropy_is_not_drawn_by_a_heap_of_equal_values() -> None:
    """Such as what a convolution makes of the background of every image."""
    values = np.append(np.random.default_rng(0).normal(size=200_000), np.full(150_000, 0.3))
    low, high = entropy_range(*counted(values))
    assert min(-low, high) > 3
