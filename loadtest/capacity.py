"""The search for the highest rate that a server stands: halving, with every miss checked once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# How far above a closed loop's throughput the search begins. An open loop can form larger batches, but not many.
ABOVE: Final = 1.25


def search(bound_rps: float, probes: int, holds: Callable[[float], bool]) -> tuple[float | None, float | None]:
    """The highest rate that held and the lowest that did not, after so many rates were tried below `ABOVE * bound_rps`.

    A rate counts as missed only if it is missed twice: a single hiccup of the machine is no property of the server, and
    halving cannot return to a rate that it has given up. None held: the first is None. All held: the second is.
    """
    low, high = 0.0, ABOVE * bound_rps
    held, exceeded = None, None
    for _ in range(probes):
        rate_rps = (low + high) / 2
        if holds(rate_rps) or holds(rate_rps):
            low = held = rate_rps
        else:
            high = exceeded = rate_rps
    return held, exceeded
