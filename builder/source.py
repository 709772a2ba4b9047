"""The checkpoint: found, hashed, and loaded without running anything that it contains.

The factory is the user's own code and is run; the checkpoint file is not trusted: `weights_only=True` or safetensors.
"""

from __future__ import annotations

import importlib.util
import pickle
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.artifact import Artifact
from builder.errors import CheckpointError
from builder.spec import ModelSpec
from core.datatypes import BY_ONNX
from core.errors import TridentError
from core.files import sha256_file, sha256_parts, write_atomically
from core.tensors import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


def source_sha256(spec: ModelSpec) -> str:
    """The hash of the checkpoint's bytes, of external data and, where there is one, of its factory's code. Imports
    nothing heavy."""
    parts = []
    files = [spec.checkpoint.file]
    if spec.checkpoint.factory:
        files.append(_factory_file(spec))
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} does not exist; correct `checkpoint` in the spec of {spec.name}")
        try:
            parts.append(sha256_file(file))
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
    parts.append(spec.checkpoint.factory.rpartition(":")[2] if spec.checkpoint.factory else "")
    if spec.checkpoint.onnx:
        from builder.onnx_file import external_files

        parts += [sha256_file(file) for file in external_files(spec.checkpoint.onnx)]
    return sha256_parts(parts)


def source_artifact(spec: ModelSpec, cache: Path) -> Artifact:
    """The checkpoint as the first artifact. An ONNX file is checked and saved again, as one file with its weights."""
    sha256 = source_sha256(spec)
    if spec.checkpoint.onnx is None:
        return Artifact("torch", spec.checkpoint.file.parent, spec, sha256, key=sha256)
    from builder.onnx_file import read_onnx

    model = read_onnx(spec.checkpoint.onnx)
    _check_signature(spec, model.graph)
    folder = cache / f"source-{sha256[:32]}"
    try:
        data = model.SerializeToString(deterministic=True)
    except ValueError as error:  # protobuf's limit
        raise CheckpointError(
            f"{spec.checkpoint.onnx} is larger than 2 GB, which ONNX in one file cannot be"
        ) from error
    write_atomically(folder / "model.onnx", data)
    return Artifact("onnx", folder, spec, sha256, key=sha256)


def _check_signature(spec: ModelSpec, graph: object) -> None:
    """Raises CheckpointError unless the graph's inputs and outputs have the spec's names, types and sizes."""
    constants = {tensor.name for tensor in graph.initializer}  # type: ignore[attr-defined]
    for kind, wanted in (("input", spec.inputs), ("output", spec.outputs)):
        found = [value.name for value in getattr(graph, kind) if value.name not in constants]
        if found != [tensor.name for tensor in wanted]:
            names = ", ".join(tensor.name for tensor in wanted)
            raise CheckpointError(
                f"{spec.checkpoint.onnx}: its {kind}s are {', '.join(found)}, the spec says {names}; "
                f"write the file's names, in its order, under `{kind}s`"
            )
        for tensor in wanted:
            value = next(value for value in getattr(graph, kind) if value.name == tensor.name)
            _check_value(spec, kind, tensor, value.type.tensor_type)


def _check_value(spec: ModelSpec, kind: str, tensor: TensorSpec, found: Any) -> None:
    where = f"{spec.checkpoint.onnx}: {kind} {tensor.name!r}"
    if found.elem_type != tensor.datatype.onnx:
        name = BY_ONNX[found.elem_type].name if found.elem_type in BY_ONNX else f"type {found.elem_type}"
        raise CheckpointError(f"{where} is {name}, the spec says {tensor.dtype}; correct the spec")
    if not found.HasField("shape"):
        return  # not said in the file; running it will tell
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in found.shape.dim]
    if len(sizes) != len(tensor.dims) + 1:
        raise CheckpointError(f"{where} has {len(sizes)} axes, the spec says {len(tensor.dims)} behind the batch axis")
    if kind == "input" and sizes[0] is not None and spec.batch.max != sizes[0]:
        raise CheckpointError(
            f"{where} is fixed to batches of {sizes[0]}, the spec asks for up to {spec.batch.max}; "
            f"export the model with a dynamic batch axis"
        )
    for want, size in zip(tensor.dims, sizes[1:], strict=True):
        if size is not None and size != want:
            raise CheckpointError(f"{where} has an axis of {size} where the spec says {want}; correct the spec")


def _factory_file(spec: ModelSpec) -> Path:
    return Path((spec.checkpoint.factory or "").rpartition(":")[0])


def load_torch(spec: ModelSpec, file: Path | None = None) -> nn.Module:
    """The trained network in evaluation mode, on the CPU: the spec's factory with the state_dict in `file` (default:
    the checkpoint). Raises CheckpointError if file and factory do not fit."""
    network = _call_factory(spec)
    file = file or spec.checkpoint.file
    state = _load_state_dict(file)
    own = network.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{file} does not fit {spec.checkpoint.factory}: "
            f"{_some('missing', missing)}{_some('unexpected', unexpected)}; name the factory that it was trained with"
        )
    wrong = sorted(name for name, value in own.items() if value.shape != state[name].shape)
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{file} does not fit {spec.checkpoint.factory}: {name} is {list(state[name].shape)} "
            f"in the file and {list(own[name].shape)} in the network ({len(wrong)} differ)"
        )
    network.load_state_dict(state)
    return network.eval()


def _some(kind: str, names: list[str]) -> str:
    return f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}) " if names else ""


# What the loaders raise on damaged files, found by flipping bytes.
_DAMAGE = (
    OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, AssertionError, struct.error,
    OverflowError, MemoryError,
)  # fmt: skip


def _load_state_dict(path: Path) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it holds more than tensors, and loading it could run code (nothing was run); save it "
            f"again with torch.save(model.state_dict(), ...) or as safetensors. Cause: {_first_line(error)}"
        ) from error
    except (*_DAMAGE, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {_first_line(error)}") from error
    if isinstance(state, dict) and "state_dict" in state and isinstance(state["state_dict"], dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is not a state_dict (a mapping of names to tensors); save model.state_dict()")
    return state


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def _call_factory(spec: ModelSpec) -> nn.Module:
    import torch

    file, name = _factory_file(spec), (spec.checkpoint.factory or "").rpartition(":")[2]
    module_spec = importlib.util.spec_from_file_location(f"trident_factory_{file.stem}", file)
    if module_spec is None or module_spec.loader is None:
        raise CheckpointError(f"{file} cannot be imported; `factory` names a Python file and a function in it")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses and torch.jit look their module up there
    try:
        module_spec.loader.exec_module(module)
        network = getattr(module, name)()
    except TridentError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything, and a script may call exit()
        raise CheckpointError(f"factory {spec.checkpoint.factory} failed: {type(error).__name__}: {error}") from error
    if not isinstance(network, torch.nn.Module):
        raise CheckpointError(
            f"factory {spec.checkpoint.factory} returned {type(network).__name__}, not a torch module"
        )
    return network
