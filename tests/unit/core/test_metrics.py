"""Metrics against scipy's and scikit-learn's, and intervals against what is published or known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from core.errors import InputError
from core.intervals import bootstrap, median_interval, paired_difference, steady, wilson
from core.metrics import METRICS, get_metric

RANDOM = np.random.default_rng(7)
NUMBERS = RANDOM.normal(size=400).round(1)  # with ties
NOISY = (NUMBERS + RANDOM.normal(size=400)).astype(np.float32)[:, None]
CLASSES = RANDOM.integers(0, 12, size=400)
SCORES = (np.eye(12)[CLASSES] + RANDOM.normal(size=(400, 12)) * 0.3).astype(np.float32)


def test_top_k_scores_what_their_names_say() -> None:
    output = np.array([[0.1, 0.9, 0.01, 0.02, 0.03, 0.5], [9, 8, 7, 6, 5, 4]], np.float32)
    for name, labels, expected in (
        ("top1", [1, 5], [1, 0]), ("top5", [1, 5], [1, 0]), ("top5", [2, 2], [0, 1]),
        ("within2", [3, 3], [1, 0]), ("within2", [1, 2], [1, 1]),
    ):  # fmt: skip
        score = METRICS[name].score
        assert score is not None
        assert score(output, np.array(labels)).tolist() == expected, name


def test_a_single_score_decides_between_two_classes() -> None:
    """As `f1` and `auc` have it: class 1 where it is positive."""
    output, labels = np.array([[-2.0], [3.0], [0.5], [-0.1]], np.float32), np.array([0, 1, 0, 1])
    score = METRICS["top1"].score
    assert score is not None
    assert score(output, labels).tolist() == [1, 1, 0, 0]
    assert METRICS["top1"].loss(output, -output, labels)[0] == 0
    assert METRICS["top1"].same(output, output * 7).all()
    assert not METRICS["top1"].same(output, -output).any()


def test_correlations_agree_with_scipy() -> None:
    assert METRICS["spearman"].value(NOISY, NUMBERS) == pytest.approx(stats.spearmanr(NOISY[:, 0], NUMBERS).statistic)
    assert METRICS["pearson"].value(NOISY, NUMBERS) == pytest.approx(stats.pearsonr(NOISY[:, 0], NUMBERS).statistic)
    assert METRICS["mae"].value(NOISY, NUMBERS) == pytest.approx(np.abs(NOISY[:, 0] - NUMBERS).mean())


def test_classification_agrees_with_scikit_learn() -> None:
    answers = SCORES.argmax(axis=1)
    assert METRICS["f1"].value(SCORES, CLASSES) == pytest.approx(
        sklearn_metrics.f1_score(CLASSES, answers, average="macro")
    )
    two, truth = SCORES[:, :2], (CLASSES > 5).astype(int)
    assert METRICS["f1"].value(two, truth) == pytest.approx(sklearn_metrics.f1_score(truth, two.argmax(axis=1)))
    for output, margin in ((two, two[:, 1] - two[:, 0]), (NOISY.round(1), NOISY.round(1)[:, 0])):
        assert METRICS["auc"].value(output, truth) == pytest.approx(sklearn_metrics.roc_auc_score(truth, margin))
    assert np.isnan(METRICS["auc"].value(two, np.ones(400)))


@pytest.mark.parametrize("name", METRICS)
def test_a_worse_model_loses_whichever_way_is_better(name: str) -> None:
    metric = METRICS[name]
    good, labels = (NOISY, NUMBERS) if metric.labels == "number" else (SCORES, CLASSES)
    if name == "auc":
        good, labels = SCORES[:, :2], (CLASSES == 1).astype(int)
    bad = good + np.random.default_rng(3).normal(size=good.shape).astype(np.float32) * 5
    loss, (low, high) = metric.loss(good, bad, labels)
    assert 0 < low < loss < high
    gain, (low, high) = metric.loss(bad, good, labels)
    assert gain == pytest.approx(-loss)
    assert low < gain < high < 0
    none, (low, high) = metric.loss(good, good, labels)
    assert none == 0
    assert low <= 0 <= high
    measured = metric.measure(good, labels)
    assert measured.ci95[0] < measured.value < measured.ci95[1]
    assert (measured.higher_is_better, measured.fraction) == (metric.higher_is_better, metric.fraction)


def test_the_same_answer_is_the_same_class_or_nearly_the_same_number() -> None:
    assert METRICS["top1"].same(SCORES, SCORES + 1).all()
    assert METRICS["top1"].same(SCORES, -SCORES).mean() < 0.2
    single = np.array([[-1.0], [2.0]], np.float32)
    assert METRICS["auc"].same(single, single + 0.001).tolist() == [True, True]
    close, far = NOISY + 0.001, NOISY + 0.1
    assert METRICS["pearson"].same(close, NOISY).all()
    assert not METRICS["pearson"].same(far, NOISY).any()


def test_a_function_of_the_users_is_a_metric(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def error(output, labels):\n    return abs(output[:, 0] - labels).max()\n\nnumber = 3\n")
    metric = get_metric(f"{file}:error", higher_is_better=False)
    assert metric.value(NOISY, NUMBERS) == pytest.approx(np.abs(NOISY[:, 0] - NUMBERS).max())
    assert metric.loss(NOISY, NOISY * 3, NUMBERS)[0] > 0
    assert metric.name == "error"
    for name, why in (
        (f"{file}:missing", "has no function 'missing'"), (f"{file}:number", "has no function 'number'"),
        (f"{tmp_path}/no.py:f", "does not exist"), ("top3", "known are top1"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=why):
            get_metric(name)
    file.write_text("def error(output, labels):\n    return output.shape[7]\n")
    with pytest.raises(InputError, match=r"mine\.py:error failed: IndexError"):
        get_metric(f"{file}:error").value(NOISY, NUMBERS)
    file.write_text("raise SystemExit(3)")
    with pytest.raises(InputError, match=r"mine\.py cannot be imported: SystemExit"):
        get_metric(f"{file}:error")


def test_wilson_agrees_with_the_published_example() -> None:
    # 81 of 263: Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    low, high = wilson(np.r_[np.ones(81), np.zeros(182)])
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_bootstrap_covers_the_mean_as_theory_says() -> None:
    values = np.random.default_rng(5).normal(10, 2, size=400)
    low, high = bootstrap(lambda rows: float(values[rows].mean()), 400)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)
    half_defined = bootstrap(lambda rows: 1.0 if rows[0] else float("nan"), 2)
    assert half_defined == (1.0, 1.0)


def test_the_median_of_a_few_has_a_repeatable_interval() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 50.0]
    low, high = median_interval(values)
    assert (low, high) == median_interval(values)
    assert 1 <= low < 3 < high <= 50
    assert median_interval([2.0]) == (2.0, 2.0)
    assert steady((2.0, 3.0))
    assert not steady((2.0, 3.1))


def test_paired_difference_does_not_collapse_when_nothing_changed() -> None:
    scores = np.ones(2000)
    difference, low, high = paired_difference(scores, scores)
    assert difference == 0
    assert low < 0 < high
    assert high < 0.002


@pytest.mark.parametrize(("lost", "gained"), [(30, 10), (10, 30)])
def test_paired_interval_holds_the_difference_and_excludes_zero(lost: int, gained: int) -> None:
    before, after = np.ones(1000), np.ones(1000)
    after[:lost] = 0
    before[-gained:] = 0
    difference, low, high = paired_difference(before, after)
    assert difference == pytest.approx((gained - lost) / 1000)
    assert low < difference < high
    assert low > 0 or high < 0
