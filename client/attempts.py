"""One call until it is answered, given up, or out of time: which server, what is tried again, and when."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from client.breaker import Budget
from client.calls import Attempt, Call, Infer
from client.cancellation import Cancellation
from client.errors import (
    AbandonedError,
    CircuitOpenError,
    DeadlineError,
    OverloadedError,
    TlsError,
    UnknownModelError,
    UnreachableError,
)
from client.events import OK, AttemptEnded, Subject
from client.servers import Server, choose
from client.settings import Settings
from client.shared import Regions
from client.steps import Flow, Pause, Race, Send
from client.tracing import TRACEPARENT, child_of, trace_id_of
from core.errors import InferenceError, InputError

_BAD_FOR_A_SERVER: Final = (UnreachableError, OverloadedError, DeadlineError)


class Task(NamedTuple):
    """A call and the terms on which it is made. `known`: the server had the model a moment ago, so that "unknown model"
    means that it is just being loaded. `safe`: a second run does no harm. `only`: no other server will do. `sizes` are
    the bytes of the outputs that may go through shared memory."""

    call: Call
    subject: Subject
    deadline_s: float
    timeout_s: float
    known: bool = False
    safe: bool = True
    only: Server | None = None
    traceparent: str | None = None
    cancellation: Cancellation | None = None
    sizes: dict[str, int] | None = None


class Caller:
    """Makes calls to the servers. All in here are flows; none blocks."""

    def __init__(self, servers: Sequence[Server], settings: Settings) -> None:
        self.servers = servers
        self._settings = settings
        self._clock = settings.clock
        self._budget = Budget(settings.retry)
        self._headers = tuple((name.lower(), value) for name, value in settings.headers.items())
        self.regions = Regions()

    def call(self, task: Task) -> Flow[Any]:
        """The answer. Raises what the last attempt raised, or DeadlineError if there was no time for another."""
        number = 0
        last: tuple[Server, InferenceError] | None = None
        self._budget.put_in()
        while True:
            server = yield from self.admitted(task, last)
            number += 1
            hedge = self._settings.hedge
            try:
                if hedge and task.safe and isinstance(task.call, Infer):
                    return (yield from self._hedged(task, server, number, hedge.after_s))
                return (yield from self._once(task, server, number, task.cancellation))
            except DeadlineError as error:
                raise self._too_late(task, [server], last) from error
            except InferenceError as error:
                last = (server, error)
                wait_s = self._wait_s(task, number, error)
                if wait_s is None:
                    raise
            yield Pause(wait_s, task.cancellation)

    def once(self, task: Task, server: Server) -> Flow[Any]:
        """The answer of one server to one attempt, whatever its circuit says, and without any effect on it."""
        return (yield Send(server.index, task.call, self._attempt(task, self._clock.now(), task.cancellation)))

    def ready_to_send(self, task: Task) -> Flow[tuple[int, Infer, Attempt]]:
        """What a stream needs: the number of its server, the call, and the attempt's terms."""
        server = yield from self.picked(task)
        assert isinstance(task.call, Infer)
        return server.index, task.call, self._attempt(task, self._clock.now(), task.cancellation)

    def picked(self, task: Task) -> Flow[Server]:
        """A server for what is to follow; that is not the try of a half-open circuit."""
        server = yield from self.admitted(task)
        server.circuit(task.subject.model).undecided()
        return server

    def _once(self, task: Task, server: Server, number: int, cancellation: Cancellation | None) -> Flow[Any]:
        """One attempt, its outcome told to the server's circuit and to the observers."""
        circuit = server.circuit(task.subject.model)
        began_s = self._clock.now()
        outcome, reason = OK, ""
        server.count(1)
        try:
            attempt = self._attempt(task, began_s, cancellation)
            if task.sizes is not None and isinstance(task.call, Infer):
                answer = yield from self.regions.infer(server, task.call, attempt, task.sizes)
            else:
                answer = yield Send(server.index, task.call, attempt)
        except InferenceError as error:
            outcome, reason = type(error).__name__, str(error)
            # With little time left, having waited before, running out of it says nothing about the server.
            hurried = task.deadline_s - began_s < task.timeout_s / 2
            if isinstance(error, AbandonedError) or (hurried and isinstance(error, DeadlineError)):
                circuit.undecided()
            elif isinstance(error, _BAD_FOR_A_SERVER) or (task.known and isinstance(error, UnknownModelError)):
                server.failed(circuit)
            else:
                server.answered(circuit)
            raise
        except BaseException:  # the flow was closed, or its asyncio task cancelled
            outcome = AbandonedError.__name__
            circuit.undecided()
            raise
        else:
            server.answered(circuit)
            return answer
        finally:
            server.count(-1)
            if self._settings.observers:
                self._tell(task, server, number, outcome, began_s, reason)

    def _attempt(self, task: Task, now_s: float, cancellation: Cancellation | None) -> Attempt:
        """The terms of an attempt. Raises DeadlineError if no time is left."""
        left_s = task.deadline_s - now_s
        if left_s <= 0:
            raise DeadlineError("no time is left")
        headers = self._headers
        if self._settings.token is not None:
            headers = (*headers, ("authorization", f"Bearer {self._token()}"))
        if task.traceparent:
            headers = (*headers, (TRACEPARENT, child_of(task.traceparent)))
        return Attempt(left_s, headers, cancellation)

    def _token(self) -> str:
        token = self._settings.token
        value = token() if callable(token) else str(token)
        if not value.isprintable():
            raise InputError("the token has a line break or another control character in it; strip it")
        return value

    def _hedged(self, task: Task, server: Server, number: int, after_s: float) -> Flow[Any]:
        give_up = (Cancellation(), Cancellation())

        def second() -> Flow[Any] | None:
            if not self._budget.take_out():
                return None
            other, _ = choose(self.servers, task.subject.model, self._settings, avoid=server)
            if other is None:
                return None
            return self._once(task, other, number, give_up[1])

        with contextlib.ExitStack() as stack:
            if task.cancellation:
                for one in give_up:
                    stack.enter_context(task.cancellation.calling(one.cancel))
            return (yield Race(self._once(task, server, number, give_up[0]), after_s, second, give_up))

    def admitted(self, task: Task, last: tuple[Server, InferenceError] | None = None) -> Flow[Server]:
        """The server for the next attempt, waited for if all circuits are open. Raises DeadlineError if that takes too
        long."""
        servers: Sequence[Server] = (task.only,) if task.only else self.servers
        breaker = self._settings.breaker
        model = task.subject.model
        while True:
            if task.cancellation:
                task.cancellation.check()
            left_s = task.deadline_s - self._clock.now()
            if left_s <= 0:
                raise self._too_late(task, servers, last) from (last[1] if last else None)
            server, wait_s = choose(servers, model, self._settings, last[0] if last else None)
            if server is not None:
                return server
            if not breaker.wait:
                what = f"the last {breaker.failures} requests or more for {model!r} failed at {_names(servers)}"
                raise CircuitOpenError(f"{what}; not sent, the next is let through in {wait_s:.1f} s")
            yield Pause(min(left_s, wait_s + self._clock.random() * breaker.spread_s), task.cancellation)

    def _too_late(
        self, task: Task, servers: Sequence[Server], last: tuple[Server, InferenceError] | None
    ) -> DeadlineError:
        late = f"the server at {_names(servers)} did not answer within {task.timeout_s:g} s"
        return DeadlineError(f"{late}; an attempt before failed: {last[1]}" if last else late)

    def _wait_s(self, task: Task, number: int, error: InferenceError) -> float | None:
        """How long to wait before the next attempt; None if there must be none."""
        retry = self._settings.retry
        met = any(each.met for each in self.servers)
        if number >= (retry.attempts if met else retry.attempts_unmet) or not _may_repeat(task, error):
            return None
        asked_s = error.retry_after_s if isinstance(error, OverloadedError) else 0.0
        longest_s = min(retry.longest_wait_s, retry.first_wait_s * 2.0 ** (number - 1))
        wait_s = max(longest_s * self._clock.random(), asked_s)
        if self._clock.now() + wait_s >= task.deadline_s or not self._budget.take_out():
            return None
        return wait_s

    def _tell(self, task: Task, server: Server, number: int, outcome: str, began_s: float, reason: str) -> None:
        request_id = task.call.request_id if isinstance(task.call, Infer) else ""
        seconds, trace_id = self._clock.now() - began_s, trace_id_of(task.traceparent)
        event = AttemptEnded(task.subject, server.name, number, outcome, seconds, reason, request_id, trace_id)
        for observer in self._settings.observers:
            observer(event)


def _names(servers: Sequence[Server]) -> str:
    return ", ".join(str(server.endpoint.address) for server in servers)


def _may_repeat(task: Task, error: InferenceError) -> bool:
    """Whether the call may be sent again after this error, for all that it may have done."""
    if isinstance(error, TlsError):
        return False
    if isinstance(error, UnreachableError):
        return task.safe or not error.sent
    if isinstance(error, UnknownModelError):
        return task.known and task.safe
    return isinstance(error, OverloadedError) and task.safe
