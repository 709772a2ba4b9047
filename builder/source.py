"""The checkpoint: found, hashed, and loaded.

The factory is the user's own code and is run; the checkpoint file is not trusted: `weights_only=True` or safetensors.
Only what the spec calls trusted is loaded as a program.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifact import Artifact
from builder.edits import AnyEdit, Edits, read_edits, replay, write_edits
from builder.errors import CheckpointError
from builder.example_inputs import example_inputs
from builder.factory import call_factory, factory_file
from builder.own_code import own_code
from builder.source_huggingface import huggingface_files, load_huggingface
from builder.source_program import load_exported, load_torchscript
from builder.spec import ModelSpec
from builder.spec_checkpoint import Checkpoint
from core.files import sha256_file, sha256_parts, write_atomically
from core.machine import versions

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn


def source_sha256(spec: ModelSpec) -> str:
    """The hash of all that decides the network: the checkpoint's bytes, external data, its factory's code, what is done
    with a text's vectors. Imports nothing heavy."""
    source = spec.checkpoint
    parts = [hash_input(file, "`checkpoint`", spec.name) for file in checkpoint_files(source)]
    parts.append(source.factory.rpartition(":")[2] if source.factory else "")
    if source.onnx:
        from builder.onnx_file import external_files

        parts += [sha256_file(file) for file in external_files(source.onnx)]
    return sha256_parts([source.kind, source.pooling, str(source.normalize), *parts])


def checkpoint_files(source: Checkpoint) -> list[Path]:
    """The files of weights and code that decide the network; an ONNX file's external data apart."""
    files = huggingface_files(source) if source.kind == "huggingface" else [source.file]
    return [*files, factory_file(source.factory)] if source.factory else files


def more_tools(spec: ModelSpec) -> tuple[str, ...]:
    """Packages beside the usual ones whose versions decide what the checkpoint computes."""
    return ("transformers",) if spec.checkpoint.kind == "huggingface" else ()


def hash_input(file: Path, field: str, model: str) -> str:
    """The SHA-256 of a file that the spec names in `field`. Raises CheckpointError if it is not there."""
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist; correct {field} in the spec of {model}")
    try:
        return sha256_file(file)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def source_artifact(spec: ModelSpec, cache: Path) -> Artifact:
    """The checkpoint as the first artifact. An ONNX file is checked and saved again, as one file with its weights."""
    sha256 = source_sha256(spec)
    if spec.checkpoint.onnx is None:
        return Artifact("torch", spec.checkpoint.file.parent, spec, sha256, key=cache_key(spec, sha256))
    from builder.onnx_file import read_onnx
    from builder.signature import check_onnx_signature

    model = read_onnx(spec.checkpoint.onnx)
    check_onnx_signature(spec, spec.checkpoint.onnx, model.graph)
    folder = cache / f"source-{sha256[:32]}"
    save_onnx(model, spec.checkpoint.onnx, folder)
    return Artifact("onnx", folder, spec, sha256, key=cache_key(spec, sha256))


def cache_key(spec: ModelSpec, sha256: str) -> str:
    """The identity of a checkpoint with this content, from which those of all that steps make of it follow. What the
    spec says of its ends goes into exported files, and a new Trident does not trust an old one's steps."""
    ends = [str(tensor) for tensor in (*spec.inputs, "to", *spec.outputs)]
    usual = {name: axis.opt for name, axis in spec.axes.items()}
    return sha256_parts([sha256, *ends, json.dumps(usual), json.dumps(versions(more_tools(spec))), own_code()])


def save_onnx(model: onnx.ModelProto, file: Path, folder: Path) -> None:
    """Writes what was read from `file` as `model.onnx` in `folder`. Raises CheckpointError where one file cannot be."""
    try:
        data = model.SerializeToString(deterministic=True)
    except ValueError as error:  # protobuf's limit
        raise CheckpointError(f"{file} is larger than 2 GB, which ONNX in one file cannot be") from error
    write_atomically(folder / "model.onnx", data)


def load_torch(spec: ModelSpec, file: Path | None = None) -> nn.Module:
    """The trained network in evaluation mode, on the CPU. `file` is a state_dict that a step made of it, its edits
    beside it, or the checkpoint itself (the default). Raises CheckpointError if file and network do not fit."""
    source, file = spec.checkpoint, file or spec.checkpoint.file
    whole = source.kind != "state_dict" and file == source.file  # the loader has filled it
    network = structure(spec, () if file == source.file else read_edits(file.parent))
    if whole:
        return network
    fill(network, file, source.factory or str(source.file))
    return network if source.kind == "exported" else network.eval()


def structure(spec: ModelSpec, edits: Edits = ()) -> nn.Module:
    """The network after the edits, in evaluation mode. Its weights are fresh ones if a factory made it."""
    source = spec.checkpoint
    if source.kind == "state_dict":
        network = call_factory(source.factory or "").eval()
    elif source.kind == "huggingface":
        network = load_huggingface(source)
    else:
        network = (load_torchscript if source.kind == "torchscript" else load_exported)(source.file)
    return replay(network, edits, example_inputs(spec)) if edits else network


def edits_of(artifact: Artifact) -> Edits:
    """What was done to the structure of a `torch` artifact; nothing to the checkpoint itself."""
    return read_edits(artifact.folder) if artifact.history else ()


def save_torch(network: nn.Module, edits: Sequence[AnyEdit], folder: Path) -> None:
    """Writes a `torch` artifact: the weights, and the edits that lead from the factory's network to this one."""
    from safetensors.torch import save_file

    # Copies: layers that share a tensor are loaded as well from two, and safetensors refuses shared ones.
    state = {name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    write_edits(folder, edits)


def fill(network: nn.Module, file: Path, made_by: str) -> None:
    """Loads the state_dict in `file` into a network that `made_by` describes. Raises CheckpointError unless it has the
    network's names and shapes."""
    state = _load_state_dict(file)
    own = network.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{file} does not fit {made_by}: "
            f"{_some('missing', missing)}{_some('unexpected', unexpected)}; name the factory that it was trained with"
        )
    wrong = sorted(name for name, value in own.items() if value.shape != state[name].shape)
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{file} does not fit {made_by}: {name} is {list(state[name].shape)} "
            f"in the file and {list(own[name].shape)} in the network ({len(wrong)} differ)"
        )
    network.load_state_dict(state)


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
