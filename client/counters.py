"""A model's counters, which the server keeps since it was started."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class ModelStatistics:
    """Sums over all versions of a model. `inferences` counts samples, `executions` the batches in which they ran;
    `queue_ns` and `compute_ns` are sums over the `requests` that succeeded."""

    requests: int
    failures: int
    inferences: int
    executions: int
    queue_ns: int
    compute_ns: int

    def __sub__(self, earlier: ModelStatistics) -> ModelStatistics:
        """What was counted since an earlier reading."""
        return ModelStatistics(
            self.requests - earlier.requests,
            self.failures - earlier.failures,
            self.inferences - earlier.inferences,
            self.executions - earlier.executions,
            self.queue_ns - earlier.queue_ns,
            self.compute_ns - earlier.compute_ns,
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


class _WireVersion(_Wire):
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: _WireInference = _WireInference()


class _WireStatistics(_Wire):
    model_stats: tuple[_WireVersion, ...] = ()


def parse_statistics(statistics: object) -> ModelStatistics:
    """The decoded JSON of the server's answer as one value."""
    versions = _WireStatistics.model_validate(statistics).model_stats
    stats = [version.inference_stats for version in versions]
    return ModelStatistics(
        requests=sum(one.success.count for one in stats),
        failures=sum(one.fail.count for one in stats),
        inferences=sum(version.inference_count for version in versions),
        executions=sum(version.execution_count for version in versions),
        queue_ns=sum(one.queue.ns for one in stats),
        compute_ns=sum(one.compute_input.ns + one.compute_infer.ns + one.compute_output.ns for one in stats),
    )
