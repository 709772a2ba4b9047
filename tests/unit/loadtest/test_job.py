"""The order in which samples are sent."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable

import pytest

from loadtest.job import Arrival, once, scheduled, until


def samples(order: Iterable[Arrival]) -> list[int]:
    """The samples of an order, none of which is due at a time."""
    arrivals = list(order)
    assert {arrival.due_s for arrival in arrivals} <= {None}
    return [arrival.sample for arrival in arrivals]


def test_once_sends_each_sample_once_in_an_order_of_its_own() -> None:
    order = samples(once(100, "a").draw())
    assert sorted(order) == list(range(100))
    assert order != sorted(order)
    assert order == samples(once(100, "a").draw()) != samples(once(100, "b").draw())


def test_a_window_goes_round_all_samples() -> None:
    rounds = samples(itertools.islice(until(60.0, 10, "a").draw(), 30))
    assert [sorted(rounds[i : i + 10]) for i in (0, 10, 20)] == [list(range(10))] * 3


def test_a_windows_clock_starts_with_the_first_sample_and_then_it_ends_for_all() -> None:
    order = until(0.2, 10, "a").draw()
    time.sleep(0.25)  # the time under test is not waiting for anything
    assert next(order, None) is not None
    deadline_s = time.perf_counter() + 0.2
    while time.perf_counter() < deadline_s:
        pass
    assert [next(order, None) for _ in range(3)] == [None] * 3


def test_samples_sent_once_end_with_the_time_for_them_and_are_the_first_of_the_same_order() -> None:
    order = once(1000, "a", 0.05).draw()
    first = next(order)
    time.sleep(0.06)  # the time under test is not waiting for anything
    assert list(order) == []
    assert first == next(once(1000, "a").draw())


def test_scheduled_samples_are_due_at_their_times_on_one_clock() -> None:
    began_s = time.perf_counter()
    arrivals = list(scheduled([0.0, 0.5, 0.75], [0, 1, 0], 10, "a", 0.2, 1.0).draw())
    first = arrivals[0].due_s
    assert first is not None
    assert first == pytest.approx(began_s + 0.2, abs=0.05)
    assert [arrival.due_s for arrival in arrivals] == pytest.approx([first, first + 0.5, first + 0.75])
    assert [arrival.model for arrival in arrivals] == [0, 1, 0]
    assert [arrival.sample for arrival in arrivals] == samples(itertools.islice(until(60.0, 10, "a").draw(), 3))


def test_what_nobody_draws_in_time_is_not_sent() -> None:
    order = scheduled([0.0, 0.01, 0.02], [0, 0, 0], 10, "a", 0.0, 0.05).draw()
    next(order)
    time.sleep(0.1)  # the time under test is not waiting for anything
    assert list(order) == []


@pytest.mark.parametrize("of", [2, 3])
def test_the_parts_of_an_order_make_the_whole(of: int) -> None:
    whole = samples(once(100, "a").draw())
    parts = [samples(once(100, "a").draw(part, of)) for part in range(of)]
    assert sorted(sample for part in parts for sample in part) == sorted(whole)
    assert parts[1] == whole[1::of]
    due = [scheduled([0.0, 0.5, 0.75, 0.8], [0, 1, 2, 3], 10, "a", 0.2, 1.0).draw(part, of) for part in range(of)]
    assert sorted(arrival.model for part in due for arrival in part) == [0, 1, 2, 3]
