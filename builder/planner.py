"""Threads, instances, batch limit and delay of one variant, decided from facts: a pure function, `plan`.

The model: `t(k, b)` is the time of a call on a batch of `b` with `k` threads, measured with one thread and with all
cores, and between these by Amdahl's law ("Validity of the single processor approach", AFIPS 1967). `i` instances give
`i * b / (t(k, b) * crowding + AROUND_MS)` samples a second. Of all ways to share the cores out, those within `SLACK`
of the best at the goal are as good as the best; among them, the one that does better at the other goal is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from builder.spec import Batch, Serving
from core.machine import cores, isa_flags, memory_bytes, numa_nodes
from core.results import Costs

SLACK: Final = 1.05
# What a batch costs around the runtime, whatever its size: 0.76 ms in the embedded server for a model of 0.23 ms.
AROUND_MS: Final = 0.5
MEMORY_SHARE: Final = 4  # the instances of one variant take at most one in so many bytes: others are served beside it


@dataclass(frozen=True)
class Facts:
    """What the plan follows from. `cores`, `nodes` (of NUMA) and `memory_bytes` are the server's; `costs` were measured
    on the building machine, and are None where nothing was."""

    cores: int
    nodes: int
    memory_bytes: int
    isa_flags: tuple[str, ...]
    costs: Costs | None


@dataclass(frozen=True)
class Split:
    """One way to share the cores out, and what the model expects of it: samples a second at its best batch, which is
    `knee` (the smallest that is as good as the best), and the milliseconds of a lone request. Zeros: nothing is
    known."""

    instances: int
    threads: int
    rate: float = 0.0
    lone_ms: float = 0.0
    knee: int = 1


@dataclass(frozen=True)
class Plan:
    """What is written into config.pbtxt. `others` are the ways that were not taken, `crowded_out` is how many of them
    would have needed too much memory; `worth_us` bounds the delay: no wait above it can save as much as it costs."""

    split: Split
    batch: int
    delay_us: int
    worth_us: float
    others: tuple[Split, ...]
    crowded_out: int


def facts_here(serving: Serving, costs: Costs | None) -> Facts:
    """The facts of this machine; the spec's in place of those that it names. On another machine nothing is known of
    NUMA nodes."""
    other = serving.cores is not None and serving.cores != cores()
    return Facts(
        cores=serving.cores or cores(),
        nodes=1 if other else min(numa_nodes(), cores()),
        memory_bytes=serving.memory_mb * 10**6 if serving.memory_mb else memory_bytes(),
        isa_flags=isa_flags(),
        costs=costs,
    )


def plan(facts: Facts, serving: Serving, batch: Batch) -> Plan:
    """The plan for a variant. What the spec writes is kept, as far as threads times instances fit the cores."""
    ways = [_expect(facts.costs, *way, batch.max) for way in _ways(facts, serving)]
    fitting = [way for way in ways if _fits(way, facts)] or ways[:1]
    chosen = _choose(fitting, serving) if facts.costs else fitting[0]
    limit = batch.wished or (chosen.knee if facts.costs else batch.max)
    worth_us = 0.0
    if facts.costs and limit > 1:
        alone, together = (call_ms(facts.costs, chosen.threads, size) for size in (1, 2))
        worth_us = max(0.0, 2 * alone - together) * 1e3
    return Plan(
        split=chosen,
        batch=limit,
        delay_us=serving.max_queue_delay_us or 0,
        worth_us=worth_us,
        others=tuple(way for way in fitting if way != chosen),
        crowded_out=len(ways) - len(fitting),
    )


def _ways(facts: Facts, serving: Serving) -> list[tuple[int, int]]:
    """Instances and threads of each, fewest instances first. No instance spans NUMA nodes unless the spec wants it."""
    powers = {1 << power for power in range(facts.cores.bit_length()) if 1 << power <= facts.cores}
    counts = sorted(count for count in {*powers, facts.nodes, facts.cores} if count >= facts.nodes)
    if serving.instances is not None:
        counts = [min(serving.instances, facts.cores)]
    elif serving.threads is not None:
        counts = [count for count in counts if count * serving.threads <= facts.cores] or counts[:1]
    found = []
    for count in counts:
        fits = facts.cores // count
        found.append((count, min(serving.threads or fits, fits)))
    return found


def _fits(way: Split, facts: Facts) -> bool:
    """Whether the instances take no more than their share of the memory."""
    return not facts.costs or way.instances * facts.costs.resident_bytes <= facts.memory_bytes // MEMORY_SHARE


def _choose(ways: list[Split], serving: Serving) -> Split:
    if serving.goal == "throughput":
        best = max(way.rate for way in ways)
        return min((way for way in ways if way.rate * SLACK >= best), key=lambda way: way.lone_ms)
    quickest = min(way.lone_ms for way in ways)
    return max((way for way in ways if way.lone_ms <= quickest * SLACK), key=lambda way: way.rate)


def _expect(costs: Costs | None, instances: int, threads: int, limit: int) -> Split:
    if costs is None:
        return Split(instances, threads)
    sizes = [size for size in _measured(costs) if size <= limit]
    rates = {size: rate(costs, instances, threads, size) for size in sizes}
    best = max(rates.values())
    knee = next(size for size in sizes if rates[size] * SLACK >= best)
    return Split(instances, threads, best, call_ms(costs, threads, 1), knee)


def rate(costs: Costs, instances: int, threads: int, batch: int) -> float:
    """Samples a second that so many instances compute, each with full batches of this size."""
    most = max(call.threads for call in costs.calls)
    crowd = min(1.0, (instances - 1) / (most - 1)) if most > 1 else 0.0
    crowded_ms = call_ms(costs, threads, batch) * (1 + (costs.crowding - 1) * crowd)
    return 1e3 * instances * batch / (crowded_ms + AROUND_MS)


def call_ms(costs: Costs, threads: int, batch: int) -> float:
    """The time of a call. Between and beyond the measured threads by Amdahl's law; between measured batches on a
    straight line, beyond them in proportion."""
    most = max(call.threads for call in costs.calls)
    one = _on_line(costs, 1, batch)
    if most == 1 or threads == 1:
        return one
    serial = max(0.0, (_on_line(costs, most, batch) / one - 1 / most) / (1 - 1 / most))
    return one * (serial + (1 - serial) / threads)


def _on_line(costs: Costs, threads: int, batch: int) -> float:
    curve = {call.batch: call.ms for call in costs.calls if call.threads == threads}
    largest = max(curve)
    if batch > largest:
        return curve[largest] * batch / largest
    return float(np.interp(batch, list(curve), list(curve.values())))


def _measured(costs: Costs) -> list[int]:
    """The batches that were timed with every count of threads."""
    counts = {call.threads for call in costs.calls}
    curves = [{call.batch for call in costs.calls if call.threads == count} for count in counts]
    return sorted(set.intersection(*curves))
