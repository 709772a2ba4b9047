"""What the users of one run have to do, and what they record."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Job:
    """Send the samples of `order`, from which all users draw, to the model `name`. `requests` holds one encoded request
    a sample, for which a good answer has `answer_bytes`."""

    name: str
    requests: tuple[bytes, ...]
    answer_bytes: int
    order: Iterator[int]
    timeout_s: float


class Exchange(NamedTuple):
    """One request as it went. `began_s` is on the clock of `time.perf_counter`, `answer` the output's bytes; a request
    that failed has none, and the reason as `failure`."""

    sample: int
    began_s: float
    latency_ms: float
    answer: bytes
    failure: str = ""


def once(samples: int, seed: str) -> Iterator[int]:
    """Every sample once, shuffled."""
    return iter(random.Random(seed).sample(range(samples), samples))


def until(seconds: float, samples: int, seed: str) -> Iterator[int]:
    """Samples in shuffled rounds, until `seconds` after the first was drawn."""
    deadline_s = time.perf_counter() + seconds
    for sample in itertools.cycle(once(samples, seed)):
        if time.perf_counter() >= deadline_s:
            return
        yield sample
