"""When the requests of an open loop are due."""

from __future__ import annotations

import numpy as np
import pytest

from core.scenario import OpenLoop
from loadtest.arrivals import due_times, phase_of, phase_rates


def test_a_constant_rate_is_even() -> None:
    due = due_times(OpenLoop(rate_rps=50, arrivals="constant", seconds=2), "a")
    assert len(due) == 100
    np.testing.assert_allclose(np.diff(due), 0.02)
    assert 0 <= due[0] < 0.02


def test_poisson_arrivals_are_those_of_a_poisson_process_and_of_the_seed() -> None:
    load = OpenLoop(rate_rps=200, seconds=100)
    due, gaps = due_times(load, "a"), np.diff(due_times(load, "a"))
    assert len(due) == pytest.approx(20_000, abs=600)  # four standard deviations
    assert gaps.mean() == pytest.approx(gaps.std(), rel=0.05)  # as of exponential gaps, and of no others that are even
    counts = np.bincount(due.astype(int), minlength=100)  # a second
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.5)
    assert (due == due_times(load, "a")).all()
    assert len(due) != len(due_times(load, "b"))


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_steps_have_their_rates(arrivals: str) -> None:
    load = OpenLoop.model_validate(
        {"rate_rps": 400, "arrivals": arrivals, "seconds": 40, "phases": ((0.25, 0.25), (0.5, 0.5), (1, 1), (0, 0))}
    )
    due = due_times(load, "a")
    assert phase_rates(load) == [100, 200, 400, 0]
    counts = np.bincount(phase_of(load, due), minlength=4)
    np.testing.assert_allclose(counts, [1000, 2000, 4000, 0], atol=1 if arrivals == "constant" else 250)
    assert (np.diff(due) > 0).all()
    assert due.max() < 30


def test_a_ramp_grows_evenly_from_nothing() -> None:
    due = due_times(OpenLoop(rate_rps=100, arrivals="constant", seconds=10, phases=((0, 1),)), "a")
    assert len(due) == 500
    # By the time t there have been 5 t^2 of them.
    np.testing.assert_allclose(5 * due**2, np.arange(0.5, 500), rtol=1e-9)


def test_a_ramp_down_ends_at_nothing() -> None:
    due = due_times(OpenLoop(rate_rps=100, arrivals="constant", seconds=10, phases=((1, 0),)), "a")
    np.testing.assert_allclose(100 * due - 5 * due**2, np.arange(0.5, 500), rtol=1e-9)
    assert due.max() < 10
