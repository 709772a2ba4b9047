"""The spec: what the user writes in `models/*.yaml`, as pydantic models. `spec_file.load_spec` reads one."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from builder.spec_base import Loss, Positive, SpecModel, loss_limit
from builder.spec_checkpoint import Checkpoint
from builder.spec_compress import CompressionName, Techniques
from builder.spec_optimize import Search
from core.axes import Number
from core.metrics import METRICS, Metric, get_metric
from core.tensors import Axis, TensorSpec
from core.transforms import Preprocess

VARIANTS: Final = (
    "torch_fp32",
    "onnx_fp32", "onnx_int8_dynamic", "onnx_int8_static",
    "openvino_fp32", "openvino_fp16", "openvino_int8",
    "pruned_onnx_fp32", "pruned_openvino_int8",
    "onnx_int8_mixed", "openvino_int8_mixed", "openvino_int8_controlled",
    "onnx_int8_qat", "openvino_int8_qat",
    "onnx_int8_entropy", "onnx_int8_percentile", "onnx_int8_smooth", "onnx_int8_weights", "onnx_int4_weights",
    "onnx_fp16", "openvino_int8_smooth", "openvino_int8_weights", "openvino_int4_weights",
)  # fmt: skip
DEFAULT_VARIANTS: tuple[str, ...] = VARIANTS[:9]  # the others are built where a spec names them
TEXT_INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
ImportName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
TAKEN_NAMES = ("cache", "demo", "server")  # folders of `artifacts/`, where each model has one of its own name


def _known(variant: str, info: ValidationInfo) -> str:
    """Raises ValueError unless the variant is one of the table, or a compression of the spec's before one of it."""
    compress = info.data.get("compress")
    compression, _, base = variant.partition("_")
    if variant in VARIANTS or (base in VARIANTS and (compress is None or compression in compress)):
        return variant
    first, _, last = variant.rpartition("_")
    if first in VARIANTS and last in (compress or ()):
        raise ValueError(f"{variant!r} has {last} last, and a network is compressed first: write '{last}_{first}'")
    known = [*VARIANTS, *(f"{name}_{base}" for name in compress or () for base in VARIANTS)]
    close = difflib.get_close_matches(variant, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else "docs/variants.md has all, `compress` puts its names before them"
    raise ValueError(f"{variant!r} is not known; {hint}")


class AxisRange(SpecModel):
    """A named axis: the sizes that the model must take, and the usual one."""

    min: Annotated[Positive, Field(description="the smallest size, proven by a run")]
    opt: Annotated[Positive, Field(description="the usual size, at which the network is exported")]
    max: Annotated[Positive, Field(description="the largest size, proven by a run")]
    buckets: Annotated[
        tuple[Positive, ...],
        Field(
            description="sizes, up to `max`, that the client pads requests to, so that they share batches; see `pad`"
        ),
    ] = ()

    @model_validator(mode="after")
    def _ordered(self) -> AxisRange:
        if not self.min <= self.opt <= self.max:
            raise ValueError("min <= opt <= max must hold")
        if self.buckets and (
            list(self.buckets) != sorted(set(self.buckets))
            or self.buckets[0] < self.min
            or self.buckets[-1] != self.max
        ):
            raise ValueError("buckets must ascend, from min or more, and end at max")
        return self

    @property
    def proven(self) -> list[int]:
        """The sizes at which every variant is run before it is trusted."""
        return sorted({self.min, self.opt, self.max, *self.buckets})


class Batch(SpecModel):
    """The batch axis. `max` is the largest batch that the server forms or takes."""

    max: Annotated[
        int,
        Field(
            ge=1,
            le=4096,
            description="the largest batch, proven by a run; 1 means that the server forms no batches. Written, it is "
            "the server's limit; else that is chosen by measured times, up to this",
        ),
    ] = 32

    @property
    def wished(self) -> int | None:
        """The limit that the spec writes; None if it leaves it to the plan."""
        return self.max if "max" in self.model_fields_set else None


class Data(SpecModel):
    """.npz files with an array for each input and, for evaluation, one of labels. Evaluation shares no sample with the
    others."""

    calibration: Annotated[Path, Field(description="samples that choose INT8 ranges; labels help mixed precision only")]
    evaluation: Annotated[Path, Field(description="labelled samples that every variant is judged on")]
    training: Annotated[
        Path | None,
        Field(
            description="samples that `compress` trains on, with labels; `*_int8_qat` too, which needs none, and, if "
            "unset, takes those of calibration"
        ),
    ] = None
    label: Annotated[
        str, Field(description="name of the array of labels `[n]`: whole numbers, or what the metric takes")
    ] = "label"


class MetricSpec(SpecModel):
    """The task metric and the output that it judges."""

    name: Annotated[
        str,
        Field(
            description="`top1`, `top5`: share of samples with the label among the best k; `within2`: whose best class "
            "is at most two from the label; `f1` (macro), `auc`; for numbers as labels `spearman`, `pearson`, `mae` "
            "(mean absolute error); or `file.py:function` of your own, from output `[n, ...]` and labels `[n]` to a "
            "number"
        ),
    ] = "top1"
    output: Annotated[str, Field(description="name of the output that is judged: class scores, or the number")]
    higher_is_better: Annotated[bool, Field(description="of a function of your own")] = True

    @property
    def function(self) -> Metric:
        """What computes it. Raises InputError if it is a function of the user's that cannot be loaded."""
        return get_metric(self.name, self.higher_is_better)


class Gates(SpecModel):
    """What a variant must keep to be published. `max_drop` is in points of the metric, `1pt` being 0.01, or in percent
    of what the original scores, which suits metrics without a scale of their own, such as `mae`."""

    max_drop: Annotated[
        Loss,
        Field(description="a variant that loses more than this on the same samples is not published; `1pt`, or `2%`"),
    ] = "1pt"

    def limit(self, original: float) -> float:
        """`max_drop` in the metric's own unit, beside what the original scores."""
        return loss_limit(self.max_drop, original)


class PostTransform(SpecModel):
    """What a client does with an output: `softmax`, or nothing."""

    op: Annotated[Literal["softmax"], Field(description="scores to shares that add up to 1")]


class Serving(SpecModel):
    """Wishes for the server. Unset ones are planned from measured times for machine and target, with the reason written
    into config.pbtxt (docs/planner.md).

    A bounded queue (`max_queue_size`, `queue_timeout_ms`) is the default for target `nvidia`; for `wheel` it is written
    only when asked for, see `triton_config`.
    """

    goal: Annotated[
        Literal["throughput", "latency"],
        Field(
            description="what instances and threads are planned for: answers a second under load, or the time of a "
            "lone request"
        ),
    ] = "throughput"
    cores: Annotated[
        Positive | None, Field(description="cores of the server; unset: those of the building machine")
    ] = None
    memory_mb: Annotated[
        Positive | None, Field(description="memory of the server in MB; unset: that of the building machine")
    ] = None
    max_queue_delay_us: Annotated[
        int | None, Field(ge=0, description="how long a request may wait for others to share a batch with")
    ] = None
    max_queue_size: Annotated[Positive | None, Field(description="requests that may wait; more are refused")] = None
    queue_timeout_ms: Annotated[Positive | None, Field(description="how long one may wait before it is refused")] = None
    instances: Annotated[Positive | None, Field(description="copies of the model that run side by side")] = None
    threads: Annotated[Positive | None, Field(description="threads of each instance")] = None
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
    pad: Annotated[
        dict[str, Number],
        Field(description="what fills an input up to a bucket: input -> value; needed for each with a bucketed axis"),
    ] = {}
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
    compress: Annotated[
        dict[CompressionName, Techniques],
        Field(description="what is done to the network, in order, before variants `<name>_<id>` are made of it"),
    ] = {}
    variants: Annotated[
        tuple[Annotated[str, AfterValidator(_known)], ...],
        Field(min_length=1, description="which to build, each once: ids of docs/variants.md, or `<compression>_<id>`"),
    ] = DEFAULT_VARIANTS
    optimize: Annotated[Search, Field(description="what `trident optimize` may try")] = Search()
    imports: Annotated[
        dict[ImportName, Path],
        Field(description="`.onnx` or OpenVINO `.xml` files by other tools, judged as variants `imported_<name>`"),
    ] = {}
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
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := [variant for variant in value if value.count(variant) > 1]:
            raise ValueError(f"{repeated[0]} stands twice; name each variant once")
        return value

    @field_validator("optimize")
    @classmethod
    def _known_bases(cls, value: Search) -> Search:
        for base in value.bases:
            if base not in VARIANTS:
                close = difflib.get_close_matches(base, VARIANTS, 1)
                hint = f"did you mean {close[0]!r}?" if close else "docs/variants.md has all"
                raise ValueError(f"base {base!r} is not known; {hint}")
        return value

    @field_validator("imports")
    @classmethod
    def _known_formats(cls, value: dict[str, Path]) -> dict[str, Path]:
        for name, path in value.items():
            if path.suffix not in (".onnx", ".xml"):
                raise ValueError(f"{name} is {path}, which must be an .onnx or an OpenVINO .xml file")
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
        bucketed = {tensor.name for tensor in self.inputs if any(self.buckets_of(dim) for dim in tensor.dims)}
        if bucketed != set(self.pad):
            odd = ", ".join(sorted(bucketed ^ set(self.pad)))
            raise ValueError(f"pad and the inputs with a bucketed axis must be the same; they differ in {odd}")
        for tensor in self.inputs:
            value = self.pad.get(tensor.name, 0)
            if not tensor.dtype.startswith("float") and value != int(value):
                raise ValueError(f"pad fills {tensor.name}, which is {tensor.dtype}, with {value}; give a whole number")
        outputs = {tensor.name for tensor in self.outputs}
        if self.metric.output not in outputs:
            raise ValueError(f"metric.output {self.metric.output!r} is not an output; outputs are {sorted(outputs)}")
        classes = next(tensor.dims for tensor in self.outputs if tensor.name == self.metric.output)[-1]
        if self.labels and isinstance(classes, int) and len(self.labels) != max(2, classes):
            raise ValueError(f"there are {len(self.labels)} labels, but {self.metric.output!r} has {classes} classes")
        if unknown := set(self.preprocess) - {tensor.name for tensor in self.inputs}:
            raise ValueError(f"preprocess names {sorted(unknown)}, which are not inputs")
        if unknown := set(self.postprocess) - outputs:
            raise ValueError(f"postprocess names {sorted(unknown)}, which are not outputs")
        if unknown := set(self.optimize.answers) - outputs:
            raise ValueError(f"optimize.answers names {sorted(unknown)}, which are not outputs")
        if self.checkpoint.kind == "huggingface":
            self._check_text()
        self._check_compress()
        if self.metric.name not in METRICS and ".py:" not in self.metric.name:
            close = difflib.get_close_matches(self.metric.name, METRICS, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"metric {self.metric.name!r} is not known; {hint}known are {', '.join(METRICS)}")
        self._check_metric()
        return self

    def _check_compress(self) -> None:
        """Raises ValueError for a compression that no variant uses, that has nothing to train on, or that goes on after
        weights share values, which any other technique would part."""
        used = {variant.partition("_")[0] for variant in self.variants}
        for name, techniques in self.compress.items():
            if name not in used:
                raise ValueError(f"compress names {name!r}, and no variant uses it; add {name}_onnx_fp32 to variants")
            names = [part.step for part in techniques]
            if "cluster_weights" in names[:-1]:
                after = names[names.index("cluster_weights") + 1]
                raise ValueError(
                    f"compress.{name}: {after} would part the weights that cluster_weights makes share values; put "
                    f"cluster_weights last"
                )
            if self.data.training is None and (trains := [part.step for part in techniques if part.trains]):
                raise ValueError(
                    f"compress.{name}: {trains[0]} needs samples to train on; name a file in data.training"
                )

    def _check_metric(self) -> None:
        """Raises ValueError for an output of more numbers than the metric compares: it would look at some of them."""
        dims = next(tensor.dims for tensor in self.outputs if tensor.name == self.metric.output)
        count = math.prod(dim for dim in dims if isinstance(dim, int))
        most = METRICS[self.metric.name].most if self.metric.name in METRICS else None
        if most and (count > most or any(isinstance(dim, str) for dim in dims)):
            what = "one number for each sample" if most == 1 else "one score for each sample, or those of two classes"
            raise ValueError(
                f"metric {self.metric.name} takes {what}, and output {self.metric.output!r} has {list(dims)}; choose "
                f"another metric or output, or write file.py:function of your own"
            )

    def _check_text(self) -> None:
        """Raises ValueError unless the inputs are those of a Hugging Face encoder, in its order."""
        names = [tensor.name for tensor in self.inputs]
        shapes = {(tensor.dtype, tensor.dims) for tensor in self.inputs}
        if names not in (TEXT_INPUTS, TEXT_INPUTS[:2]) or len(shapes) > 1 or next(iter(shapes))[0] != "int64":
            raise ValueError(
                f"the inputs of a huggingface checkpoint are {', '.join(TEXT_INPUTS[:2])} and, where the encoder has "
                f"them, {TEXT_INPUTS[2]}, in this order, each int64 with the same dims"
            )

    def buckets_of(self, dim: int | str) -> tuple[int, ...]:
        """The buckets of an entry of `dims`; none for a size."""
        return self.axes[dim].buckets if isinstance(dim, str) else ()

    @property
    def all_variants(self) -> tuple[str, ...]:
        """Every variant that is asked for: ours, then those that other tools made."""
        return (*self.variants, *(f"imported_{name}" for name in self.imports))

    def triton_name(self, variant: str) -> str:
        """The name that the server knows. Nobody parses it: the config's parameters carry the parts."""
        return f"{self.name}_{variant}"


def proof_batches(spec: ModelSpec) -> list[int]:
    """The batch sizes at which every variant is run before it is trusted: 1, 2, 3 and the largest."""
    return sorted({1, 2, 3, spec.batch.max} & set(range(1, spec.batch.max + 1)))
