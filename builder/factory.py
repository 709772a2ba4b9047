"""The user's own code that makes a network: `file.py:function`. It is run; see `trust` in CONTRIBUTING.md."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import CheckpointError
from core.errors import TridentError, one_line

if TYPE_CHECKING:
    from torch import nn


def factory_file(factory: str) -> Path:
    """The file of `file.py:function`."""
    return Path(factory.rpartition(":")[0])


def call_factory(factory: str) -> nn.Module:
    """The untrained network that `file.py:function` returns. Raises CheckpointError if it cannot."""
    import torch

    file, name = factory_file(factory), factory.rpartition(":")[2]
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
        raise CheckpointError(f"factory {factory} failed: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(network, torch.nn.Module):
        raise CheckpointError(f"factory {factory} returned {type(network).__name__}, not a torch module")
    return network
