"""The command line, called in this process: a program of its own takes seconds to start on a busy machine."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from trident.main import main

ANY_PORTS = [word for kind in ("http", "grpc", "metrics", "health") for word in (f"--{kind}-port", "0")]
"""Of `trident serve`: free ones."""


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def trident(*arguments: str) -> Done:
    """Runs `trident` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as end:
            return Done(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main always ends in SystemExit")
