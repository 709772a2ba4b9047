"""Prometheus metrics of a client, by the official library: `Settings(observers=(log_event, ClientMetrics()))`.

| metric | labels |
| --- | --- |
| `trident_client_requests_total` | model, variant, protocol, outcome |
| `trident_client_request_seconds` (histogram, waits and attempts included) | model, variant, protocol |
| `trident_client_attempts_total` | model, variant, protocol, outcome |
| `trident_client_breaker_open` (0 closed, 0.5 half open, 1 open) | endpoint, model |

`outcome` is `ok` or the name of an error of `client.errors`; no label grows with the requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from client.events import AttemptEnded, BreakerChanged, Event, RequestEnded

_SUBJECT: Final = ("model", "variant", "protocol")
_STATES: Final[Mapping[str, float]] = {"closed": 0.0, "half_open": 0.5, "open": 1.0}
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ClientMetrics:
    """An observer that counts, in a registry (default: the process's). One may serve several clients."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        ended = (*_SUBJECT, "outcome")
        self._requests = Counter("trident_client_requests", "Requests that ended.", ended, registry=registry)
        self._seconds = Histogram(
            "trident_client_request_seconds",
            "From the call to its answer or error, in seconds.",
            _SUBJECT,
            buckets=_SECONDS,
            registry=registry,
        )
        self._attempts = Counter("trident_client_attempts", "Attempts that ended.", ended, registry=registry)
        self._open = Gauge(
            "trident_client_breaker_open", "0 closed, 0.5 half open, 1 open.", ("endpoint", "model"), registry=registry
        )

    def __call__(self, event: Event) -> None:
        """Counts an event."""
        match event:
            case AttemptEnded():
                self._attempts.labels(*event.subject, event.outcome).inc()
            case RequestEnded():
                self._requests.labels(*event.subject, event.outcome).inc()
                self._seconds.labels(*event.subject).observe(event.seconds)
            case BreakerChanged(endpoint, model, state):
                self._open.labels(endpoint, model).set(_STATES[state])
