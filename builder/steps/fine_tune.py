"""Fine-tuning as a step of its own: the network is trained further as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from builder.artifact import Artifact, Format
from builder.finetune import fit, labelled_task
from builder.source import edits_of, load_torch, save_torch
from builder.spec_compress import FineTuning
from builder.step import Step, resume_folder


@dataclass(frozen=True)
class FineTune(Step):
    """Trains on the labels of the training samples. Weights that are exactly zero stay zero, so that what an earlier
    step pruned stays pruned."""

    settings: FineTuning

    name: ClassVar[str] = "finetune"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch",)
    trains: ClassVar[bool] = True

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes the weights and the edits as they were. Raises StepError or DataError if it cannot be trained."""
        network = load_torch(source.spec, source.path)
        fit(network, labelled_task(source.spec, self.settings, network, resume_folder(out_dir) / "training.pt"))
        save_torch(network, edits_of(source), out_dir)
