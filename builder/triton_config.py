"""config.pbtxt, made through Triton's own protobuf; each choice carries its reason as a comment."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.artifact import BACKENDS, Format
from builder.errors import StepError
from builder.planner import Facts, Plan, plan
from builder.planner_words import why_batch, why_delay, why_instances
from builder.spec import ModelSpec, proof_batches
from builder.version_policy import NEWEST_REASON
from core.axes import AXES, BUCKETS, Buckets, ServedAxis
from core.tensors import TensorSpec
from core.transforms import PREPROCESS


def make_config(spec: ModelSpec, variant: str, form: Format, source_sha256: str, facts: Facts) -> str:
    """The text of config.pbtxt for a variant, planned by these facts.

    Raises StepError should the text, parsed back, not equal the message that it was made from.
    """
    planned = plan(facts, spec.serving, spec.batch)
    config = pb.ModelConfig(name=spec.triton_name(variant), backend=BACKENDS[form], max_batch_size=planned.batch)
    reasons = {
        "name": f"{variant} of {spec.name}; clients read the parts from the parameters below",
        "backend": "`backend`, not `platform`: one repository for the native backends and for Trident's own",
        "max_batch_size": why_batch(planned, facts, spec.batch, ", ".join(map(str, proof_batches(spec)))),
        "input": "as the artifact was exported; the batch axis is not written",
        "output": "",
    }
    config.input.extend(_tensor(pb.ModelInput, tensor) for tensor in spec.inputs)
    config.output.extend(_tensor(pb.ModelOutput, tensor) for tensor in spec.outputs)
    config.version_policy.latest.num_versions = 1
    reasons["version_policy"] = NEWEST_REASON
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=planned.split.instances)
    reasons["instance_group"] = why_instances(planned, facts, spec.serving)
    if planned.batch > 1:
        reasons["dynamic_batching"] = _batch(config.dynamic_batching, spec, planned, facts)
    _warmup(config, spec, planned.batch, reasons)
    _parameters(config, spec, variant, form, source_sha256, planned, reasons)
    text = _print(config, reasons)
    if text_format.Parse(text, pb.ModelConfig()) != config:
        raise StepError(f"{config.name}: config.pbtxt does not read back as it was written; please report this")
    return text


def _tensor(kind: Any, tensor: TensorSpec) -> Any:
    data_type = pb.DataType.Value(tensor.datatype.config)
    return kind(name=tensor.name, data_type=data_type, dims=list(tensor.shape[1:]))


def _batch(batching: Any, spec: ModelSpec, planned: Plan, facts: Facts) -> str:
    """Sets the batcher; gives its reason."""
    batching.SetInParent()
    batching.max_queue_delay_microseconds = planned.delay_us
    return f"{why_delay(planned, facts)};\n# {_bound_queue(batching.default_queue_policy, spec)}"


# Triton's batcher, before a mend of July 2026, lets single requests wait for about 500 ms as soon as any field of the
# queue policy is set and the model has one instance (measured on 2.51: 1,770 requests/s and p99 0.9 ms without, 1,085
# requests/s and stalls of 500 ms with it). The wheel's server is older than that.
DEFAULT_QUEUE_SIZE, DEFAULT_QUEUE_TIMEOUT_MS = 256, 2000


def _bound_queue(policy: Any, spec: ModelSpec) -> str:
    """Sets the bounds that hold for the spec's target; gives their reason."""
    size, timeout_ms = spec.serving.max_queue_size, spec.serving.queue_timeout_ms
    if spec.target == "nvidia":
        size, timeout_ms = size or DEFAULT_QUEUE_SIZE, timeout_ms or DEFAULT_QUEUE_TIMEOUT_MS
    if size is None and timeout_ms is None:
        return (
            "no bound on the queue: this server's batcher stalls single requests for 500 ms under any queue policy; "
            "give `serving.max_queue_size` to have one all the same"
        )
    limits = []
    if size is not None:
        policy.max_queue_size = size
        limits.append(f"with {size} waiting")
    if timeout_ms is not None:
        policy.default_timeout_microseconds = timeout_ms * 1000
        policy.timeout_action = pb.ModelQueuePolicy.REJECT
        policy.allow_timeout_override = True
        limits.append(f"after {timeout_ms} ms in the queue")
    return f"requests are refused {' or '.join(limits)}, so that overload is answered and not endured"


def _warmup(config: Any, spec: ModelSpec, largest: int, reasons: dict[str, str]) -> None:
    for batch, sizes in product(sorted({1, largest}), _warm_sizes(spec)):
        name = "_".join(
            [f"batch_{batch}", *(f"{axis}_{size}" for axis, size in sizes.items() if spec.buckets_of(axis))]
        )
        warmup = config.model_warmup.add(name=name, batch_size=batch, count=2)
        for tensor in spec.inputs:
            dims = [dim if isinstance(dim, int) else sizes[dim] for dim in tensor.dims]
            entry = warmup.inputs[tensor.name]
            entry.data_type = pb.DataType.Value(tensor.datatype.config)
            entry.dims.extend(dims)
            # Random whole numbers could be no valid token or index; zero always is one.
            if tensor.dtype.startswith("float"):
                entry.random_data = True
            else:
                entry.zero_data = True
    reasons["model_warmup"] = "the first caller must not pay for lazy initialization"


