"""What a user decides about a client, once, and about a request."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from client.cancellation import Cancellation
from client.events import Event, log_event
from client.tracing import current_traceparent
from core.errors import InputError

Parameter = bool | int | float | str
Compression = Literal["gzip", "deflate"]


def _need(condition: bool, sentence: str) -> None:
    if not condition:
        raise InputError(sentence)


@dataclass(frozen=True)
class Retry:
    """When a request is sent again. Only what is safe is: a request that never left, one that the server was too busy
    for, and, unless it is part of a sequence, one whose connection broke.

    Waits grow from `first_wait_s`, doubling, to `longest_wait_s`; each is drawn between 0 and that (full jitter). At
    most `attempts` are made, `attempts_unmet` of them to a server that never answered this client: its address is
    probably wrong. Over all requests, retries are at most the share `budget` of them, and `burst` more.
    """

    attempts: int = 10
    attempts_unmet: int = 3
    first_wait_s: float = 0.1
    longest_wait_s: float = 2.0
    budget: float = 0.1
    burst: float = 10.0

    def __post_init__(self) -> None:
        _need(self.attempts >= 1 and self.attempts_unmet >= 1, "Retry.attempts must be 1 or more")
        _need(0 <= self.first_wait_s <= self.longest_wait_s, "Retry.longest_wait_s must not be below first_wait_s")
        _need(self.budget >= 0 and self.burst >= 0, "Retry.budget and Retry.burst must not be negative")


@dataclass(frozen=True)
class Breaker:
    """After `failures` failures in a row of one model at one server, no more is sent there for `open_s`; then one
    request tries it, and the time doubles, up to `longest_open_s`, if that fails. Meanwhile requests go to other
    servers, or `wait` for this one within their deadline, and come back spread over `spread_s`."""

    failures: int = 5
    open_s: float = 0.5
    longest_open_s: float = 4.0
    spread_s: float = 1.0
    wait: bool = True

    def __post_init__(self) -> None:
        _need(self.failures >= 1, "Breaker.failures must be 1 or more")
        _need(0 < self.open_s <= self.longest_open_s, "Breaker.longest_open_s must not be below open_s")
        _need(self.spread_s > 0, "Breaker.spread_s must be above 0")


@dataclass(frozen=True)
class Hedge:
    """A request without an answer `after_s` is sent a second time (to another server, if there is one), and the first
    good answer taken. Costs load; the second one counts against the retry budget."""

    after_s: float

    def __post_init__(self) -> None:
        _need(self.after_s > 0, "Hedge.after_s must be above 0")


@dataclass(frozen=True)
class Tls:
    """Encryption. `ca_file` has the certificates to trust (default: the system's); `certificate_file` and `key_file`
    are this client's own, for mutual TLS; `server_name` is what the server's certificate must be for, if not its host.
    All files are PEM."""

    ca_file: Path | str | None = None
    certificate_file: Path | str | None = None
    key_file: Path | str | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        both = (self.certificate_file is None) == (self.key_file is None)
        _need(both, "Tls.certificate_file and Tls.key_file belong together; give both or neither")
        for file in (self.ca_file, self.certificate_file, self.key_file):
            _need(not file or Path(file).is_file(), f"{file} does not exist; Tls needs it as a PEM file")


@dataclass(frozen=True)
class Clock:
    """Time and chance, which tests replace. `random` gives numbers from 0 to 1."""

    now: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep
    sleep_async: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True)
class Settings:
    """How a client behaves.

    `token`: a bearer token, or a function that gives the current one; asked for each attempt. `headers` go with each
    request. `compression`: of requests and answers. `shared_memory`: tensors go through POSIX shared memory, for a
    server on this machine. `json_tensors`: HTTP without binary tensors, for servers that have only
    that (found by itself where the server says so). `max_answer_bytes`: a larger answer is refused. `connections`: over
    HTTP, so many requests at most are under way to a server, others wait for one of them to end; of 1,000 connections
    at once, Triton leaves some unanswered. `observers` are told all that happens. `traceparent` gives the caller's W3C
    trace context.
    """

    retry: Retry = field(default_factory=Retry)
    breaker: Breaker = field(default_factory=Breaker)
    hedge: Hedge | None = None
    tls: Tls | None = None
    token: str | Callable[[], str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    compression: Compression | None = None
    shared_memory: bool = False
    json_tensors: bool = False
    max_answer_bytes: int = 1 << 30
    connections: int = 64
    observers: tuple[Callable[[Event], None], ...] = (log_event,)
    traceparent: Callable[[], str | None] = current_traceparent
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        _need(self.max_answer_bytes > 0, "Settings.max_answer_bytes must be above 0")
        clean = all(name.isprintable() and value.isprintable() for name, value in self.headers.items())
        _need(clean, "Settings.headers must be free of line breaks and other control characters")
        _need(self.connections >= 1, "Settings.connections must be 1 or more")
        _need(self.compression in (None, "gzip", "deflate"), "Settings.compression must be 'gzip' or 'deflate'")


@dataclass(frozen=True)
class Options:
    """What may be said about one request. `timeout_s`: in place of the client's. `priority`: 1 is the highest, 0 the
    model's default. `parameters` are handed to the model. `retry`: False for a model where a second run does harm."""

    timeout_s: float | None = None
    version: str = ""
    request_id: str = ""
    priority: int = 0
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    retry: bool = True
    cancellation: Cancellation | None = None

    def __post_init__(self) -> None:
        _need(self.timeout_s is None or self.timeout_s > 0, "Options.timeout_s must be above 0")
        _need(self.priority >= 0, "Options.priority must not be negative")


DEFAULTS: Final = Options()
