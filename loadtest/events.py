"""What a running load test tells, one JSON object a line."""

from __future__ import annotations

from typing import Final, Literal

from core.load_results import Capacity, Ceiling, LoadWindow, ServedAccuracy
from core.machine import age_s
from core.results import MetricValue, ResultModel
from core.scenario import Protocol, describe_load
from loadtest.verdicts import CEILING_SHARE, near_ceiling

OTHER_LOAD = 1.01
GENERATOR_LIMIT = 0.9  # cores, where its ceiling was not measured; the generator is one thread of Python
PROTOCOL_NAMES: Final[dict[Protocol, str]] = {"http": "HTTP", "grpc": "gRPC", "raw": "raw HTTP"}


class LoadEvent(ResultModel):
    """A part of the work is done, `done` of `total`; or something is to be noted; or it cannot go on. `message` is for
    people."""

    kind: Literal["note", "accuracy", "window", "failed"]
    variant: str
    done: int
    total: int
    message: str


def coverage(row: ServedAccuracy, samples: int) -> str:
    """Over how many of the pack's `samples` an accuracy was measured."""
    if row.samples < samples:
        return f"over the first {row.samples} of {samples} samples, since it is slow"
    return f"{row.samples} samples"


def describe_accuracy(row: ServedAccuracy, samples: int, first_failure: str) -> str:
    """A served accuracy, of a pack of `samples`, in one line."""
    parts = [
        "no good answer" if row.metric is None else _value(row.metric),
        "" if row.agreement is None else f"{row.agreement:.2%} decided as in process",
        coverage(row, samples),
        _failed(row.failures, first_failure),
    ]
    return f"{row.variant} over {PROTOCOL_NAMES[row.protocol]}: {', '.join(filter(None, parts))}"


def _value(metric: MetricValue) -> str:
    return f"{metric.name} {metric.value:.2%}" if metric.fraction else f"{metric.name} {metric.value:.4f}"


def limited_by_generator(row: LoadWindow) -> bool:
    """Whether the load generator was a part of what was measured, so that the throughput is a lower bound."""
    if row.generator_share is not None:
        return row.generator_share > CEILING_SHARE
    return row.generator_cores is not None and row.generator_cores > GENERATOR_LIMIT


def describe_ceiling(row: Ceiling) -> str:
    """What the load generator can send, and how old that figure is, in one line."""
    many = f", with {row.processes} processes" if row.processes > 1 else ""
    return (
        f"the load generator can send {row.rps:,.0f} requests/s over {PROTOCOL_NAMES[row.protocol]}{many} "
        f"({row.request_bytes / 1e3:.3g} kB each; measured {_ago(age_s(row.measured_at))})"
    )


def _ago(age_seconds: float) -> str:
    hours = age_seconds / 3600
    return "just now" if hours < 0.1 else f"{hours:.1f} hours ago" if hours < 24 else f"{hours / 24:.1f} days ago"


def describe_window(row: LoadWindow, first_failure: str) -> str:
    """A window in one line. Says so if the server had clearly more to do than was sent (a health check now and then
    does no harm)."""
    counted = row.server.requests if row.server else row.requests
    hidden = (
        f" (uncorrected {row.uncorrected_p99_ms:.2f} ms)"
        if row.offered_rps is not None and row.uncorrected_p99_ms is not None
        else ""
    )
    parts = [
        f"{row.throughput_rps:.0f} requests/s",
        "no good answer" if row.p50_ms is None else f"p50 {row.p50_ms:.2f} ms, p99 {row.p99_ms:.2f} ms{hidden}",
        _failed(row.failures, first_failure),
        "" if row.warm else "it was still getting faster when the window began",
        _limit(row),
        f"the server counted {counted} requests where {row.requests} were sent: it has other clients"
        if counted > row.requests * OTHER_LOAD
        else "",
        "" if row.server else "the server was started again meanwhile, so what it counted is lost",
    ]
    load = describe_load(row.users, row.offered_rps)
    return f"{row.variant} over {PROTOCOL_NAMES[row.protocol]}, {load}: {', '.join(filter(None, parts))}"


def _limit(row: LoadWindow) -> str:
    if not limited_by_generator(row):
        return ""
    return near_ceiling(row.generator_share) if row.generator_share else "the load generator was at its limit"


def describe_capacity(row: Capacity) -> str:
    """What a capacity search found, in one line."""
    where, target = f"{row.variant} over {PROTOCOL_NAMES[row.protocol]}", f"p99 within {row.target_p99_ms:g} ms"
    if row.rate_rps is None:
        return f"{where}: no rate holds {target}; even {row.exceeded_rps or 0:.4g} requests/s do not"
    missed = f", {row.exceeded_rps:.4g} do not" if row.exceeded_rps else ", and more may"
    return f"{where}: {row.rate_rps:.4g} requests/s hold {target}{missed}"


def _failed(failures: int, first_failure: str) -> str:
    return f"{failures} failed, the first with {first_failure}" if failures else "none failed"
