"""Inputs and outputs: what the configuration says against what the model's file says."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from math import prod
from typing import Any, Final

from core.datatypes import BY_TRITON
from lint.check import Check, Context, Hit
from lint.config import Config
from lint.finding import Edit, Rule
from lint.repository import ENSEMBLE, Model
from lint.signature import Tensor

RULES: Final = (
    Rule(
        "TRN301", "error", "An input or output that the model does not have",
        "Clients speak to a model by the names in its configuration, and the backend looks them up in its file. All "
        "inputs must be named; outputs that nobody needs may be left out.",
        "Use the names that the file has; `trident explain` lists them.",
        "config.pbtxt names the", fixable=True,
    ),
    Rule(
        "TRN302", "error", "Another data type than the model's",
        "The server takes the bytes that a client sends for values of the configured type. The native backend refuses "
        "the model; where it does not, the answers are noise.",
        "Give the type that the file has.",
        fixable=True,
    ),
    Rule(
        "TRN303", "error", "Other dims than the model's",
        "The server checks each request against `dims`, and the backend checks `dims` against the file. With a "
        "`max_batch_size` above 0 the batch axis is not written: a model of `[N, 3, 224, 224]` has `dims: [3, 224, "
        "224]`.",
        "Give the dims that the file has, without the batch axis if there is a `max_batch_size`, and with -1 for a "
        "free axis.",
        fixable=True,
    ),
    Rule(
        "TRN304", "error", "dims are missing or impossible",
        "Each axis needs a size of 1 or more, or -1 for one that is free.",
        "Give all axes but the batch's.",
        "must specify 'dims'",
    ),
    Rule(
        "TRN305", "error", "The data type is missing",
        "Without one the server cannot tell how many bytes a value has.",
        "Give `data_type`, such as `TYPE_FP32`.",
        "must specify 'data_type'",
    ),
    Rule(
        "TRN306", "error", "A name is missing or stands twice",
        "An input or output is addressed by its name, and by nothing else.",
        "Give each a name of its own.",
        "must specify 'name'",
    ),
    Rule(
        "TRN307", "error", "A reshape that changes the number of values",
        "`reshape` only lays the same values out otherwise.",
        "Make the product of `shape` equal to that of `dims`.",
        "has different size for dims and reshape",
    ),
    Rule(
        "TRN308", "warning", "Inputs or outputs are left to the server",
        "The server fills them in from the file while it loads, for which some backends load the model twice. With "
        "`--disable-auto-complete-config`, which production guides ask for, nothing is filled in: the model does not "
        "load, or has nothing to ask for. PyTorch's files do not say enough for it at all.",
        "Write `input` and `output`; a running server gives them at `/v2/models/<name>/config`.",
    ),
)  # fmt: skip


def declared(model: Model, _context: Context) -> Iterator[Hit]:
    """What the server itself asks of inputs and outputs, whatever the model."""
    if model.config is None or not model.has_config:
        return
    for side in ("input", "output"):
        tensors = list(getattr(model.config.message, side))
        if not tensors and model.backend in ("onnxruntime", "openvino", "pytorch", "tensorrt"):
            yield Hit("TRN308", f"no {side} is given")
        seen: set[str] = set()
        for at, tensor in enumerate(tensors):
            yield from _declared(side, at, tensor, model)
            if tensor.name in seen:
                yield Hit("TRN306", f"two {side}s are called {tensor.name!r}", (side, at, "name"))
            seen.add(tensor.name)


def _declared(side: str, at: int, tensor: Any, model: Model) -> Iterator[Hit]:
    name, known = tensor.name or f"{side} {at}", _of(model, side).get(tensor.name)
    if not tensor.name:
        yield Hit("TRN306", f"{side} {at} has no name", (side, at))
    filled_in = model.backend == "tensorrt" or (model.file is not None and model.file.completes)
    if not tensor.data_type and not filled_in:
        hint = f"; the file says TYPE_{known.datatype}" if known and known.datatype else ""
        yield Hit("TRN305", f"{name} has no data_type{hint}", (side, at))
    dims, shape = list(tensor.dims), list(tensor.reshape.shape)
    if not dims and not filled_in:
        yield Hit("TRN304", f"{name} has no dims", (side, at))
    for size in dims:
        if size < 1 and size != -1:
            yield Hit("TRN304", f"{name} has a dim of {size}", (side, at, "dims"))
    if not tensor.HasField("reshape") or not dims or -1 in (*dims, *shape):
        return
    if prod(dims) != prod(shape):
        message = f"{name}: dims {dims} hold {prod(dims)} values, reshape {shape} {prod(shape)}"
        yield Hit("TRN307", message, (side, at, "reshape"))


def against_file(model: Model, context: Context) -> Iterator[Hit]:
    """Names, types and shapes against the file's."""
    if model.config is None or model.file is None or model.file.trouble or model.backend == ENSEMBLE:
        return
    for side in ("input", "output"):
        known = _of(model, side)
        if not known or (model.file.form == "torchscript" and side == "output"):
            continue
        configured = list(getattr(model.config.message, side))
        for at, tensor in enumerate(configured):
            if tensor.name not in known:
                yield from _unknown(model, side, at, tensor.name, known)
                continue
            yield from _type(model, context, side, at, tensor, known[tensor.name])
            yield from _dims(model.config, side, at, tensor, known[tensor.name], model.file.form)
        given = {tensor.name for tensor in configured} | _given_by_server(model.config.message)
        missing = [tensor.name for tensor in model.file.inputs if tensor.name not in given]
        if (
            side == "input"
            and configured
            and len(missing) > _strangers(configured, known)
            and model.file.knows_signature
        ):
            yield Hit("TRN301", f"the model also needs the input {', '.join(missing)}", ("input",))


