"""A running load test as Prometheus metrics, on this machine only.

| metric | labels |
| --- | --- |
| `trident_loadtest_requests_total` | variant, protocol, outcome: `ok`, or the kind of failure |
| `trident_loadtest_latency_seconds` (histogram, of good answers, from when a request was due) | variant, protocol |
| `trident_loadtest_uncorrected_latency_seconds` (the same, from when it was sent) | variant, protocol |
| `trident_loadtest_parts_done`, `trident_loadtest_parts` | protocol |

All that is sent counts, warm-ups too. It costs a request nothing: requests are recorded anyway, and added up when
Prometheus asks. Several processes hand theirs over at the end of each window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from loadtest.errors import PlanError
from loadtest.job import Exchange
from loadtest.plan import LoadPlan
from loadtest.reasons import kind_of

HOST: Final = "127.0.0.1"
BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class _Latencies:
    """A histogram: how many answers came within each of BOUNDS_S and not within the one before, and their sum."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(len(BOUNDS_S) + 1, np.int64)
        self.sum_s = 0.0

    def add(self, seconds: list[float]) -> None:
        """Counts latencies."""
        places = np.searchsorted(BOUNDS_S, seconds, side="left")
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.sum_s += sum(seconds)

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus wants them: each bound with how many came within it."""
        names = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
        return list(zip(names, np.cumsum(self.counts).tolist(), strict=True))


class Live(Collector):
    """The collector. `follow` hands it the list to which a run adds its requests."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan, self._done = plan, 0
        self._variants = {target.triton_name: target.variant for target in plan.targets}
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._due = {variant: _Latencies() for variant in self._variants.values()}
        self._sent = {variant: _Latencies() for variant in self._variants.values()}
        self._names: tuple[str, ...] = ()
        self._exchanges: Sequence[Exchange] = ()
        self._read = 0

    def follow(self, names: tuple[str, ...], exchanges: Sequence[Exchange]) -> None:
        """Another run begins, with the models `names`; what the last one left is counted first."""
        self._count()
        self._names, self._exchanges, self._read = names, exchanges, 0

    def done(self, parts: int) -> None:
        """So many parts of the plan are done."""
        self._done = parts

    def collect(self) -> Iterator[Metric]:
        """Everything so far."""
        self._count()
        protocol = self._plan.protocol
        labels = ["variant", "protocol"]
        requests = CounterMetricFamily(
            "trident_loadtest_requests", "Requests that ended.", labels=[*labels, "outcome"]
        )  # fmt: skip
        for (variant, outcome), count in sorted(self._outcomes.items()):
            requests.add_metric([variant, protocol, outcome], count)
        yield requests
        for name, words, found in (
            ("trident_loadtest_latency_seconds", "From when a request was due to its answer.", self._due),
            ("trident_loadtest_uncorrected_latency_seconds", "From when a request was sent.", self._sent),
        ):
            family = HistogramMetricFamily(name, words, labels=labels)
            for variant, latencies in found.items():
                family.add_metric([variant, protocol], latencies.buckets(), latencies.sum_s)
            yield family
        for name, words, value in (
            ("trident_loadtest_parts_done", "Parts of the load test that are done.", self._done),
            ("trident_loadtest_parts", "All parts of the load test.", self._plan.parts),
        ):
            gauge = GaugeMetricFamily(name, words, labels=["protocol"])
            gauge.add_metric([protocol], value)
            yield gauge

    def _count(self) -> None:
        new = self._exchanges[self._read :]
        self._read += len(new)
        for number, name in enumerate(self._names):
            variant = self._variants.get(name)
            mine = [exchange for exchange in new if exchange.model == number]
            if variant is None or not mine:
                continue
            self._outcomes.update((variant, kind_of(one.failure) if one.failure else "ok") for one in mine)
            good = [exchange for exchange in mine if not exchange.failure]
            sent_s = [exchange.latency_ms / 1000 for exchange in good]
            self._sent[variant].add(sent_s)
            waits_s = [exchange.began_s - exchange.due_s for exchange in good]
            self._due[variant].add([sent + wait for sent, wait in zip(sent_s, waits_s, strict=True)])


@contextmanager
def exported(live: Live, port: int) -> Iterator[str]:
    """Serves the metrics for as long as it lasts, at the address that it gives. Raises PlanError for a taken port."""
    registry = CollectorRegistry()
    registry.register(live)
    try:
        server, thread = start_http_server(port, HOST, registry)
    except OSError as error:
        raise PlanError(
            f"the metrics cannot be served at {HOST}:{port} ({error.strerror}); name another port with --metrics-port"
        ) from error
    try:
        yield f"http://{HOST}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
