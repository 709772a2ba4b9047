"""Does a file that came from outside take and give what the spec says? Names, data types, sizes, before it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from builder.errors import CheckpointError
from builder.spec import ModelSpec
from core.datatypes import BY_ONNX
from core.tensors import TensorSpec

if TYPE_CHECKING:
    import onnx
    import openvino


@dataclass(frozen=True)
class Found:
    """An input or output as a file has it. `sizes` begin with the batch axis, None where one varies; None in all where
    the file does not say, and running it will tell."""

    name: str
    dtype: str
    sizes: tuple[int | None, ...] | None


def check_onnx_signature(spec: ModelSpec, file: Path, graph: onnx.GraphProto) -> None:
    """Raises CheckpointError unless the graph's inputs and outputs have the spec's names, types and sizes."""
    constants = {tensor.name for tensor in graph.initializer}
    for kind in ("input", "output"):
        values = [value for value in getattr(graph, kind) if value.name not in constants]
        _check(spec, file, kind, [_from_onnx(value) for value in values])


def check_openvino_signature(spec: ModelSpec, file: Path, model: openvino.Model) -> None:
    """The same for a model that OpenVINO has read. A port may have several names; the spec's must be among them."""
    _check(spec, file, "input", [_from_openvino(port, spec.inputs) for port in model.inputs])
    _check(spec, file, "output", [_from_openvino(port, spec.outputs) for port in model.outputs])


def _from_onnx(value: Any) -> Found:
    found = value.type.tensor_type
    dtype = BY_ONNX[found.elem_type].name if found.elem_type in BY_ONNX else f"type {found.elem_type}"
    sizes = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in found.shape.dim)
    return Found(value.name, dtype, sizes if found.HasField("shape") else None)


def _from_openvino(port: Any, wanted: tuple[TensorSpec, ...]) -> Found:
    names = port.get_names()
    name = next((tensor.name for tensor in wanted if tensor.name in names), min(names, default="(no name)"))
    shape = port.get_partial_shape()
    sizes = None if shape.rank.is_dynamic else tuple(dim.get_length() if dim.is_static else None for dim in shape)
    return Found(name, port.get_element_type().to_dtype().name, sizes)


def _check(spec: ModelSpec, file: Path, kind: Literal["input", "output"], found: list[Found]) -> None:
    wanted = {tensor.name: tensor for tensor in (spec.inputs if kind == "input" else spec.outputs)}
    if {value.name for value in found} != wanted.keys():
        names = ", ".join(value.name for value in found)
        raise CheckpointError(
            f"{file}: its {kind}s are {names}, the spec says {', '.join(wanted)}; "
            f"write the file's names, in its order, under `{kind}s`"
        )
    for value in found:
        _check_value(spec, f"{file}: {kind} {value.name!r}", kind, wanted[value.name], value)


def _check_value(spec: ModelSpec, where: str, kind: str, wanted: TensorSpec, found: Found) -> None:
    if found.dtype != wanted.dtype:
        raise CheckpointError(f"{where} is {found.dtype}, the spec says {wanted.dtype}; correct the spec")
    if found.sizes is None:
        return
    if len(found.sizes) != len(wanted.dims) + 1:
        raise CheckpointError(
            f"{where} has {len(found.sizes)} axes, the spec says {len(wanted.dims)} behind the batch axis"
        )
    batch, *sizes = found.sizes
    if kind == "input" and batch is not None and spec.batch.max != batch:
        raise CheckpointError(
            f"{where} is fixed to batches of {batch}, the spec asks for up to {spec.batch.max}; "
            f"export the model with a dynamic batch axis"
        )
    for want, size in zip(wanted.dims, sizes, strict=True):
        if size is not None and size != want:
            raise CheckpointError(f"{where} has an axis of {size} where the spec says {want}; correct the spec")
