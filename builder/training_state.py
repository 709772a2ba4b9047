"""What a training is at the end of an epoch: kept in a checkpoint, so that a killed one goes on as if nothing were."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.kernels import Masks
from core.files import write_atomically

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer


@dataclass
class TrainingState:
    """After `epoch` epochs. `best` is the state_dict of the best epoch so far, empty before there is one; `standing`
    its metric and closeness. `generator` draws the order of samples and their variation."""

    network: nn.Module
    optimizer: Optimizer
    generator: Generator
    masks: Masks
    epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    standing: tuple[float, float] = (0.0, 0.0)


def save(state: TrainingState, path: Path | None) -> None:
    """Writes the checkpoint, if one is wanted."""
    import torch

    if path is None:
        return
    on_gpu = next(state.network.parameters()).is_cuda
    content = {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "random": [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if on_gpu else [])],
        "masks": state.masks,
        "epoch": state.epoch,
        "best": state.best,
        "best_epoch": state.best_epoch,
        "standing": tuple(state.standing),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def resume(state: TrainingState, path: Path | None) -> bool:
    """Sets the state to that of the checkpoint. False if there is none, or it cannot be read."""
    import torch

    content = _checkpoint(path)
    if not content:
        return False
    state.network.load_state_dict(content["network"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.generator.set_state(content["generator"])
    torch.set_rng_state(content["random"][0])
    if next(state.network.parameters()).is_cuda and len(content["random"]) > 1:
        torch.cuda.set_rng_state(content["random"][1])
    state.masks.update(content["masks"])
    state.epoch, state.best = content["epoch"], content["best"]
    state.best_epoch, state.standing = content["best_epoch"], content["standing"]
    print(f"goes on after epoch {state.epoch}, where an earlier run was interrupted")
    return True


def epochs_done(path: Path) -> int:
    """How many epochs the training of a checkpoint has behind it; 0 if there is none, or it cannot be read."""
    return int(_checkpoint(path).get("epoch", 0))


def _checkpoint(path: Path | None) -> dict[str, Any]:
    """What `save` wrote; nothing if there is none, or it cannot be read."""
    import torch

    if path is None or not path.is_file():
        return {}
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        print(f"{path} cannot be read ({type(error).__name__}), so the training starts anew")
        return {}
    return found


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Whatever draws at random without a generator of its own, such as dropout, does so from the seed in here; outside
    nobody notices."""
    import torch

    with torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)
        yield
