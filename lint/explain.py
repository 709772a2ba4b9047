"""A model's configuration in plain words, with what each part does to latency and throughput on so many cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Final

from tritonclient.grpc import model_config_pb2 as pb

from lint import explain_running
from lint.check import Context
from lint.explain_running import Line, message_of
from lint.repository import ENSEMBLE, Model
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


def explain(model: Model, context: Context) -> tuple[Line, ...]:
    """A line for each thing that is set, or left to the server and matters."""
    lines = list(_head(model))
    if model.config is None:
        return (*lines, Line("", "config.pbtxt", "cannot be understood; `trident lint` says where and why"))
    for name, words in WORDS.items():
        found = list(words(model, context)) if name in model.config.names or name in ALWAYS else []
        if found:
            found[0] = replace(found[0], reason=model.config.comment(name))
        lines += found
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


def _name(model: Model, _context: Context) -> Iterator[Line]:
    yield Line("name", message_of(model).name, "must be the folder's; clients call the model by it")


def _platform(model: Model, _context: Context) -> Iterator[Line]:
    what = "other models, one after the other" if model.backend == ENSEMBLE else f"the backend {model.backend}"
    yield Line("platform", message_of(model).platform, f"an older way to say that {what} does the work")


def _backend(model: Model, _context: Context) -> Iterator[Line]:
    yield Line(
        "backend", model.backend or "none", "the runtime that does the work; its own threads decide most of the latency"
    )


def _runtime(model: Model, _context: Context) -> Iterator[Line]:
    yield Line("runtime", message_of(model).runtime, "the library, or environment, that the backend is loaded from")


def _file(model: Model, _context: Context) -> Iterator[Line]:
    yield Line("default_model_filename", message_of(model).default_model_filename, "the file in each version's folder")


def _other_files(model: Model, _context: Context) -> Iterator[Line]:
    for key, value in message_of(model).cc_model_filenames.items():
        yield Line("cc_model_filenames", f"{key}: {value}", "the file on GPUs of this compute capability")


def _versions(model: Model, _context: Context) -> Iterator[Line]:
    policy, there = message_of(model).version_policy, [version.number for version in model.versions]
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
    limit = message_of(model).max_batch_size
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
        message = message_of(model)
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


def _cache(model: Model, _context: Context) -> Iterator[Line]:
    on = message_of(model).response_cache.enable
    meaning = (
        "the same inputs are answered from memory, if the server has a cache; hashing them costs each request a little"
    )
    yield Line("response_cache", "on" if on else "off", meaning if on else "every request is computed")


def _transactions(model: Model, _context: Context) -> Iterator[Line]:
    decoupled = message_of(model).model_transaction_policy.decoupled
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
    "instance_group": explain_running.instances,
    "dynamic_batching": explain_running.batcher,
    "sequence_batching": explain_running.sequences,
    "ensemble_scheduling": explain_running.steps,
    "optimization": explain_running.optimization,
    "parameters": explain_running.parameters,
    "model_warmup": explain_running.warmup,
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
