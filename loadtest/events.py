"""What a running load test tells, one JSON object a line."""

from __future__ import annotations

from typing import Literal

from core.results import LoadWindow, ResultModel, ServedAccuracy

OTHER_LOAD = 1.01


class LoadEvent(ResultModel):
    """A part of the work is done: `done` of `total`. `message` is for people."""

    kind: Literal["accuracy", "window"]
    variant: str
    done: int
    total: int
    message: str


def describe_accuracy(row: ServedAccuracy, first_failure: str) -> str:
    """A served accuracy in one line."""
    parts = [
        "no good answer" if row.metric is None else f"{row.metric.name} {row.metric.value:.2%}",
        "" if row.agreement is None else f"{row.agreement:.2%} decided as in process",
        f"{row.samples} samples",
        _failed(row.failures, first_failure),
    ]
    return f"{row.variant}: {', '.join(filter(None, parts))}"


def describe_window(row: LoadWindow, first_failure: str) -> str:
    """A window in one line. Says so if the server had clearly more to do than was sent (a health check now and then
    does no harm)."""
    counted = row.server.requests if row.server else row.requests
    parts = [
        f"{row.throughput_rps:.0f} requests/s",
        "no good answer" if row.p50_ms is None else f"p50 {row.p50_ms:.2f} ms, p99 {row.p99_ms:.2f} ms",
        _failed(row.failures, first_failure),
        f"the server counted {counted} requests where {row.requests} were sent: it has other clients"
        if counted > row.requests * OTHER_LOAD
        else "",
    ]
    return f"{row.variant}, {row.users} user{'s' * (row.users > 1)}: {', '.join(filter(None, parts))}"


def _failed(failures: int, first_failure: str) -> str:
    return f"{failures} failed, the first with {first_failure}" if failures else "none failed"
