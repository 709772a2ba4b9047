"""Several load generator processes, led by Locust's master: on this machine, on others, or both.

Locust's master and workers find each other, notice when one is lost, and carry messages. What is sent when, and by
whom, is decided here, since their own dispatcher knows neither schedules nor samples; every worker sends its part as
a single process would.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import metadata
from types import TracebackType
from typing import Final, Self

import gevent
from gevent.queue import Empty, Queue
from locust.env import Environment
from locust.exception import RPCError
from locust.rpc.protocol import Message
from locust.runners import STATE_MISSING

from core.results import Sha256
from loadtest.errors import GeneratorError
from loadtest.generator import Load
from loadtest.job import Order
from loadtest.messages import ASSIGNMENT, REFUSAL, SHARE, Assignment, Refusal, Share, unpack_share
from loadtest.plan import LoadPlan

JOIN_S: Final = 60.0  # how long a run waits for its workers
POLL_S: Final = 0.05


class Workers:
    """The workers of one load test, all connected. Raises GeneratorError when one is missing."""

    def __init__(self, plan: LoadPlan, samples_sha256: Sha256, answer_bytes: int) -> None:
        self._plan, self._sha256, self._answer_bytes, self._number = plan, samples_sha256, answer_bytes, 0
        self._inbox: Queue[tuple[str, Message]] = Queue()
        self._children: list[subprocess.Popen[bytes]] = []
        try:
            self._runner = Environment().create_master_runner(plan.master_host, plan.master_port)
        except RPCError as error:
            raise GeneratorError(
                f"workers cannot be awaited at {plan.master_host}:{plan.master_port} ({error}); name another address "
                "with --master-bind-host and --master-bind-port"
            ) from error
        for kind in (SHARE, REFUSAL):
            self._runner.register_message(kind, self._hear)

    def __enter__(self) -> Self:
        host = "127.0.0.1" if self._plan.master_host in ("0.0.0.0", "*") else self._plan.master_host
        command = [
            sys.executable, "-m", "loadtest.worker", "--master-host", host,
            "--master-port", str(self._runner.server.port), "--pack", str(self._plan.pack),
            "--parent", str(os.getpid()),
        ]  # fmt: skip
        try:
            self._children += [subprocess.Popen(command) for _ in range(self._plan.local_workers)]
            self._join()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Sends the workers home, and ends those that were started here."""
        self._runner.quit()
        for child in self._children:
            child.terminate()
            child.wait()

    def generate(self, names: tuple[str, ...], users: int, order: Order) -> Load:
        """Lets the workers' users, about as many on each, send what the order says, and joins what they did."""
        self._number += 1
        ids = sorted(self._runner.clients)[:users]
        start_s = time.perf_counter()
        for part, client_id in enumerate(ids):
            assignment = Assignment(
                number=self._number, version=metadata.version("trident-triton"), samples_sha256=self._sha256,
                url=self._plan.url, protocol=self._plan.protocol, names=names,
                users=users // len(ids) + (part < users % len(ids)), part=part, of=len(ids), order=order,
                timeout_s=self._plan.timeout_s,
            )  # fmt: skip
            self._runner.send_message(ASSIGNMENT, assignment.model_dump(), client_id)
        shares = self._collect(set(ids))
        exchanges = [row for share in shares for row in unpack_share(share, self._answer_bytes, start_s)]
        exchanges.sort(key=lambda row: row.began_s + row.latency_ms / 1000)
        return Load(tuple(exchanges), sum(share.cpu_s for share in shares))

    def _collect(self, missing: set[str]) -> list[Share]:
        shares = []
        while missing:
            try:
                kind, msg = self._inbox.get(timeout=POLL_S)
            except Empty:
                self._check(missing)
                continue
            if kind == REFUSAL:
                raise GeneratorError(f"worker {msg.node_id} cannot take part: {Refusal.model_validate(msg.data).why}")
            share = Share.model_validate(msg.data)
            if share.number == self._number:
                missing.discard(msg.node_id)
                shares.append(share)
        return shares

    def _hear(self, environment: Environment, msg: Message) -> None:  # noqa: ARG002 - so Locust calls it
        self._inbox.put((msg.type, msg))

    def _join(self) -> None:
        """Waits until all workers are connected."""
        deadline_s = time.monotonic() + JOIN_S
        while len(self._runner.clients) < self._plan.workers:
            self._check(set())
            if time.monotonic() > deadline_s:
                raise GeneratorError(
                    f"{len(self._runner.clients)} of {self._plan.workers} workers came to "
                    f"{self._plan.master_host}:{self._runner.server.port} within {JOIN_S:g} s; start the others with "
                    "`trident loadtest MODEL --worker --master-host HOST`"
                )
            gevent.sleep(POLL_S)

    def _check(self, needed: set[str]) -> None:
        """Raises GeneratorError if a worker is lost: what it sent is not known, and half a run tells nothing."""
        gone = [child.pid for child in self._children if child.poll() is not None]
        clients = self._runner.clients
        lost = [name for name in needed if name not in clients or clients[name].state == STATE_MISSING]
        if gone or lost:
            who = f"process {gone[0]}, whose words are in loadtest.log" if gone else lost[0]
            raise GeneratorError(f"a worker of the load generator was lost ({who}); nothing is judged from half a run")
