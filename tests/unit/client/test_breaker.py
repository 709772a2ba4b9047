"""The breaker's states, and the budget."""

from __future__ import annotations

from client.breaker import Budget, Circuit
from client.settings import Breaker, Retry

SETTINGS = Breaker(failures=3, open_s=1, longest_open_s=3)


def open_circuit() -> Circuit:
    """Opened at 10 s, for a second."""
    circuit = Circuit(SETTINGS)
    assert [circuit.failed(10) for _ in range(3)] == [False, False, True]
    return circuit


def test_a_success_in_between_begins_the_count_anew() -> None:
    circuit = Circuit(SETTINGS)
    circuit.failed(10)
    circuit.failed(10)
    assert not circuit.succeeded()  # it was closed all along
    circuit.failed(10)
    assert (circuit.state, circuit.admit(10)) == ("closed", 0)


def test_open_it_lets_nothing_through_then_one() -> None:
    circuit = open_circuit()
    assert circuit.admit(10.25) == 0.75
    assert circuit.admit(11) == 0
    assert circuit.state == "half_open"
    assert circuit.admit(11) > 0  # while one is trying, no other does
    assert circuit.succeeded()
    assert (circuit.state, circuit.admit(11)) == ("closed", 0)


def test_each_failed_try_doubles_the_time_up_to_the_longest() -> None:
    circuit, now_s = open_circuit(), 10.0
    for open_s in (1, 2, 3, 3):
        assert circuit.admit(now_s) == open_s
        now_s += open_s
        assert circuit.admit(now_s) == 0
        assert circuit.failed(now_s)
    circuit.admit(now_s + 3)
    circuit.succeeded()
    assert [circuit.failed(100) for _ in range(3)] == [False, False, True]
    assert circuit.admit(100) == 1  # short again


def test_late_failures_change_nothing_while_it_is_open() -> None:
    circuit = open_circuit()
    assert not circuit.failed(10.9)
    assert circuit.admit(11) == 0


def test_a_try_that_says_nothing_frees_the_place_for_the_next() -> None:
    circuit = open_circuit()
    circuit.admit(11)
    circuit.undecided()
    assert circuit.admit(11) == 0
    circuit.after_fork()  # whoever was trying is in the parent
    assert circuit.admit(11) == 0


def test_a_budget_is_a_share_and_a_burst() -> None:
    budget = Budget(Retry(budget=0.25, burst=2))
    assert [budget.take_out() for _ in range(3)] == [True, True, False]
    for _ in range(4):
        budget.put_in()
    assert [budget.take_out() for _ in range(2)] == [True, False]
    for _ in range(1000):
        budget.put_in()
    assert sum(budget.take_out() for _ in range(100)) == 20  # ten bursts at most
