"""Task metrics, and honest intervals for them.

A metric gives one score a sample, 0 or 1; its value is their mean. That makes differences *paired*: two models are
compared on the same samples, which needs far fewer of them than comparing two means.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Z95: Final = 1.959964


@dataclass(frozen=True)
class Metric:
    """`score(output, labels)`: `[N, classes]`, `[N]` to scores `[N]`; `decide(output)`: the answer that is scored."""

    name: str
    score: Callable[[NDArray[np.generic], NDArray[np.generic]], Scores]
    decide: Callable[[NDArray[np.generic]], NDArray[np.generic]]
    higher_is_better: bool = True


def _top(k: int) -> Callable[[NDArray[np.generic], NDArray[np.generic]], Scores]:
    def score(output: NDArray[np.generic], labels: NDArray[np.generic]) -> Scores:
        flat = output.reshape(len(output), -1)
        # Sorted from the last class to the first, so that of equal ones the first is the better, as argmax has it.
        best = flat.shape[1] - 1 - np.argsort(flat[:, ::-1], axis=1, kind="stable")[:, -k:]
        hits: Scores = (best == labels.reshape(-1, 1)).any(axis=1).astype(np.float64)
        return hits

    return score


def _argmax(output: NDArray[np.generic]) -> NDArray[np.generic]:
    decided: NDArray[np.generic] = output.reshape(len(output), -1).argmax(axis=1)
    return decided


METRICS: Final = {
    metric.name: metric for metric in (Metric("top1", _top(1), _argmax), Metric("top5", _top(5), _argmax))
}


def wilson(scores: Scores) -> tuple[float, float]:
    """95% interval of the mean of 0/1 scores (Wilson, "Probable inference", JASA 22, 1927)."""
    n, p = len(scores), float(scores.mean())
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(baseline: Scores, other: Scores) -> tuple[float, float, float]:
    """`mean(other) - mean(baseline)` on the same samples, with a 95% interval: `(difference, low, high)`.

    The interval adds half a count to each cell of the 2 x 2 table (Agresti and Min, "Simple improved confidence
    intervals for comparing matched proportions", Statistics in Medicine 24, 2005), so that it does not collapse to a
    point when no sample changed.
    """
    n = len(baseline) + 2
    gained, lost = float((other > baseline).sum()) + 0.5, float((other < baseline).sum()) + 0.5
    centre = (gained - lost) / n
    half = Z95 * math.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    return float(other.mean() - baseline.mean()), centre - half, centre + half
