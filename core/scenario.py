"""What a load test sends, as data: how many users or how many requests a second, for how long, how often.

A *closed loop* has users who each wait for an answer before they send again: a slow server is asked less. An *open
loop* sends when a request is due, whatever the server does, and counts its latency from then: as callers that know
nothing of each other do. A *capacity search* looks for the highest rate of an open loop that a server stands.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.results import ResultModel

Protocol = Literal["http", "grpc", "raw"]
Arrivals = Literal["constant", "poisson"]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Users = Annotated[int, Field(ge=1, le=1000)]
Rate = Annotated[float, Field(gt=0, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]


class ClosedLoop(ResultModel):
    """So many users, each of which sends the next request when it has its answer; one window a number of users."""

    kind: Literal["closed"] = "closed"
    users: Annotated[tuple[Users, ...], Field(min_length=1)]
    seconds: Annotated[Seconds, Field(description="of one window")] = 4.0


class OpenLoop(ResultModel):
    """Requests that are due at a rate, one window for all phases together.

    A phase is a part of the window, all of the same length, in which the rate goes from one share of `rate_rps` to
    another. So one phase of (1, 1) is a steady rate, several of equal shares are steps, (0, 1) is a ramp.
    """

    kind: Literal["open"] = "open"
    rate_rps: Rate
    arrivals: Arrivals = "poisson"
    phases: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=1)] = ((1.0, 1.0),)
    seconds: Annotated[Seconds, Field(description="of all phases together")] = 10.0
    connections: Annotated[Users, Field(description="requests that can be under way; what is due then waits")] = 64
    mixed: Annotated[bool, Field(description="all variants at once, instead of one after the other")] = False
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="of mixed traffic: variant -> its part; one that is not named has 1"
    )

    @model_validator(mode="after")
    def _sends(self) -> OpenLoop:
        if not any(share for phase in self.phases for share in phase):
            raise ValueError("every phase has a rate of 0, so nothing would be sent")
        if self.weights and not self.mixed:
            raise ValueError("weights are for mixed traffic; say `mixed: true`")
        return self


class CapacitySearch(ResultModel):
    """The highest rate whose 99th percentile stays within `p99_ms` without a failure, found by halving."""

    kind: Literal["capacity"] = "capacity"
    p99_ms: Annotated[float, Field(gt=0)]
    arrivals: Arrivals = "poisson"
    seconds: Annotated[Seconds, Field(description="of one probe")] = 4.0
    probes: Annotated[int, Field(ge=1, le=20)] = 6
    connections: Users = 64


class Scenario(ResultModel):
    """A named load. Two runs compare only if theirs are equal."""

    name: str
    load: Annotated[ClosedLoop | OpenLoop | CapacitySearch, Field(discriminator="kind")]
    passes: Annotated[int, Field(ge=1, le=1000, description="how often all is repeated, variants in a new order")] = 2
    warmup_s: Annotated[
        float, Field(ge=0, le=60, description="a variant is warmed up in parts so long until it is steady; 0: not")
    ] = 0.25


def describe_load(users: int, offered_rps: float | None) -> str:
    """The load of one window in words."""
    return f"{users} user{'s' * (users != 1)}" if offered_rps is None else f"{offered_rps:.4g} requests/s"
