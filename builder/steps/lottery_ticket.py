"""Lottery tickets: prune what was trained, go back to where training began, and train what is left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from builder.artifact import Artifact, Format
from builder.errors import StepError
from builder.finetune import fit, labelled_task
from builder.kernels import Masks, apply, keep_best, kernels, scores
from builder.source import edits_of, fill, load_torch, save_torch, structure
from builder.spec_compress import LotteryTicket
from builder.step import Step, resume_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

State = dict[str, "Tensor"]


@dataclass(frozen=True)
class DrawTicket(Step):
    """Iterative magnitude pruning with rewinding: each round trains, sets the smallest of the weights that are left to
    zero and takes the others back to their early values; a last training ends it.

    Frankle and Carbin, "The Lottery Ticket Hypothesis" (arXiv:1803.03635); to early values rather than to the very
    first: Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis" (arXiv:1912.05671). Where a
    file has the early weights, the checkpoint stands for the first training.
    """

    settings: LotteryTicket

    name: ClassVar[str] = "lottery_ticket"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch",)
    trains: ClassVar[bool] = True

    def reads(self) -> tuple[Path, ...]:
        """The early weights."""
        return (self.settings.early,) if self.settings.early else ()

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes the weights and the edits as they were. Raises StepError if there are no early weights to go to."""
        import torch

        settings, folder = self.settings, resume_folder(out_dir)
        network, early = self._beginning(source, folder)
        keep = (1 - settings.share) ** (1 / settings.rounds)  # of what is left, in each round
        for number in range(1, settings.rounds + 1):
            if number > 1 or settings.early is None:
                self._train(network, source, folder / f"round-{number}.pt")
            found = scores(kernels(network), "magnitude", torch.Generator())
            masks = keep_best(found, 1 - keep**number, "global")
            rewind(network, early, masks)
        self._train(network, source, folder / "last.pt")
        save_torch(network, edits_of(source), out_dir)

    def _beginning(self, source: Artifact, folder: Path) -> tuple[nn.Module, State]:
        """The network that the first round trains (or, with `early`, prunes), and the early weights."""
        import torch

        spec, edits = source.spec, edits_of(source)
        if self.settings.early:
            early = structure(spec, edits)
            fill(early, self.settings.early, "the network that the lottery ticket is drawn from")
            return load_torch(spec, source.path), _copied(early)
        if spec.checkpoint.kind != "state_dict":
            raise StepError(f"{spec.name} has no factory that makes fresh weights; give lottery_ticket `early`")
        with torch.random.fork_rng([]):
            torch.manual_seed(self.settings.train.seed)
            network = structure(spec, edits)
        if self.settings.early_epochs:
            training = self.settings.train.model_copy(update={"epochs": self.settings.early_epochs})
            task = labelled_task(spec, training, network, folder / "early.pt")
            fit(network, task)
        return network, _copied(network)

    def _train(self, network: nn.Module, source: Artifact, checkpoint: Path) -> None:
        fit(network, labelled_task(source.spec, self.settings.train, network, checkpoint))


def rewind(network: nn.Module, early: State, masks: Masks) -> None:
    """Takes everything back to its early value, and the weights that the masks do not keep to zero."""
    network.load_state_dict(early)
    apply(masks, network)


def _copied(network: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
