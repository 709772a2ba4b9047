"""Instances, threads, devices, queues and warm-up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tritonclient.grpc import model_config_pb2 as pb

from lint.check import Check, Context, Hit
from lint.finding import Rule
from lint.releases import WHEEL
from lint.repository import ENSEMBLE, Model

RULES: Final = (
    Rule(
        "TRN401", "warning", "More threads than cores",
        "Instances times threads go beyond the cores that the server may use (the cgroup's quota, not what `nproc` "
        "says). The threads then take the cores from each other: latency grows by a multiple, and a container is "
        "throttled.",
        "Set `instance_group` and the threads of one (`intra_op_thread_count`, `INFERENCE_NUM_THREADS`, "
        "`INTRA_OP_THREAD_COUNT`) so that their product is at most the cores. `--cores` names the server's, if it is "
        "not this machine.",
    ),
    Rule(
        "TRN402", "note", "Instances are left to the server",
        "On a CPU the server makes two instances of an ONNX model, each with a thread for every core: twice the "
        "threads that there are cores. On a machine with GPUs it makes one on each.",
        "Say it: `instance_group [ { kind: KIND_CPU count: 1 } ]`, and `intra_op_thread_count`.",
    ),
    Rule(
        "TRN403", "warning", "INT8 from ONNX Runtime on a GPU",
        "ONNX Runtime's CUDA provider has no kernels for most INT8 operators. They run on the CPU, with copies to and "
        "fro: slower than FP32 by a multiple.",
        "Use `KIND_CPU`; on a GPU serve FP16, or Q/DQ through TensorRT.",
    ),
    Rule(
        "TRN404", "error", "A device that cannot be",
        "A CPU instance with GPUs listed, an OpenVINO model on an NVIDIA GPU, a TensorRT engine on a CPU: the model "
        "is refused.",
        "Set `kind` to what the backend runs on.",
        "has kind KIND_CPU but specifies one or more GPUs",
    ),
    Rule(
        "TRN405", "note", "The queue has no bound",
        "Under overload the queue grows for as long as clients keep sending, and every request waits until its caller "
        "has gone. Being refused early is better for both.",
        "`default_queue_policy { max_queue_size: 256 default_timeout_microseconds: 2000000 timeout_action: REJECT }` "
        "in `dynamic_batching`. Not on the embedded 2.51: see TRN406.",
    ),
    Rule(
        "TRN406", "warning", "A bounded queue stalls on this server",
        "With any field of the queue policy set, and one instance, the batcher of Triton 2.51 lets single requests "
        "wait for about 500 ms (measured: 1,085 requests/s and such stalls with it, 1,770 requests/s and a p99 of 0.9 "
        "ms without).",
        "Bound the queue in front of the server, or serve with a newer Triton.",
    ),
    Rule(
        "TRN407", "note", "No warm-up",
        "The first requests pay for what a runtime puts off until it runs: memory, kernels, for TorchScript "
        "compilation. The server calls the model ready before that.",
        "Add a `model_warmup` for batch 1 and for `max_batch_size`.",
    ),
    Rule(
        "TRN408", "error", "A warm-up that cannot run",
        "A sample must give every input, with a size for each axis, and no larger batch than is allowed; its data "
        "files lie in the model's folder `warmup`. Otherwise the model never gets ready; too large a batch ended "
        "Triton 2.51 itself in three of five tries (signal 11).",
        "Give every input a `data_type`, `dims` without -1, and one of `zero_data`, `random_data`, `input_data_file`.",
        "failed to load",
    ),
)  # fmt: skip
THREADS: Final = {
    "onnxruntime": "intra_op_thread_count", "openvino": "INFERENCE_NUM_THREADS", "pytorch": "INTRA_OP_THREAD_COUNT",
}  # fmt: skip
GROUP = pb.ModelInstanceGroup


def threads(model: Model, context: Context) -> Iterator[Hit]:
    """Instances times threads against the cores."""
    config = model.config
    if config is None or model.backend not in THREADS:
        return
    groups = config.message.instance_group
    if not groups:
        if model.backend == "onnxruntime" and not config.parameter(THREADS["onnxruntime"]):
            yield Hit("TRN402", "neither instance_group nor intra_op_thread_count is set")
        return
    if model.backend == "openvino" and context.release.native:
        return  # its instances share one compiled model and its threads
    count = sum(group.count or 1 for group in groups if group.kind == GROUP.KIND_CPU)
    text = config.parameter(THREADS[model.backend])
    each = int(text) if text.isdecimal() and int(text) else context.cores
    if count and count * each > context.cores:
        how = (
            f"{each} threads" if text else f"{each} threads (as many as cores, for {THREADS[model.backend]} is not set)"
        )
        message = f"{count} instance{'s' * (count > 1)} of {how} on {context.cores} core{'s' * (context.cores > 1)}"
        yield Hit("TRN401", message, ("instance_group",))


def devices(model: Model, _context: Context) -> Iterator[Hit]:
    """What runs where."""
    if model.config is None:
        return
    for at, group in enumerate(model.config.message.instance_group):
        where = ("instance_group", at)
        if group.kind in (GROUP.KIND_CPU, GROUP.KIND_MODEL) and group.gpus:
            yield Hit("TRN404", f"{GROUP.Kind.Name(group.kind)} with gpus {list(group.gpus)}", (*where, "gpus"))
        elif group.kind == GROUP.KIND_GPU and model.backend == "openvino":
            yield Hit("TRN404", "OpenVINO runs on KIND_CPU only", (*where, "kind"))
        elif group.kind == GROUP.KIND_CPU and model.backend == "tensorrt":
            yield Hit("TRN404", "TensorRT runs on KIND_GPU only", (*where, "kind"))
        elif group.kind == GROUP.KIND_GPU and _integer_onnx(model):
            operators = ", ".join(sorted(_integer_onnx(model))[:3])
            yield Hit("TRN403", f"KIND_GPU for a model in INT8 ({operators})", (*where, "kind"))


INTEGER_OPERATORS: Final = frozenset(
    {"QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "QuantizeLinear"}
)


def _integer_onnx(model: Model) -> frozenset[str]:
    """Operators that only a model in INT8 has. Not where TensorRT takes the graph over, which knows Q/DQ."""
    if model.file is None or model.file.form != "onnx" or model.config is None:
        return frozenset()
    accelerators = model.config.message.optimization.execution_accelerators.gpu_execution_accelerator
    if any(accelerator.name == "tensorrt" for accelerator in accelerators):
        return frozenset()
    names = {operator.rpartition("/")[2] for operator in model.file.operators}
    return frozenset(names & INTEGER_OPERATORS)


def queue(model: Model, context: Context) -> Iterator[Hit]:
    """Bounds of the batcher's queue."""
    if model.config is None or not model.config.message.HasField("dynamic_batching"):
        return
    batching = model.config.message.dynamic_batching
    policy = batching.default_queue_policy
    if not policy.max_queue_size and not policy.default_timeout_microseconds:
        if context.release.name != WHEEL and model.config.message.max_batch_size > 1:
            yield Hit("TRN405", "neither max_queue_size nor a timeout is set", ("dynamic_batching",))
    elif context.release.name == WHEEL and sum(group.count or 1 for group in model.config.message.instance_group) <= 1:
        yield Hit("TRN406", "a queue policy with one instance", ("dynamic_batching", "default_queue_policy"))


