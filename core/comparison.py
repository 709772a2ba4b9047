"""The comparison of all variants of one model, and the benchmarks drawn from it. Schemas: `docs/schemas/`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.load_results import Ceiling, LoadWindow
from core.results import Interval, Machine, MetricValue, ResultModel, Sha256, Status
from core.scenario import Protocol, Scenario


class SummaryRow(ResultModel):
    """One variant in the final table. Latency percentiles at `Summary.latency_users` users, throughput at the variant's
    own best number of users, both over `Summary.protocol`; the same over gRPC under names of their own."""

    variant: str
    status: Status
    reason: str = ""
    accuracy: float | None = None
    served_accuracy: float | None = None
    served_agreement: float | None = None
    time_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    throughput_rps: float | None = None
    best_users: int | None = None
    grpc_p50_ms: float | None = None
    grpc_throughput_rps: float | None = None
    size_bytes: int | None = None
    shared_bytes: Annotated[int | None, Field(description="as codebooks and indices, as in the build's report")] = None
    resident_bytes: int | None = None
    uncorrected_p99_ms: Annotated[float | None, Field(description="of an open loop: from the sending")] = None
    capacity_rps: Annotated[float | None, Field(description="the highest rate that held the target of p99")] = None
    exceeded_rps: Annotated[float | None, Field(description="the lowest rate that did not hold it")] = None
    server_cores: Annotated[float | None, Field(description="CPU of the server while latency was measured")] = None
    queue_ms: Annotated[float | None, Field(description="in the server's queue, a request, at the same load")] = None
    compute_ms: Annotated[float | None, Field(description="of computing, a request, at the same load")] = None
    batches: dict[int, int] = Field({}, description="executed batch size -> executions, at the same load")
    generator_share: Annotated[
        float | None, Field(description="the most of the load generator's ceiling that was used; above 0.7: no verdict")
    ] = None
    sparsity: float | None = None
    flops: int | None = None
    sqnr_db: Annotated[float | None, Field(description="of the worst output")] = None
    speedup: float | None = None
    speedup_ci95: Interval | None = None
    timing_disturbed: Annotated[bool, Field(description="time and speed-up were measured on a busy machine")] = False
    throughput_gain: float | None = None
    compression: float | None = None
    retention: float | None = None
    dominated: bool = False
    undecided: Annotated[bool, Field(description="the interval of its loss straddles the gate's limit")] = False
    failures: int | None = None
    reasons: dict[str, int] = Field({}, description="kind of failure -> how many, under every load")
    cost_per_million: Annotated[
        float | None, Field(description="of a million inferences at the highest throughput, or the capacity")
    ] = None


class Summary(ResultModel):
    """`artifacts/demo/summary.json`: the comparison of all variants of one model."""

    created_at: str
    model: str
    machine: Machine
    versions: dict[str, str]
    server_version: str
    own_server: Annotated[bool, Field(description="started for the test, on this machine; else one that ran already")]
    source_sha256: Annotated[Sha256, Field(description="of the checkpoint, as in the build's report")]
    baseline_variant: str
    original_runtime: str
    original: Annotated[MetricValue, Field(description="what the checkpoint itself scores")]
    warnings: tuple[str, ...] = ()
    evaluation_samples: int
    scenario: Scenario
    latency_users: Annotated[int, Field(description="at which latency was taken; of an open loop: connections")]
    protocol: Annotated[Protocol, Field(description="of latency and throughput: HTTP's, unless it was not tested")] = (
        "http"
    )
    price_per_hour: Annotated[float | None, Field(description="of the machine, as it was given")] = None
    server_resident_bytes: Annotated[
        int | None, Field(description="memory of the server's own process; own servers only")
    ] = None
    ceilings: Annotated[tuple[Ceiling, ...], Field(description="what the load generator can send, by protocol")] = ()
    rows: tuple[SummaryRow, ...]
    commands: Annotated[tuple[str, ...], Field(description="what to type to do the same again")] = ()


class Claim(ResultModel):
    """A figure that we state. It `holds` if the bound of its interval nearest to the target meets the target; without a
    target it stands beside another for comparison, and there is nothing to hold."""

    id: str
    value: float
    ci95: Interval
    unit: str
    target: float | None
    better: Literal["higher", "lower"]
    holds: bool


class Benchmark(ResultModel):
    """`benchmarks/<name>.json`: the last honest run, with the claims that do not hold left in."""

    created_at: str
    command: str
    machine: Machine
    versions: dict[str, str]
    commit: str
    rows: Annotated[tuple[SummaryRow, ...], Field(description="the comparison that the claims were drawn from")]
    windows: tuple[LoadWindow, ...]
    claims: tuple[Claim, ...]
