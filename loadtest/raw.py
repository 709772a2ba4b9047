"""The raw requests, one row each, for whoever wants to judge for themselves."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from loadtest.judge import Recorded

COLUMNS = ("variant", "protocol", "users", "pass", "start_s", "latency_ms", "ok", "score")


class RawRequests:
    """Writes `requests.csv`. Pass 0 is the served accuracy; `start_s` counts from the window's first request; `score`
    is the sample's own, empty where `ok` is 0 or the metric is one of all samples together."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, variant: str, protocol: str, users: int, pass_number: int, recorded: Recorded) -> None:
        """Adds the requests of one run, in the order in which they were answered."""
        scored = np.full(len(recorded.good), "", object)
        if recorded.metric.score and len(recorded.outputs):
            scored[recorded.good] = [f"{score:g}" for score in recorded.metric.score(recorded.outputs, recorded.labels)]
        self._writer.writerows(
            (variant, protocol, users, pass_number, f"{start_s:.6f}", f"{latency_ms:.4f}", int(good), score)
            for start_s, latency_ms, good, score in zip(
                recorded.start_s.tolist(),
                recorded.latency_ms.tolist(),
                recorded.good.tolist(),
                scored.tolist(),
                strict=True,
            )
        )