def _strangers(configured: list[Any], known: dict[str, Tensor]) -> int:
    """How many are configured that the file does not have; each most likely stands for a missing one."""
    return sum(tensor.name not in known for tensor in configured)


def _given_by_server(message: Any) -> set[str]:
    """Inputs that the sequence batcher gives, and those that describe a ragged batch."""
    batching = message.sequence_batching
    controls = {control.name for control in batching.control_input} | {state.input_name for state in batching.state}
    return controls | {name for batch_input in message.batch_input for name in batch_input.target_name}


def _of(model: Model, side: str) -> dict[str, Tensor]:
    if model.file is None:
        return {}
    tensors = (*model.file.inputs, *model.file.defaults) if side == "input" else model.file.outputs
    return {tensor.name: tensor for tensor in tensors if tensor.name}


def _unknown(model: Model, side: str, at: int, name: str, known: dict[str, Tensor]) -> Iterator[Hit]:
    assert model.config is not None and model.file is not None
    if not name or (model.file.form == "torchscript" and not _named_by_arguments(model, known)):
        return  # named by position, as PyTorch's backend allows
    near = get_close_matches(name, list(known), 1, 0.6) or (list(known) if len(known) == 1 else [])
    free = [known_ for known_ in near if known_ not in {tensor.name for tensor in getattr(model.config.message, side)}]
    edits = model.config.set_value(f'"{free[0]}"', side, at, "name") if free else ()
    yield Hit("TRN301", f"no {side} is called {name!r}; the file has {', '.join(known)}", (side, at, "name"), edits)


def _named_by_arguments(model: Model, known: dict[str, Tensor]) -> bool:
    """Whether some input has an argument's name: PyTorch's backend then wants it of all; else it counts positions."""
    assert model.config is not None
    return any(tensor.name in known for tensor in model.config.message.input)


def _type(model: Model, context: Context, side: str, at: int, tensor: Any, known: Tensor) -> Iterator[Hit]:
    """The native OpenVINO backend converts types; the others do not."""
    assert model.config is not None
    configured = _datatype(tensor)
    if not configured or not known.datatype or configured == known.datatype:
        return
    if model.backend == "openvino" and context.release.native:
        return
    edits = (
        model.config.set_value(f"TYPE_{known.datatype}", side, at, "data_type") if known.datatype in BY_TRITON else ()
    )
    message = f"{tensor.name} is TYPE_{configured} here and TYPE_{known.datatype} in the file"
    yield Hit("TRN302", message, (side, at, "data_type"), edits)


def _datatype(tensor: Any) -> str:
    field = tensor.DESCRIPTOR.fields_by_name["data_type"]
    return (
        str(field.enum_type.values_by_number[tensor.data_type].name).removeprefix("TYPE_") if tensor.data_type else ""
    )


def _dims(config: Config, side: str, at: int, tensor: Any, known: Tensor, form: str) -> Iterator[Hit]:
    dims = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
    if known.shape is None or not dims or (tensor.HasField("reshape") and not tensor.reshape.shape):
        return
    if side == "input" and tensor.allow_ragged_batch:
        return  # requests are laid end to end, in one axis
    batched = config.message.max_batch_size > 0
    if batched and (not known.shape or (form == "onnx" and known.shape[0] != -1)):
        return  # told by the batch axis
    right = list(known.shape[1:] if batched else known.shape)
    if not known.shape and dims == [1]:
        return  # a scalar, as Triton writes one
    if "max_batch_size" not in config.names and right[:1] == [-1] and dims == right[1:]:
        return  # meant for a batch axis that is left to the server, which is told of max_batch_size
    lenient = form == "openvino" and side == "input"
    same = len(dims) == len(right) and all(
        a == b or b == -1 or (lenient and a == -1) for a, b in zip(dims, right, strict=True)
    )
    if same or (form == "openvino" and config.parameter("RESHAPE_IO_LAYERS").lower() == "yes"):
        return
    batch_too = " (the batch axis is not written)" if batched and dims == list(known.shape) else ""
    edits: tuple[Edit, ...] = ()
    field = config.find(side, at, "dims")
    if field is not None and not tensor.HasField("reshape") and len(_all_dims(config, side, at)) == 1:
        edits = (Edit(field.whole.start, field.whole.end, f"dims: {right}"),)
    yield Hit(
        "TRN303", f"{tensor.name} has dims {dims}{batch_too}; by the file they are {right}", (side, at, "dims"), edits
    )


def _all_dims(config: Config, side: str, at: int) -> set[int]:
    """Where the dims are written: once as a list, or one by one."""
    outer = config.find(side, at)
    named = outer.value.named("dims") if outer is not None and hasattr(outer.value, "named") else ()
    return {field.whole.start for field in named}


CHECKS: Final[tuple[Check, ...]] = (declared, against_file)
