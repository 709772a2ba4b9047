"""Verdicts, on windows whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from core.load_results import Contrast, LoadWindow
from loadtest.verdicts import contrasts, decide
from tests.unit.loadtest.test_events import WINDOW


def windows(variant: str, rates: list[float], **changes: object) -> list[LoadWindow]:
    """One window a pass with this throughput, and latencies that go with it."""
    return [
        WINDOW.model_copy(
            update={
                "variant": variant, "pass_number": number, "throughput_rps": rate, "p50_ms": 4000 / rate,
                "p99_ms": 8000 / rate, "requests": int(rate), "seconds": 1.0, **changes,
            }
        )
        for number, rate in enumerate(rates, 1)
    ]  # fmt: skip


def noisy(rate: float, seed: int, passes: int = 20) -> list[float]:
    """Rates of passes that share the machine's drift (the same for all), with 2% of noise of their own."""
    drift = 1 + 0.3 * np.sin(np.arange(passes))
    return list(rate * drift * np.random.default_rng(seed).normal(1, 0.02, passes))


def judged(rows: list[LoadWindow]) -> dict[str, Contrast]:
    """The contrasts by figure."""
    return {row.figure: row for row in contrasts(rows, "base")}


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.06, "faster"), (0.94, "slower"), (1.0, "no significant difference")]
)
def test_a_difference_is_found_in_spite_of_a_machine_that_changes_its_speed(factor: float, verdict: str) -> None:
    found = judged(windows("base", noisy(500, 1)) + windows("x", noisy(500 * factor, 2)))
    for figure, row in found.items():
        assert (row.variant, row.against, row.blocks, row.verdict, row.reason) == ("x", "base", 20, verdict, "")
        assert row.ratio is not None
        assert row.ratio == pytest.approx(factor if figure == "throughput" else 1 / factor, rel=0.02)
        assert row.ci95 is not None
        assert row.ci95[0] < row.ratio < row.ci95[1]
    assert set(found) == {"throughput", "p50", "p99"}


def test_a_latency_is_better_when_it_is_less() -> None:
    assert decide((1.1, 1.2), "throughput") == decide((0.8, 0.9), "p99") == "faster"
    assert decide((0.8, 0.9), "throughput") == decide((1.1, 1.2), "p99") == "slower"
    assert decide((0.9, 1.1), "p50") == "no significant difference"


def test_passes_are_matched_by_their_number() -> None:
    base, mine = windows("base", [100, 200, 400, 100, 200, 400]), windows("x", [110, 220, 440, 110, 220, 440])
    assert judged(base + mine[::-1])["throughput"].ci95 == pytest.approx((1.1, 1.1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"failures": 1}, "20 requests failed"),
        ({"warm": False}, "still getting faster"),
        ({"generator_share": 0.83}, "the load generator was at 83% of what it can send, above 70%"),
    ],
)
def test_what_cannot_be_trusted_gets_no_verdict_but_the_reason(changes: dict[str, object], reason: str) -> None:
    rows = windows("base", noisy(500, 1)) + windows("x", noisy(900, 2), **changes)
    for row in judged(rows).values():
        assert row.verdict == "none"
        assert reason in row.reason
        assert row.ratio is not None


def test_few_passes_give_no_verdict() -> None:
    row = judged(windows("base", noisy(500, 1, 5)) + windows("x", noisy(900, 2, 5)))["p50"]
    assert (row.verdict, row.reason, row.blocks) == ("none", "5 passes are too few, 6 are needed", 5)
    alone = judged(windows("base", [500]) + windows("x", [900]))["p50"]
    assert (alone.ci95, alone.verdict, alone.reason) == (None, "none", "1 pass is too few, 6 are needed")


def test_loads_are_compared_each_with_its_own_and_an_open_loop_not_by_throughput() -> None:
    opened = {"offered_rps": 100.0, "users": 64}
    rows = windows("base", noisy(500, 1)) + windows("x", noisy(500, 2))
    rows += windows("base", noisy(500, 3), **opened) + windows("x", noisy(300, 4), **opened)
    found = {(row.users, row.figure): row.verdict for row in contrasts(rows, "base")}
    assert found == {
        (4, "throughput"): "no significant difference", (4, "p50"): "no significant difference",
        (4, "p99"): "no significant difference", (64, "p50"): "slower", (64, "p99"): "slower",
    }  # fmt: skip


def test_without_the_baseline_there_is_nothing_to_compare() -> None:
    assert contrasts(windows("x", noisy(500, 1)), "base") == ()
