"""The spec: what the user writes in `models/*.yaml`, as pydantic models. `spec_file.load_spec` reads one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from core.metrics import METRICS
from core.tensors import Axis, TensorSpec
from core.transforms import Preprocess

VariantId = Literal[
    "torch_fp32",
    "onnx_fp32", "onnx_int8_dynamic", "onnx_int8_static",
    "openvino_fp32", "openvino_fp16", "openvino_int8",
    "pruned_onnx_fp32", "pruned_openvino_int8",
    "onnx_int8_entropy", "onnx_int8_percentile", "onnx_int8_smooth", "onnx_int8_weights", "onnx_int4_weights",
    "onnx_fp16", "openvino_int8_smooth", "openvino_int8_weights", "openvino_int4_weights",
]  # fmt: skip
DEFAULT_VARIANTS: tuple[VariantId, ...] = (
    "torch_fp32", "onnx_fp32", "onnx_int8_dynamic", "onnx_int8_static", "openvino_fp32", "openvino_fp16",
    "openvino_int8", "pruned_onnx_fp32", "pruned_openvino_int8",
)  # fmt: skip
Positive = Annotated[int, Field(ge=1)]
TAKEN_NAMES = ("cache", "demo", "server")  # folders of `artifacts/`, where each model has one of its own name


class SpecModel(BaseModel):
    """Base of the spec's parts: frozen, and a field that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Checkpoint(SpecModel):
    """Either a `state_dict` file (`.pt`, `.pth`, `.safetensors`) with the `factory` (`file.py:function`) that makes the
    untrained network, or an `onnx` file. Paths are relative to the spec."""

    state_dict: Annotated[Path | None, Field(description="the weights; `.pt`, `.pth` or `.safetensors`")] = None
    factory: Annotated[
        Annotated[str, StringConstraints(pattern=r"^.+\.py:[A-Za-z_]\w*$")] | None,
        Field(description="`file.py:function`; without arguments, returns the untrained `torch.nn.Module`"),
    ] = None
    onnx: Annotated[Path | None, Field(description="an ONNX file, its first axis the batch and dynamic")] = None

    @model_validator(mode="after")
    def _one_source(self) -> Checkpoint:
        if (self.state_dict is None) == (self.onnx is None):
            raise ValueError("give either state_dict (with factory) or onnx")
        if (self.state_dict is None) != (self.factory is None):
            raise ValueError("state_dict and factory (file.py:function) go together")
        return self

    @property
    def file(self) -> Path:
        """The checkpoint's own file."""
        return self.state_dict or self.onnx or Path()


class AxisRange(SpecModel):
    """A named axis: the sizes that the model must take, and the usual one."""

    min: Annotated[Positive, Field(description="the smallest size, proven by a run")]
    opt: Annotated[Positive, Field(description="the usual size, at which the network is exported")]
    max: Annotated[Positive, Field(description="the largest size, proven by a run")]

    @model_validator(mode="after")
    def _ordered(self) -> AxisRange:
        if not self.min <= self.opt <= self.max:
            raise ValueError("min <= opt <= max must hold")
        return self


class Batch(SpecModel):
    """The batch axis. `max` is the largest batch that the server forms or takes."""

    max: Annotated[
        int, Field(ge=1, le=4096, description="the largest batch; 1 means that the server forms no batches")
    ] = 32


class Data(SpecModel):
    """Two .npz files with an array for each input and one of labels. They must not share samples."""

    calibration: Annotated[Path, Field(description="samples that choose the ranges of INT8; labels are not read")]
    evaluation: Annotated[Path, Field(description="labelled samples that every variant is judged on")]
    label: Annotated[str, Field(description="name of the array of labels, whole numbers `[n]`")] = "label"


class MetricSpec(SpecModel):
    """The task metric and the output that it judges."""

    name: Annotated[Literal["top1", "top5"], Field(description="share of samples with the label among the best k")] = (
        "top1"
    )
    output: Annotated[str, Field(description="name of the output with a score for each class")]


class Gates(SpecModel):
    """What a variant must keep to be published. `max_drop` is in points of the metric: `1pt` is 0.01."""

    max_drop: Annotated[
        str,
        StringConstraints(pattern=r"^\d+(\.\d+)?pt$"),
        Field(description="a variant that loses more points than this on the same samples is not published"),
    ] = "1pt"

    @property
    def max_drop_fraction(self) -> float:
        """`max_drop` as a fraction of the metric's scale."""
        return float(self.max_drop.removesuffix("pt")) / 100


class PostTransform(SpecModel):
    """What a client does with an output: `softmax`, or nothing."""

    op: Annotated[Literal["softmax"], Field(description="scores to shares that add up to 1")]


