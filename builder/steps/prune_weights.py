"""Unstructured pruning: single weights become zero, wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifact import Artifact, Format
from builder.finetune import Task, fit, labelled_task
from builder.kernels import Masks, apply, keep_best, kernels, scores
from builder.source import edits_of, load_torch, save_torch
from builder.spec_compress import WeightPruning
from builder.step import Step, resume_folder

if TYPE_CHECKING:
    from torch import nn

RAMP: Final = 0.5  # of the training, in which the share rises
UPDATES: Final = 50  # of the masks on that way


@dataclass(frozen=True)
class PruneWeights(Step):
    """Sets the `share` of the weights of convolutions, linear, recurrent and attention layers that matter least to
    zero. One threshold for the network (scope `global`) or one a layer: layers differ in how much they can spare.

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks" (arXiv:1506.02626); global against
    layerwise: Blalock et al., "What is the State of Neural Network Pruning?" (arXiv:2003.03033). `gradual`: the share
    rises along a cubic while the network is trained (Zhu and Gupta, "To prune, or not to prune", arXiv:1710.01878).
    Stock runtimes multiply by zeros as by any number, so this alone makes a model neither smaller nor faster.
    """

    settings: WeightPruning

    name: ClassVar[str] = "prune_weights"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch",)

    @property
    def reads_training(self) -> bool:
        """Only if it trains."""
        return self.settings.trains

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes the weights and the edits as they were. Raises StepError if the network has no such layer."""
        network = load_torch(source.spec, source.path)
        if not self.settings.gradual:
            apply(self._masks(network, self.settings.share), network)
        if self.settings.train:
            checkpoint = resume_folder(out_dir) / "training.pt"
            task = labelled_task(source.spec, self.settings.train, network, checkpoint)
            fit(network, self._rising(network, task) if self.settings.gradual else task)
        save_torch(network, edits_of(source), out_dir)

    def _masks(self, network: nn.Module, share: float) -> Masks:
        import torch

        generator = torch.Generator().manual_seed(self.settings.seed)
        return keep_best(scores(kernels(network), self.settings.by, generator), share, self.settings.scope)

    def _rising(self, network: nn.Module, task: Task) -> Task:
        """The task with masks that take more and more; only epochs that end with them in full may be kept."""
        steps = task.steps * task.training.epochs
        last = min(steps - 1, max(1, int(RAMP * steps)))  # the step that has them in full, the very last at the latest

        def before_step(step: int) -> None:
            if (step <= last and step % max(1, last // UPDATES) == 0) or step == last:
                progress = step / last if last else 1.0
                task.masks.update(self._masks(network, cubic(self.settings.share, progress)))
                apply(task.masks, network)

        return replace(task, before_step=before_step, keep_from=last // task.steps + 1)


def cubic(share: float, progress: float) -> float:
    """How much is pruned at a point between the beginning (0) and the end (1) of the schedule: fast at first, while
    there is much to spare. Zhu and Gupta, equation 1."""
    return share * (1 - (1 - progress) ** 3)
