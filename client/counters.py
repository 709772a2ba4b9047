"""A model's counters, which the server keeps since it was started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class ModelStatistics:
    """Sums over all versions of a model. `inferences` counts samples, `executions` the batches in which they ran;
    `queue_ns` and `compute_ns` are sums over the `requests` that succeeded; `batches` tells how often each batch size
    was executed."""

    requests: int
    failures: int
    inferences: int
    executions: int
    queue_ns: int
    compute_ns: int
    batches: Mapping[int, int] = field(default_factory=dict)

    def __sub__(self, earlier: ModelStatistics) -> ModelStatistics:
        """What was counted since an earlier reading."""
        return ModelStatistics(
            self.requests - earlier.requests,
            self.failures - earlier.failures,
            self.inferences - earlier.inferences,
            self.executions - earlier.executions,
            self.queue_ns - earlier.queue_ns,
            self.compute_ns - earlier.compute_ns,
            {size: more for size, n in self.batches.items() if (more := n - earlier.batches.get(size, 0))},
        )


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _WireDuration(_Wire):
    count: int = 0
    ns: int = 0


class _WireInference(_Wire):
    success: _WireDuration = _WireDuration()
    fail: _WireDuration = _WireDuration()
    queue: _WireDuration = _WireDuration()
    compute_input: _WireDuration = _WireDuration()
    compute_infer: _WireDuration = _WireDuration()
    compute_output: _WireDuration = _WireDuration()


class _WireBatch(_Wire):
    batch_size: int
    compute_infer: _WireDuration = _WireDuration()


class _WireVersion(_Wire):
    name: str = ""
    version: str = ""
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: _WireInference = _WireInference()
    batch_stats: tuple[_WireBatch, ...] = ()


class _WireStatistics(_Wire):
    model_stats: tuple[_WireVersion, ...] = ()


@dataclass(frozen=True)
class ServedVersion:
    """One version of a model that a server has loaded, and its counters."""

    model: str
    version: str
    statistics: ModelStatistics


def parse_statistics(statistics: object) -> ModelStatistics:
    """The decoded JSON of the server's answer as one value."""
    return _sum(_WireStatistics.model_validate(statistics).model_stats)


def parse_served(statistics: object) -> tuple[ServedVersion, ...]:
    """The decoded JSON of the statistics of all models, by model and version."""
    rows = _WireStatistics.model_validate(statistics).model_stats
    return tuple(ServedVersion(row.name, row.version, _sum((row,))) for row in rows)


def _sum(versions: tuple[_WireVersion, ...]) -> ModelStatistics:
    stats = [version.inference_stats for version in versions]
    batches: Counter[int] = Counter()
    for version in versions:
        for batch in version.batch_stats:
            batches[batch.batch_size] += batch.compute_infer.count
    return ModelStatistics(
        requests=sum(one.success.count for one in stats),
        failures=sum(one.fail.count for one in stats),
        inferences=sum(version.inference_count for version in versions),
        executions=sum(version.execution_count for version in versions),
        queue_ns=sum(one.queue.ns for one in stats),
        compute_ns=sum(one.compute_input.ns + one.compute_infer.ns + one.compute_output.ns for one in stats),
        batches=dict(sorted(batches.items())),
    )
