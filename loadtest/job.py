"""What the users of one run have to do, and what they record."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from core.results import ResultModel
from core.scenario import Protocol


class Arrival(NamedTuple):
    """One request to come: the sample, when it is due on the clock of `time.perf_counter` (none: when a user is free),
    and to which of the job's models."""

    sample: int
    due_s: float | None = None
    model: int = 0


class Heard:
    """When a request was last sent to which the server said anything; at first, the beginning."""

    def __init__(self) -> None:
        self.last_s = time.perf_counter()


@dataclass(frozen=True)
class Job:
    """Send the samples of `order`, from which all users draw, to the models `names`. `requests` holds one encoded
    request a sample, without the head that names the model; a good answer has `answer_bytes`."""

    names: tuple[str, ...]
    protocol: Protocol
    requests: tuple[bytes, ...]
    answer_bytes: int
    order: Iterator[Arrival]
    timeout_s: float
    heard: Heard = field(default_factory=Heard)


class Exchange(NamedTuple):
    """One request as it went. Times are on the clock of `time.perf_counter`; `latency_ms` counts from `began_s`, when
    it was sent. `answer` is the output's bytes; a request that failed has none, and the reason as `failure`."""

    sample: int
    model: int
    due_s: float
    began_s: float
    latency_ms: float
    answer: bytes
    failure: str = ""


class Order(ResultModel):
    """Which samples are sent, shuffled by `seed`: each once, or in `rounds`, until `seconds` after the first was drawn.

    With `due_s`, each at its time on a clock that begins `lead_s` after the first is drawn, so that all users are
    connected by then, and to the model of that number; what is not drawn `patience_s` after the last was due is not
    sent any more.
    """

    samples: int
    seed: str
    seconds: float = math.inf
    rounds: bool = False
    due_s: tuple[float, ...] | None = None
    models: tuple[int, ...] = ()
    lead_s: float = 0.0
    patience_s: float = 0.0

    def draw(self, part: int = 0, of: int = 1) -> Iterator[Arrival]:
        """The requests to come, or part number `part` of `of` that are sent from different processes: every so many."""
        shuffled = random.Random(self.seed).sample(range(self.samples), self.samples)
        order = itertools.cycle(shuffled) if self.rounds or self.due_s is not None else shuffled
        mine = itertools.islice(order, part, None, of)
        if self.due_s is None:
            return _until(self.seconds, mine)
        return self._when_due(mine, part, of)

    def _when_due(self, order: Iterator[int], part: int, of: int) -> Iterator[Arrival]:
        due_s = self.due_s or ()
        start_s = time.perf_counter() + self.lead_s
        end_s = start_s + (due_s[-1] if due_s else 0.0) + self.patience_s
        for due, model, sample in zip(due_s[part::of], self.models[part::of], order, strict=False):
            if time.perf_counter() > end_s:
                return
            yield Arrival(sample, start_s + due, model)


def once(samples: int, seed: str, seconds: float = math.inf) -> Order:
    """Every sample once, or as many of them as are drawn until `seconds` after the first."""
    return Order(samples=samples, seed=seed, seconds=seconds)


def until(seconds: float, samples: int, seed: str) -> Order:
    """Samples in rounds, until `seconds` after the first was drawn."""
    return Order(samples=samples, seed=seed, seconds=seconds, rounds=True)


def scheduled(
    due_s: Sequence[float], models: Sequence[int], samples: int, seed: str, lead_s: float, patience_s: float
) -> Order:
    """Samples in rounds, each when it is due."""
    return Order(
        samples=samples, seed=seed, due_s=tuple(due_s), models=tuple(models), lead_s=lead_s, patience_s=patience_s
    )


def _until(seconds: float, order: Iterable[int]) -> Iterator[Arrival]:
    deadline_s = time.perf_counter() + seconds
    for sample in order:
        if time.perf_counter() >= deadline_s:
            return
        yield Arrival(sample)
