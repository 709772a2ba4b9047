"""Windows of load for several servers in turn, sent by the users of `trident loadtest`: one generator for all.

`python -m benchmarks.serving_load` is the process that imports Locust: it reads one JSON line for each window and
writes one. `Generator` starts and asks it, so that a benchmark can do other things between two windows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from pydantic import TypeAdapter

from core.load_results import LoadWindow
from core.results import ResultModel

Dialect = Literal["raw", "http", "grpc", "bytes", "json", "base64"]
OVER_HTTP: Final = {"bytes": "/raw", "json": "/json", "base64": "/predict"}
"""Dialects of the peers -> their path. The others are the Open Inference Protocol by the load test's own wires."""
WARM_UP_S: Final = 0.15  # each time again: the last turn was seconds ago


class Contestant(ResultModel):
    """A server's model, and how it is spoken to. `group`: a process group that is stopped while it is not its turn, so
    that what it does when idle costs nobody anything."""

    name: str
    dialect: Dialect
    address: str
    model: str
    pack: Path
    group: int | None = None


class Order(ResultModel):
    """One window: users who wait for their answers, for some seconds."""

    contestant: str
    users: int
    seconds: float
    number: int


class Generator:
    """The process with Locust, on all cores or on those named."""

    def __init__(self, contestants: Sequence[Contestant], cores: Sequence[int] = ()) -> None:
        adapter = TypeAdapter(tuple[Contestant, ...])
        command = [sys.executable, "-m", "benchmarks.serving_load", *map(str, cores)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=os.environ | {"GEVENT_BACKEND": "select"},
        )  # fmt: skip
        self._say(adapter.dump_json(tuple(contestants)).decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def window(self, contestant: str, users: int, seconds: float, number: int = 1) -> LoadWindow:
        """One window, on a server that is warmed up first. Raises SystemExit if any request failed."""
        self._say(Order(contestant=contestant, users=users, seconds=seconds, number=number).model_dump_json())
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            raise SystemExit("the load generator has ended")
        row = LoadWindow.model_validate_json(line)
        if row.failures:
            raise SystemExit(f"{row.failures} of {row.requests} requests to {contestant} failed: {row.reasons}")
        return row

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def main() -> None:
    """Carries orders out until there are no more."""
    if cores := {int(core) for core in sys.argv[1:]}:
        os.sched_setaffinity(0, cores)
    from benchmarks.serving_user import Session  # imports Locust

    session = Session(TypeAdapter(tuple[Contestant, ...]).validate_json(sys.stdin.readline()))
    for line in sys.stdin:
        print(session.carry_out(Order.model_validate_json(line)).model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