def warmup(model: Model, _context: Context) -> Iterator[Hit]:
    """Whether there is a warm-up, and each sample of it can run."""
    if model.config is None or not model.has_config or model.backend == ENSEMBLE:
        return
    message = model.config.message
    if not message.model_warmup and model.backend in ("onnxruntime", "openvino", "pytorch", "tensorrt"):
        yield Hit("TRN407", "no model_warmup")
    needed = {tensor.name for tensor in message.input if not tensor.optional}
    known = {tensor.name for tensor in message.input}
    for at, sample in enumerate(message.model_warmup):
        name, where = sample.name or f"sample {at}", ("model_warmup", at)
        if message.input and (needed - set(sample.inputs) or set(sample.inputs) - known):
            wrong = sorted(needed - set(sample.inputs)) or sorted(set(sample.inputs) - known)
            verb = "does not give" if needed - set(sample.inputs) else "gives, and the model does not take,"
            yield Hit("TRN408", f"{name} {verb} {', '.join(wrong)}", where)
        if sample.batch_size > max(message.max_batch_size, 1):
            yield Hit(
                "TRN408", f"{name} has a batch of {sample.batch_size}, {message.max_batch_size} are allowed", where
            )
        for tensor, entry in sample.inputs.items():
            trouble = _entry_trouble(model, entry)
            if trouble:
                yield Hit("TRN408", f"{name}: {tensor} {trouble}", where)


def _entry_trouble(model: Model, entry: Any) -> str:
    if any(dim < 1 for dim in entry.dims):
        return f"has dims {list(entry.dims)}, and every axis needs a size"
    if not entry.data_type:
        return "has no data_type"
    if not (entry.zero_data or entry.random_data or entry.input_data_file):
        return "has no data: zero_data, random_data or input_data_file"
    if entry.input_data_file and not (model.folder / "warmup" / entry.input_data_file).is_file():
        return f"needs warmup/{entry.input_data_file}, which is not there"
    return ""


CHECKS: Final[tuple[Check, ...]] = (threads, devices, queue, warmup)
