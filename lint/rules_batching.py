"""The batch axis, and the batcher that is to fill it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lint.check import Check, Context, Hit
from lint.finding import Rule
from lint.repository import ENSEMBLE, Model

RULES: Final = (
    Rule(
        "TRN201", "error", "The model's batch is fixed",
        "A `max_batch_size` above 0 promises that the first axis of every input and output takes any size. This model "
        "was exported with a fixed one: the native backend refuses it, or each batch but one fails.",
        "Export with a free first axis (`dynamic_shapes` or `dynamic_axes`), or set `max_batch_size: 0` and write the "
        "whole shape into `dims`.",
    ),
    Rule(
        "TRN202", "warning", "max_batch_size is left to the server",
        "The model takes batches, and the configuration does not say how large they may be. The server then takes its "
        "default of 4 (1 with OpenVINO), or none with `--disable-auto-complete-config`, and a limit set on its "
        "command line changes it for all models.",
        "Write `max_batch_size`: the size after which the time of a batch grows as fast as the batch.",
    ),
    Rule(
        "TRN203", "error", "A preferred batch size out of range",
        "Preferred sizes must be from 1 to `max_batch_size`; otherwise the model is refused.",
        "Take them out. They are for TensorRT engines with a profile for each size.",
        "dynamic batching preferred size must be <= max batch size", fixable=True,
    ),
    Rule(
        "TRN204", "warning", "Preferred batch sizes that make batches smaller",
        "The batcher stops at the largest preferred size that it can make: with `[4]` and a limit of 8, seven waiting "
        "requests leave as four and three. Without a profile for each size (TensorRT) no size is better than the next "
        "larger one.",
        "Take `preferred_batch_size` out.",
        fixable=True,
    ),
    Rule(
        "TRN205", "warning", "A batcher that has nothing to batch",
        "With a `max_batch_size` of 0 or 1 no two requests can ever share a batch; the batcher only adds a queue and "
        "a thread.",
        "Raise `max_batch_size`, or take `dynamic_batching` out.",
    ),
    Rule(
        "TRN206", "note", "Nothing fills the batches",
        "A `max_batch_size` above 1 only allows batches. Requests of single samples are batched by the server only if "
        "`dynamic_batching` is set; the server adds it by itself for some backends, and not with "
        "`--disable-auto-complete-config`.",
        "Add `dynamic_batching { }`.",
        fixable=True,
    ),
    Rule(
        "TRN207", "warning", "A delay that cannot help",
        "Each request may wait for so long for company. Where the batch can never grow, where a request is given up "
        "before, or where the wait is longer than any inference takes, it is latency for nothing. On a CPU the queue "
        "fills while the instance is busy, without any delay.",
        "Take `max_queue_delay_microseconds` out, and add a small one again only if a load test shows a gain.",
        fixable=True,
    ),
)  # fmt: skip
LONG_DELAY_US: Final = 1_000_000


def batch_axis(model: Model, _context: Context) -> Iterator[Hit]:
    """What the file says of the first axis, against max_batch_size."""
    if model.config is None or model.file is None or not model.file.knows_signature:
        return
    tensors = [tensor for tensor in (*model.file.inputs, *model.file.outputs) if tensor.shape is not None]
    free = bool(tensors) and all(tensor.shape and tensor.shape[0] == -1 for tensor in tensors)
    limit = model.config.message.max_batch_size
    if limit > 0 and not free and model.file.form == "onnx":
        fixed = next((tensor for tensor in tensors if not tensor.shape or tensor.shape[0] != -1), None)
        if fixed is not None:
            message = f"max_batch_size is {limit}, but {fixed.name} has the shape {list(fixed.shape or ())}"
            yield Hit("TRN201", message, ("max_batch_size",))
    if free and model.has_config and "max_batch_size" not in model.config.names:
        yield Hit("TRN202", f"the first axis of {tensors[0].name} is free, and max_batch_size is not set")


def batcher(model: Model, _context: Context) -> Iterator[Hit]:
    """Preferred sizes and delays."""
    if model.config is None or not model.has_config:
        return
    config, message = model.config, model.config.message
    limit = message.max_batch_size
    if not message.HasField("dynamic_batching"):
        waits = message.HasField("sequence_batching") or model.backend == ENSEMBLE
        if limit > 1 and not waits:
            edits = config.add("dynamic_batching { }")
            yield Hit(
                "TRN206", f"batches up to {limit} are allowed, and no dynamic_batching", ("max_batch_size",), edits
            )
        return
    if limit <= 1:
        if "max_batch_size" in config.names:
            yield Hit("TRN205", f"max_batch_size is {limit}", ("dynamic_batching",))
        return
    yield from _preferred(model)
    yield from _delay(model)


def _preferred(model: Model) -> Iterator[Hit]:
    assert model.config is not None
    config, message = model.config, model.config.message
    where = ("dynamic_batching", "preferred_batch_size")
    sizes, limit = list(message.dynamic_batching.preferred_batch_size), message.max_batch_size
    out = [size for size in sizes if not 1 <= size <= limit]
    if out:
        yield Hit(
            "TRN203", f"preferred_batch_size {out[0]}, but max_batch_size is {limit}", where, config.remove(*where)
        )
    elif sizes and max(sizes) < limit and model.backend != "tensorrt":
        message_ = f"batches stop at {max(sizes)}, though max_batch_size is {limit}"
        yield Hit("TRN204", message_, where, config.remove(*where))


def _delay(model: Model) -> Iterator[Hit]:
    assert model.config is not None
    config, batching = model.config, model.config.message.dynamic_batching
    delay_us = batching.max_queue_delay_microseconds
    where = ("dynamic_batching", "max_queue_delay_microseconds")
    timeout_us = batching.default_queue_policy.default_timeout_microseconds
    reason = ""
    if 1 in batching.preferred_batch_size:
        reason = "1 is a preferred size, so no request ever waits"
    elif timeout_us and delay_us >= timeout_us:
        reason = f"a request is given up after {timeout_us} us in the queue, before the batch leaves"
    elif delay_us >= LONG_DELAY_US:
        reason = f"{delay_us / 1e6:g} s, longer than any inference takes; the unit is microseconds"
    if delay_us and reason:
        yield Hit("TRN207", f"max_queue_delay_microseconds is {delay_us}: {reason}", where, config.remove(*where))


CHECKS: Final[tuple[Check, ...]] = (batch_axis, batcher)
