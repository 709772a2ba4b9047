"""Locust in library mode: a number of users work off a job. Importing this patches the process for gevent."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from locust.env import Environment

from client.address import Address
from core.scenario import Protocol
from loadtest.errors import GeneratorError
from loadtest.job import Exchange, Job, until
from loadtest.null import HOST
from loadtest.user import InferUser
from loadtest.wire import open_wire, scheme

CEILING_USERS: Final = 16  # enough that it is never idle; with many more it does not become quicker
CEILING_PARTS_S: Final = (0.3, 0.5, 0.5, 0.5)  # the best counts: what else runs on the machine can only make it less


@dataclass(frozen=True)
class Load:
    """What a run of users did: every request that was sent, and the CPU time that sending them took."""

    exchanges: tuple[Exchange, ...]
    cpu_s: float


def generate(
    job: Job,
    users: int,
    address: Address,
    user: type[InferUser] = InferUser,
    *,
    follow: Callable[[Sequence[Exchange]], None] | None = None,
) -> Load:
    """Runs the users, all starting at once, until the job's order ends and the last answer has come. `user` is their
    kind; `follow` gets the list that grows meanwhile.

    Each run has users, connections and a Locust environment of its own, and leaves nothing behind.
    """
    user_class = type("TritonUser", (user,), {"job": job, "host": f"{scheme(job.protocol)}://{address}"})
    environment = Environment(user_classes=[user_class])
    runner = environment.create_local_runner()
    exchanges: list[Exchange] = []
    if follow:
        follow(exchanges)
    environment.events.request.add_listener(lambda context, **_: exchanges.append(context["exchange"]))
    gc.collect()
    gc.freeze()  # else a collection among the load has to walk all that Locust imported: tens of milliseconds
    before = os.times()
    runner.start(users, spawn_rate=users)
    runner.spawning_greenlet.join()
    runner.user_greenlets.join()
    after = os.times()
    runner.quit()
    if runner.exceptions:
        first = next(iter(runner.exceptions.values()))
        raise GeneratorError(f"a load test user failed: {first['msg']}\n{first['traceback']}")
    return Load(tuple(exchanges), after.user + after.system - before.user - before.system)


def measure_ceiling(protocol: Protocol, requests: tuple[bytes, ...], answer_bytes: int) -> float:
    """How many of these encoded requests (without their heads) one generator process can send per second of CPU time,
    on a server that does nothing. Raises GeneratorError if that cannot be told."""
    wire = open_wire(protocol)
    alike = tuple(request for request in requests if len(request) == len(requests[0]))  # the null server counts bytes
    size = len(wire.head("null")) + len(requests[0])
    command = [sys.executable, "-m", "loadtest.null", wire.scheme, str(size), str(answer_bytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip() if process.stdout else ""
            if not port.isdigit():
                raise GeneratorError(
                    "the null server, on which the load generator's ceiling is measured, did not start"
                )
            rates_rps = []
            for seconds in CEILING_PARTS_S:
                order = until(seconds, len(alike), "ceiling").draw()
                job = Job(("null",), protocol, alike, answer_bytes, order, timeout_s=5.0)
                load = generate(job, CEILING_USERS, Address(HOST, int(port)))
                failure = next((exchange.failure for exchange in load.exchanges if exchange.failure), "")
                if failure or not load.cpu_s:
                    why = failure or "nothing was sent"
                    raise GeneratorError(f"the load generator's ceiling cannot be measured: {why}")
                rates_rps.append(len(load.exchanges) / load.cpu_s)
        finally:
            process.terminate()
    return max(rates_rps)
