import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import gap_claim, rewrite
from benchmarks.serving_peers import best_rps, ratio_claim
from benchmarks.serving_verdicts import BLOCKS, false_alarms, pairs_of, slowed
from core.comparison import Benchmark
from core.load_results import LoadWindow

ROOT = Path(__file__).parents[3]


def window(variant: str, number: int, rps: float, users: int = 4) -> LoadWindow:
    return LoadWindow(
        variant=variant, triton_name=variant, protocol="http", users=users, pass_number=number, seconds=1.0,
        requests=100, failures=0, throughput_rps=rps, p50_ms=4000 / rps, p95_ms=6000 / rps, p99_ms=8000 / rps,
        mean_ms=4000 / rps,
    )  # fmt: skip


def recorded(noise: Sequence[float]) -> list[tuple[LoadWindow, LoadWindow]]:
    """Blocks of two equal variants on a machine that drifts, with these relative errors, two a block."""
    rates = [500 * (1 + 0.2 * math.sin(place / 9)) * math.exp(error) for place, error in enumerate(noise)]
    return [
        (window("a", number, rates[2 * number]), window("b", number, rates[2 * number + 1]))
        for number in range(len(noise) // 2)
    ]


def test_equal_variants_are_told_apart_about_as_often_as_the_interval_promises() -> None:
    noise = 0.03 * np.random.default_rng(5).standard_t(4, 4 * BLOCKS)
    assert 3 <= false_alarms(recorded(noise.tolist()), "throughput") <= 8


def test_one_that_is_slower_is_found_where_the_noise_allows() -> None:
    noise = 0.03 * np.random.default_rng(5).standard_normal(4 * BLOCKS)
    blocks = recorded(noise.tolist())
    assert false_alarms(blocks, "throughput", 1.05) >= 90
    assert false_alarms(blocks, "p99", 1.05) >= 90
    assert false_alarms(recorded((20 * noise).tolist()), "throughput", 1.05) < 50


def test_a_slowed_window_is_slower_in_every_figure() -> None:
    slow = slowed(window("a", 1, 400), 1.25, 7)
    assert (slow.throughput_rps, slow.p50_ms, slow.p99_ms, slow.pass_number) == (320, 12.5, 25, 7)


def test_windows_are_paired_by_their_pass() -> None:
    windows = [window("b", 2, 20), window("a", 1, 1), window("b", 1, 10), window("a", 2, 2), window("c", 1, 5)]
    assert [(one.throughput_rps, other.throughput_rps) for one, other in pairs_of(windows, "a", "b")] == [
        (1, 10),
        (2, 20),
    ]


def test_each_server_is_taken_at_the_number_of_users_that_suits_it() -> None:
    windows = [window("a", 1, 10, 4), window("a", 1, 9, 16), window("a", 2, 10, 4), window("a", 2, 12, 16)]
    assert best_rps([*windows, window("b", 1, 99)], "a") == [9, 12]


def test_a_ratio_holds_only_with_its_whole_interval() -> None:
    ratios = [1.9, 2.0, 2.1, 2.0, 2.0, 2.2]
    assert ratio_claim("x", ratios, "x", 1.8).holds
    assert not ratio_claim("x", ratios, "x", ratio_claim("x", ratios, "x", None).value).holds


@pytest.mark.parametrize(("ratios", "holds"), [([0.97, 0.98, 0.99] * 3, True), ([0.9, 0.91, 0.92] * 3, False)])
def test_a_gap_holds_in_either_direction(ratios: list[float], holds: bool) -> None:
    gap, other = (gap_claim("x", list(values), "%", 5.0) for values in (ratios, 1 / np.array(ratios)))
    assert gap.holds == other.holds == holds
    assert gap.ci95[0] <= gap.value <= gap.ci95[1]


def test_a_gap_around_none_begins_at_none() -> None:
    assert gap_claim("x", [0.99, 1.01] * 4, "%", 5.0).ci95[0] == 0


def test_the_page_quotes_the_committed_run() -> None:
    benchmark = Benchmark.model_validate_json((ROOT / "benchmarks/serving.json").read_bytes())
    page = (ROOT / "docs/load-testing.md").read_text()
    assert rewrite(page, benchmark) == page, "run `python -m benchmarks.serving --page`"
