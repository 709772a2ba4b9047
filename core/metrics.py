"""Task metrics: how good answers are, with honest intervals, and what a loss is.

Differences are *paired*: two models are compared on the same samples, which needs far fewer of them than comparing two
values with an interval each. Written in numpy alone, since the client and the load test carry neither scipy nor
scikit-learn; a test compares with theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError, one_line
from core.functions import load_function
from core.intervals import Scores, bootstrap, paired_difference, wilson
from core.results import Interval, MetricValue

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
TOLERANCE = 0.01  # of the answers' standard deviation: numbers that are closer count as the same answer


@dataclass(frozen=True)
class Metric:
    """`value(output, labels)`: `[N, ...]`, `[N]` to one number. `score`, where the metric is a mean over samples, gives
    the samples' own scores `[N]`. `labels`: class numbers, or numbers of any kind. `fraction`: from 0 to 1, shown in
    percent. `most`: how many numbers of a sample it can compare with a label, None for any; a spec is held to it."""

    name: str
    value: Callable[[Array, Array], float]
    score: Callable[[Array, Array], Scores] | None = None
    labels: Literal["class", "number"] = "class"
    fraction: bool = True
    higher_is_better: bool = True
    most: int | None = None

    def measure(self, output: Array, labels: Array) -> MetricValue:
        """The metric of some outputs, with its interval."""
        if self.score is not None and self.fraction:
            interval = wilson(self.score(output, labels))
        else:
            interval = bootstrap(lambda rows: self.value(output[rows], labels[rows]), len(labels))
        return MetricValue(
            name=self.name,
            value=self.value(output, labels),
            ci95=interval,
            samples=len(labels),
            higher_is_better=self.higher_is_better,
            fraction=self.fraction,
        )

    def worse(self, original: Array, other: Array, labels: Array) -> float:
        """How much worse `other` is on the same samples, negative if it is better."""
        change = self.value(other, labels) - self.value(original, labels)
        return -change if self.higher_is_better else change

    def loss(self, original: Array, other: Array, labels: Array) -> tuple[float, Interval]:
        """`worse`, with the paired interval."""
        worse = self.worse(original, other, labels)
        if self.score is not None and self.fraction:
            _, low, high = paired_difference(self.score(original, labels), self.score(other, labels))
            return worse, (-high, -low)
        return worse, bootstrap(lambda rows: self.worse(original[rows], other[rows], labels[rows]), len(labels))

    def same(self, output: Array, other: Array) -> NDArray[np.bool_]:
        """Which samples `[N]` have the same answer in both: the same class, or nearly the same numbers."""
        if self.labels == "class" and (decides(output) or self.name != "auc"):  # which ranks a single score
            equal: NDArray[np.bool_] = decide(output) == decide(other)
            return equal
        a, b = flat(output), flat(other)
        close: NDArray[np.bool_] = np.abs(a - b).max(axis=1) <= TOLERANCE * max(float(b.std()), 1e-12)
        return close


def flat(output: Array) -> Floats:
    """`[N, ...]` as float64 `[N, k]`."""
    return output.reshape(len(output), -1).astype(np.float64)


def decides(output: Array) -> bool:
    """Whether there are several scores to choose the best of."""
    return output[:1].size > 1


def decide(output: Array) -> NDArray[np.intp]:
    """The best class of each sample, `[N]`; of a single score whether it is positive."""
    scores = flat(output)
    return scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(np.intp)


def _mean(score: Callable[[Array, Array], Scores]) -> Callable[[Array, Array], float]:
    return lambda output, labels: float(score(output, labels).mean())


def _top(k: int) -> Callable[[Array, Array], Scores]:
    def score(output: Array, labels: Array) -> Scores:
        scores = output.reshape(len(output), -1)
        if scores.shape[1] == 1:  # a single score decides between two classes
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        # Sorted from the last class to the first, so that of equal ones the first is the better, as argmax has it.
        best = scores.shape[1] - 1 - np.argsort(scores[:, ::-1], axis=1, kind="stable")[:, -k:]
        hits: Scores = (best == labels.reshape(-1, 1)).any(axis=1).astype(np.float64)
        return hits

    return score


def _within(distance: int) -> Callable[[Array, Array], Scores]:
    def score(output: Array, labels: Array) -> Scores:
        near: Scores = (np.abs(decide(output) - labels.astype(np.int64)) <= distance).astype(np.float64)
        return near

    return score


def _absolute_error(output: Array, labels: Array) -> Scores:
    errors: Scores = np.abs(flat(output) - labels.reshape(len(labels), -1).astype(np.float64)).mean(axis=1)
    return errors


def ranks(values: Floats) -> Floats:
    """From 1, equal values sharing the mean of their ranks, `[N]`."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Floats = ((last - counts + 1 + last) / 2)[where]
    return shared


def _pearson(output: Array, labels: Array) -> float:
    a, b = flat(output)[:, 0], labels.astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / length if length > 0 else float("nan")


def _spearman(output: Array, labels: Array) -> float:
    return _pearson(ranks(flat(output)[:, 0])[:, None], ranks(labels.astype(np.float64)))


def _f1(output: Array, labels: Array) -> float:
    """The mean over the classes that occur among labels or answers (macro F1); of two classes that of class 1."""
    answers, truth = decide(output), labels.astype(np.int64)
    classes = [1] if flat(output).shape[1] <= 2 else sorted({*answers.tolist(), *truth.tolist()})
    found = []
    for one in classes:
        hits = int(((answers == one) & (truth == one)).sum())
        both = int((answers == one).sum() + (truth == one).sum())
        found.append(2 * hits / both if both else 0.0)
    return float(np.mean(found))


def _auc(output: Array, labels: Array) -> float:
    """Area under the ROC curve of class 1 against class 0, by ranks (Mann and Whitney); NaN if one does not occur."""
    scores = flat(output)
    margin = scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]
    positive = labels.astype(np.int64) == 1
    count, rest = int(positive.sum()), int((~positive).sum())
    if not count or not rest:
        return float("nan")
    return float((ranks(margin)[positive].sum() - count * (count + 1) / 2) / (count * rest))


def _scored(name: str, score: Callable[[Array, Array], Scores]) -> Metric:
    return Metric(name, _mean(score), score)


def get_metric(name: str, higher_is_better: bool = True) -> Metric:
    """The metric of a name of the table, or of `file.py:function`: the user's own `(output [N, ...], labels [N])` to a
    number. Raises InputError for any other."""
    if name in METRICS:
        return METRICS[name]
    if ".py:" not in name:
        raise InputError(f"metric {name!r} is not known; known are {', '.join(METRICS)}, or write file.py:function")
    function = load_function(name)

    def value(output: Array, labels: Array) -> float:
        try:
            return float(function(output, labels))
        except Exception as error:  # the user's code may raise anything
            raise InputError(f"the metric {name} failed: {type(error).__name__}: {one_line(error)}") from error

    own = name.rpartition(":")[2]
    return Metric(own, value, labels="number", fraction=False, higher_is_better=higher_is_better)


METRICS: Final = {
    metric.name: metric
    for metric in (
        _scored("top1", _top(1)),
        _scored("top5", _top(5)),
        _scored("within2", _within(2)),
        Metric("f1", _f1),
        Metric("auc", _auc, most=2),
        Metric("spearman", _spearman, labels="number", fraction=False, most=1),
        Metric("pearson", _pearson, labels="number", fraction=False, most=1),
        Metric(
            "mae",
            _mean(_absolute_error),
            _absolute_error,
            labels="number",
            fraction=False,
            higher_is_better=False,
            most=1,
        ),
    )
}
