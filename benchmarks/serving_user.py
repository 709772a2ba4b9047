"""The users of the load test with whole requests ready, to servers of several dialects. Imports Locust."""

from __future__ import annotations

import base64
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving_load import OVER_HTTP, WARM_UP_S, Contestant, Order
from client.address import Address, parse_address
from core.load_results import LoadWindow
from core.samples import SamplePack, read_pack
from core.scenario import Protocol
from loadtest.generator import generate
from loadtest.job import Arrival, Job, until
from loadtest.judge import Recorded, percentiles, record
from loadtest.user import InferUser
from loadtest.wire import Answer, Connection, open_wire, scheme
from loadtest.wire_raw import RawConnection

TIMEOUT_S: Final = 30.0
START_S: Final = 60.0
CHECKED: Final = 64  # samples
NOISE: Final = 0.1  # of an answer; INT8 is allowed for
TYPES: Final = {"bytes": "application/octet-stream", "json": "application/json", "base64": "application/json"}
WRITERS: Final[dict[str, Callable[[NDArray[Any]], bytes]]] = {
    "bytes": lambda row: row.tobytes(),
    "json": lambda row: json.dumps({"data": row.tolist()}).encode(),
    "base64": lambda row: json.dumps({"image": base64.b64encode(row.tobytes()).decode()}).encode(),
}
"""Dialect -> one sample as a body."""
READERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "bytes": lambda body: body,
    "json": lambda body: np.asarray(json.loads(body)["logits"], np.float32).tobytes(),
    "base64": lambda body: base64.b64decode(json.loads(body)["logits"]),
}
"""Dialect -> the output's bytes in a body."""


class PeerConnection(RawConnection):
    """The load test's raw HTTP connection to a server that does not speak the Open Inference Protocol."""

    def __init__(self, address: Address, timeout_s: float, read: Callable[[bytes], bytes]) -> None:
        super().__init__(address, timeout_s)
        self._read = read

    def read(self, status: int, head: bytes, body: bytes, expected_bytes: int) -> Answer:  # noqa: ARG002
        """The output in the dialect's own form. See `RawConnection.read`."""
        if status != 200:
            return Answer(b"", f"HTTP {status}: {body[:200].decode(errors='replace')}")
        data = self._read(body)
        if len(data) != expected_bytes:
            return Answer(b"", f"HTTP 200, but the output has {len(data)} bytes instead of {expected_bytes}")
        return Answer(data)


class ReadyUser(InferUser):
    """A user whose requests are whole: nothing is put before them."""

    abstract = True
    protocol: ClassVar[Protocol]
    connect: ClassVar[Callable[[], Connection]]

    def on_start(self) -> None:
        """Connects before the first request."""
        self._heads = [b""]
        self._connection = type(self).connect()
        self._connection.open()


@dataclass(frozen=True)
class Ready:
    """A contestant with its requests made, and the users that send them."""

    contestant: Contestant
    pack: SamplePack
    requests: tuple[bytes, ...]
    user: type[ReadyUser]

    def run(self, users: int, order: Iterator[Arrival]) -> tuple[Recorded, float]:
        """What the users recorded, and the CPU time that they took."""
        protocol, golden = self.user.protocol, self.pack.goldens[self.pack.info.metric_output]
        job = Job((self.contestant.name,), protocol, self.requests, golden[:1].nbytes, order, TIMEOUT_S)
        load = generate(job, users, address_of(self.contestant, protocol), self.user)
        return record(load.exchanges, self.pack), load.cpu_s


class Session:
    """All contestants, ready and stopped. Raises SystemExit if one does not give the pack's golden answers."""

    def __init__(self, contestants: Sequence[Contestant]) -> None:
        if any(one.dialect == "grpc" for one in contestants):
            open_wire("grpc")  # before anything speaks gRPC
        self._all = {one.name: ready(one) for one in contestants}
        for one in self._all.values():
            with turn_of(one.contestant):
                check(one)

    def carry_out(self, order: Order) -> LoadWindow:
        """One window, after a short warm-up."""
        one = self._all[order.contestant]
        with turn_of(one.contestant):
            one.run(order.users, until(WARM_UP_S, one.pack.info.count, "warm-up").draw())
            recorded, cpu_s = one.run(order.users, until(order.seconds, one.pack.info.count, f"{order.number}").draw())
        p50, p95, p99 = percentiles(latency_ms := recorded.sent_ms[recorded.good], (50, 95, 99))
        return LoadWindow(
            variant=order.contestant, triton_name=one.contestant.model, protocol=one.user.protocol, users=order.users,
            pass_number=order.number, seconds=recorded.seconds, requests=len(recorded.samples),
            failures=recorded.failed, throughput_rps=len(latency_ms) / (recorded.seconds or math.inf),
            p50_ms=p50, p95_ms=p95, p99_ms=p99, mean_ms=float(latency_ms.mean()) if len(latency_ms) else None,
            reasons=recorded.kinds, generator_cores=cpu_s / (recorded.seconds or math.inf),
        )  # fmt: skip


@contextmanager
def turn_of(contestant: Contestant) -> Iterator[None]:
    """The time in which a contestant runs; it is stopped afterwards, if it is one that can be."""
    if contestant.group is None:
        yield
        return
    os.killpg(contestant.group, signal.SIGCONT)
    try:
        yield
    finally:
        os.killpg(contestant.group, signal.SIGSTOP)


def address_of(contestant: Contestant, protocol: Protocol) -> Address:
    """Where it listens."""
    return parse_address(contestant.address, scheme(protocol))


def ready(contestant: Contestant) -> Ready:
    """Makes a contestant's requests from its pack, whole and beforehand."""
    pack, dialect = read_pack(contestant.pack), contestant.dialect
    if dialect in ("raw", "http", "grpc"):
        wire = open_wire(dialect)
        head = wire.head(contestant.model)
        requests = tuple(head + rest for rest in wire.encode_pack(pack))
        connect = partial(wire.connect, address_of(contestant, dialect), TIMEOUT_S)
        return Ready(contestant, pack, requests, _user(dialect, connect))
    [array] = pack.inputs.values()
    bodies = (WRITERS[dialect](row) for row in array)
    address = address_of(contestant, "raw")
    requests = tuple(
        f"POST {OVER_HTTP[dialect]} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {TYPES[dialect]}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in bodies
    )
    return Ready(contestant, pack, requests, _user("raw", lambda: PeerConnection(address, TIMEOUT_S, READERS[dialect])))


def _user(protocol: Protocol, connect: Callable[[], Connection]) -> type[ReadyUser]:
    return type("User", (ReadyUser,), {"abstract": True, "protocol": protocol, "connect": staticmethod(connect)})


def check(one: Ready) -> None:
    """Raises SystemExit unless the first samples are answered as the pack says, about."""
    deadline_s = time.monotonic() + START_S
    order = range(min(CHECKED, one.pack.info.count))
    while (recorded := one.run(1, map(Arrival, order))[0]).failed and time.monotonic() < deadline_s:
        time.sleep(0.5)  # it listens, and its workers are still loading
    golden = one.pack.goldens[one.pack.info.metric_output][recorded.samples]
    if recorded.failed:
        raise SystemExit(f"{one.contestant.name} does not answer: {recorded.first_failure}")
    answers, wanted = recorded.outputs.astype(np.float64), golden.astype(np.float64)
    if np.linalg.norm(answers - wanted) > NOISE * np.linalg.norm(wanted):
        raise SystemExit(f"{one.contestant.name} does not give the answers of {one.pack.info.model}")
