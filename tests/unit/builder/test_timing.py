"""The paired timing, on a clock that the predictors themselves move."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from builder import timing
from builder.timing import BLOCK_S, MOST_ROUNDS, ROUNDS, time_pair
from core.intervals import steady
from core.tensors import Arrays

SAMPLE: Arrays = {"x": np.zeros((2, 3), np.float32)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def _takes(clock: list[float], seconds: Callable[[], float]) -> Callable[[Arrays], Arrays]:
    def predict(inputs: Arrays) -> Arrays:
        assert len(inputs["x"]) == 1
        clock[0] += seconds()
        return inputs

    return predict


def test_a_steady_pair_takes_the_least_rounds(clock: list[float]) -> None:
    found = time_pair(_takes(clock, lambda: 0.008), _takes(clock, lambda: 0.002), SAMPLE)
    assert found.speedup == pytest.approx(4)
    assert found.speedup_ci95 == pytest.approx((4, 4))
    assert (found.original_time_ms, found.time_ms) == (pytest.approx(8), pytest.approx(2))
    assert found.calls == pytest.approx(ROUNDS * BLOCK_S / 0.002, rel=0.1)


def test_what_slows_a_whole_round_cancels_out(clock: list[float]) -> None:
    """Half of the time everything takes fifty times as long: a ratio of medians could say anything from 0.08 to 200."""

    def mood() -> float:
        return 50 if int(clock[0] / 20) % 2 else 1

    found = time_pair(_takes(clock, lambda: 0.008 * mood()), _takes(clock, lambda: 0.002 * mood()), SAMPLE)
    assert found.speedup == pytest.approx(4, rel=0.01)


def test_rounds_that_disagree_are_many_and_said_to(clock: list[float]) -> None:
    asked = [0]

    def original() -> float:
        asked[0] += 1
        return 0.008

    def erratic() -> float:
        return 0.002 * (30 if asked[0] // 18 % 2 else 1)  # the original is called 9 times a round

    found = time_pair(_takes(clock, original), _takes(clock, erratic), SAMPLE)
    assert not steady(found.speedup_ci95)
    assert found.calls >= MOST_ROUNDS * 3


def test_rounds_in_which_the_cpu_was_taken_away_are_left_out(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other work comes and goes; while it is there, the original suffers most, as PyTorch does."""

    def busy() -> bool:
        return int(clock[0] / 0.7) % 2 == 1

    monkeypatch.setattr(timing, "waited_s", lambda: clock[0] if busy() else 0.0)
    original, variant = _takes(clock, lambda: 0.4 if busy() else 0.008), _takes(clock, lambda: 0.002)
    found = time_pair(original, variant, SAMPLE)
    assert not found.disturbed
    assert found.speedup == pytest.approx(4, rel=0.01)


def test_a_machine_that_is_never_quiet_is_told_of(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "waited_s", lambda: clock[0])
    found = time_pair(_takes(clock, lambda: 0.4), _takes(clock, lambda: 0.001), SAMPLE)
    assert found.disturbed
    assert clock[0] < timing.MOST_S + 3  # and not waited for without end


def test_what_our_threads_waited_for_a_cpu_is_read_from_the_kernel() -> None:
    """Three threads that want one CPU all the time wait two of three seconds."""
    allowed = os.sched_getaffinity(0)
    code = "n = 0\nwhile True: n += 1"
    rivals = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    try:
        for rival in rivals:
            os.sched_setaffinity(rival.pid, {min(allowed)})
        os.sched_setaffinity(0, {min(allowed)})
        started, before = time.perf_counter(), timing.waited_s()
        while time.perf_counter() < started + 1:
            pass
        share = (timing.waited_s() - before) / (time.perf_counter() - started)
    finally:
        os.sched_setaffinity(0, allowed)
        for rival in rivals:
            rival.kill()
            rival.wait()
    assert share > timing.CALM_WAIT
