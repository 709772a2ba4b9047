"""A client among faults: a server killed or frozen under load, and one that is too busy for ten seconds.

`make bench-client` runs these at full length, tests/faults shorter. The load is steady: each caller sends a request,
waits for its end, good or bad, pauses for a while, and sends the next.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client import AsyncInferenceClient, DeadlineError, InferenceClient, InferenceError, Settings

Ask = Callable[[int], bool]
"""Sends the i-th request; tells whether the answer is right, or raises."""


@dataclass(frozen=True)
class Asked:
    """One request: when it began and how long it took, in seconds, and `right`, `wrong`, or the name of its error."""

    began_s: float
    seconds: float
    outcome: str


@dataclass(frozen=True)
class Load:
    """All requests of a run."""

    asked: tuple[Asked, ...]

    def share(self, outcome: str) -> float:
        """The share of the requests that ended so."""
        return Counter(one.outcome for one in self.asked)[outcome] / len(self.asked)


def steady_load(make_ask: Callable[[], Ask], callers: int, seconds: float, pause_s: float) -> Load:
    """`callers` threads, each with an `Ask` of its own, send for `seconds`."""
    end_s = time.monotonic() + seconds

    def run(caller: int) -> list[Asked]:
        ask, asked = make_ask(), []
        i = caller
        time.sleep(pause_s * caller / callers)
        while (began_s := time.monotonic()) < end_s:
            try:
                outcome = "right" if ask(i) else "wrong"
            except Exception as error:
                outcome = type(error).__name__
            asked.append(Asked(began_s, time.monotonic() - began_s, outcome))
            i += callers
            time.sleep(pause_s)
        return asked

    with ThreadPoolExecutor(callers) as pool:
        return Load(tuple(one for part in pool.map(run, range(callers)) for one in part))


def meanwhile(after_s: float, action: Callable[[], object]) -> threading.Timer:
    """Does something in a while, as the load goes on. To be joined."""
    timer = threading.Timer(after_s, action)
    timer.start()
    return timer


def our_ask(client: InferenceClient, model: str, inputs: NDArray[np.float32], expected: NDArray[np.float32]) -> Ask:
    """Requests of single rows by our client, which all threads share. Answers must be equal to what is expected."""
    (output,) = client.metadata(model).outputs

    def ask(i: int) -> bool:
        at = i % len(inputs)
        return np.array_equal(client.infer(model, inputs[at : at + 1])[output.name], expected[at : at + 1])

    return ask


def deadline_ratios(load: Load, timeout_s: float) -> list[float]:
    """Of the requests that ran out of time: how long they took, as a share of the time they had."""
    return [one.seconds / timeout_s for one in load.asked if one.outcome == DeadlineError.__name__]


@dataclass(frozen=True)
class Storm:
    """What a server saw that was busy for a while. Arrivals are times in seconds since the load began, of attempts."""

    requests: int
    failures: int
    arrivals_s: tuple[float, ...]
    busy_s: tuple[float, float]

    @property
    def attempts_per_request(self) -> float:
        """Over the whole run."""
        return len(self.arrivals_s) / self.requests

    def peak(self, bin_s: float = 0.5) -> float:
        """The fullest moment after the busy time, over the usual before it."""
        begin_s, end_s = self.busy_s
        bins = np.arange(0, max(self.arrivals_s) + bin_s, bin_s)
        counts, _ = np.histogram(self.arrivals_s, bins)
        usual = np.median(counts[(bins[:-1] >= bin_s) & (bins[1:] <= begin_s)])
        return float(counts[bins[:-1] >= end_s - bin_s].max() / usual)


METADATA = {
    "name": "null",
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
}
ANSWER = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [0]}]}


@asynccontextmanager
async def busy_server(is_busy: Callable[[], bool], arrived: Callable[[], None]) -> AsyncIterator[str]:
    """A server of the Open Inference Protocol that answers 503 while it is busy: Triton cannot be made to on demand."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
            await reader.readexactly(int(length.partition(b":")[2]))
            path, status = head.split(b" ", 2)[1].decode(), 200
            answer: object = {}
            if path.endswith("/infer"):
                arrived()
                status, answer = (503, {"error": "busy"}) if is_busy() else (200, ANSWER)
            elif path == "/v2/models/null":
                answer = METADATA
            elif path.endswith("/config"):
                status = 404
            body = json.dumps(answer).encode()
            writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0, backlog=1024)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def storm(callers: int, pause_s: float, busy_s: tuple[float, float], seconds: float, settings: Settings) -> Storm:
    """So many asyncio callers of a server that is busy between two times."""
    zero_s = time.monotonic()
    arrivals: list[float] = []
    failures = requests = 0

    def now_s() -> float:
        return time.monotonic() - zero_s

    async def caller(client: AsyncInferenceClient, number: int) -> None:
        nonlocal failures, requests
        await asyncio.sleep(pause_s * number / callers)
        while now_s() < seconds:
            requests += 1
            try:
                await client.infer("null", np.zeros(1, np.float32))
            except InferenceError:
                failures += 1
            await asyncio.sleep(pause_s)

    async with (
        busy_server(lambda: busy_s[0] <= now_s() < busy_s[1], lambda: arrivals.append(now_s())) as url,
        AsyncInferenceClient(url, timeout_s=30, settings=settings) as client,
    ):
        await client.metadata("null")
        await asyncio.gather(*(caller(client, number) for number in range(callers)))
    return Storm(requests, failures, tuple(arrivals), busy_s)
