"""The result files, as pydantic models: what the packages tell each other and the user. Schemas: `docs/schemas/`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.tensors import TensorSpec

Status = Literal["published", "rejected", "unavailable", "failed"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Interval = tuple[float, float]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ResultModel(BaseModel):
    """Base of everything that is written to a result file: frozen, and no field that the schema does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> bytes:
        """Indented JSON with a newline at its end."""
        return self.model_dump_json(indent=2).encode() + b"\n"


class Machine(ResultModel):
    """The machine on which figures were taken."""

    cpu_model: str
    cores: Annotated[int, Field(ge=1, description="the smaller of the cgroup quota and the affinity mask")]
    memory_bytes: int
    isa_flags: tuple[str, ...]
    system: str
    python: str


class MetricValue(ResultModel):
    """A task metric on the evaluation samples."""

    name: str
    value: float
    ci95: Interval
    samples: int
    higher_is_better: bool = True
    fraction: Annotated[bool, Field(description="from 0 to 1, and shown in percent")] = True


class Gate(ResultModel):
    """One condition for publishing. `value` is the paired estimate; `undecided`: its interval straddles the limit."""

    name: str
    limit: float
    value: float
    ci95: Interval
    undecided: bool
    passed: bool


class GraphFacts(ResultModel):
    """What an artifact holds and what its runtime makes of it. Weights are the kernels of convolutions and the matrices
    of matrix products and look-ups; biases, scales and zero points are not counted."""

    weights: Annotated[int | None, Field(description="none, as the next two, where the graph could not be walked")]
    sparsity: Annotated[Fraction | None, Field(description="share of the weights that are zero")]
    flops: Annotated[int | None, Field(description="of one sample: two for each multiply-accumulate of these layers")]
    operators: Annotated[dict[str, int], Field(description="operator -> count, in the stored file")]
    executed: Annotated[dict[str, int], Field(description="the same once loaded, folded and fused for this CPU")]
    executed_precisions: Annotated[dict[str, int], Field(description="precision -> layers, if the runtime says")] = {}


class Verdict(ResultModel):
    """How a variant compares with the original on the same samples. `drop` is in fractions, positive when worse."""

    max_abs_error: float
    sqnr_db: Annotated[
        dict[str, float],
        Field(description="output -> signal to noise, 10 log10(sum original^2 / sum difference^2); at most 200"),
    ]
    cosine: Annotated[float, Field(description="mean over samples of the outputs' cosine similarity")]
    agreement: Annotated[Fraction, Field(description="share of samples with the original's decision")]
    metric: MetricValue
    baseline: MetricValue
    drop: float
    drop_ci95: Interval
    gates: tuple[Gate, ...]
    passed: bool


class Timing(ResultModel):
    """In process, batch 1, threads = cores, interleaved with the original. Times are medians over all calls; the
    speed-up is the median of the rounds' ratios, so it need not be the quotient of the two."""

    time_ms: float
    original_time_ms: float
    speedup: float
    speedup_ci95: Annotated[Interval, Field(description="of the median of the rounds' ratios")]
    disturbed: Annotated[bool, Field(description="other work took the CPU away meanwhile: not to be quoted")] = False
    calls: int


class CallTime(ResultModel):
    """One call of the runtime, alone on the machine, with so many threads."""

    threads: int
    batch: int
    ms: float


class Costs(ResultModel):
    """What an instance takes to run, measured in process: threads, instances and batches are planned by it."""

    calls: Annotated[
        tuple[CallTime, ...], Field(description="with one thread and with all cores, by batch; long ones are left out")
    ]
    crowding: Annotated[
        float, Field(description="how much longer a one-threaded call takes while every core computes one")
    ] = 1.0
    disturbed: Annotated[bool, Field(description="other work took the CPU away: the plan is less sure")] = False
    resident_bytes: Annotated[int, Field(description="memory of one instance, about: runtime, weights, largest batch")]


class LayerNoise(ResultModel):
    """What INT8 in one layer alone does to the network, found by the doctor on calibration samples."""

    layer: Annotated[str, Field(description="the operator's name in the graph before quantization")]
    operator: str
    sqnr_db: Annotated[float, Field(description="of the worst output, with only this layer in INT8")]
    kept_float: Annotated[bool, Field(description="left in floating point in the variant")]


class Passport(ResultModel):
    """Lies beside each published version as `passport.json`: where it comes from and what it needs."""

    model: str
    variant: str
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int
    files: Annotated[dict[str, Sha256], Field(description="file name in the version's folder -> SHA-256")]
    history: Annotated[tuple[str, ...], Field(description="the steps that made it, in order")]
    source_sha256: Sha256
    calibration_sha256: Sha256 | None = None
    training_sha256: Annotated[Sha256 | None, Field(description="of samples that weights were trained on")] = None
    build_key: Annotated[Sha256, Field(description="hash of all that decides the result; equal keys are not rebuilt")]
    opset: int | None = None
    ir_version: int | None = None
    tools: dict[str, str]
    isa_flags: tuple[str, ...]
    cores: int
    golden_sha256: Sha256
    golden_tolerance: Annotated[dict[str, float], Field(description="output -> largest absolute difference allowed")]
    verdict: Verdict
    timing: Timing
    costs: Costs | None = None
    built_at: str


class BuildRow(ResultModel):
    """One variant in the build report."""

    variant: str
    status: Status
    reason: str = ""
    from_cache: bool = False
    triton_name: str
    version: int | None = None
    accuracy: float | None = None
    time_ms: float | None = None
    size_bytes: int | None = None
    shared_bytes: Annotated[
        int | None,
        Field(description="of a network whose weights share values, as codebooks and indices; no runtime stores it"),
    ] = None
    speedup: float | None = None
    compression: float | None = None
    retention: float | None = None
    dominated: Annotated[
        bool, Field(description="surely slower than the original in process; published all the same")
    ] = False
    verdict: Verdict | None = None
    timing: Timing | None = None
    costs: Costs | None = None
    graph: GraphFacts | None = None
    layers: Annotated[tuple[LayerNoise, ...], Field(description="worst first; of mixed precision only")] = ()
    history: tuple[str, ...] = ()
    build_seconds: float = 0.0


class ModelBuild(ResultModel):
    """One spec's part of the build report."""

    model: str
    spec: str
    source_sha256: Sha256
    baseline_variant: str
    evaluation_samples: int
    original: MetricValue
    original_runtime: Annotated[str, Field(description="what speed-up is measured against")]
    original_parameters: Annotated[int | None, Field(description="of the network; none for an ONNX file")] = None
    advice: Annotated[tuple[str, ...], Field(description="what to expect of INT8 here, said before building")] = ()
    warnings: Annotated[tuple[str, ...], Field(description="what is allowed, and most likely a mistake")] = ()
    rows: tuple[BuildRow, ...]
    stale: Annotated[tuple[str, ...], Field(description="published, no longer in the spec; `--prune` removes them")]


class BuildReport(ResultModel):
    """`artifacts/build-report.json`."""

    created_at: str
    machine: Machine
    versions: dict[str, str]
    repository: str
    models: tuple[ModelBuild, ...]
