"""The Locust user: takes the next sample, sends it, reports it. The same in library mode and under `locust -f`."""

from __future__ import annotations

import time
from typing import ClassVar

import gevent
from locust import User, task
from locust.exception import StopUser

from client.address import parse_address
from core.errors import LoadTestError
from loadtest.job import Exchange, Job
from loadtest.wire import open_wire

# After a lost connection: long enough that a dead server is not answered by a busy loop.
RECONNECT_PAUSE_S = 0.1


class InferUser(User):  # type: ignore[misc]  # Locust has no types
    """One closed-loop user with a connection of its own: the next request leaves when the last answer is there.

    Each request fires Locust's `events.request`, whose context holds it as `exchange`: the one path by which requests
    are reported.
    """

    abstract = True
    job: ClassVar[Job]

    def on_start(self) -> None:
        """Connects before the first request, so that connecting is not measured."""
        wire = open_wire(self.job.protocol)
        self._head = wire.head(self.job.name)
        self._connection = wire.connect(parse_address(self.host or "", self.job.protocol), self.job.timeout_s)
        self._connection.open()

    def on_stop(self) -> None:
        """Disconnects."""
        self._connection.close()

    @task  # type: ignore[untyped-decorator]
    def infer(self) -> None:
        """Sends one sample; ends the user when there are no more."""
        sample = next(self.job.order, None)
        if sample is None:
            raise StopUser
        started_at, began_s = time.time(), time.perf_counter()
        answer = self._connection.exchange(self._head + self.job.requests[sample], self.job.answer_bytes)
        latency_ms = (time.perf_counter() - began_s) * 1000
        self.environment.events.request.fire(
            request_type=self.job.protocol,
            name=self.job.name,
            response_time=latency_ms,
            response_length=len(answer.data),
            exception=LoadTestError(answer.failure) if answer.failure else None,
            context={"exchange": Exchange(sample, began_s, latency_ms, answer.data, answer.failure)},
            start_time=started_at,
        )
        if answer.lost:
            gevent.sleep(RECONNECT_PAUSE_S)