def _warm_sizes(spec: ModelSpec) -> list[dict[str, int]]:
    """The sizes of the named axes to warm up at: every bucket, else the usual size."""
    sizes = [limits.buckets or (limits.opt,) for limits in spec.axes.values()]
    return [dict(zip(spec.axes, chosen, strict=True)) for chosen in product(*sizes)]


def _thread_parameters(form: Format, target: str, planned: Plan) -> tuple[dict[str, str], str]:
    """Threads as the target's backend takes them, and what they mean there. The names are those of NVIDIA's native
    backends, and Trident's own know them too."""
    threads, instances = planned.split.threads, planned.split.instances
    native = target == "nvidia"
    if form == "torchscript":
        return {"INTRA_OP_THREAD_COUNT": str(threads), "INTER_OP_THREAD_COUNT": "1"}, "of each instance"
    if form == "onnx":
        spins = "; the native backend's threads spin while they wait for work, a lone one has none to wait for"
        values = {"intra_op_thread_count": str(threads), "inter_op_thread_count": "1"}
        return values, f"of each instance{spins if native else ''}"
    if native:  # all instances share one compiled model; each stream is one inference at a time
        values = {"INFERENCE_NUM_THREADS": str(threads * instances), "NUM_STREAMS": str(instances)}
        return values, "of all instances together, which share one compiled model by a stream each"
    return {"INFERENCE_NUM_THREADS": str(threads)}, "of each instance"


def _parameters(
    config: Any,
    spec: ModelSpec,
    variant: str,
    form: Format,
    source_sha256: str,
    planned: Plan,
    reasons: dict[str, str],
) -> None:
    threads, meaning = _thread_parameters(form, spec.target, planned)
    values = {
        **threads,
        "trident.model": spec.name,
        "trident.variant": variant,
        "trident.source_sha256": source_sha256,
        "trident.target": spec.target,
    }
    if form == "openvino" and spec.target == "nvidia" and planned.batch > 1:
        values["ENABLE_BATCH_PADDING"] = "YES"  # the native backend takes no other batch than its maximum
    if spec.axes:
        values["trident.axes"] = AXES.dump_json(_served_axes(spec)).decode()
    if spec.pad:
        values["trident.buckets"] = BUCKETS.dump_json(_served_buckets(spec)).decode()
    if spec.preprocess:
        values["trident.preprocess"] = PREPROCESS.dump_json(spec.preprocess).decode()
    if spec.postprocess:
        values["trident.postprocess"] = json.dumps(
            {name: [step.op for step in steps] for name, steps in spec.postprocess.items()}
        )
    if spec.labels:
        values["trident.labels"] = json.dumps(spec.labels)
    for name, value in values.items():
        config.parameters[name].string_value = value
    reasons["parameters"] = f"threads {meaning}; and what clients need to know"


def _served_axes(spec: ModelSpec) -> dict[str, ServedAxis]:
    tensors = (*spec.inputs, *spec.outputs)
    places = {
        axis: {tensor.name: tuple(at for at, dim in enumerate(tensor.dims, 1) if dim == axis) for tensor in tensors}
        for axis in spec.axes
    }
    return {
        axis: ServedAxis(
            min=limits.min, max=limits.max, at={name: found for name, found in places[axis].items() if found}
        )
        for axis, limits in spec.axes.items()
    }


def _served_buckets(spec: ModelSpec) -> dict[str, Buckets]:
    return {
        axis: Buckets(
            sizes=limits.buckets,
            pad={tensor.name: spec.pad[tensor.name] for tensor in spec.inputs if axis in tensor.dims},
        )
        for axis, limits in spec.axes.items()
        if limits.buckets
    }


def _print(config: Any, reasons: dict[str, str]) -> str:
    """Text format, field by field under its reason. A zero max_batch_size is written out: text format drops it."""
    blocks = ["# Made by Trident; a rebuild overwrites it. Wishes belong into the spec, under `serving`."]
    first = ["name", "backend", "max_batch_size"]
    for name in [*first, *(field.name for field, _ in config.ListFields() if field.name not in first)]:
        reason = f"# {reasons[name]}\n" if reasons.get(name) else ""
        if name == "max_batch_size":
            blocks.append(f"{reason}max_batch_size: {config.max_batch_size}")
            continue
        alone = pb.ModelConfig()
        _copy(config, alone, name)
        blocks.append(reason + text_format.MessageToString(alone).strip())
    return "\n".join(blocks) + "\n"


def _copy(source: Any, target: Any, name: str) -> None:
    field = source.DESCRIPTOR.fields_by_name[name]
    value = getattr(source, name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key in sorted(value):
            getattr(target, name)[key].CopyFrom(value[key])
    elif hasattr(value, "extend"):
        getattr(target, name).extend(value)
    elif field.message_type is not None:
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, value)