class Serving(SpecModel):
    """Wishes for the server. Unset ones are chosen for machine and target, with the reason written into config.pbtxt.

    A bounded queue (`max_queue_size`, `queue_timeout_ms`) is the default for target `nvidia`; for `wheel` it is written
    only when asked for, see `triton_config`.
    """

    max_queue_delay_us: Annotated[
        int, Field(ge=0, description="how long a request may wait for others to share a batch with")
    ] = 0
    max_queue_size: Annotated[Positive | None, Field(description="requests that may wait; more are refused")] = None
    queue_timeout_ms: Annotated[Positive | None, Field(description="how long one may wait before it is refused")] = None
    instances: Annotated[Positive, Field(description="copies of the model that run side by side")] = 1
    threads: Annotated[Positive | None, Field(description="threads of each instance; unset: the cores, shared out")] = (
        None
    )
    keep_versions: Annotated[Positive, Field(description="published versions that stay; the oldest go")] = 2


class ModelSpec(SpecModel):
    """One model: where it comes from, what goes in and out, how it is judged, which variants are wanted."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$"),
        Field(description="the model's own; not `cache`, `demo` or `server`"),
    ]
    checkpoint: Annotated[Checkpoint, Field(description="where the weights come from")]
    inputs: Annotated[
        tuple[TensorSpec, ...],
        Field(min_length=1, description="in the order of the network's arguments, or of the file"),
    ]
    outputs: Annotated[
        tuple[TensorSpec, ...], Field(min_length=1, description="in the order of what it returns, or of the file")
    ]
    axes: Annotated[dict[Axis, AxisRange], Field(description="the range of each axis that `dims` names")] = {}
    batch: Annotated[Batch, Field(description="the batch axis")] = Batch()
    data: Annotated[Data, Field(description="what calibrates and what judges")]
    metric: Annotated[MetricSpec, Field(description="how an answer is scored")]
    gates: Annotated[Gates, Field(description="what a variant must keep to be published")] = Gates()
    preprocess: Annotated[Preprocess, Field(description="transforms of the data files and of what a client sends")] = {}
    postprocess: Annotated[
        dict[str, tuple[PostTransform, ...]],
        Field(description="what turns an output into its meaning; published for clients"),
    ] = {}
    labels: Annotated[tuple[str, ...], Field(description="the classes' names, for `trident infer`")] = ()
    variants: Annotated[
        tuple[VariantId, ...], Field(min_length=1, description="which to build, each once; docs/variants.md has them")
    ] = DEFAULT_VARIANTS
    target: Annotated[
        Literal["wheel", "nvidia"],
        Field(description="the server that config.pbtxt is written for: the embedded one, or a current NVIDIA image"),
    ] = "wheel"
    serving: Annotated[Serving, Field(description="wishes for the server")] = Serving()

    @field_validator("name")
    @classmethod
    def _free(cls, value: str) -> str:
        if value in TAKEN_NAMES:
            raise ValueError(f"a model cannot be called {', '.join(TAKEN_NAMES)}; choose another name")
        return value

    @field_validator("variants")
    @classmethod
    def _once(cls, value: tuple[VariantId, ...]) -> tuple[VariantId, ...]:
        if repeated := [variant for variant in value if value.count(variant) > 1]:
            raise ValueError(f"{repeated[0]} stands twice; name each variant once")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        if len(set(names)) < len(names):
            raise ValueError("inputs and outputs must have different names")
        used = {dim for tensor in (*self.inputs, *self.outputs) for dim in tensor.dims if isinstance(dim, str)}
        if used != set(self.axes):
            odd = ", ".join(sorted(used ^ set(self.axes)))
            raise ValueError(f"axes and the names in dims must be the same; they differ in {odd}")
        outputs = {tensor.name for tensor in self.outputs}
        if self.metric.output not in outputs:
            raise ValueError(f"metric.output {self.metric.output!r} is not an output; outputs are {sorted(outputs)}")
        if unknown := set(self.preprocess) - {tensor.name for tensor in self.inputs}:
            raise ValueError(f"preprocess names {sorted(unknown)}, which are not inputs")
        if unknown := set(self.postprocess) - outputs:
            raise ValueError(f"postprocess names {sorted(unknown)}, which are not outputs")
        if self.metric.name not in METRICS:
            raise ValueError(f"metric {self.metric.name!r} is not known; known are {', '.join(METRICS)}")
        return self

    def triton_name(self, variant: str) -> str:
        """The name that the server knows. Nobody parses it: the config's parameters carry the parts."""
        return f"{self.name}_{variant}"


def proof_batches(spec: ModelSpec) -> list[int]:
    """The batch sizes at which every variant is run before it is trusted: 1, 2, 3 and the largest."""
    return sorted({1, 2, 3, spec.batch.max} & set(range(1, spec.batch.max + 1)))
