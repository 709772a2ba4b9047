"""What can go wrong with a load test.

LoadTestError (core)
 +-- PlanError          the plan cannot be carried out as it is written
 +-- GeneratorError     the load test's own process failed
 +-- ServerLostError    the server was there, and then it was not
 +-- RecordingError     what was measured cannot be written
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import LoadTestError


class PlanError(LoadTestError):
    """The plan, or the sample pack and the models that it names, do not go together."""


class GeneratorError(LoadTestError):
    """The load test's own process failed. The text is what it said, or holds the last lines that it wrote; the exit
    code is the process's, where that has a meaning."""

    def __init__(self, text: str, exit_code: int = LoadTestError.exit_code) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class ServerLostError(LoadTestError):
    """The server stopped answering in the middle of a load test, which so is none."""


class RecordingError(LoadTestError):
    """What was measured cannot be written, so there would be nothing to check the figures by."""


@contextmanager
def recording(path: Path) -> Iterator[None]:
    """Turns the system's error about a file of results into RecordingError."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # pyarrow's own words are long
        raise RecordingError(
            f"the load test cannot be written to {path} ({why}); make room there or name another folder with --out. "
            "Nothing is judged from half a run"
        ) from error
