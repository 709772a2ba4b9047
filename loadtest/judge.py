"""From raw requests to results. Pure functions of what was recorded.

A window begins with its first request, on a server that is otherwise idle, and ends with the last answer. So each
request belongs to exactly one window, the ones under way when its time is up included, and the server's counters, read
while nothing is under way, must agree. Percentiles come from the raw latencies of the good answers.

In an open loop a latency counts from when the request was due, not from when it was sent: a generator whose connections
all wait for a stalled server sends late, and would else leave out just the requests that suffered (*coordinated
omission*; Gil Tene, "How NOT to Measure Latency", 2013). The latency from the sending is kept beside it, uncorrected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.counters import ModelStatistics
from core.load_results import QUANTILES, LoadPhase, LoadWindow, ServedAccuracy, ServerDelta
from core.metrics import Metric, get_metric
from core.samples import SamplePack
from core.scenario import OpenLoop, Protocol
from loadtest.arrivals import phase_of, phase_rates
from loadtest.job import Exchange
from loadtest.plan import Step, Target
from loadtest.processes import Usage
from loadtest.reasons import UNSENT, count_kinds

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """The requests of a run as columns `[n]`. `good` tells those that were answered as they should be; `outputs` are
    their answers and `labels` what these are judged by, both for the good ones only; `failures` has the reason of each
    of the others, and an empty text for the good ones. `unsent`: how many more were due and not sent. `origin_s`: when
    the window began."""

    samples: NDArray[np.int64]
    due_s: Floats
    sent_s: Floats
    sent_ms: Floats  # latency from the sending
    good: NDArray[np.bool_]
    failures: tuple[str, ...]
    outputs: NDArray[np.generic]
    labels: NDArray[np.generic]
    metric: Metric
    origin_s: float
    unsent: int = 0

    @property
    def value(self) -> float | None:
        """The metric of the good answers; none without any, or where it is not defined for them."""
        value = self.metric.value(self.outputs, self.labels) if len(self.outputs) else math.nan
        return value if math.isfinite(value) else None

    @property
    def due_ms(self) -> Floats:
        """Latency from when each request was due, `[n]`."""
        latency_ms: Floats = self.sent_ms + (self.sent_s - self.due_s) * 1000
        return latency_ms

    @property
    def failed(self) -> int:
        """How many requests were not sent, not answered, or not as they should be."""
        return int((~self.good).sum()) + self.unsent

    @property
    def first_failure(self) -> str:
        """Why the first of those that failed did; empty if none did."""
        sent = next((failure for failure in self.failures if failure), "")
        return sent or ("all connections waiting for answers when it was due" if self.unsent else "")

    @property
    def kinds(self) -> dict[str, int]:
        """Kind of failure -> how many."""
        found = count_kinds(failure for failure in self.failures if failure)
        return {**found, **({UNSENT: self.unsent} if self.unsent else {})}

    @property
    def seconds(self) -> float:
        """From the window's beginning to the last answer's arrival."""
        return float((self.sent_s - self.origin_s + self.sent_ms / 1000).max(initial=0.0))


def record(exchanges: Sequence[Exchange], pack: SamplePack, origin_s: float | None = None, unsent: int = 0) -> Recorded:
    """The exchanges as columns, their answers beside the pack's labels. Without `origin_s` the window begins with its
    first request."""
    golden = pack.goldens[pack.info.metric_output]
    samples = np.array([exchange.sample for exchange in exchanges], np.int64)
    good = np.array([not exchange.failure for exchange in exchanges], bool)
    answers = np.frombuffer(b"".join(exchange.answer for exchange in exchanges), golden.dtype)
    due_s = np.array([exchange.due_s for exchange in exchanges], np.float64)
    return Recorded(
        samples=samples,
        due_s=due_s,
        sent_s=np.array([exchange.began_s for exchange in exchanges], np.float64),
        sent_ms=np.array([exchange.latency_ms for exchange in exchanges], np.float64),
        good=good,
        failures=tuple(exchange.failure for exchange in exchanges),
        outputs=answers.reshape(int(good.sum()), *golden.shape[1:]),
        labels=pack.labels[samples[good]],
        metric=get_metric(pack.info.metric, pack.info.higher_is_better),
        origin_s=float(due_s.min(initial=math.inf)) if origin_s is None else origin_s,
        unsent=unsent,
    )


@dataclass(frozen=True)
class Around:
    """What is known of a window beside its requests: what the server counted and used, what the load generator used,
    how the variant was warmed up before; and how many requests the generator sent to all variants together, and can
    send per second at most, if that is known."""

    counted: ModelStatistics
    usage: Usage
    cpu_s: float
    warmup_s: float = 0.0
    warm: bool = True
    sent: int = 0
    ceiling_rps: float | None = None


def judge_window(step: Step, target: Target, protocol: Protocol, recorded: Recorded, around: Around) -> LoadWindow:
    """The row of one variant in one window. Throughput counts good answers; without any, there are no percentiles."""
    latency_ms = recorded.due_ms[recorded.good]
    p50, p95, p99 = percentiles(latency_ms, (50, 95, 99))
    seconds = recorded.seconds or math.inf
    return LoadWindow(
        variant=target.variant,
        triton_name=target.triton_name,
        protocol=protocol,
        users=step.users,
        offered_rps=step.offered_rps,
        pass_number=step.pass_number,
        seconds=recorded.seconds,
        requests=len(recorded.samples) + recorded.unsent,
        failures=recorded.failed,
        throughput_rps=len(latency_ms) / seconds,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        mean_ms=float(latency_ms.mean()) if len(latency_ms) else None,
        uncorrected_p99_ms=percentiles(recorded.sent_ms[recorded.good], (99,))[0],
        quantiles_ms=tuple(np.quantile(latency_ms, QUANTILES).tolist()) if len(latency_ms) else (),
        unsent=recorded.unsent,
        reasons=recorded.kinds,
        warmup_s=around.warmup_s,
        warm=around.warm,
        accuracy=recorded.value,
        generator_cores=around.cpu_s / seconds,
        generator_share=around.sent / seconds / around.ceiling_rps if around.ceiling_rps else None,
        # A server that was started again counts from nothing: less than before means that it cannot be told.
        server=server_delta(around.counted, around.usage, recorded.seconds) if around.counted.requests >= 0 else None,
        phases=_phases(step.load, recorded) if isinstance(step.load, OpenLoop) else (),
    )


def percentiles(latency_ms: Floats, which: tuple[int, ...]) -> list[float | None]:
    """Percentiles of raw latencies; none of no latencies."""
    return np.percentile(latency_ms, which).tolist() if len(latency_ms) else [None] * len(which)


def _phases(load: OpenLoop, recorded: Recorded) -> tuple[LoadPhase, ...]:
    """The parts of an open loop's window; nothing for one part alone, which is the window."""
    if len(load.phases) == 1:
        return ()
    number = phase_of(load, recorded.due_s - recorded.origin_s)
    found = []
    for phase, rate_rps in enumerate(phase_rates(load)):
        mine = number == phase
        good = mine & recorded.good
        p50, p99 = percentiles(recorded.due_ms[good], (50, 99))
        found.append(
            LoadPhase(
                offered_rps=rate_rps,
                requests=int(mine.sum()),
                failures=int((mine & ~recorded.good).sum()),
                p50_ms=p50,
                p99_ms=p99,
                uncorrected_p99_ms=percentiles(recorded.sent_ms[good], (99,))[0],
            )
        )
    return tuple(found)


