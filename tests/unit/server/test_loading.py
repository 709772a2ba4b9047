"""The cause, out of Triton's wrapping."""

from __future__ import annotations

import pytest

from server.loading import shorten


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: TritonModelException: it is "
            "broken\n\nAt:\n  /b/base.py(60): initialize\n;\n",
            "it is broken",
        ),
        ("Internal: TritonModelException: it is broken\n\nAt:\n  /b/base.py(60): initialize\n", "it is broken"),
        ("Not found: unable to find it", "unable to find it"),
        ("plain words", "plain words"),
    ],
)
def test_shorten(message: str, cause: str) -> None:
    assert shorten(message) == cause
