"""The Locust user: takes the next request, sends it when it is due, reports it. The same in library mode and under
`locust -f`."""

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
# How long all users together try in vain before they give up: longer than a server takes to be started again.
GIVE_UP_S = 30.0


class InferUser(User):  # type: ignore[misc]  # Locust has no types
    """One user with a connection of its own. Its next request leaves when the last answer is there, and not before it
    is due: with enough users, requests that are due at a rate leave at that rate, whatever the server does.

    Each request fires Locust's `events.request`, whose context holds it as `exchange`: the one path by which requests
    are reported. Locust's own response time counts from when the request was due.
    """

    abstract = True
    job: ClassVar[Job]

    def on_start(self) -> None:
        """Connects before the first request, so that connecting is not measured."""
        wire = open_wire(self.job.protocol)
        self._heads = [wire.head(name) for name in self.job.names]
        self._connection = wire.connect(parse_address(self.host or "", wire.scheme), self.job.timeout_s)
        self._connection.open()

    def on_stop(self) -> None:
        """Disconnects."""
        self._connection.close()

    @task  # type: ignore[untyped-decorator]
    def infer(self) -> None:
        """Sends one sample; ends the user when there are no more."""
        arrival = next(self.job.order, None)
        if arrival is None:
            raise StopUser
        if arrival.due_s is not None and (wait_s := arrival.due_s - time.perf_counter()) > 0:
            gevent.sleep(wait_s)
        started_at, began_s = time.time(), time.perf_counter()
        answer = self._connection.exchange(
            self._heads[arrival.model] + self.job.requests[arrival.sample], self.job.answer_bytes
        )
        latency_ms = (time.perf_counter() - began_s) * 1000
        due_s = began_s if arrival.due_s is None else arrival.due_s
        exchange = Exchange(arrival.sample, arrival.model, due_s, began_s, latency_ms, answer.data, answer.failure)
        self.environment.events.request.fire(
            request_type=self.job.protocol,
            name=self.job.names[arrival.model],
            response_time=latency_ms + (began_s - due_s) * 1000,
            response_length=len(answer.data),
            exception=LoadTestError(answer.failure) if answer.failure else None,
            context={"exchange": exchange},
            start_time=started_at,
        )
        if answer.lost:
            if time.perf_counter() - self.job.heard.last_s > GIVE_UP_S:
                raise StopUser
            gevent.sleep(RECONNECT_PAUSE_S)
        else:
            self.job.heard.last_s = began_s
