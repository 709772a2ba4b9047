"""One variant's figures over one protocol, from the windows of a load test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple, TypeVar

from core.load_results import LoadReport, LoadWindow

T = TypeVar("T")
K = TypeVar("K", int, str)


class Served(NamedTuple):
    """Latencies and what the server did at one load, throughput at the best one."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    uncorrected_p99_ms: float | None = None
    mean_ms: float | None = None
    server_cores: float | None = None
    queue_ms: float | None = None
    compute_ms: float | None = None
    batches: dict[int, int] = {}  # noqa: RUF012 - never changed
    throughput_rps: float | None = None
    best_users: int | None = None
    generator_share: float | None = None
    server_resident_bytes: int | None = None


def judged_windows(load: LoadReport, variant: str) -> list[LoadWindow]:
    """The windows from which a variant's figures come; of a capacity search only those at the rates that were found."""
    windows = [window for window in load.windows if window.variant == variant]
    if load.scenario.load.kind != "capacity":
        return windows
    held = {(one.protocol, one.rate_rps) for one in load.capacity if one.variant == variant}
    return [window for window in windows if (window.protocol, window.offered_rps) in held]


def figures_of(windows: Sequence[LoadWindow], latency_users: int) -> Served:
    """The means over the passes; latencies and the server's figures of the windows at `latency_users` users."""
    if not windows:
        return Served()
    levels = {
        users: fmean(window.throughput_rps for window in windows if window.users == users)
        for users in {window.users for window in windows}
    }
    best = max(levels, key=lambda users: levels[users])
    level = [window for window in windows if window.users == latency_users]
    counted = [window.server for window in level if window.server]
    shares = [window.generator_share for window in windows if window.generator_share is not None]
    held = [window.server.server_resident_bytes or 0 for window in windows if window.server]
    return Served(
        p50_ms=mean(level, lambda w: w.p50_ms),
        p95_ms=mean(level, lambda w: w.p95_ms),
        p99_ms=mean(level, lambda w: w.p99_ms),
        uncorrected_p99_ms=mean(level, lambda w: w.uncorrected_p99_ms),
        mean_ms=mean(level, lambda w: w.mean_ms),
        server_cores=mean(counted, lambda server: server.cores),
        queue_ms=mean(counted, lambda server: server.queue_ms),
        compute_ms=mean(counted, lambda server: server.compute_ms),
        batches=added(server.batches for server in counted),
        throughput_rps=levels[best],
        best_users=best,
        generator_share=max(shares, default=None),
        server_resident_bytes=max(held, default=0) or None,
    )


def mean(rows: Iterable[T], read: Callable[[T], float | None]) -> float | None:
    """The mean of what is known; none if nothing is."""
    values = [value for row in rows if (value := read(row)) is not None]
    return fmean(values) if values else None


def added(counts: Iterable[dict[K, int]]) -> dict[K, int]:
    """Counts of several windows together."""
    total: Counter[K] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
