"""The search for the highest rate, on servers whose limit is known."""

from __future__ import annotations

import pytest

from loadtest.capacity import ABOVE, search


def test_the_limit_is_found_between_two_rates_that_were_tried() -> None:
    tried: list[float] = []

    def holds(rate_rps: float) -> bool:
        tried.append(rate_rps)
        return rate_rps <= 137

    held, exceeded = search(200, 8, holds)
    assert held is not None
    assert exceeded is not None
    assert held <= 137 < exceeded
    assert exceeded - held == pytest.approx(ABOVE * 200 / 2**8)
    assert {held, exceeded} <= set(tried)


def test_a_single_hiccup_does_not_count() -> None:
    hiccups = [False]

    def holds(rate_rps: float) -> bool:
        return hiccups.pop() if hiccups else rate_rps <= 137

    assert search(200, 8, holds)[0] == pytest.approx(137, abs=1)


def test_a_target_that_no_rate_holds_has_no_capacity() -> None:
    held, exceeded = search(64, 5, lambda _: False)
    assert held is None
    assert exceeded == ABOVE * 64 / 2**5


def test_a_server_that_holds_all_has_no_upper_bound() -> None:
    held, exceeded = search(64, 5, lambda _: True)
    assert exceeded is None
    assert held == pytest.approx(ABOVE * 64, rel=0.05)
