"""The parts of a load test: served accuracy, a window, a search, each with what comes before and after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from client import InferenceClient
from client.address import Address
from client.counters import ModelStatistics
from core.load_results import Capacity, Ceiling, LoadWindow, ServedAccuracy
from core.samples import SamplePack
from core.scenario import CapacitySearch, OpenLoop
from loadtest import capacity
from loadtest.arrivals import due_times
from loadtest.events import describe_accuracy, describe_capacity, describe_window
from loadtest.generator import Load, generate
from loadtest.job import Job, Order, once, scheduled, until
from loadtest.judge import Around, judge_accuracy, judge_window, percentiles, record
from loadtest.live import Live
from loadtest.plan import LoadPlan, Step, Target, shares
from loadtest.processes import Usage, read_usage, used
from loadtest.raw import RawRequests
from loadtest.warmup import PARTS, is_warm
from loadtest.workers import Workers

SETTLE_S = 1.0  # how long to wait for the server's counters: it answers a request a moment before it counts it
SETTLE_POLL_S = 0.01
WARMUP_USERS = 8  # at most
LEAD_S = 0.2  # for all connections of an open loop to be made


@dataclass(frozen=True)
class Session:
    """What the parts of one load test share. `requests` holds one encoded request a sample, without its head;
    `in_process` the answers that each variant gave in process, if they are known; `warm_ms` the median latency of each
    variant's warm-ups so far, by its name and the number of users."""

    plan: LoadPlan
    pack: SamplePack
    requests: tuple[bytes, ...]
    address: Address
    client: InferenceClient
    raw: RawRequests
    in_process: dict[str, NDArray[np.generic] | None]
    live: Live
    ceiling: Ceiling | None = None
    workers: Workers | None = None
    warm_ms: dict[tuple[str, int], float] = field(default_factory=dict)

    def generate(self, targets: tuple[Target, ...], users: int, order: Order) -> Load:
        """Lets the users send what the order says, in this process or in several."""
        names, plan = tuple(target.triton_name for target in targets), self.plan
        if self.workers:
            load = self.workers.generate(names, users, order)
            self.live.follow(names, load.exchanges)
            return load
        job = Job(names, plan.protocol, self.requests, answer_bytes(self.pack), order.draw(), plan.timeout_s)
        return generate(job, users, self.address, follow=lambda exchanges: self.live.follow(names, exchanges))

    def usage(self, targets: tuple[Target, ...]) -> list[Usage]:
        """What the server's processes have used so far for each target."""
        return [read_usage(self.plan.server_pid, target.pids) for target in targets]


def answer_bytes(pack: SamplePack) -> int:
    """How many bytes a good answer to one sample has."""
    return pack.goldens[pack.info.metric_output][:1].nbytes


def serve_once(session: Session, target: Target) -> tuple[ServedAccuracy, str]:
    """Sends every sample once, under load, which also warms the variant up; only some of them, by chance, to a variant
    that is too slow for all. Returns the row, and it in words."""
    plan, pack = session.plan, session.pack
    order = once(pack.info.count, f"{plan.seed}", plan.accuracy_s)
    load = session.generate((target,), plan.accuracy_users, order)
    recorded = record(load.exchanges, pack)
    if recorded.failed:
        session.client.statistics(target.triton_name)  # raises InferenceError if the server is no more
    session.raw.write(target.variant, plan.protocol, plan.accuracy_users, None, 0, recorded)
    row = judge_accuracy(target, plan.protocol, recorded, session.in_process[target.variant])
    return row, describe_accuracy(row, pack.info.count, recorded.first_failure)


