"""One load test from its plan to its report, in the load test's own process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client import InferenceClient
from client.address import Address, parse_address
from client.counters import ModelStatistics
from core.files import write_atomically
from core.machine import now
from core.results import LoadReport, LoadWindow, ServedAccuracy
from core.samples import SamplePack, read_arrays, read_pack
from loadtest.errors import PlanError
from loadtest.events import LoadEvent, describe_accuracy, describe_window
from loadtest.generator import Load, generate
from loadtest.job import Job, once, until
from loadtest.judge import judge_accuracy, judge_window, record
from loadtest.plan import LoadPlan, Step, Target, steps
from loadtest.raw import RawRequests
from loadtest.wire import open_wire

SETTLE_S = 1.0  # how long to wait for the server's counters: it answers a request a moment before it counts it
SETTLE_POLL_S = 0.01


@dataclass(frozen=True)
class Session:
    """What the parts of one load test share. `requests` holds one encoded request a sample, without
    its head."""

    plan: LoadPlan
    pack: SamplePack
    requests: tuple[bytes, ...]
    address: Address
    client: InferenceClient
    raw: RawRequests

    def load(self, target: Target, users: int, order: Iterator[int]) -> tuple[Load, ModelStatistics]:
        """Lets the users send the samples of `order` to a variant. Returns what they did and what the server counted,
        which is read while the server is idle."""
        golden = self.pack.goldens[self.pack.info.metric_output]
        plan = self.plan
        job = Job(target.triton_name, plan.protocol, self.requests, golden[:1].nbytes, order, plan.timeout_s)
        before = self.client.statistics(target.triton_name)
        load = generate(job, users, self.address)
        answered = sum(not exchange.failure for exchange in load.exchanges)
        return load, settled(self.client, target.triton_name, before, answered)


def run(plan: LoadPlan, out: Path, tell: Callable[[LoadEvent], None]) -> LoadReport:
    """Each variant's served accuracy, then all windows. Writes `requests.csv` and `load.json` into `out`."""
    pack, wire = read_pack(plan.pack), open_wire(plan.protocol)
    address = parse_address(plan.url, plan.protocol)
    with (
        InferenceClient(plan.url, plan.protocol, plan.timeout_s) as client,
        RawRequests(out / "requests.csv") as raw,
    ):
        session = Session(plan, pack, wire.encode_pack(pack), address, client, raw)
        in_process = {target.variant: check_target(target, pack, client) for target in plan.targets}
        accuracy, windows = [], []
        for done, target in enumerate(plan.targets, start=1):
            served, message = serve_once(session, target, in_process[target.variant])
            accuracy.append(served)
            tell(LoadEvent(kind="accuracy", variant=target.variant, done=done, total=plan.parts, message=message))
        for done, step in enumerate(steps(plan), start=len(accuracy) + 1):
            window, message = measure(session, step)
            windows.append(window)
            tell(LoadEvent(kind="window", variant=step.target.variant, done=done, total=plan.parts, message=message))
        report = LoadReport(
            created_at=now(),
            model=plan.model,
            server_version=client.server_version(),
            url=f"{plan.protocol}://{address}",
            windows=tuple(windows),
            accuracy=tuple(accuracy),
        )
    write_atomically(out / "load.json", report.to_json())
    return report


def check_target(target: Target, pack: SamplePack, client: InferenceClient) -> NDArray[np.generic] | None:
    """The variant's in-process answers, if the plan names any. Raises PlanError or InferenceError unless the server has
    the variant and it takes and gives what the pack holds."""
    metadata = client.metadata(target.triton_name)
    metadata.check_inputs({name: array[:1] for name, array in pack.inputs.items()})
    metadata.check_outputs((name := pack.info.metric_output,))
    golden = pack.goldens[name]
    served = next(tensor for tensor in metadata.outputs if tensor.name == name)
    if not served.fits(golden[:1]):
        raise PlanError(
            f"{target.triton_name} gives {served}, but the sample pack of {pack.info.model} was made for "
            f"{golden.dtype} {list(golden.shape)}; build the model again"
        )
    if target.outputs is None:
        return None
    answers = read_arrays(target.outputs).get(name)
    if answers is None or len(answers) != pack.info.count:
        raise PlanError(f"{target.outputs} does not hold {name!r} for the pack's {pack.info.count} samples")
    return answers


def serve_once(session: Session, target: Target, in_process: NDArray[np.generic] | None) -> tuple[ServedAccuracy, str]:
    """Sends every sample once, under load, which also warms the variant up; only some of them, by chance, to a variant
    that is too slow for all. Returns the row, and it in words."""
    plan, pack = session.plan, session.pack
    load, _ = session.load(target, plan.accuracy_users, once(pack.info.count, f"{plan.seed}", plan.accuracy_s))
    recorded = record(load.exchanges, pack)
    session.raw.write(target.variant, plan.protocol, plan.accuracy_users, 0, recorded)
    row = judge_accuracy(target, plan.protocol, recorded, in_process)
    return row, describe_accuracy(row, pack.info.count, recorded.first_failure)


def measure(session: Session, step: Step) -> tuple[LoadWindow, str]:
    """One window, after a warm-up like it. Returns the row, and it in words."""
    plan, count = session.plan, session.pack.info.count
    seed = f"{plan.seed} {step.pass_number} {step.users}"  # the same samples in the same order for every variant
    if plan.warmup_s:
        session.load(step.target, step.users, until(plan.warmup_s, count, seed))
    load, counted = session.load(step.target, step.users, until(plan.window_s, count, seed))
    recorded = record(load.exchanges, session.pack)
    session.raw.write(step.target.variant, plan.protocol, step.users, step.pass_number, recorded)
    row = judge_window(step, plan.protocol, recorded, counted, load.cpu_s)
    return row, describe_window(row, recorded.first_failure)


def settled(client: InferenceClient, name: str, before: ModelStatistics, answered: int) -> ModelStatistics:
    """What the server counted since `before`, once that is all that it answered (or it does not become so)."""
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        counted = client.statistics(name) - before
        if counted.requests >= answered or time.monotonic() > deadline_s:
            return counted
        time.sleep(SETTLE_POLL_S)
