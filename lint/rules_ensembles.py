"""Ensembles: each step against the model that it calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lint.check import Check, Context, Hit
from lint.finding import Rule
from lint.repository import ENSEMBLE, Model

RULES: Final = (
    Rule(
        "TRN501", "error", "A step calls a model that is not there",
        "The ensemble is loaded only if every model that it calls is, in a version that it asks for.",
        "Put the model into the repository, or mend `model_name` and `model_version` (-1 is the newest).",
        "contains models that are not available",
    ),
    Rule(
        "TRN502", "error", "A step maps names that its model does not have",
        "In `input_map` and `output_map` the key is the model's own name of a tensor, the value the ensemble's. Every "
        "input of the model must be mapped.",
        "Mend the names; key and value are easily exchanged.",
        "is mapping to non-existing input",
    ),
    Rule(
        "TRN503", "error", "An ensemble's tensor comes from nowhere or goes nowhere",
        "Each tensor must be an input of the ensemble or the output of one step, and be read by a step or be an "
        "output. Otherwise the ensemble is refused.",
        "Look for a slip in the name of this tensor.",
        "is not used",
    ),
    Rule(
        "TRN504", "error", "Types or shapes do not meet",
        "What one step gives the next must take: the same data type, and dims that can be equal.",
        "Change one of the models, or put a step between them.",
        "inconsistent data type",
    ),
    Rule(
        "TRN505", "error", "Ensembles that call each other in a circle",
        "None of them could ever be loaded, for each waits for the other.",
        "Break the circle.",
        "circular dependency",
    ),
    Rule(
        "TRN506", "error", "An ensemble allows larger batches than its steps",
        "The ensemble passes the batch on as it is.",
        "Lower `max_batch_size` of the ensemble to the smallest of its steps, or raise theirs.",
        "allows maximum batch size", fixable=True,
    ),
    Rule(
        "TRN507", "error", "Settings that an ensemble cannot have",
        "An ensemble runs nothing itself: instances, optimization, warm-up and a batcher belong to its models. The "
        "server refuses it.",
        "Move them to the models, and set `platform: \"ensemble\"` without a backend.",
        "instance group should not be specified for ensemble", fixable=True,
    ),
    Rule(
        "TRN508", "error", "An ensemble that a step's full queue brings down",
        "When the queue of a step's model refuses a request, Triton before 26.02 fails to clean up: with steps that "
        "run side by side the server dies (2.51 was seen to: `Signal (11) received.`), and behind a decoupled model "
        "the request is never answered (core pull request 466). A plain chain of steps passes the refusal on.",
        "Take `max_queue_size` and the timeout out of the step's model and bound the queue in front of the server, or "
        "serve with Triton 26.02 or later.",
    ),
)  # fmt: skip
REFUSED: Final = ("instance_group", "optimization", "model_warmup", "dynamic_batching", "sequence_batching")
BREAKS_BEFORE: Final = (2, 66)


def ensemble(model: Model, context: Context) -> Iterator[Hit]:
    """Everything about one ensemble."""
    if model.config is None or model.backend != ENSEMBLE:
        return
    config = model.config
    for name in REFUSED:
        if config.find(name) is not None:
            yield Hit("TRN507", f"{name} in an ensemble", (name,), config.remove(name))
    if config.message.backend:
        yield Hit("TRN507", f"backend {config.message.backend} in an ensemble", ("backend",), config.remove("backend"))
    circle = _circle(model.name, context, ())
    if circle:
        yield Hit("TRN505", f"{' calls '.join(circle)}", ("ensemble_scheduling",))
        return
    for at, step in enumerate(config.message.ensemble_scheduling.step):
        yield from _step(model, context, at, step)
    yield from _tensors(model)
    yield from _types(model, context)


def _circle(name: str, context: Context, above: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a circle that begins and ends with this one, empty if there is none."""
    if name in above:
        return (*above, name) if above[0] == name else ()
    model = context.models.get(name)
    if model is None or model.config is None or model.backend != ENSEMBLE:
        return ()
    callees = dict.fromkeys(step.model_name for step in model.config.message.ensemble_scheduling.step)
    return next(filter(None, (_circle(callee, context, (*above, name)) for callee in callees)), ())


def _step(model: Model, context: Context, at: int, step: Any) -> Iterator[Hit]:
    assert model.config is not None
    where = ("ensemble_scheduling", "step", at)
    callee = context.models.get(step.model_name)
    if callee is None:
        known = ", ".join(sorted(set(context.models) - {model.name})) or "no other model"
        yield Hit(
            "TRN501", f"no model {step.model_name!r} in the repository, which has {known}", (*where, "model_name")
        )
        return
    numbers = {version.number for version in callee.versions}
    if step.model_version > 0 and step.model_version not in numbers:
        message = f"{step.model_name} has no version {step.model_version}"
        yield Hit("TRN501", message, (*where, "model_version"))
    if callee.config is None:
        return
    yield from _maps(callee, step, where)
    limit, theirs = model.config.message.max_batch_size, callee.config.message.max_batch_size
    if limit > max(theirs, 0) and "max_batch_size" in callee.config.names:
        edits = model.config.set_value(str(theirs), "max_batch_size")
        yield Hit("TRN506", f"{limit} here, {theirs} in {step.model_name}", ("max_batch_size",), edits)
    policy = callee.config.message.dynamic_batching.default_queue_policy
    rejects = policy.max_queue_size or (policy.default_timeout_microseconds and not policy.timeout_action)
    if rejects and context.release.server < BREAKS_BEFORE and _branches(model, context):
        yield Hit("TRN508", f"{step.model_name} can refuse a request, and {context.release.said} breaks on it", where)


