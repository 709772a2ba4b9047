"""What Locust's master and its workers tell each other: what to send, and what came of it.

Clocks of different hosts do not agree, so times are counted from when a worker began. Its requests' own latencies are
taken on one clock.
"""

from __future__ import annotations

import numpy as np

from core.results import ResultModel, Sha256
from core.scenario import Protocol
from loadtest.errors import PlanError
from loadtest.job import Exchange, Order

ASSIGNMENT, SHARE, REFUSAL = "assignment", "share", "refusal"


class Assignment(ResultModel):
    """One worker's part of a run: part number `part` of `of` of an order, by so many users. `number` is the run's."""

    number: int
    version: str
    samples_sha256: Sha256
    url: str
    protocol: Protocol
    names: tuple[str, ...]
    users: int
    part: int
    of: int
    order: Order
    timeout_s: float


class Share(ResultModel):
    """What a worker did in run `number`: its requests as columns (int32, int16 and float64 as bytes), the answers of
    the good ones one after the other, and for each request the failure or an empty text."""

    number: int
    cpu_s: float
    samples: bytes
    models: bytes
    due_s: bytes
    began_s: bytes
    latency_ms: bytes
    answers: bytes
    failures: tuple[str, ...]


class Refusal(ResultModel):
    """Why a worker cannot do its part."""

    number: int
    why: str


def check(assignment: Assignment, samples_sha256: Sha256, version: str) -> None:
    """Raises PlanError if a worker of this version, with these samples, cannot do its part."""
    if assignment.version != version:
        raise PlanError(f"it has Trident {version}, and the master {assignment.version}")
    if assignment.samples_sha256 != samples_sha256:
        raise PlanError("its sample pack is another than the master's; copy that one")


def pack_share(number: int, cpu_s: float, exchanges: tuple[Exchange, ...], start_s: float) -> Share:
    """A worker's requests, counted from `start_s`."""
    return Share(
        number=number,
        cpu_s=cpu_s,
        samples=np.array([exchange.sample for exchange in exchanges], np.int32).tobytes(),
        models=np.array([exchange.model for exchange in exchanges], np.int16).tobytes(),
        due_s=np.array([exchange.due_s - start_s for exchange in exchanges], np.float64).tobytes(),
        began_s=np.array([exchange.began_s - start_s for exchange in exchanges], np.float64).tobytes(),
        latency_ms=np.array([exchange.latency_ms for exchange in exchanges], np.float64).tobytes(),
        answers=b"".join(exchange.answer for exchange in exchanges),
        failures=tuple(exchange.failure for exchange in exchanges),
    )


def unpack_share(share: Share, answer_bytes: int, start_s: float) -> list[Exchange]:
    """The requests again, on a clock on which the worker began at `start_s`."""
    columns = (
        np.frombuffer(share.samples, np.int32).tolist(),
        np.frombuffer(share.models, np.int16).tolist(),
        (np.frombuffer(share.due_s, np.float64) + start_s).tolist(),
        (np.frombuffer(share.began_s, np.float64) + start_s).tolist(),
        np.frombuffer(share.latency_ms, np.float64).tolist(),
        share.failures,
    )
    exchanges, read = [], 0
    for sample, model, due_s, began_s, latency_ms, failure in zip(*columns, strict=True):
        size = 0 if failure else answer_bytes
        answer = share.answers[read : read + size]
        exchanges.append(Exchange(sample, model, due_s, began_s, latency_ms, answer, failure))
        read += size
    return exchanges
