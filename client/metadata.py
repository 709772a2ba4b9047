"""What a server says about a model, and whether arrays fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from client.axes import out_of_range
from client.datatypes import BYTES, fits_type, from_wire
from client.errors import SignatureError
from core.axes import Buckets, ServedAxis, parse_axes
from core.datatypes import DataType
from core.errors import InferenceError, InputError
from core.tensors import Arrays


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as served. `dims` are without the batch axis, -1 where the size varies; `batched` says whether
    there is a batch axis before them."""

    name: str
    datatype: DataType
    dims: tuple[int, ...]
    batched: bool
    optional: bool = False

    def __str__(self) -> str:
        dims = ["?" if dim < 0 else str(dim) for dim in self.dims]
        name = "text" if self.datatype is BYTES else self.datatype.name
        return f"{self.name}: {name} [{', '.join(['N'] * self.batched + dims)}]{' (optional)' * self.optional}"

    def fits(self, array: NDArray[np.generic]) -> bool:
        """Whether data type, rank and sizes are right. Any batch is."""
        sizes = array.shape[1:] if self.batched else array.shape
        return (
            fits_type(array, self.datatype)
            and array.ndim == len(self.dims) + self.batched
            and all(dim in (-1, size) for dim, size in zip(self.dims, sizes, strict=True))
        )


@dataclass(frozen=True)
class ModelMetadata:
    """A model as served. `max_batch` 0 means that it has no batch axis. `parameters` are those of its configuration;
    ours begin with `trident.`, and `axes` and `buckets` are read from them. A `stateful` model takes sequences, a
    `decoupled` one answers a request any number of times; one that `heeds_time` refuses in its queue what has no time
    left."""

    name: str
    versions: tuple[str, ...]
    platform: str
    backend: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    max_batch: int
    parameters: Mapping[str, str]
    axes: Mapping[str, ServedAxis] = field(default_factory=dict)
    buckets: Mapping[str, Buckets] = field(default_factory=dict)
    stateful: bool = False
    decoupled: bool = False
    heeds_time: bool = False

    @property
    def variant(self) -> str:
        """The variant's id, for a model of ours; else empty."""
        return self.parameters.get("trident.variant", "")

    @cached_property
    def input_names(self) -> tuple[frozenset[str], frozenset[str]]:
        """The inputs that must be given, and all that may be."""
        needed = frozenset(tensor.name for tensor in self.inputs if not tensor.optional)
        return needed, frozenset(tensor.name for tensor in self.inputs)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """All outputs."""
        return tuple(tensor.name for tensor in self.outputs)

    def signature(self) -> str:
        """The inputs in words, such as `image: float32 [N, 1, 28, 28], N from 1 to 8`."""
        batch = f", N from 1 to {self.max_batch}" if self.max_batch else ""
        return ", ".join(map(str, self.inputs)) + batch

    def check_inputs(self, arrays: Arrays, any_batch: bool = False) -> None:
        """Raises SignatureError unless there is one fitting array for each input, all with the same batch, and that one
        allowed, or not empty if `any_batch`."""
        if not self.input_names[0] <= arrays.keys() <= self.input_names[1]:
            raise self.mismatch(f"the arrays given are named {', '.join(sorted(arrays)) or 'nothing'}")
        for tensor in self.inputs:
            if tensor.name in arrays and not tensor.fits(array := arrays[tensor.name]):
                raise self.mismatch(f"the array given for {tensor.name!r} is {array.dtype} {list(array.shape)}")
        if self.max_batch:
            batches = sorted({len(array) for array in arrays.values()})
            if len(batches) > 1:
                raise self.mismatch(f"the arrays given differ in their batches: {batches}")
            if batches[0] < 1 or (batches[0] > self.max_batch and not any_batch):
                raise self.mismatch(f"the batch given has {batches[0]} samples")
        if self.axes and (wrong := out_of_range(arrays, self.axes)):
            raise self.mismatch(wrong)

    def check_outputs(self, names: tuple[str, ...]) -> None:
        """Raises SignatureError if one of the names is no output."""
        known = [tensor.name for tensor in self.outputs]
        if unknown := sorted(set(names) - set(known)):
            raise SignatureError(f"model {self.name!r} has no output {', '.join(unknown)}; it has {', '.join(known)}")

    def mismatch(self, but: str) -> SignatureError:
        """The error that says what the model takes, `but` what it was given."""
        return SignatureError(f"model {self.name!r} takes {self.signature()}; {but}")


class _Wire(BaseModel):
    """Base of the server's JSON. Over gRPC whole numbers come as text and zeros not at all; pydantic evens that out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _WireTensor(_Wire):
    name: str
    datatype: str
    shape: tuple[int, ...] = ()


class _WireMetadata(_Wire):
    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: tuple[_WireTensor, ...] = ()
    outputs: tuple[_WireTensor, ...] = ()


class _WireParameter(_Wire):
    string_value: str = ""


class _WireInput(_Wire):
    name: str
    optional: bool = False


class _WirePolicy(_Wire):
    decoupled: bool = False


class _WireQueue(_Wire):
    allow_timeout_override: bool = False


class _WireBatching(_Wire):
    default_queue_policy: _WireQueue = _WireQueue()
    priority_queue_policy: dict[str, _WireQueue] = {}


class _WireConfig(_Wire):
    backend: str = ""
    max_batch_size: int = 0
    parameters: dict[str, _WireParameter] = {}
    input: tuple[_WireInput, ...] = ()
    dynamic_batching: _WireBatching = _WireBatching()
    sequence_batching: object = None
    model_transaction_policy: _WirePolicy = _WirePolicy()


def parse_metadata(metadata: object, config: object) -> ModelMetadata:
    """The decoded JSON of a model's metadata and configuration (empty for a server that has none) as one value. Raises
    InferenceError for a data type that we do not carry, and for parameters of ours that cannot be read."""
    model, settings = _WireMetadata.model_validate(metadata), _WireConfig.model_validate(config)
    batched = settings.max_batch_size > 0
    parameters = {name: value.string_value for name, value in settings.parameters.items()}

    optional = {row.name for row in settings.input if row.optional}

    def tensor(wire: _WireTensor) -> TensorInfo:
        dims = wire.shape[1:] if batched else wire.shape
        return TensorInfo(wire.name, from_wire(wire.datatype), dims, batched, wire.name in optional)

    try:
        inputs, outputs = tuple(map(tensor, model.inputs)), tuple(map(tensor, model.outputs))
        axes, buckets = parse_axes(parameters.get("trident.axes", "{}"), parameters.get("trident.buckets", "{}"))
    except InputError as error:
        raise InferenceError(f"model {model.name!r} cannot be used from here: {error}") from error
    return ModelMetadata(
        name=model.name,
        versions=model.versions,
        platform=model.platform,
        backend=settings.backend,
        inputs=inputs,
        outputs=outputs,
        max_batch=settings.max_batch_size,
        parameters=parameters,
        axes=axes,
        buckets=buckets,
        stateful=settings.sequence_batching is not None,
        decoupled=settings.model_transaction_policy.decoupled,
        heeds_time=any(
            queue.allow_timeout_override
            for queue in (
                settings.dynamic_batching.default_queue_policy,
                *settings.dynamic_batching.priority_queue_policy.values(),
            )
        ),
    )
