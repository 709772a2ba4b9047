"""Intervals for a few repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.results import Interval


def median_interval(values: Sequence[float], rounds: int = 4000) -> Interval:
    """95% interval of the median, by resampling the measurements (Efron's percentile bootstrap); seeded, so that the
    same measurements give the same interval."""
    chosen = np.random.default_rng(1).choice(np.asarray(values, float), (rounds, len(values)))
    low, high = np.percentile(np.median(chosen, axis=1), [2.5, 97.5])
    return float(low), float(high)


def steady(interval: Interval) -> bool:
    """Whether a ratio is known well enough to be quoted: its interval lies within half as much again."""
    low, high = interval
    return high <= 1.5 * low
