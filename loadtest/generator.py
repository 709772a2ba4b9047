"""Locust in library mode: a number of users work off a job. Importing this patches the process for gevent."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass

from locust.env import Environment

from client.address import Address
from loadtest.errors import GeneratorError
from loadtest.job import Exchange, Job
from loadtest.user import InferUser
from loadtest.wire import scheme


@dataclass(frozen=True)
class Load:
    """What a run of users did: every request that was sent, and the CPU time that sending them took."""

    exchanges: tuple[Exchange, ...]
    cpu_s: float


def generate(job: Job, users: int, address: Address, user: type[InferUser] = InferUser) -> Load:
    """Runs the users, all starting at once, until the job's order ends and the last answer has come. `user` is their
    kind.

    Each run has users, connections and a Locust environment of its own, and leaves nothing behind.
    """
    user_class = type("TritonUser", (user,), {"job": job, "host": f"{scheme(job.protocol)}://{address}"})
    environment = Environment(user_classes=[user_class])
    runner = environment.create_local_runner()
    exchanges: list[Exchange] = []
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
