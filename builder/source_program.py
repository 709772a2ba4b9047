"""Checkpoints that are programs: TorchScript and `torch.export`. Loading one runs what it contains, so the spec must
say `trust: true` first, which its validation demands."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

_DAMAGE = (
    OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, AssertionError,
    pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip


def load_torchscript(file: Path) -> nn.Module:
    """The script in evaluation mode, on the CPU. Raises CheckpointError if the file is none."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself
        network = _load(file, "a TorchScript file (torch.jit.save)", partial(torch.jit.load, file, map_location="cpu"))
    script: nn.Module = network.eval()
    return script


def load_exported(file: Path) -> nn.Module:
    """The program as a module that is called like the network it was exported from; whether it was in evaluation mode
    was decided then. Raises CheckpointError if the file is none, or of another version of PyTorch."""
    import torch

    program = _load(file, "a program of this PyTorch (torch.export.save)", lambda: torch.export.load(file))
    # The checks that it makes of its inputs would be exported with it; ours are those of the proof.
    network: nn.Module = program.module(check_guards=False)
    return network


def program_to_script(network: Any) -> Any:
    """What `load_exported` gave, as TorchScript. Not traced, which would fix every size that the program asks for.
    Raises CheckpointError for what TorchScript cannot say, such as a symbolic comparison."""
    import torch
    from torch.fx.graph import CodeGen

    graph = network.graph
    graph.set_codegen(CodeGen())  # plain tensors in and out
    for node in graph.nodes:
        if node.target is torch.ops.aten.sym_size.int:
            node.op, node.target = "call_method", "size"
        elif isinstance(node.target, torch._ops.OpOverload):
            node.target = node.target.overloadpacket  # TorchScript chooses the overload by itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return torch.jit.script(torch.fx.GraphModule(network, graph)).eval()
        except RuntimeError as error:
            why = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            raise CheckpointError(f"the exported program cannot be written as TorchScript: {why}") from error


def _load(file: Path, what: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except _DAMAGE as error:
        why = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{file} cannot be loaded as {what}: {why}") from error
