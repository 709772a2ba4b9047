"""How far a network can be made smaller layer by layer: as far as the held-out samples lose no more than a threshold.

Much as in Yang et al., "NetAdapt" (arXiv:1804.03230). The score that losses are counted from is the network's own on
these samples. Where the original was trained on `data.training`, it has seen them, and that score may flatter it: more
seems to be lost than is, and the search stops early. Samples that the original has not seen are the fairer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.edits import Edits
from builder.finetune import fit, labelled_task, standing
from builder.spec_base import Loss, loss_limit
from builder.spec_compress import Training

if TYPE_CHECKING:
    from torch import nn

    from builder.spec import ModelSpec


@dataclass(frozen=True)
class Reduced:
    """A network, and the edits that made it of the one that the step was given."""

    network: nn.Module
    edits: Edits = ()


Raises = Callable[[Reduced], Iterator[tuple[Reduced, str]]]
"""For one layer: the best network so far to ever smaller ones, each with what it is, for the log. A network that was
handed out may have been trained by the time that the next is asked for."""


@dataclass(frozen=True)
class Allowance:
    """How much may be lost, and for how many raises in a row more than that; `training`, if any, follows each."""

    threshold: Loss
    patience: int
    training: Training | None


def as_far_as_allowed(
    whole: Reduced, layers: Iterable[Raises], allowance: Allowance, spec: ModelSpec, folder: Path
) -> Reduced:
    """Goes through the layers, each as far as the allowance lets it; gives the last network that lost no more. What a
    killed run has trained is found again in `folder`."""
    training, best, raises = allowance.training, whole, 0
    judge = labelled_task(spec, training or Training(), whole.network)
    before = standing(whole.network, judge).metric
    limit = loss_limit(allowance.threshold, before)
    for layer in layers:
        misses = 0
        for trial, words in layer(best):
            raises += 1
            if training:
                fit(trial.network, labelled_task(spec, training, trial.network, folder / f"raise-{raises}.pt"))
            lost = before - standing(trial.network, judge).metric
            print(f"{words}, {100 * lost:.2f} points are lost")
            best, misses = (trial, 0) if lost <= limit else (best, misses + 1)
            if misses == allowance.patience:
                break
    return best
