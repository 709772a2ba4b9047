"""The figures of the client: `make bench-client` writes `benchmarks/client.json` and the table in docs/client.md.

Latencies are those of whole requests to a model that computes nothing, on this machine; ratios are of medians within
one interleaved round. The faults are real: the server is killed, or stopped by a signal, under load.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http

from benchmarks.claims import between, claim, claims_table, counted, tally
from benchmarks.client_faults import Ask, Load, deadline_ratios, meanwhile, our_ask, steady_load, storm
from benchmarks.client_latency import QUIET, measure, write_models
from benchmarks.demo import commit
from client import AsyncInferenceClient, InferenceClient, Settings
from core.comparison import Benchmark, Claim
from core.files import write_atomically
from core.machine import describe, now, versions
from server.options import ServeOptions
from server.supervisor import Server

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/client.md"
BEGIN, END = "<!-- client: begin (written by `make bench-client`) -->", "<!-- client: end -->"
CALLERS, STORM_CALLERS, THREADS, TASKS = 8, 200, 32, 1000
PAUSE_S = 0.02
FROZEN_TIMEOUT_S = 2.0
INPUTS = np.arange(4000, dtype=np.float32).reshape(1000, 4)
FORK = """
import os, sys
import numpy as np
from client import InferenceClient
client = InferenceClient(sys.argv[1])
x = np.ones((1, 4), np.float32)
assert (client.infer("double", x)["y"] == 2).all()
children = []
for value in range(8):
    pid = os.fork()
    if not pid:
        os._exit(sum(not (client.infer("double", x * value)["y"] == 2 * value).all() for _ in range(50)) > 0)
    children.append(pid)
