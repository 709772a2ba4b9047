"""What `trident optimize` found, as pydantic models. A file of its own beside `core/results.py`; the schema is with the
others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.results import Interval, Machine, MetricValue, ResultModel

Verdict = Literal["kept", "dropped", "not tried"]


class Targets(ResultModel):
    """What a variant must keep to. Size and time are free where none is given; the loss never is, since the spec's own
    gate stands in."""

    size_bytes: Annotated[int | None, Field(description="the most that its files may take")] = None
    time_ms: Annotated[float | None, Field(description="the longest that it may take, in process, batch 1")] = None
    drop: Annotated[float, Field(description="the most that the metric may lose, in its own unit")]
    drop_given: Annotated[str, Field(description="the same as it was written, such as 1pt or 2%")]


class Figures(ResultModel):
    """What one candidate was measured to be. Without `accuracy` and what follows it, it was not trained: only its
    structure was measured."""

    size_bytes: int
    time_ms: float
    speedup: Annotated[float | None, Field(description="over the original, interleaved with it")] = None
    disturbed: Annotated[bool, Field(description="other work took the CPU away while it was timed")] = False
    accuracy: float | None = None
    drop: Annotated[float | None, Field(description="what the metric lost, positive when worse")] = None
    drop_ci95: Interval | None = None


class CandidateRow(ResultModel):
    """One candidate: a base, that is one of the usual variants, alone or after a compression."""

    variant: str
    base: str
    compression: Annotated[str, Field(description="its name; empty for a base alone")] = ""
    does: Annotated[str, Field(description="what the compression does, in words")] = ""
    estimated: Annotated[Figures | None, Field(description="of its untrained structure")] = None
    measured: Figures | None = None
    seconds: Annotated[float, Field(description="that it took in this run, training included")] = 0.0
    verdict: Verdict
    reason: str = ""
    on_front: Annotated[
        bool, Field(description="nothing that was measured is as small, as quick and as accurate, and better in one")
    ] = False
    published: bool = False


class OptimizeReport(ResultModel):
    """`artifacts/<model>/optimize.json`."""

    created_at: str
    model: str
    spec: str
    machine: Machine
    versions: dict[str, str]
    targets: Targets
    original: MetricValue
    budget_s: float
    spent_s: float
    answer: Annotated[tuple[str, ...], Field(description="sentences: what was found, or how near one can come")]
    found: Annotated[
        bool, Field(description="whether a chosen candidate keeps to all targets, timed again at its build as well")
    ]
    chosen: Annotated[tuple[str, ...], Field(description="variants within the targets that no other beats")] = ()
    nearest: Annotated[str | None, Field(description="where none is chosen: the variant that misses by least")] = None
    left_out: Annotated[tuple[str, ...], Field(description="what was not looked at, and why")] = ()
    built_spec: Annotated[str | None, Field(description="the spec that builds the chosen variants again")] = None
    rows: tuple[CandidateRow, ...]
