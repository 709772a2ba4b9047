"""`python -m loadtest.worker --master-host HOST --master-port PORT --pack FOLDER`: one of Locust's workers.

It connects to the master, sends its part of every run that it is told of, and hands the requests back. Ends when the
master says so, or when whoever started it has gone. Importing this patches the process for gevent.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Final

import gevent
from locust.env import Environment
from locust.rpc.protocol import Message
from pydantic import ValidationError

from client.address import parse_address
from core.errors import InferenceError, TridentError
from core.results import ResultModel
from core.samples import read_pack
from core.scenario import Protocol
from loadtest.generator import generate
from loadtest.job import Job
from loadtest.messages import ASSIGNMENT, REFUSAL, SHARE, Assignment, Refusal, Share, check, pack_share
from loadtest.wire import open_wire

PARENT_POLL_S: Final = 1.0


class Worker:
    """A worker with its sample pack, connected to a master. Raises InputError for a bad pack, InferenceError if no
    master answers."""

    def __init__(self, host: str, port: int, folder: Path) -> None:
        self._pack = read_pack(folder)
        self._requests: dict[Protocol, tuple[bytes, ...]] = {}
        try:
            self._runner = Environment().create_worker_runner(host, port)
        except ConnectionError as error:
            raise InferenceError(f"no master answered at {host}:{port}; is the load test running there?") from error
        # In a greenlet of its own, so that the master's heartbeats are heard meanwhile.
        self._runner.register_message(ASSIGNMENT, self._take, concurrent=True)

    def work(self) -> None:
        """Does what the master says, until it says that it needs no more."""
        self._runner.greenlet.join()

    def _take(self, environment: Environment, msg: Message) -> None:  # noqa: ARG002 - so Locust calls it
        try:
            assignment = Assignment.model_validate(msg.data)
            answer: ResultModel = self._share(assignment)
        except (TridentError, ValidationError) as error:
            answer = Refusal(number=msg.data.get("number", 0), why=str(error))
        self._runner.send_message(SHARE if isinstance(answer, Share) else REFUSAL, answer.model_dump())

    def _share(self, assignment: Assignment) -> Share:
        """Sends what was assigned. Raises PlanError if this worker is another version, or has other samples."""
        start_s, pack, protocol = time.perf_counter(), self._pack, assignment.protocol
        check(assignment, pack.info.sha256, metadata.version("trident-triton"))
        wire = open_wire(protocol)
        if protocol not in self._requests:
            self._requests[protocol] = wire.encode_pack(pack)
        order = assignment.order.draw(assignment.part, assignment.of)
        size = pack.goldens[pack.info.metric_output][:1].nbytes
        job = Job(assignment.names, protocol, self._requests[protocol], size, order, assignment.timeout_s)
        load = generate(job, assignment.users, parse_address(assignment.url, wire.scheme))
        return pack_share(assignment.number, load.cpu_s, load.exchanges, start_s)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        gevent.sleep(PARENT_POLL_S)
    os._exit(1)  # nobody is left to tell


def main() -> int:
    """Works as the command line says. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.worker", description="Send a part of a load test.")
    parser.add_argument("--master-host", required=True)
    parser.add_argument("--master-port", type=int, required=True)
    parser.add_argument("--pack", type=Path, required=True, help="folder of the sample pack")
    parser.add_argument("--parent", type=int, default=os.getppid(), metavar="PID", help="ends when that has gone")
    options = parser.parse_args()
    gevent.spawn(_watch_parent, options.parent)
    try:
        Worker(options.master_host, options.master_port, options.pack).work()
    except TridentError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
