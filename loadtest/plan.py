"""What a load test is to do, and in which order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError, model_validator

from client.transport import ProtocolName
from core.results import ResultModel
from loadtest.errors import PlanError

Seconds = Annotated[float, Field(gt=0, le=3600)]
Users = Annotated[int, Field(ge=1, le=1000)]


class Target(ResultModel):
    """One variant: its name on the server, and the answers that it gave in process (an .npz with an array `[n, ...]`
    for each output), if there are any."""

    variant: str
    triton_name: str
    outputs: Path | None = None


class LoadPlan(ResultModel):
    """A load test of a model's variants on the samples of its pack (the folder `pack`), over one protocol.

    No part of it waits for a slow variant beyond its time: a window sends for `window_s`, the pass that measures the
    served accuracy for `accuracy_s` at most. What is under way then is still waited for, one request a user.
    """

    model: str
    url: str
    protocol: ProtocolName = "http"
    pack: Path
    targets: Annotated[tuple[Target, ...], Field(min_length=1)]
    users: Annotated[tuple[Users, ...], Field(min_length=1)] = (1, 4, 16)
    passes: Annotated[int, Field(ge=1, le=100)] = 2
    window_s: Seconds = 4.0
    warmup_s: Annotated[float, Field(ge=0, le=3600, description="before each window, not counted")] = 0.5
    accuracy_users: Users = 8
    accuracy_s: Annotated[Seconds, Field(description="a slower variant is judged on the samples sent by then")] = 10.0
    timeout_s: Seconds = 30.0
    seed: int = 0

    @model_validator(mode="after")
    def _possible(self) -> LoadPlan:
        if len({target.variant for target in self.targets}) < len(self.targets):
            raise PlanError("a variant is named twice in the plan; name each one once")
        return self

    @property
    def parts(self) -> int:
        """How many events tell that a part of the work is done."""
        return len(self.targets) * (1 + self.passes * len(self.users))


class Step(NamedTuple):
    """One window to come."""

    pass_number: int
    users: int
    target: Target


def steps(plan: LoadPlan) -> Iterator[Step]:
    """All windows in their order. The variants change places from level to level, so that none of them always follows
    the same one or always meets the machine at its warmest."""
    shuffle = random.Random(plan.seed)
    for pass_number in range(1, plan.passes + 1):
        for users in plan.users:
            for target in shuffle.sample(plan.targets, len(plan.targets)):
                yield Step(pass_number, users, target)


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
