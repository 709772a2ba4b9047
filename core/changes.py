"""What `trident compare` says of two load tests. Schema: `docs/schemas/comparison.schema.json`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.results import Interval, ResultModel
from core.scenario import Protocol, Scenario

Figure = Literal["throughput", "p50", "p99", "capacity", "accuracy"]
Judgement = Literal["better", "worse", "no significant difference", "none"]
Outcome = Literal["kept", "broken", "undecided"]


class Change(ResultModel):
    """One figure of one variant in both runs. `change` is a fraction of the first run's value (0.05: 5% more), for
    accuracy the difference (0.002: 0.2 points)."""

    variant: str
    protocol: Protocol
    load: Annotated[str, Field(description="in words; empty for accuracy and capacity")]
    figure: Figure
    before: float
    after: float
    change: float
    ci95: Interval | None
    judgement: Judgement
    reason: Annotated[str, Field(description="why there is none")] = ""


class Limit(ResultModel):
    """How much worse a figure may become, as typed: `p99=+5%`."""

    figure: Figure
    change: float
    text: str


class Check(ResultModel):
    """A limit and a change that it is about. Broken: beyond the limit, and surely a change for the worse. Undecided:
    beyond it, but perhaps no change at all; or it could not be judged."""

    limit: Limit
    change: Change
    outcome: Outcome


class RunComparison(ResultModel):
    """Two load tests under the same load."""

    model: str
    scenario: Scenario
    before: Annotated[str, Field(description="when the first was made")]
    after: str
    changes: tuple[Change, ...]
    checks: tuple[Check, ...]
    missing: Annotated[tuple[str, ...], Field(description="variants that only one of the two has")]
