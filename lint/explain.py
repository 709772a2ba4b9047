"""A model's configuration in plain words, with what each part does to latency and throughput on so many cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from tritonclient.grpc import model_config_pb2 as pb

from lint.check import Context
from lint.repository import ENSEMBLE, Model
from lint.rules_resources import THREADS
from lint.signature import Tensor

BYTES: Final = {
    "BOOL": 1,
    "UINT8": 1,
    "INT8": 1,
    "UINT16": 2,
    "INT16": 2,
    "FP16": 2,
    "BF16": 2,
    "UINT32": 4,
    "INT32": 4,
}
BYTES_OF_OTHERS: Final = {"FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8}
SIZES: Final = BYTES | BYTES_OF_OTHERS


@dataclass(frozen=True)
class Line:
    """What one part of a configuration is set to, and what that means. `field` is empty for what the file itself
    says."""

    field: str
    value: str
    meaning: str


def explain(model: Model, context: Context) -> tuple[Line, ...]:
    """A line for each thing that is set, or left to the server and matters."""
    lines = list(_head(model))
    if model.config is None:
        return (*lines, Line("", "config.pbtxt", "cannot be understood; `trident lint` says where and why"))
    for name, words in WORDS.items():
        lines += words(model, context) if name in model.config.names or name in ALWAYS else ()
    return tuple(lines)


def _head(model: Model) -> Iterator[Line]:
    served = ", ".join(str(version.number) for version in model.versions) or "none"
    yield Line("", "versions", f"{served} on disk")
    file = model.file
    if file is None:
        return
    if file.trouble:
        yield Line("", file.path.name, file.trouble)
        return
    facts = [f"opset {file.opset}"] * bool(file.opset) + [f"IR version {file.ir_version}"] * bool(file.ir_version)
    yield Line("", file.path.name, ", ".join([file.form, *facts]))
    for side, tensors in (("takes", file.inputs), ("gives", file.outputs)):
        for tensor in tensors:
            yield Line("", f"{side} {tensor.name}", _shape(tensor))


def _shape(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "type and shape are not in the file"
    dims = ", ".join("any" if size == -1 else str(size) for size in tensor.shape)
    return f"{tensor.datatype or 'a type that Triton has no name for'} [{dims}]"


def _message(model: Model) -> Any:
    assert model.config is not None
    return model.config.message


def _name(model: Model, _context: Context) -> Iterator[Line]:
    yield Line("name", _message(model).name, "must be the folder's; clients call the model by it")


def _platform(model: Model, _context: Context) -> Iterator[Line]:
    what = "other models, one after the other" if model.backend == ENSEMBLE else f"the backend {model.backend}"
    yield Line("platform", _message(model).platform, f"an older way to say that {what} does the work")


def _backend(model: Model, _context: Context) -> Iterator[Line]:
    yield Line(
        "backend", model.backend or "none", "the runtime that does the work; its own threads decide most of the latency"
    )


def _runtime(model: Model, _context: Context) -> Iterator[Line]:
    yield Line("runtime", _message(model).runtime, "the library, or environment, that the backend is loaded from")


def _file(model: Model, _context: Context) -> Iterator[Line]:
    yield Line("default_model_filename", _message(model).default_model_filename, "the file in each version's folder")


def _other_files(model: Model, _context: Context) -> Iterator[Line]:
    for key, value in _message(model).cc_model_filenames.items():
        yield Line("cc_model_filenames", f"{key}: {value}", "the file on GPUs of this compute capability")


def _versions(model: Model, _context: Context) -> Iterator[Line]:
    policy, there = _message(model).version_policy, [version.number for version in model.versions]
    if policy.HasField("all"):
        served, how = there, "all"
    elif policy.HasField("specific"):
        wanted = list(policy.specific.versions)
        served, how = [number for number in there if number in wanted], f"only {wanted}"
    else:
        count = policy.latest.num_versions or 1
        served, how = there[:count], f"the newest {count}"
    yield Line("version_policy", how, f"serves {', '.join(map(str, served)) or 'none'}; each costs its own memory")


def _batch(model: Model, _context: Context) -> Iterator[Line]:
    limit = _message(model).max_batch_size
    if limit == 0:
        meaning = "no batching: each request is computed by itself, and its shape is the whole of dims"
    elif limit == 1:
        meaning = "a batch axis of one: requests are never joined, so throughput is one over the time of one"
    else:
        meaning = (
            f"up to {limit} samples are computed at once: more throughput where a batch costs less than its samples, "
            "and more latency for the first of them"
        )
    yield Line("max_batch_size", str(limit), meaning)


def _tensors(side: str) -> Callable[[Model, Context], Iterator[Line]]:
    def lines(model: Model, _context: Context) -> Iterator[Line]:
        message = _message(model)
        verb = "a client sends" if side == "input" else "a client gets"
        for tensor in getattr(message, side):
            datatype = pb.DataType.Name(tensor.data_type).removeprefix("TYPE_")
            dims = [
                *(["N"] if message.max_batch_size else []),
                *("any" if dim == -1 else str(dim) for dim in tensor.dims),
            ]
            size = SIZES.get(datatype)
            weight = f", {prod(tensor.dims) * size:,} bytes a sample" if size and -1 not in tensor.dims else ""
            extra = "; may be left out" if side == "input" and tensor.optional else ""
            extra += (
                f"; names of classes in {tensor.label_filename}" if side == "output" and tensor.label_filename else ""
            )
            yield Line(side, tensor.name, f"{verb} {datatype} [{', '.join(dims)}]{weight}{extra}")

    return lines


def _instances(model: Model, context: Context) -> Iterator[Line]:
    groups = _message(model).instance_group
    if not groups:
        usual = "two, each with a thread for every core" if model.backend == "onnxruntime" else "one"
        if model.backend != ENSEMBLE:
            yield Line("instance_group", "not set", f"on a CPU the server makes {usual}; on GPUs, one on each")
        return
    for group in groups:
        kind, count = pb.ModelInstanceGroup.Kind.Name(group.kind).removeprefix("KIND_"), group.count or 1
        meaning = f"{count} batch{'es' * (count > 1)} can be computed at a time"
        if group.kind == pb.ModelInstanceGroup.KIND_CPU and model.backend in THREADS and model.config is not None:
            text = model.config.parameter(THREADS[model.backend])
            each = int(text) if text.isdecimal() and int(text) else context.cores
            total = count * each
            fits = "fits" if total <= context.cores else "is more than"
            meaning += f", with {each} thread{'s' * (each > 1)} each; {total} in all {fits} {context.cores} cores"
        elif group.gpus:
            meaning += f", on each of the GPUs {list(group.gpus)}"
        yield Line(
            "instance_group", f"{count} x {kind}", f"{meaning}; more of them raise throughput until the cores are busy"
        )


def _batcher(model: Model, _context: Context) -> Iterator[Line]:
    batching = _message(model).dynamic_batching
    delay_us = batching.max_queue_delay_microseconds
    wait = "requests that wait while an instance is busy leave together; a lone one leaves at once"
    if delay_us:
        wait = f"a lone request waits up to {delay_us / 1000:g} ms for others: that much latency, for fuller batches"
    yield Line("dynamic_batching", f"delay {delay_us} us", wait)
    if batching.preferred_batch_size:
        sizes = list(batching.preferred_batch_size)
        yield Line(
            "dynamic_batching",
            f"preferred {sizes}",
            f"a batch leaves as soon as it has one of these sizes, at most {max(sizes)}",
        )
    if batching.preserve_ordering:
        yield Line(
            "dynamic_batching",
            "preserve_ordering",
            "answers leave in the order of requests, so a slow one holds up the rest",
        )
    if batching.priority_levels:
        meaning = f"{batching.priority_levels} of them; lower numbers go first, and the last ones can starve"
        yield Line("dynamic_batching", "priorities", meaning)
    policy = batching.default_queue_policy
    bounds = [f"{policy.max_queue_size} waiting"] * bool(policy.max_queue_size)
    bounds += [f"{policy.default_timeout_microseconds / 1000:g} ms in the queue"] * bool(
        policy.default_timeout_microseconds
    )
    if bounds:
        what = (
            "put last"
            if policy.timeout_action == pb.ModelQueuePolicy.DELAY and not policy.max_queue_size
            else "refused"
        )
        yield Line(
            "dynamic_batching", "queue", f"beyond {' or '.join(bounds)} a request is {what}, which bounds the latency"
        )
    else:
        yield Line(
            "dynamic_batching", "queue", "without bound: under overload, latency grows for as long as clients send"
        )


def _sequences(model: Model, _context: Context) -> Iterator[Line]:
    batching = _message(model).sequence_batching
    idle_s = (batching.max_sequence_idle_microseconds or 1_000_000) / 1e6
    yield Line(
        "sequence_batching",
        f"{idle_s:g} s",
        "requests of one sequence go to one instance; without any for so long, it is forgotten",
    )


def _steps(model: Model, context: Context) -> Iterator[Line]:
    for step in _message(model).ensemble_scheduling.step:
        there = "" if step.model_name in context.models else ", which is not in the repository"
        reads, writes = ", ".join(step.input_map.values()), ", ".join(step.output_map.values())
        yield Line(
            "ensemble_scheduling", step.model_name, f"makes {writes} from {reads}{there}; its latency adds to the whole"
        )


def _parameters(model: Model, context: Context) -> Iterator[Line]:
    parameters = _message(model).parameters
    for key in sorted(parameters):
        value = parameters[key].string_value
        yield Line("parameters", f"{key} = {_short(value)}", _parameter(key, context))


def _parameter(key: str, context: Context) -> str:
    lower = key.lower()
    if lower in ("intra_op_thread_count", "inference_num_threads"):
        return f"threads of one instance, of {context.cores} cores; more shorten a large inference, not a small one"
    if key in PARAMETERS:
        return PARAMETERS[key]
    if lower == "inter_op_thread_count":
        return "branches of the graph that are computed at a time; 1 is right for nearly every network"
    return (
        "for Trident's client and reports; nothing to the server"
        if key.startswith("trident.")
        else "handed to the backend"
    )


PARAMETERS: Final = {
    "ENABLE_BATCH_PADDING": "YES: a smaller batch is filled up and costs as much as a full one",
    "NUM_STREAMS": "inferences that OpenVINO runs side by side: throughput at the cost of each one's latency",
    "PERFORMANCE_HINT": "LATENCY or THROUGHPUT: OpenVINO chooses streams and threads by it",
    "EXECUTION_ENV_PATH": "the packed Python environment that the model runs in",
    "execution_mode": "1 runs branches of the graph side by side",
    "cudnn_conv_algo_search": "how long ONNX Runtime looks for the quickest convolutions when it loads",
}


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:37]}..."


def _optimization(model: Model, _context: Context) -> Iterator[Line]:
    policy = _message(model).optimization
    accelerators = policy.execution_accelerators
    for accelerator in (*accelerators.gpu_execution_accelerator, *accelerators.cpu_execution_accelerator):
        yield Line(
            "optimization", accelerator.name, "takes over what it can of the graph: a slow load for a quicker inference"
        )
    if policy.cuda.graphs:
        yield Line(
            "optimization",
            "CUDA graphs",
            "less time to launch kernels, which small models gain by; memory for each size",
        )
    if not accelerators.ByteSize() and not policy.cuda.graphs:
        yield Line("optimization", "set", "details of memory and batching; the defaults are right for most")


def _warmup(model: Model, _context: Context) -> Iterator[Line]:
    samples = _message(model).model_warmup
    if not samples and model.backend not in ("", ENSEMBLE, "python"):
        yield Line("model_warmup", "none", "the first callers pay for what the runtime puts off until it runs")
    if samples:
        sizes = ", ".join(str(max(sample.batch_size, 1)) for sample in samples)
        yield Line(
            "model_warmup", f"batches of {sizes}", "run before the model is called ready, so that no caller pays for it"
        )


def _cache(model: Model, _context: Context) -> Iterator[Line]:
    on = _message(model).response_cache.enable
    meaning = (
        "the same inputs are answered from memory, if the server has a cache; hashing them costs each request a little"
    )
    yield Line("response_cache", "on" if on else "off", meaning if on else "every request is computed")


def _transactions(model: Model, _context: Context) -> Iterator[Line]:
    decoupled = _message(model).model_transaction_policy.decoupled
    meaning = (
        "a request may have no answer or many; only a gRPC stream can take them"
        if decoupled
        else "one answer a request"
    )
    yield Line("model_transaction_policy", "decoupled" if decoupled else "one to one", meaning)


def _plainly(field: str, meaning: str) -> Callable[[Model, Context], Iterator[Line]]:
    def lines(_model: Model, _context: Context) -> Iterator[Line]:
        yield Line(field, "set", meaning)

    return lines


# Every field of ModelConfig, in the order that one asks.
WORDS: Final[dict[str, Callable[[Model, Context], Iterator[Line]]]] = {
    "name": _name,
    "platform": _platform,
    "backend": _backend,
    "runtime": _runtime,
    "default_model_filename": _file,
    "cc_model_filenames": _other_files,
    "version_policy": _versions,
    "max_batch_size": _batch,
    "input": _tensors("input"),
    "output": _tensors("output"),
    "batch_input": _plainly(
        "batch_input", "more inputs, which the server makes of a batch's sizes; for ragged batches"
    ),
    "batch_output": _plainly("batch_output", "how a batch's outputs are cut up again; for ragged batches"),
    "instance_group": _instances,
    "dynamic_batching": _batcher,
    "sequence_batching": _sequences,
    "ensemble_scheduling": _steps,
    "optimization": _optimization,
    "parameters": _parameters,
    "model_warmup": _warmup,
    "response_cache": _cache,
    "model_transaction_policy": _transactions,
    "model_operations": _plainly("model_operations", "libraries with operators of one's own, loaded before the model"),
    "model_repository_agents": _plainly(
        "model_repository_agents", "programs that look at, or change, the model when it is loaded"
    ),
    "metric_tags": _plainly("metric_tags", "labels on the model's metrics; nothing to its speed"),
    "model_metrics": _plainly("model_metrics", "the model's own histograms; nothing to its speed"),
}
ALWAYS: Final = frozenset({"backend", "max_batch_size", "version_policy", "instance_group", "model_warmup"})
