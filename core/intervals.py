"""95% intervals: of shares, means, medians, or any statistic. Resampling is seeded: equal samples, equal interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.results import Interval

Scores = NDArray[np.float64]
Z95: Final = 1.959964
TABLED: Final = {1: 12.706, 2: 4.303, 3: 3.182}  # Student's quantiles of 97.5%
EXACT_BLOCKS: Final = 60


def wilson(scores: Scores) -> Interval:
    """Of the mean of 0/1 scores (Wilson, "Probable inference", JASA 22, 1927)."""
    n, p = len(scores), float(scores.mean())
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(baseline: Scores, other: Scores) -> tuple[float, float, float]:
    """`mean(other) - mean(baseline)` of 0/1 scores on the same samples, with its interval: `(difference, low, high)`.

    The interval adds half a count to each cell of the 2 x 2 table (Agresti and Min, "Simple improved confidence
    intervals for comparing matched proportions", Statistics in Medicine 24, 2005), so that it does not collapse to a
    point when no sample changed.
    """
    n = len(baseline) + 2
    gained, lost = float((other > baseline).sum()) + 0.5, float((other < baseline).sum()) + 0.5
    centre = (gained - lost) / n
    half = Z95 * math.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    return float(other.mean() - baseline.mean()), centre - half, centre + half


def bootstrap(statistic: Callable[[NDArray[np.intp]], float], samples: int, rounds: int = 1000) -> Interval:
    """Of any statistic of `samples` samples, by resampling them (Efron's percentile bootstrap): `statistic` gets the
    rows `[samples]` of each round. Rounds in which it is not defined (NaN) are left out."""
    random = np.random.default_rng(1)
    values = np.array([statistic(random.integers(samples, size=samples)) for _ in range(rounds)])
    known = values[np.isfinite(values)]
    low, high = np.percentile(known if len(known) else [statistic(np.arange(samples))], [2.5, 97.5])
    return float(low), float(high)


def median_interval(values: Sequence[float]) -> Interval:
    """Of the median of a few repeated measurements."""
    array = np.asarray(values, float)
    return bootstrap(lambda rows: float(np.median(array[rows])), len(array), rounds=4000)


def mean_interval(values: Sequence[float]) -> Interval:
    """Of the mean of a few independent measurements: Student's t (Biometrika 1908)."""
    array = np.asarray(values, float)
    reach = student95(len(array) - 1) * float(array.std(ddof=1)) / math.sqrt(len(array))
    return float(array.mean()) - reach, float(array.mean()) + reach


def steady(interval: Interval) -> bool:
    """Whether a ratio is known well enough to be quoted: its interval lies within half as much again."""
    low, high = interval
    return high <= 1.5 * low


def block_ratio(ratios: Sequence[float]) -> tuple[float, Interval]:
    """A typical ratio of two or more positive ones, one a block, and its interval: on a log scale the median of all
    means of two (Hodges and Lehmann, "Estimates of Location Based on Rank Tests", Annals of Mathematical Statistics 34,
    1963) and those of them between which Wilcoxon's signed-rank test does not reject.

    Variants take turns in random order, so between equal ones a ratio is as likely as its inverse, which is all that
    the test asks for. A mean would be at the mercy of the few blocks in which the machine did something else: passes at
    half the speed, in one window of two, hide 5% among twenty blocks. Fewer than six blocks cannot give 95%; then the
    interval is all that was seen.
    """
    logs = np.log(np.asarray(ratios, float))
    first, second = np.triu_indices(len(logs))
    means = np.sort((logs[first] + logs[second]) / 2)  # Walsh's averages, each block with itself too
    cut = _signed_rank_cut(len(logs))
    return math.exp(np.median(means)), (math.exp(means[cut]), math.exp(means[len(means) - 1 - cut]))


def _signed_rank_cut(blocks: int) -> int:
    """How many of the sums of signed ranks, from the least on, have a chance of 2.5% together at most."""
    if blocks > EXACT_BLOCKS:  # the sum is normal by then
        return int(blocks * (blocks + 1) / 4 - Z95 * math.sqrt(blocks * (blocks + 1) * (2 * blocks + 1) / 24))
    ways = np.zeros(blocks * (blocks + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, blocks + 1):
        ways[rank:] += ways[:-rank].copy()  # this rank counts, or not
        ways /= 2
    return max(0, int(np.searchsorted(np.cumsum(ways), 0.025, side="right")) - 1)


def unpaired_ratio(values: Sequence[float], base: Sequence[float]) -> tuple[float, Interval]:
    """The ratio of the geometric means of two separate sets of two blocks or more, its interval made the same way."""
    logs, base_logs = np.log(np.asarray(values, float)), np.log(np.asarray(base, float))
    means = _resampled_means(logs, seed=1) - _resampled_means(base_logs, seed=2)
    low, high = _expanded(means, min(len(logs), len(base_logs)))
    return math.exp(logs.mean() - base_logs.mean()), (math.exp(low), math.exp(high))


def _resampled_means(values: Scores, seed: int, rounds: int = 2000) -> Scores:
    rows = np.random.default_rng(seed).integers(len(values), size=(rounds, len(values)))
    means: Scores = values[rows].mean(axis=1)
    return means


def _expanded(means: Scores, blocks: int) -> Interval:
    reach = student95(blocks - 1) * math.sqrt(blocks / (blocks - 1))
    tail = 50 * math.erfc(reach / math.sqrt(2))  # percent below -reach in the normal distribution
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def student95(freedom: int) -> float:
    """Student's two-sided 95% quantile (Cornish and Fisher's expansion as in Abramowitz and Stegun, 26.7.5, within 0.1%
    from 4 degrees of freedom on; below, where it is too small, as in their tables)."""
    if freedom in TABLED:
        return TABLED[freedom]
    z = Z95
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