print(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""


def latency_claims(server: Server, rounds: int) -> tuple[Claim, ...]:
    """What a request costs."""
    ms = measure(server.http_url, server.grpc_url, rounds)

    def ratios(over: str, under: str) -> list[float]:
        return [a / b for a, b in zip(ms[over], ms[under], strict=True)]

    return (
        claim("added_latency_http_ms", ms["http"], "ms, 12 KB", 0.8, "lower"),
        claim("added_latency_grpc_ms", ms["grpc"], "ms, 12 KB", 0.9, "lower"),
        claim("http_over_tritonclient", ratios("http", "http_tritonclient"), "x tritonclient's latency", 1.0, "lower"),
        claim("grpc_over_tritonclient", ratios("grpc", "grpc_tritonclient"), "x tritonclient's latency", 1.0, "lower"),
        claim("shm_gain", ratios("large_grpc", "large_grpc_shared"), "x faster than gRPC alone, 602 KB", 1.3),
        claim("binary_over_json", ratios("large_http_json", "large_http"), "x faster than JSON, 602 KB", 15.0),
    )


def killed(server: Server, make_ask: Callable[[], Ask], seconds: float) -> Load:
    """Load, during which the server is killed once; it is back when this returns."""
    killing = meanwhile(seconds / 5, lambda: os.kill(server.pid, signal.SIGKILL))
    load = steady_load(make_ask, CALLERS, seconds, PAUSE_S)
    killing.join()
    with InferenceClient(server.http_url) as client:
        while not client.is_ready("double"):
            time.sleep(0.1)
    return load


def kill_claims(server: Server, seconds: float) -> list[Claim]:
    """A killed server, through our client and through tritonclient, over both protocols."""
    claims, wrong = [], 0
    for protocol, url in (("http", server.http_url), ("grpc", server.grpc_url)):
        with InferenceClient(url, protocol, settings=QUIET) as client:  # type: ignore[arg-type]
            ask = our_ask(client, "double", INPUTS, 2 * INPUTS)
            ours = killed(server, lambda: ask, seconds)  # noqa: B023  # used at once
        theirs = killed(server, {"http": their_http, "grpc": their_grpc}[protocol](url), seconds)
        wrong += sum(one.outcome == "wrong" for one in ours.asked)
        bare = theirs.share("right")
        claims += [
            counted(f"kill_success_{protocol}", ours.share("right"), f"share of {len(ours.asked)}", 0.99, "higher"),
            Claim(
                id=f"kill_success_{protocol}_tritonclient", value=bare, ci95=(bare, bare),
                unit=f"share of {len(theirs.asked)}, for comparison", target=None, better="higher", holds=True,
            ),
        ]  # fmt: skip
    return [*claims, counted("kill_wrong_answers", wrong, "answers, both protocols", 0, "lower")]


def their_http(url: str) -> Callable[[], Ask]:
    """Bare tritonclient; a client for each thread, since it is not made to be shared."""

    def make_ask() -> Ask:
        client = tritonclient.http.InferenceServerClient(url)

        def ask(i: int) -> bool:
            row = INPUTS[i % 1000 : i % 1000 + 1]
            tensor = tritonclient.http.InferInput("x", [1, 4], "FP32").set_data_from_numpy(row)
            return np.array_equal(client.infer("double", [tensor]).as_numpy("y"), 2 * row)

        return ask

    return make_ask


def their_grpc(url: str) -> Callable[[], Ask]:
    """The same over gRPC, where threads may share it."""
    client = tritonclient.grpc.InferenceServerClient(url)

    def ask(i: int) -> bool:
        row = INPUTS[i % 1000 : i % 1000 + 1]
        tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP32").set_data_from_numpy(row)
        return np.array_equal(client.infer("double", [tensor], client_timeout=30).as_numpy("y"), 2 * row)

    return lambda: ask


def frozen_claims(server: Server, frozen_s: float) -> list[Claim]:
    """A server that is stopped for a while: when callers hear of it, and what the slowest took."""
    claims = []
    for protocol, url in (("http", server.http_url), ("grpc", server.grpc_url)):
        with InferenceClient(url, protocol, FROZEN_TIMEOUT_S, QUIET) as client:  # type: ignore[arg-type]
            ask = our_ask(client, "double", INPUTS, 2 * INPUTS)
            os.kill(server.pid, signal.SIGSTOP)
            thawing = meanwhile(frozen_s, lambda: os.kill(server.pid, signal.SIGCONT))
            load = steady_load(lambda: ask, CALLERS, frozen_s + 5, PAUSE_S)  # noqa: B023  # used at once
            thawing.join()
        late = max(abs(ratio - 1) for ratio in deadline_ratios(load, FROZEN_TIMEOUT_S))
        slowest = max(one.seconds for one in load.asked) / FROZEN_TIMEOUT_S
        claims += [
            counted(f"frozen_off_deadline_{protocol}", late, "share of the deadline, the largest", 0.1, "lower"),
            counted(f"frozen_slowest_{protocol}", slowest, "x the deadline, of all requests", 1.1, "lower"),
        ]
    return claims


def storm_claims(scale: float) -> list[Claim]:
    """A server that is too busy for ten seconds, and 200 callers."""
    settings = Settings(observers=(), connections=STORM_CALLERS)
    seen = asyncio.run(storm(STORM_CALLERS, 0.5, (5 * scale, 15 * scale), 22 * scale, settings))
    return [
        counted("busy_attempts_per_request", seen.attempts_per_request, f"of {seen.requests} requests", 1.1, "lower"),
        counted("busy_peak_after", seen.peak(), "x the usual arrivals in half a second", 1.5, "lower"),
        counted("busy_failures", seen.failures, "requests, deadline 30 s", 0, "lower"),
    ]


def shared_claims(server: Server) -> list[Claim]:
    """One client for many threads, tasks, and children."""
    failed = {"threads": 0, "tasks": 0, "forks": 0}
    for protocol, url in (("http", server.http_url), ("grpc", server.grpc_url)):
        with InferenceClient(url, protocol) as client, ThreadPoolExecutor(THREADS) as pool:  # type: ignore[arg-type]
            ask = our_ask(client, "double", INPUTS, 2 * INPUTS)
            failed["threads"] += sum(not right for right in pool.map(ask, range(100 * THREADS)))
        failed["tasks"] += asyncio.run(_wrong_tasks(f"{protocol}://{url}"))
        command = [sys.executable, "-c", FORK, f"{protocol}://{url}"]
        failed["forks"] += int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    units = {
        "threads": f"wrong of {200 * THREADS} answers to {THREADS} threads",
        "tasks": f"wrong of {2 * TASKS} answers to {TASKS} tasks",
        "forks": "of 16 children with a wrong answer",
    }
    return [counted(f"shared_by_{name}", value, units[name], 0, "lower") for name, value in failed.items()]


async def _wrong_tasks(url: str) -> int:
    async with AsyncInferenceClient(url) as client:

        async def wrong(i: int) -> bool:
            row = INPUTS[i : i + 1]
            return not np.array_equal((await client.infer("double", row))["y"], 2 * row)

        return sum(await asyncio.gather(*(wrong(i) for i in range(TASKS))))


def import_claim() -> Claim:
    """What `import client` takes, the interpreter's own start apart: CPU time, which others on the machine do not
    stretch as they do the time on the clock."""
    code = "import time; t = time.process_time(); import client; print(time.process_time() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(10)
    ]
    return claim("import_s", runs, "s of CPU time", 0.5, "lower")


def run(rounds: int, scale: float) -> Benchmark:
    """All of it. `scale` shortens the faults."""
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder, "repository"))
        options = ServeOptions(Path(folder, "repository"), run_dir=Path(folder, "run"), hang_timeout_s=120)
        with Server(options) as server:
            claims = [
                *latency_claims(server, rounds),
                *kill_claims(server, 30 * scale),
                *frozen_claims(server, 20 * scale),
                *shared_claims(server),
            ]
    return Benchmark(
        created_at=now(),
        command="make bench-client",
        machine=describe(),
        versions=versions(),
        commit=commit(),
        rows=(),
        windows=(),
        claims=(*claims, *storm_claims(scale), import_claim()),
    )


def rewrite(page: str, benchmark: Benchmark) -> str:
    """The page with the part between the marks made anew."""
    return between(page, BEGIN, END, claims_table(benchmark))


def main() -> None:
    """Measures, or with `--page` only rewrites docs/client.md from the committed file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--scale", type=float, default=1.0, help="of the lengths of the faults; default: %(default)s")
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite docs/client.md from client.json")
    options = parser.parse_args()
    result = HERE / "client.json"
    if not options.page:
        write_atomically(result, run(options.rounds, options.scale).to_json())
    benchmark = Benchmark.model_validate_json(result.read_bytes())
    write_atomically(PAGE, rewrite(PAGE.read_text(), benchmark).encode())
    print(f"{result}: {tally(benchmark)}")


if __name__ == "__main__":
    main()
