"""How often a thing that dies is brought back."""

from __future__ import annotations

from server.budget import RestartBudget


def test_waits_twice_as_long_each_time_up_to_a_limit() -> None:
    budget = RestartBudget(limit=8, window_s=100)
    assert [budget.spend(now_s=0) for _ in range(8)] == [0.25, 0.5, 1, 2, 4, 8, 10, 10]


def test_is_used_up() -> None:
    budget = RestartBudget(limit=2, window_s=100)
    assert [budget.spend(now_s=float(at)) for at in (0, 50, 99)] == [0.25, 0.5, None]


def test_forgets_what_is_long_ago() -> None:
    budget = RestartBudget(limit=2, window_s=100)
    assert [budget.spend(now_s=float(at)) for at in (0, 50, 100, 120, 151)] == [0.25, 0.5, 0.5, None, 0.5]
