"""What a server says about a model, and whether arrays fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from client.axes import out_of_range
from client.errors import SignatureError
from core.axes import Buckets, ServedAxis, parse_axes
from core.datatypes import DataType, from_triton
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

    def __str__(self) -> str:
        dims = ["?" if dim < 0 else str(dim) for dim in self.dims]
        return f"{self.name}: {self.datatype.name} [{', '.join(['N'] * self.batched + dims)}]"

    def fits(self, array: NDArray[np.generic]) -> bool:
        """Whether data type, rank and sizes are right. Any batch is."""
        sizes = array.shape[1:] if self.batched else array.shape
        return (
            array.dtype == self.datatype.numpy
            and array.ndim == len(self.dims) + self.batched
            and all(dim in (-1, size) for dim, size in zip(self.dims, sizes, strict=True))
        )


@dataclass(frozen=True)
class ModelMetadata:
    """A model as served. `max_batch` 0 means that it has no batch axis. `parameters` are those of its configuration;
    ours begin with `trident.`, and `axes` and `buckets` are read from them."""

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

    def signature(self) -> str:
        """The inputs in words, such as `image: float32 [N, 1, 28, 28], N from 1 to 8`."""
        batch = f", N from 1 to {self.max_batch}" if self.max_batch else ""
        return ", ".join(map(str, self.inputs)) + batch

    def check_inputs(self, arrays: Arrays) -> None:
        """Raises SignatureError unless there is one fitting array for each input, all with the same allowed batch."""
        if arrays.keys() != {tensor.name for tensor in self.inputs}:
            raise self.mismatch(f"the arrays given are named {', '.join(sorted(arrays)) or 'nothing'}")
        for tensor in self.inputs:
            if not tensor.fits(array := arrays[tensor.name]):
                raise self.mismatch(f"the array given for {tensor.name!r} is {array.dtype} {list(array.shape)}")
        if self.max_batch:
            batches = sorted({len(array) for array in arrays.values()})
            if len(batches) > 1:
                raise self.mismatch(f"the arrays given differ in their batches: {batches}")
            if not 1 <= batches[0] <= self.max_batch:
                raise self.mismatch(f"the batch given has {batches[0]} samples")
        if wrong := out_of_range(arrays, self.axes):
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


class _WireConfig(_Wire):
    backend: str = ""
    max_batch_size: int = 0
    parameters: dict[str, _WireParameter] = {}


def parse_metadata(metadata: object, config: object) -> ModelMetadata:
    """The decoded JSON of a model's metadata and configuration as one value. Raises InferenceError for a data type that
    we do not carry, and for parameters of ours that cannot be read."""
    model, settings = _WireMetadata.model_validate(metadata), _WireConfig.model_validate(config)
    batched = settings.max_batch_size > 0
    parameters = {name: value.string_value for name, value in settings.parameters.items()}

    def tensor(wire: _WireTensor) -> TensorInfo:
        return TensorInfo(wire.name, from_triton(wire.datatype), wire.shape[1:] if batched else wire.shape, batched)

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
    )