def measure(session: Session, step: Step, seed: str, say: Callable[[str, str], None]) -> list[LoadWindow]:
    """One window, after its variants were warmed up: a row a variant. The seed is the same for every variant, so that
    they get the same samples in the same order, and in an open loop at the same moments."""
    plan, pack, targets = session.plan, session.pack, step.targets
    warmed = [warm_up(session, target, min(step.users, WARMUP_USERS)) for target in targets]
    due = np.zeros(0)
    models = np.zeros(0, np.intp)
    if isinstance(step.load, OpenLoop):
        due = due_times(step.load, seed)
        parts = shares(step.load, targets) if len(targets) > 1 else [1.0]
        models = np.random.default_rng(list(seed.encode())).choice(len(targets), len(due), p=parts)
        patience_s = max(1.0, step.load.seconds / 2)
        order = scheduled(due.tolist(), models.tolist(), pack.info.count, seed, LEAD_S, patience_s)
    else:
        order = until(step.load.seconds, pack.info.count, seed)
    used_before = session.usage(targets)
    before = [at_rest(session.client, target.triton_name) for target in targets]
    load = session.generate(targets, step.users, order)
    usage = used(used_before, session.usage(targets))
    start_s = min((exchange.due_s for exchange in load.exchanges), default=0.0) - (due[0] if len(due) else 0.0)
    rows = []
    for number, target in enumerate(targets):
        mine = [exchange for exchange in load.exchanges if exchange.model == number]
        recorded = record(mine, pack, start_s, max(0, int((models == number).sum()) - len(mine)))
        counted = settled(session.client, target.triton_name, before[number], int(recorded.good.sum()))
        limit_rps = session.ceiling.rps if session.ceiling else None
        around = Around(counted, usage[number], load.cpu_s, *warmed[number], len(load.exchanges), limit_rps)
        row = judge_window(step, target, plan.protocol, recorded, around)
        session.raw.write(target.variant, plan.protocol, step.users, step.offered_rps, step.pass_number, recorded)
        say(target.variant, describe_window(row, recorded.first_failure))
        rows.append(row)
    return rows


def warm_up(session: Session, target: Target, users: int) -> tuple[float, bool]:
    """Loads a variant in short parts until it is steady. Returns how long that took, and whether it became so."""
    part_s, began_s = session.plan.scenario.warmup_s, time.perf_counter()
    if not part_s:
        return 0.0, True
    key, medians_ms = (target.variant, users), list[float]()
    while not (warm := is_warm(medians_ms, session.warm_ms.get(key))) and len(medians_ms) < PARTS:
        order = until(part_s, session.pack.info.count, f"warm-up {len(medians_ms)}")
        recorded = record(session.generate((target,), users, order).exchanges, session.pack)
        median_ms = percentiles(recorded.sent_ms[recorded.good], (50,))[0]
        medians_ms.append(np.inf if median_ms is None else median_ms)
    session.warm_ms[key] = min(*medians_ms, session.warm_ms.get(key, np.inf))
    return time.perf_counter() - began_s, warm


def search(
    session: Session, step: Step, wanted: CapacitySearch, say: Callable[[str, str], None]
) -> tuple[list[LoadWindow], Capacity]:
    """The highest rate that one variant stands. Returns the windows of all probes, and what was found."""
    (target,) = step.targets
    windows: list[LoadWindow] = []
    bound_rps = closed_rps(session, target, wanted.connections)

    def holds(rate_rps: float) -> bool:
        load = OpenLoop(
            rate_rps=rate_rps, arrivals=wanted.arrivals, seconds=wanted.seconds, connections=wanted.connections
        )
        seed = f"{session.plan.seed} {step.pass_number} {len(windows)}"
        (row,) = measure(session, step._replace(load=load), seed, say)
        windows.append(row)
        return row.failures == 0 and row.p99_ms is not None and row.p99_ms <= wanted.p99_ms

    held_rps, exceeded_rps = capacity.search(bound_rps, wanted.probes, holds)
    row = Capacity(
        variant=target.variant,
        protocol=session.plan.protocol,
        target_p99_ms=wanted.p99_ms,
        rate_rps=held_rps,
        exceeded_rps=exceeded_rps,
    )
    say(target.variant, describe_capacity(row))
    return windows, row


def closed_rps(session: Session, target: Target, users: int) -> float:
    """What a closed loop of many users gets, for a moment: about what the server can do at all."""
    warm_up(session, target, min(users, WARMUP_USERS))
    order = until(1.0, session.pack.info.count, "bound")
    recorded = record(session.generate((target,), users, order).exchanges, session.pack)
    return max(1.0, float(recorded.good.sum()) / (recorded.seconds or 1.0))


def at_rest(client: InferenceClient, name: str) -> ModelStatistics:
    """What the server has counted, once it counts no more: the last answers of the warm-up may come late."""
    deadline_s, last = time.monotonic() + SETTLE_S, client.statistics(name)
    while time.monotonic() < deadline_s:
        time.sleep(SETTLE_POLL_S)
        now = client.statistics(name)
        if now == last:
            break
        last = now
    return last


def settled(client: InferenceClient, name: str, before: ModelStatistics, answered: int) -> ModelStatistics:
    """What the server counted since `before`, once that is all that it answered (or it does not become so)."""
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        counted = client.statistics(name) - before
        if counted.requests >= answered or counted.requests < 0 or time.monotonic() > deadline_s:
            return counted
        time.sleep(SETTLE_POLL_S)
