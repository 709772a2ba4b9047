"""The logic of a client as generators: they yield what is to be done, and are sent what came of it. So it is written
once, and run by threads (`client.drive`) as by asyncio (`client.drive_async`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from client.calls import Attempt, Call
from client.cancellation import Cancellation

T = TypeVar("T")


class Send(NamedTuple):
    """Send a call to a server, by its number; comes back as its answer, or raises."""

    server: int
    call: Call
    attempt: Attempt


class Pause(NamedTuple):
    """Wait. Raises AbandonedError if it is cancelled meanwhile."""

    seconds: float
    cancellation: Cancellation | None = None


@dataclass(frozen=True, slots=True)
class Together:
    """Run flows at the same time; comes back as the list of their results, or raises what the first of them to fail
    raised, once the others are cancelled by it (`give_up`)."""

    flows: tuple[Generator[Any, Any, Any], ...]
    give_up: Cancellation


@dataclass(frozen=True, slots=True)
class Race:
    """Run a flow and, if it has no result after some time, a second one too, if there is one to be had. Comes back as
    the first result; raises only what the first raised if none comes. `give_up` has a cancellation for each."""

    first: Generator[Any, Any, Any]
    after_s: float
    second: Callable[[], Generator[Any, Any, Any] | None]
    give_up: tuple[Cancellation, Cancellation]


Step = Send | Pause | Together | Race
Flow = Generator[Step, Any, T]
