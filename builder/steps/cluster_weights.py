"""Weight sharing: the weights of each kernel take a few values in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from builder.artifact import Artifact, Format
from builder.codebooks import cluster, index_of, moving_together, shared_bytes
from builder.errors import StepError
from builder.finetune import fit, labelled_task
from builder.kernels import kernels
from builder.layer_names import check_names, matches
from builder.source import edits_of, load_torch, save_torch
from builder.spec_compress import WeightSharing
from builder.step import Step, resume_folder


@dataclass(frozen=True)
class ShareWeights(Step):
    """k-means over the weights of each convolution, linear, recurrent and attention layer, then, if asked for, training
    of the values that are shared: Han et al., "Deep Compression" (arXiv:1510.00149). Weights that are exactly zero stay
    zero. The printed size, and that in the report, is what codebooks and indices would take; no runtime stores them."""

    settings: WeightSharing

    name: ClassVar[str] = "cluster_weights"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch",)

    @property
    def reads_training(self) -> bool:
        """Only if it trains."""
        return self.settings.trains

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes the weights and the edits as they were. Raises StepError if there is no kernel, or none is left."""
        import torch

        settings, network = self.settings, load_torch(source.spec, source.path)
        check_names(network, settings.keep, source.spec.name)
        found = {
            name: value
            for name, value in kernels(network).items()
            if not matches([name.rpartition(".")[0]], settings.keep)
        }
        if not found:
            raise StepError(f"{source.spec.name} has no kernel whose weights could be shared that `keep` does not name")
        with torch.no_grad():
            for value in found.values():
                value.copy_(cluster(value, settings.bits))
        if settings.train:
            checkpoint = resume_folder(out_dir) / "training.pt"
            task = labelled_task(source.spec, settings.train, network, checkpoint)
            with moving_together(found):
                fit(network, task)
        for name, value in found.items():
            print(f"{name}: {value.numel()} weights, {len(index_of(value)[0])} values")
        print(f"as codebooks and indices the network would take {shared_bytes(network)} bytes")
        save_torch(network, edits_of(source), out_dir)
