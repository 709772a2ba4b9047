"""`python -m loadtest.worker --master-host HOST --master-port PORT --pack FOLDER`: one of Locust's workers.

It connects to the master, sends its part of every run that it is told of, and hands the requests back. Ends when the
master says so, or when whoever started it has gone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib import metadata
from pathlib import Path

from core.errors import InferenceError, TridentError

PARENT_POLL_S = 1.0


def work(host: str, port: int, folder: Path) -> None:
    """Works for the master until it says that it needs no more. Raises InferenceError if none answers, InputError for a
    bad sample pack."""
    import gevent
    from locust.env import Environment
    from locust.rpc.protocol import Message
    from pydantic import ValidationError

    from client.address import parse_address
    from core.samples import read_pack
    from loadtest.generator import generate
    from loadtest.job import Job
    from loadtest.messages import ASSIGNMENT, REFUSAL, SHARE, Assignment, Refusal, pack_share
    from loadtest.wire import open_wire

    pack, parent = read_pack(folder), os.getppid()
    encoded: dict[str, tuple[bytes, ...]] = {}
    golden = pack.goldens[pack.info.metric_output]

    def refuse(assignment: Assignment) -> str:
        """What speaks against it; nothing if it can be done."""
        if assignment.version != metadata.version("trident-triton"):
            return f"it has Trident {metadata.version('trident-triton')}, and the master {assignment.version}"
        if assignment.samples_sha256 != pack.info.sha256:
            return f"its sample pack {folder} is another than the master's; copy that one, or build from the same data"
        return ""

    def take(environment: Environment, msg: Message) -> None:  # noqa: ARG001 - so Locust calls it
        start_s = time.perf_counter()
        number = msg.data.get("number", 0)
        try:
            assignment = Assignment.model_validate(msg.data)
            if why := refuse(assignment):
                runner.send_message(REFUSAL, Refusal(number=number, why=why).model_dump())
                return
            wire = open_wire(assignment.protocol)
            requests = encoded.setdefault(assignment.protocol, ()) or wire.encode_pack(pack)
            encoded[assignment.protocol] = requests
            order = assignment.order.draw(assignment.part, assignment.of)
            job = Job(
                assignment.names, assignment.protocol, requests, golden[:1].nbytes, order, assignment.timeout_s
            )  # fmt: skip
            load = generate(job, assignment.users, parse_address(assignment.url, wire.scheme))
        except (TridentError, ValidationError) as error:
            runner.send_message(REFUSAL, Refusal(number=number, why=str(error)).model_dump())
            return
        runner.send_message(SHARE, pack_share(number, load.cpu_s, load.exchanges, start_s).model_dump())

    def watch() -> None:
        while os.getppid() == parent:
            gevent.sleep(PARENT_POLL_S)
        os._exit(1)  # nobody is left to tell

    gevent.spawn(watch)
    try:
        runner = Environment().create_worker_runner(host, port)
    except ConnectionError as error:
        raise InferenceError(f"no master answered at {host}:{port}; is the load test running there?") from error
    # In a greenlet of its own, so that the master's heartbeats are heard meanwhile.
    runner.register_message(ASSIGNMENT, take, concurrent=True)
    runner.greenlet.join()


def main() -> int:
    """Works as the command line says. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.worker", description="Send a part of a load test.")
    parser.add_argument("--master-host", required=True)
    parser.add_argument("--master-port", type=int, required=True)
    parser.add_argument("--pack", type=Path, required=True, help="folder of the sample pack")
    options = parser.parse_args()
    os.environ.setdefault("GEVENT_BACKEND", "select")  # see loadtest.__main__
    try:
        work(options.master_host, options.master_port, options.pack)
    except TridentError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
