"""What the users of one run have to do, and what they record."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from core.scenario import Protocol


class Arrival(NamedTuple):
    """One request to come: the sample, when it is due on the clock of `time.perf_counter` (none: when a user is free),
    and to which of the job's models."""

    sample: int
    due_s: float | None = None
    model: int = 0


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


def once(samples: int, seed: str, seconds: float = math.inf) -> Iterator[Arrival]:
    """Every sample once, shuffled, or as many of them as are drawn until `seconds` after the first."""
    return _until(seconds, _shuffled(samples, seed))


def until(seconds: float, samples: int, seed: str) -> Iterator[Arrival]:
    """Samples in shuffled rounds, until `seconds` after the first was drawn."""
    return _until(seconds, itertools.cycle(_shuffled(samples, seed)))


def scheduled(
    due_s: Sequence[float], models: Sequence[int], samples: int, seed: str, lead_s: float, patience_s: float
) -> Iterator[Arrival]:
    """Samples in shuffled rounds, each when it is due. The clock begins `lead_s` after the first is drawn, so that all
    users are connected by then; what is not drawn `patience_s` after the last was due is not sent any more."""
    start_s = time.perf_counter() + lead_s
    end_s = start_s + (due_s[-1] if len(due_s) else 0.0) + patience_s
    order = itertools.cycle(_shuffled(samples, seed))
    for due, model, sample in zip(due_s, models, order, strict=False):
        if time.perf_counter() > end_s:
            return
        yield Arrival(sample, start_s + due, model)


def _shuffled(samples: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(samples), samples)


def _until(seconds: float, order: Iterable[int]) -> Iterator[Arrival]:
    deadline_s = time.perf_counter() + seconds
    for sample in order:
        if time.perf_counter() >= deadline_s:
            return
        yield Arrival(sample)