def server_delta(counted: ModelStatistics, usage: Usage, seconds: float) -> ServerDelta:
    """The server's counters over a window, durations as means over its requests."""
    requests, executions = max(1, counted.requests), max(1, counted.executions)
    return ServerDelta(
        requests=counted.requests,
        failures=counted.failures,
        executions=counted.executions,
        mean_batch=counted.inferences / executions,
        queue_ms=counted.queue_ns / requests / 1e6,
        compute_ms=counted.compute_ns / requests / 1e6,
        batches=dict(counted.batches),
        cores=None if usage.cpu_s is None or not seconds else usage.cpu_s / seconds,
        resident_bytes=usage.resident_bytes,
        server_resident_bytes=usage.server_bytes,
    )


def judge_accuracy(
    target: Target,
    protocol: Protocol,
    recorded: Recorded,
    in_process: NDArray[np.generic] | None,
) -> ServedAccuracy:
    """The metric over the samples that were answered, failures being counted apart; and the share of them whose
    decision is the one that the variant took in process (`in_process`: its outputs `[count, ...]`)."""
    agreement = None
    if in_process is not None and len(recorded.outputs):
        expected = in_process[recorded.samples[recorded.good]]
        agreement = float(recorded.metric.same(recorded.outputs, expected).mean())
    return ServedAccuracy(
        variant=target.variant,
        triton_name=target.triton_name,
        protocol=protocol,
        samples=len(recorded.samples),
        failures=recorded.failed,
        metric=recorded.metric.measure(recorded.outputs, recorded.labels) if recorded.value is not None else None,
        agreement=agreement,
    )