def _branches(model: Model, context: Context) -> bool:
    """Whether several requests can be under way in one run: steps side by side, or a step that answers many times."""
    assert model.config is not None
    message = model.config.message
    waiting, there = list(message.ensemble_scheduling.step), {tensor.name for tensor in message.input}
    while waiting:
        ready = [step for step in waiting if set(step.input_map.values()) <= there]
        if len(ready) > 1:
            return True
        callee = context.models.get(ready[0].model_name) if ready else None
        if (
            callee is not None
            and callee.config is not None
            and callee.config.message.model_transaction_policy.decoupled
        ):
            return True
        if not ready:
            return False  # told by the tensors
        waiting.remove(ready[0])
        there |= set(ready[0].output_map.values())
    return False


def _maps(callee: Model, step: Any, where: tuple[str | int, ...]) -> Iterator[Hit]:
    assert callee.config is not None
    message = callee.config.message
    for side, mapping in (("input", step.input_map), ("output", step.output_map)):
        names = [tensor.name for tensor in getattr(message, side)]
        if not names:
            continue  # left to the server
        for name in sorted(set(mapping) - set(names)):
            text = f"{step.model_name} has no {side} {name!r}; it has {', '.join(names)}"
            yield Hit("TRN502", text, (*where, f"{side}_map"))
    for tensor in message.input:
        if tensor.name not in step.input_map and not tensor.optional:
            yield Hit("TRN502", f"the input {tensor.name!r} of {step.model_name} is not mapped", (*where, "input_map"))


def _tensors(model: Model) -> Iterator[Hit]:
    assert model.config is not None
    message = model.config.message
    steps = message.ensemble_scheduling.step
    inputs, outputs = {tensor.name for tensor in message.input}, {tensor.name for tensor in message.output}
    read = {tensor for step in steps for tensor in step.input_map.values()}
    written = [tensor for step in steps for tensor in step.output_map.values()]
    place = ("ensemble_scheduling", "step")
    for name in sorted(read - set(written) - inputs):
        yield Hit("TRN503", f"a step reads {name!r}, which no step writes", place)
    for name in sorted(inputs - read):
        yield Hit("TRN503", f"the input {name!r} is read by no step", ("input",))
    for name in sorted(outputs - set(written) - inputs):
        yield Hit("TRN503", f"the output {name!r} is written by no step", ("output",))
    for name in sorted({name for name in written if written.count(name) > 1}):
        yield Hit("TRN503", f"{name!r} is written by several steps", place)


def _types(model: Model, context: Context) -> Iterator[Hit]:
    """Each of the ensemble's tensors, by everyone who names it."""
    assert model.config is not None
    message = model.config.message
    batched = message.max_batch_size > 0
    seen: dict[str, tuple[str, int, list[int]]] = {
        tensor.name: (model.name, tensor.data_type, _full(tensor.dims, batched)) for tensor in message.input
    }
    uses = [
        *_uses(message, context),
        *((t.name, model.name, t.data_type, _full(t.dims, batched)) for t in message.output),
    ]
    for name, owner, datatype, dims in uses:
        first, first_type, first_dims = seen.setdefault(name, (owner, datatype, dims))
        if datatype and first_type and datatype != first_type:
            yield Hit(
                "TRN504", f"{name} has one data type in {first}, another in {owner}", ("ensemble_scheduling", "step")
            )
        elif dims and first_dims and not _meet(dims, first_dims):
            text = f"{name} has the shape {first_dims} in {first} and {dims} in {owner}"
            yield Hit("TRN504", text, ("ensemble_scheduling", "step"))


def _uses(message: Any, context: Context) -> Iterator[tuple[str, str, int, list[int]]]:
    for step in message.ensemble_scheduling.step:
        callee = context.models.get(step.model_name)
        if callee is None or callee.config is None:
            continue
        theirs = callee.config.message
        for side, mapping in (("output", step.output_map), ("input", step.input_map)):
            for tensor in getattr(theirs, side):
                if tensor.name in mapping:
                    yield (
                        mapping[tensor.name],
                        step.model_name,
                        tensor.data_type,
                        _full(tensor.dims, theirs.max_batch_size > 0),
                    )


def _full(dims: Any, batched: bool) -> list[int]:
    return [-1, *dims] if batched and dims else list(dims)


def _meet(a: list[int], b: list[int]) -> bool:
    return len(a) == len(b) and all(x == y or -1 in (x, y) for x, y in zip(a, b, strict=True))


CHECKS: Final[tuple[Check, ...]] = (ensemble,)
