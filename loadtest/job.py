"""What the users of one run have to do, and what they record."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from client.transport import ProtocolName


@dataclass(frozen=True)
class Job:
    """Send the samples of `order`, from which all users draw, to the model `name`. `requests` holds one encoded request
    a sample, without the head that names the model; a good answer has `answer_bytes`."""

    name: str
    protocol: ProtocolName
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


def once(samples: int, seed: str, seconds: float = math.inf) -> Iterator[int]:
    """Every sample once, shuffled, or as many of them as are drawn until `seconds` after the first."""
    return _until(seconds, _shuffled(samples, seed))


def until(seconds: float, samples: int, seed: str) -> Iterator[int]:
    """Samples in shuffled rounds, until `seconds` after the first was drawn."""
    return _until(seconds, itertools.cycle(_shuffled(samples, seed)))


def _shuffled(samples: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(samples), samples)


def _until(seconds: float, order: Iterable[int]) -> Iterator[int]:
    deadline_s = time.perf_counter() + seconds
    for sample in order:
        if time.perf_counter() >= deadline_s:
            return
        yield sample
