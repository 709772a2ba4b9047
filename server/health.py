"""What the supervisor knows, over HTTP: for health checks, for Prometheus, and for who waits until a version serves.

Triton's own `/v2/health/ready` stays at 200 when a model's process has died, and knows nothing of golden answers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from server.errors import PortError
from server.options import ModelState, Refusal

TIMEOUT_S: Final = 5.0  # for a caller that says nothing


class Watched(Protocol):
    """What is told of a server."""

    version: str
    restarts: int

    @property
    def is_serving(self) -> bool:
        """Whether it is up and not about to stop."""

    @property
    def models(self) -> tuple[ModelState, ...]:
        """The state of every version."""

    @property
    def refused(self) -> dict[str, Refusal]:
        """By model, what its folder asks for and does not get."""

    @property
    def reloads(self) -> int:
        """How often a model was loaded again."""

    def resident_bytes(self) -> dict[str, int]:
        """The memory of each model's processes."""


@dataclass(frozen=True)
class Answer:
    """A status, a content type and a body."""

    status: HTTPStatus
    kind: str
    body: bytes


def ready(server: Watched) -> Answer:
    """200 if every model takes requests and its golden answers were right when last asked; 503 and what is not so."""
    ill = {f"{row.name} version {row.version}": row.reason for row in server.models if not row.ready}
    good = server.is_serving and not ill
    body = {"ready": good, "serving": server.is_serving, "not_ready": ill}
    return _json(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, body)


def live(server: Watched) -> Answer:  # noqa: ARG001
    """200: who answers lives."""
    return _json(HTTPStatus.OK, {"live": True})


def models(server: Watched) -> Answer:
    """Every version's state, and what was refused."""
    rows = [
        {"name": row.name, "version": row.version, "ready": row.ready, "golden": row.golden, "reason": row.reason}
        for row in server.models
    ]
    refused = {name: asdict(refusal) for name, refusal in server.refused.items()}
    return _json(HTTPStatus.OK, {"server": server.version, "models": rows, "refused": refused})


def metrics(server: Watched) -> Answer:
    """For Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(server))
    return Answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))


PAGES: Final[dict[str, Callable[[Watched], Answer]]] = {
    "/livez": live,
    "/readyz": ready,
    "/models": models,
    "/metrics": metrics,
}


@dataclass(frozen=True)
class _Collector:
    server: Watched

    def collect(self) -> Iterable[Metric]:
        """The families, as they are at this moment."""
        up = GaugeMetricFamily("trident_server_up", "1 while the server serves, 0 before, between and after")
        up.add_metric([], float(self.server.is_serving))
        restarts = CounterMetricFamily("trident_server_restarts", "deaths of the server that were made good")
        restarts.add_metric([], self.server.restarts)
        reloads = CounterMetricFamily("trident_model_reloads", "models loaded again, since the server last started")
        reloads.add_metric([], self.server.reloads)
        is_ready = GaugeMetricFamily(
            "trident_model_ready",
            "1 if a version takes requests and its goldens are right",
            labels=("model", "version"),
        )
        for row in self.server.models:
            is_ready.add_metric([row.name, str(row.version)], float(row.ready))
        refused = GaugeMetricFamily(
            "trident_model_refused", "1 if what was published is not served, but what was before", labels=("model",)
        )
        for name in sorted({row.name for row in self.server.models}):
            refused.add_metric([name], float(name in self.server.refused))
        held = GaugeMetricFamily("trident_model_resident_bytes", "memory of a model's processes", labels=("model",))
        for name, count in self.server.resident_bytes().items():
            held.add_metric([name], count)
        return (up, restarts, reloads, is_ready, refused, held)


@contextmanager
def told_over_http(server: Watched, host: str, port: int) -> Iterator[int]:
    """Answers on `host` as long as the context lasts; gives the port, a free one for 0. Raises PortError."""

    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S

        def do_GET(self) -> None:
            page = PAGES.get(self.path.partition("?")[0])
            answer = page(server) if page else _json(HTTPStatus.NOT_FOUND, {"pages": sorted(PAGES)})
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_words: object) -> None:
            """Says nothing: health checks come every few seconds."""

    try:
        listener = ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise PortError(f"health port {port} on {host} cannot be used: {error}; choose another (0 for any)") from error
    listener.daemon_threads = True
    thread = threading.Thread(target=listener.serve_forever, args=(0.1,), name="health", daemon=True)
    thread.start()
    try:
        yield int(listener.server_address[1])
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def _json(status: HTTPStatus, body: object) -> Answer:
    return Answer(status, "application/json", json.dumps(body).encode() + b"\n")
