"""Global magnitude pruning: the smallest weights of the whole network become zero."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from builder.artifact import Artifact, Format
from builder.errors import StepError
from builder.source import load_torch
from builder.step import Step


@dataclass(frozen=True)
class PruneMagnitude(Step):
    """Sets the `share` of all weights of convolutions, linear, recurrent and attention layers with the smallest
    magnitude (L1) to zero, wherever they lie, without training afterwards. Embeddings are looked up, not multiplied,
    and stay. One threshold for the network rather than one a layer: layers differ in how much
    they can spare.

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks" (arXiv:1506.02626); global against
    layerwise: Blalock et al., "What is the State of Neural Network Pruning?" (arXiv:2003.03033). Stock runtimes
    multiply by zeros as by any number, so this alone makes a model neither smaller nor faster.
    """

    share: float = 0.3

    name: ClassVar[str] = "prune_magnitude"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch",)

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.safetensors`. Raises StepError if the network has no such layer."""
        from safetensors.torch import save_file
        from torch import nn
        from torch.nn.utils import prune

        network = load_torch(source.spec, source.path)
        kinds = (
            nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
            nn.RNNBase, nn.MultiheadAttention,
        )  # fmt: skip
        layers = [
            (module, name)
            for module in network.modules()
            if isinstance(module, kinds)
            for name, value in module.named_parameters(recurse=False)
            if "weight" in name and value.dim() > 1
        ]
        if not layers:
            raise StepError(f"{source.spec.name} has no convolution, linear or recurrent layer that could be pruned")
        prune.global_unstructured(layers, prune.L1Unstructured, amount=self.share)
        for module, name in layers:
            prune.remove(module, name)  # type: ignore[no-untyped-call]  # the mask into the weights
        # Copies: layers that share a tensor are loaded as well from two, and safetensors refuses shared ones.
        state = {name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()}
        save_file(state, out_dir / "model.safetensors")
