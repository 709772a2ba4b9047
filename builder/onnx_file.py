"""ONNX files that come from outside: read without following external data anywhere but beside the file itself.

The rules follow onnx's own reference design for external data: a plain relative name, inside the model's folder after
resolving links, no link, no hard link, offset and length inside the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError

from builder.artifact import MAX_IR_VERSION
from builder.errors import CheckpointError

MAX_OPSET: Final = 24  # the newest that every step and runtime is tested with
ONNX: Final = ("", "ai.onnx")
DOMAINS: Final = (*ONNX, "ai.onnx.ml", "com.microsoft")  # whose operators are known to the runtimes, or to the checker


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model with all its weights in memory. Raises CheckpointError if it is damaged, or if external data lies, or
    pretends to lie, outside the model's folder; in that case nothing outside was opened."""
    model, _ = _open(path)
    _check_operators(path, model)
    # A label of the container: what it holds decides whether an older runtime can read it, and the opset says that.
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    onnx.external_data_helper.load_external_data_for_model(model, str(path.resolve().parent))
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise CheckpointError(f"{path} is not a valid ONNX model: {str(error).splitlines()[0]}") from error
    return model


def external_files(path: Path) -> list[Path]:
    """The files beside an ONNX file that hold its external data. Raises CheckpointError as `read_onnx` does."""
    return _open(path)[1]


def _open(path: Path) -> tuple[onnx.ModelProto, list[Path]]:
    """The model without its external data, and the files, all of them checked, where that data lies."""
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; correct checkpoint.onnx in the spec") from None
    except (OSError, DecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as an ONNX model: {error}") from error
    folder = path.resolve().parent
    tensors = _tensors(model.graph, model.functions)
    external = [tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return model, sorted({_check_external(path, folder, tensor) for tensor in external})


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    """Raises CheckpointError for an opset that is too new, and for operators that none of the runtimes has.
    Those of the model's own functions are known."""
    opset = max((entry.version for entry in model.opset_import if entry.domain in ONNX), default=0)
    if opset > MAX_OPSET:
        raise CheckpointError(
            f"{path} is at opset {opset}, and the newest that the runtimes here are known to run is {MAX_OPSET}; "
            f"export it at that one"
        )
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [*_nodes(model.graph), *(node for function in model.functions for node in function.node)]
    for node in nodes:
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            raise CheckpointError(
                f"{path} uses the operator {node.op_type} of domain {node.domain!r}, which neither ONNX nor ONNX "
                f"Runtime has; export the model without custom operators"
            )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, also those of sub-graphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: onnx.GraphProto, functions: object = ()) -> list[onnx.TensorProto]:
    """Every tensor: initializers, sparse ones, constants in attributes, those of sub-graphs and functions."""
    found = list(graph.initializer)
    for sparse in graph.sparse_initializer:
        found += [sparse.values, sparse.indices]
    nodes = [*graph.node, *(node for function in functions for node in function.node)]  # type: ignore[attr-defined]
    for node in nodes:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            found += [part for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors)
                      for part in (sparse.values, sparse.indices)]  # fmt: skip
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    found += _tensors(inner)
    return found


def _check_external(path: Path, folder: Path, tensor: onnx.TensorProto) -> Path:
    """The file that holds the tensor's data, if it is one that may be opened."""
    facts: dict[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    location = facts.get("location", "")
    refuse = f"{path}: tensor {tensor.name!r} keeps its data in {location!r}, "
    file: Path = folder / location
    if not location or "\0" in location or file.resolve().parent != folder or file.parent.resolve() != folder:
        raise CheckpointError(f"{refuse}outside the model's folder; refused. Save the model with its data beside it")
    if file.is_symlink() or not file.is_file() or file.stat().st_nlink > 1:
        raise CheckpointError(f"{refuse}which is missing or a link; refused. Save the model with its data beside it")
    try:
        offset, length = int(facts.get("offset", 0)), int(facts.get("length", 0))
    except ValueError:
        raise CheckpointError(f"{refuse}at an offset or length that is no number; save the model again") from None
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise CheckpointError(f"{refuse}at {offset} + {length} bytes, which that file does not have; save it again")
    return file
