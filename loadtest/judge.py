"""From raw requests to results. Pure functions of what was recorded.

A window begins with its first request, on a server that is otherwise idle, and ends with the last answer. So each
request belongs to exactly one window, the ones under way when its time is up included, and the server's counters, read
while nothing is under way, must agree. Percentiles come from the raw latencies of the good answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.counters import ModelStatistics
from client.transport import ProtocolName
from core.metrics import Metric, get_metric
from core.results import LoadWindow, ServedAccuracy, ServerDelta
from core.samples import SamplePack
from loadtest.job import Exchange
from loadtest.plan import Step, Target


@dataclass(frozen=True)
class Recorded:
    """The requests of a run as columns `[n]`. `good` tells those that were answered as they should be; `outputs` are
    their answers and `labels` what these are judged by, both for the good ones only. `first_failure` says why the first
    of the others failed."""

    samples: NDArray[np.int64]
    began_s: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    good: NDArray[np.bool_]
    outputs: NDArray[np.generic]
    labels: NDArray[np.generic]
    metric: Metric
    first_failure: str

    @property
    def value(self) -> float | None:
        """The metric of the good answers; none without any, or where it is not defined for them."""
        value = self.metric.value(self.outputs, self.labels) if len(self.outputs) else math.nan
        return value if math.isfinite(value) else None

    @property
    def failures(self) -> int:
        """How many requests were not answered, or not as they should be."""
        return int((~self.good).sum())

    @property
    def start_s(self) -> NDArray[np.float64]:
        """When each request left, from the first one's leaving, `[n]`."""
        start_s: NDArray[np.float64] = self.began_s - self.began_s.min(initial=np.inf)
        return start_s

    @property
    def seconds(self) -> float:
        """From the first request's leaving to the last answer's arrival."""
        return float((self.start_s + self.latency_ms / 1000).max(initial=0.0))


def record(exchanges: Sequence[Exchange], pack: SamplePack) -> Recorded:
    """The exchanges as columns, their answers beside the pack's labels."""
    golden = pack.goldens[pack.info.metric_output]
    samples = np.array([exchange.sample for exchange in exchanges], np.int64)
    good = np.array([not exchange.failure for exchange in exchanges], bool)
    answers = np.frombuffer(b"".join(exchange.answer for exchange in exchanges), golden.dtype)
    outputs = answers.reshape(int(good.sum()), *golden.shape[1:])
    return Recorded(
        samples=samples,
        began_s=np.array([exchange.began_s for exchange in exchanges], np.float64),
        latency_ms=np.array([exchange.latency_ms for exchange in exchanges], np.float64),
        good=good,
        outputs=outputs,
        labels=pack.labels[samples[good]],
        metric=get_metric(pack.info.metric, pack.info.higher_is_better),
        first_failure=next((exchange.failure for exchange in exchanges if exchange.failure), ""),
    )


def judge_window(
    step: Step, protocol: ProtocolName, recorded: Recorded, counted: ModelStatistics, cpu_s: float
) -> LoadWindow:
    """The row of one window. Throughput counts good answers; without any, there are no percentiles."""
    latency_ms = recorded.latency_ms[recorded.good]
    p50, p95, p99 = np.percentile(latency_ms, (50, 95, 99)).tolist() if len(latency_ms) else (None, None, None)
    return LoadWindow(
        variant=step.target.variant,
        triton_name=step.target.triton_name,
        protocol=protocol,
        users=step.users,
        pass_number=step.pass_number,
        seconds=recorded.seconds,
        requests=len(recorded.samples),
        failures=recorded.failures,
        throughput_rps=len(latency_ms) / recorded.seconds,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        mean_ms=float(latency_ms.mean()) if len(latency_ms) else None,
        accuracy=recorded.value,
        generator_cores=cpu_s / recorded.seconds,
        server=server_delta(counted),
    )


def server_delta(counted: ModelStatistics) -> ServerDelta:
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
    )


def judge_accuracy(
    target: Target,
    protocol: ProtocolName,
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
        failures=recorded.failures,
        metric=recorded.metric.measure(recorded.outputs, recorded.labels) if recorded.value is not None else None,
        agreement=agreement,
    )
