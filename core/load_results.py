"""What a load test leaves: windows, the server's counts, served accuracy, verdicts. Schemas: `docs/schemas/`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from core.results import Fraction, Interval, Machine, MetricValue, ResultModel, Sha256
from core.scenario import Protocol, Scenario

QUANTILES: Final = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999)
"""Shares of the answers, for each of which a window tells the latency within which they came."""


class ServerDelta(ResultModel):
    """What Triton's statistics counted for one model between two readings. Durations are per request, in ms."""

    requests: int
    failures: int
    executions: int
    mean_batch: float
    queue_ms: float
    compute_ms: float
    batches: dict[int, int] = Field({}, description="executed batch size -> executions")
    cores: Annotated[
        float | None, Field(description="CPU cores kept busy by the server and the model's processes; own servers only")
    ] = None
    resident_bytes: Annotated[int | None, Field(description="memory of the model's processes at the end")] = None
    server_resident_bytes: Annotated[
        int | None, Field(description="memory of the server's own process at the end, which all models share")
    ] = None


class LoadPhase(ResultModel):
    """A part of an open loop's window: the requests that were due in it."""

    offered_rps: float
    requests: int
    failures: int
    p50_ms: float | None
    p99_ms: float | None
    uncorrected_p99_ms: float | None


class LoadWindow(ResultModel):
    """One variant under one load for a while (one pass), judged from raw rows. Latencies are of good answers and count
    from when a request was due; in a closed loop that is when it was sent."""

    variant: str
    triton_name: str
    protocol: Protocol
    users: Annotated[int, Field(description="of an open loop: connections")]
    offered_rps: Annotated[float | None, Field(description="requests due per second; none in a closed loop")] = None
    pass_number: int
    seconds: float
    requests: int
    failures: int
    throughput_rps: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    mean_ms: float | None
    uncorrected_p99_ms: Annotated[float | None, Field(description="from when requests were really sent")] = None
    quantiles_ms: Annotated[tuple[float, ...], Field(description=f"latencies at {', '.join(map(str, QUANTILES))}")] = ()
    unsent: Annotated[
        int, Field(description="of the failures: due, but never sent, as all connections were waiting")
    ] = 0
    reasons: dict[str, int] = Field({}, description="kind of failure -> how many")
    warmup_s: Annotated[float, Field(description="how long the variant was warmed up before")] = 0.0
    warm: Annotated[bool, Field(description="it had stopped getting faster by then")] = True
    accuracy: Annotated[float | None, Field(description="the metric over the window's good answers")] = None
    generator_cores: Annotated[float | None, Field(description="CPU cores that the load generator kept busy")] = None
    generator_share: Annotated[
        float | None, Field(description="of what the load generator can send; above 0.7 there is no verdict")
    ] = None
    server: ServerDelta | None = None
    phases: tuple[LoadPhase, ...] = ()


class ServedAccuracy(ResultModel):
    """Every evaluation sample sent once, under load, or the first `samples` of them in shuffled order if the variant is
    too slow for all; the answers scored against the labels."""

    variant: str
    triton_name: str
    protocol: Protocol
    samples: int
    failures: int
    metric: MetricValue | None
    agreement: Annotated[Fraction | None, Field(description="share of samples with the in-process decision")]


class Capacity(ResultModel):
    """What a capacity search found for one variant."""

    variant: str
    protocol: Protocol
    target_p99_ms: float
    rate_rps: Annotated[float | None, Field(description="the highest rate that held the target; none if none did")]
    exceeded_rps: Annotated[float | None, Field(description="the lowest rate that did not; none if all held")]


class Ceiling(ResultModel):
    """What the load generator can send at most, measured on a server that answers at once with ready bytes."""

    protocol: Protocol
    rps: Annotated[float, Field(description="requests per second of CPU time, of all generator processes together")]
    processes: int = 1
    request_bytes: Annotated[int, Field(description="of one encoded request, without the part that names the model")]
    answer_bytes: Annotated[int, Field(description="of the output that is asked for")]
    measured_at: str
    conditions: Annotated[str, Field(description="host and versions")]


class Contrast(ResultModel):
    """One variant beside another in the same run, block by block (one pass is one block). `ratio` is above 1 where the
    variant's figure is the larger one."""

    variant: str
    against: str
    protocol: Protocol
    users: int
    offered_rps: float | None
    figure: Literal["throughput", "p50", "p99"]
    blocks: int
    ratio: float | None
    ci95: Interval | None
    verdict: Literal["faster", "slower", "no significant difference", "none"]
    reason: Annotated[str, Field(description="why there is no verdict")] = ""


class LoadReport(ResultModel):
    """`load.json`: what the load test's process hands back. Raw requests lie beside it in `requests.parquet`."""

    created_at: str
    model: str
    server_version: str
    url: str
    scenario: Scenario
    seed: int
    processes: Annotated[int, Field(description="of the load generator, on all hosts together")] = 1
    machine: Annotated[Machine, Field(description="where the load came from")]
    samples_sha256: Annotated[Sha256, Field(description="of the sample pack")]
    windows: tuple[LoadWindow, ...]
    accuracy: tuple[ServedAccuracy, ...]
    capacity: tuple[Capacity, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    resident_bytes: dict[str, int] = Field(
        {}, description="variant -> memory of its server process under load; own servers only"
    )
