"""Kernels, the weights that are multiplied by: which a network has, which of them go first, and keeping them zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import StepError

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

Masks = dict[str, "Tensor"]
"""Name of a kernel to a tensor of its shape, bool: what stays."""


def kernels(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of convolutions, linear, recurrent and attention layers by name, shared ones once. Embeddings are
    looked up, not multiplied, and are none. Raises StepError if there is no such layer."""
    from torch import nn

    kinds = (
        nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
        nn.RNNBase, nn.MultiheadAttention,
    )  # fmt: skip
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for path, module in network.named_modules():
        for name, value in module.named_parameters(path, recurse=False) if isinstance(module, kinds) else ():
            if "weight" in name.rpartition(".")[2] and value.dim() > 1 and id(value) not in seen:
                seen.add(id(value))
                found[name] = value
    if not found:
        raise StepError("the network has no convolution, linear or recurrent layer that could be pruned")
    return found


def scores(weights: dict[str, nn.Parameter], by: str, generator: Generator) -> dict[str, Tensor]:
    """How much each weight matters; those that matter least go first.

    `magnitude`: its size (Han et al., arXiv:1506.02626); its square would rank alike, so L1 and L2 are one. `lamp`: its
    square beside those of its layer that are no smaller, which spares small layers (Lee et al., "Layer-adaptive
    Sparsity for the Magnitude-based Pruning", arXiv:2010.07611). `random`: nothing, for comparison.
    """
    import torch

    with torch.no_grad():
        match by:
            case "lamp":
                return {name: _lamp(value) for name, value in weights.items()}
            case "random":
                return {name: torch.rand(value.shape, generator=generator) for name, value in weights.items()}
            case _:
                return {name: value.abs() for name, value in weights.items()}


def _lamp(weight: Tensor) -> Tensor:
    import torch

    order = weight.abs().flatten().argsort(descending=True, stable=True)
    squares = weight.flatten()[order].square()
    ranked = torch.empty_like(squares)
    ranked[order] = squares / squares.cumsum(0).clamp_min(1e-30)
    return ranked.view_as(weight)


def keep_best(found: dict[str, Tensor], share: float, scope: str) -> Masks:
    """Masks that take away the `share` with the least scores, of all together (scope `global`) or of each (`layer`).

    Raises StepError if a kernel would have nothing left, since nothing would get through its layer.
    """
    import torch

    if scope == "layer":
        return {name: keep_best({name: value}, share, "global")[name] for name, value in found.items()}
    flat = torch.cat([value.flatten() for value in found.values()])
    kept = torch.ones(len(flat), dtype=torch.bool)
    kept[flat.topk(round(share * len(flat)), largest=False).indices.cpu()] = False
    parts = torch.split(kept, [value.numel() for value in found.values()])
    masks = {name: part.view_as(value) for part, (name, value) in zip(parts, found.items(), strict=True)}
    if empty := next((name for name, mask in masks.items() if not mask.any() and found[name].any()), None):
        instead = ", or write `scope: layer`" if len(found) > 1 else ""
        raise StepError(f"a share of {share:g} leaves {empty} not a single weight; ask for less{instead}")
    return masks


def zeros_of(network: nn.Module) -> Masks:
    """Masks that keep what is exactly zero in the kernels; none for a kernel without zeros."""
    try:
        found = kernels(network)
    except StepError:
        return {}
    return {name: (value != 0).cpu() for name, value in found.items() if bool((value == 0).any())}


def apply(masks: Masks, network: nn.Module) -> None:
    """Sets the weights to zero that the masks do not keep."""
    import torch

    with torch.no_grad():
        for name, mask in masks.items():
            value = network.get_parameter(name)
            value.mul_(mask.to(value.device))
