"""How a model runs, in plain words: instances, the batcher, sequences, steps, parameters, warm-up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tritonclient.grpc import model_config_pb2 as pb

from lint.check import Context
from lint.repository import ENSEMBLE, Model
from lint.rules_resources import THREADS


@dataclass(frozen=True)
class Line:
    """What one part of a configuration is set to, and what that means. `field` is empty for what the file itself
    says. `reason` is the comment above the field, where its author left one."""

    field: str
    value: str
    meaning: str
    reason: str = ""


def message_of(model: Model) -> Any:
    """The configuration's message, where there is one."""
    assert model.config is not None
    return model.config.message


def instances(model: Model, context: Context) -> Iterator[Line]:
    """How many batches at a time, and by how many threads."""
    groups = message_of(model).instance_group
    if not groups:
        usual = "two, each with a thread for every core" if model.backend == "onnxruntime" else "one"
        if model.backend != ENSEMBLE:
            yield Line("instance_group", "not set", f"on a CPU the server makes {usual}; on GPUs, one on each")
        return
    for group in groups:
        kind, count = pb.ModelInstanceGroup.Kind.Name(group.kind).removeprefix("KIND_"), group.count or 1
        meaning = f"{count} batch{'es' * (count > 1)} can be computed at a time"
        more = "more of them raise throughput until the cores are busy"
        if group.kind == pb.ModelInstanceGroup.KIND_CPU and model.backend in THREADS and model.config is not None:
            text = model.config.parameter(THREADS[model.backend])
            each = int(text) if text.isdecimal() and int(text) else context.cores
            total = count * each
            meaning += f", with {each} thread{'s' * (each > 1)} each; {total} in all "
            if total > context.cores:
                meaning += f"is more than {context.cores} cores"
                more = "they take the cores from each other, and fewer are quicker"
            else:
                meaning += f"fits {context.cores} cores"
        elif group.gpus:
            meaning += f", on each of the GPUs {list(group.gpus)}"
        yield Line("instance_group", f"{count} x {kind}", f"{meaning}; {more}")


def batcher(model: Model, _context: Context) -> Iterator[Line]:
    """Waiting for company, and the queue."""
    batching = message_of(model).dynamic_batching
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


def sequences(model: Model, _context: Context) -> Iterator[Line]:
    """Requests that belong together."""
    batching = message_of(model).sequence_batching
    idle_s = (batching.max_sequence_idle_microseconds or 1_000_000) / 1e6
    yield Line(
        "sequence_batching",
        f"{idle_s:g} s",
        "requests of one sequence go to one instance; without any for so long, it is forgotten",
    )


def steps(model: Model, context: Context) -> Iterator[Line]:
    """The models that an ensemble calls."""
    for step in message_of(model).ensemble_scheduling.step:
        there = "" if step.model_name in context.models else ", which is not in the repository"
        reads, writes = ", ".join(step.input_map.values()), ", ".join(step.output_map.values())
        yield Line(
            "ensemble_scheduling", step.model_name, f"makes {writes} from {reads}{there}; its latency adds to the whole"
        )


def parameters(model: Model, context: Context) -> Iterator[Line]:
    """What is handed to the backend."""
    parameters = message_of(model).parameters
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


def optimization(model: Model, _context: Context) -> Iterator[Line]:
    """What runs the graph in the backend's place."""
    policy = message_of(model).optimization
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


def warmup(model: Model, _context: Context) -> Iterator[Line]:
    """What runs before the first caller."""
    samples = message_of(model).model_warmup
    if not samples and model.backend not in ("", ENSEMBLE, "python"):
        yield Line("model_warmup", "none", "the first callers pay for what the runtime puts off until it runs")
    if samples:
        sizes = ", ".join(str(max(sample.batch_size, 1)) for sample in samples)
        yield Line(
            "model_warmup", f"batches of {sizes}", "run before the model is called ready, so that no caller pays for it"
        )
