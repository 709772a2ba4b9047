import numpy as np
import pytest

from core.metrics import METRICS, paired_difference, wilson


def test_top1_and_top5_score_what_their_names_say() -> None:
    output = np.array([[0.1, 0.9, 0.01, 0.02, 0.03, 0.5], [9, 8, 7, 6, 5, 4]], np.float32)
    labels = np.array([1, 5])
    assert METRICS["top1"].score(output, labels).tolist() == [1, 0]
    assert METRICS["top5"].score(output, labels).tolist() == [1, 0]
    assert METRICS["top5"].score(output, np.array([2, 2])).tolist() == [0, 1]


def test_wilson_agrees_with_the_published_example() -> None:
    # 81 of 263: Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    low, high = wilson(np.r_[np.ones(81), np.zeros(182)])
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


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
