"""When the requests of an open loop are due."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.scenario import OpenLoop

Times = NDArray[np.float64]


def due_times(load: OpenLoop, seed: str) -> Times:
    """Seconds after the beginning at which requests are due, ascending, `[n]`; of equal seeds the same.

    Arrivals at a rate of one per unit (evenly, or as a Poisson process) are stretched by the inverse of the expected
    count: the usual way to a process whose rate changes (Cinlar, "Introduction to Stochastic Processes", 1975).
    """
    length = load.seconds / len(load.phases)
    rates = load.rate_rps * np.array(load.phases)  # [phases, 2]: at each one's beginning and end
    expected = rates.mean(axis=1) * length
    units = _units(load, float(expected.sum()), seed)
    due = []
    for number, ((start, end), before) in enumerate(zip(rates, np.cumsum(expected) - expected, strict=True)):
        mine = units[(units >= before) & (units < before + expected[number])] - before
        # The solution of start*t + (end-start)*t^2/(2*length) = units, in the form that a steady rate does not break.
        root = np.sqrt(np.maximum(start**2 + 2 * (end - start) * mine / length, 0.0))
        due.append(number * length + 2 * mine / np.maximum(start + root, 1e-12))
    whole: Times = np.concatenate(due)
    return whole


def phase_of(load: OpenLoop, due: Times) -> NDArray[np.intp]:
    """The phase in which each request is due, `[n]`."""
    length = load.seconds / len(load.phases)
    return np.minimum((due / length).astype(np.intp), len(load.phases) - 1)


def phase_rates(load: OpenLoop) -> list[float]:
    """The mean rate of each phase."""
    return [load.rate_rps * (start + end) / 2 for start, end in load.phases]


def _units(load: OpenLoop, total: float, seed: str) -> Times:
    if load.arrivals == "constant":
        return np.arange(0.5, total)
    random = np.random.default_rng(list(seed.encode()))
    count = int(total + 10 * total**0.5 + 20)  # ten standard deviations more than expected
    units: Times = np.cumsum(random.exponential(size=count))
    return units[units < total]
