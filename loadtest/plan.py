"""What a load test is to do, and in which order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError, model_validator

from core.results import ResultModel
from core.scenario import CapacitySearch, ClosedLoop, OpenLoop, Protocol, Scenario, Seconds, Users
from loadtest.errors import PlanError


class Target(ResultModel):
    """One variant: its name on the server, and the answers that it gave in process (an .npz with an array `[n, ...]`
    for each output), if there are any."""

    variant: str
    triton_name: str
    outputs: Path | None = None
    pids: Annotated[tuple[int, ...], Field(description="its own processes on this machine, as far as known")] = ()


class LoadPlan(ResultModel):
    """A load test of a model's variants on the samples of its pack (the folder `pack`), over one protocol.

    No part of it waits for a slow variant beyond its time: a window sends for as long as the scenario says, the pass
    that measures the served accuracy for `accuracy_s` at most. What is under way then is still waited for.
    """

    model: str
    url: str
    protocol: Protocol = "http"
    pack: Path
    targets: Annotated[tuple[Target, ...], Field(min_length=1)]
    baseline: Annotated[str | None, Field(description="the variant that the others are judged against")] = None
    scenario: Scenario
    ceilings: Annotated[
        Path | None, Field(description="file that keeps what the load generator can send; without one it is not asked")
    ] = None
    server_pid: Annotated[int | None, Field(description="the server's own process, if it is on this machine")] = None
    accuracy_users: Users = 8
    accuracy_s: Annotated[Seconds, Field(description="a slower variant is judged on the samples sent by then")] = 10.0
    timeout_s: Seconds = 30.0
    seed: int = 0
    metrics_port: Annotated[
        int | None, Field(ge=0, le=65535, description="of Prometheus metrics of the running test; 0 takes a free one")
    ] = None
    processes: Annotated[int, Field(ge=1, le=256, description="of the load generator, on this machine")] = 1
    expect_workers: Annotated[int, Field(ge=0, le=256, description="to wait for, started elsewhere")] = 0
    master_host: Annotated[str, Field(description="where workers come to")] = "127.0.0.1"
    master_port: Annotated[int, Field(ge=0, le=65535, description="0 takes a free one")] = 0

    @model_validator(mode="after")
    def _possible(self) -> LoadPlan:
        names = {target.variant for target in self.targets}
        if len(names) < len(self.targets):
            raise PlanError("a variant is named twice in the plan; name each one once")
        weights = self.scenario.load.weights if isinstance(self.scenario.load, OpenLoop) else {}
        if unknown := sorted(set(weights) - names):
            raise PlanError(f"the traffic is to be mixed over {', '.join(unknown)}, but there is {', '.join(names)}")
        if weights and not sum(weights.get(name, 1.0) for name in names):
            raise PlanError("the traffic is to be mixed, but every variant has a weight of 0")
        return self

    @property
    def local_workers(self) -> int:
        """Worker processes to start here. A single process that expects no others sends by itself."""
        return self.processes if self.processes > 1 or self.expect_workers else 0

    @property
    def workers(self) -> int:
        """All worker processes, wherever they are."""
        return self.local_workers + self.expect_workers

    @property
    def parts(self) -> int:
        """How many events tell that a part of the work is done."""
        return len(self.targets) + sum(1 for _ in steps(self))


class Step(NamedTuple):
    """One window to come, or one search. Mixed traffic has several targets, all others one."""

    pass_number: int
    load: ClosedLoop | OpenLoop | CapacitySearch
    users: int
    targets: tuple[Target, ...]

    @property
    def offered_rps(self) -> float | None:
        """The mean rate at which requests are due; none in a closed loop."""
        if not isinstance(self.load, OpenLoop):
            return None
        return self.load.rate_rps * sum(sum(phase) / 2 for phase in self.load.phases) / len(self.load.phases)


def steps(plan: LoadPlan) -> Iterator[Step]:
    """All windows in their order. The variants change places from level to level, so that none of them always follows
    the same one or always meets the machine at its warmest."""
    shuffle, load = random.Random(plan.seed), plan.scenario.load
    levels = load.users if isinstance(load, ClosedLoop) else (load.connections,)
    for pass_number in range(1, plan.scenario.passes + 1):
        for users in levels:
            order = shuffle.sample(plan.targets, len(plan.targets))
            if isinstance(load, OpenLoop) and load.mixed:
                yield Step(pass_number, load, users, plan.targets)
            else:
                yield from (Step(pass_number, load, users, (target,)) for target in order)


def shares(load: OpenLoop, targets: tuple[Target, ...]) -> list[float]:
    """Each target's share of mixed traffic; they sum to 1."""
    weights = [load.weights.get(target.variant, 1.0) for target in targets]
    return [weight / sum(weights) for weight in weights]


def read_plan(path: Path) -> LoadPlan:
    """A plan from its JSON file. Raises PlanError if there is none that can be carried out."""
    try:
        return LoadPlan.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PlanError(f"the plan {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PlanError(f"the plan {path} is wrong at {where or 'its beginning'}: {first['msg']}") from error
