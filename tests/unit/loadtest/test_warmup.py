"""When a variant has been warmed up."""

from __future__ import annotations

import math

import pytest

from loadtest.warmup import is_warm


@pytest.mark.parametrize(
    ("medians_ms", "known_ms", "warm"),
    [
        ((), None, False),
        ((9.0,), None, False),  # one part alone tells nothing
        ((9.0, 5.0), None, False),  # still getting faster
        ((9.0, 5.0, 4.9), None, True),
        ((5.0, 5.1), None, True),
        ((5.0, 7.0), None, True),  # slower is not getting faster
        ((5.2,), 5.0, True),  # as fast as in an earlier pass
        ((9.0,), 5.0, False),
        ((math.inf, math.inf), None, True),  # it does not answer at all: waiting longer would not help
        ((math.inf,), 5.0, False),
    ],
)
def test_warm_is_what_no_longer_gets_faster(medians_ms: tuple[float, ...], known_ms: float | None, warm: bool) -> None:
    assert is_warm(medians_ms, known_ms) is warm
