"""Channels and what depends on them: torch-pruning's dependency graph, by the names of layers.

Fang et al., "DepGraph: Towards Any Structural Pruning" (arXiv:2301.12900): an output channel of one layer takes along
the norm's entry behind it, the input channel of each layer that reads it, and the same channel of every layer that is
added to it.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.errors import StepError
from builder.losses import outputs_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Coupled:
    """Layers whose output channels can only go together. `layer` stands for all of them (`members`);
    `obstacle`, if any, says why they cannot go at all, as a clause."""

    layer: str
    channels: int
    members: tuple[str, ...]
    obstacle: str | None


@dataclass(frozen=True)
class ChannelGraph:
    """A network with the dependencies of its channels. Removing channels changes the network."""

    network: nn.Module
    dependencies: Any
    names: dict[nn.Module, str]

    @classmethod
    def of(cls, network: nn.Module, inputs: tuple[Tensor, ...]) -> ChannelGraph:
        """Traces the network, which must be in evaluation mode. Raises StepError if that fails."""
        import torch
        import torch_pruning

        for value in network.parameters():
            value.requires_grad_(True)  # the trace follows gradients
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # of parameters that belong to no layer, which it handles
            try:
                found = torch_pruning.DependencyGraph().build_dependency(network, inputs, verbose=False)
            except Exception as error:  # the network's own code runs in it
                why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                raise StepError(f"the dependencies of the network's channels cannot be traced: {why}") from error
        return cls(network, found, {module: name for name, module in network.named_modules()})

    def coupled(self) -> Iterator[Coupled]:
        """All sets of layers that lose output channels together, in the network's order."""
        from torch import nn

        seen, shared = set(), tied(self.network)
        for module, name in self.names.items():
            kernel = isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and module in self.dependencies.module2node
            if not kernel or module in seen:
                continue
            channels: int = self.dependencies.get_pruner_of_module(module).get_out_channels(module)
            try:
                group = self._group(name)
            except (IndexError, ValueError, RuntimeError, AttributeError, TypeError):  # of operators that it cannot map
                yield Coupled(name, channels, (name,), f"what depends on the channels of {name} cannot be followed")
                continue
            writes = self.dependencies.is_out_channel_pruning_fn
            writers = [dep.target.module for dep, _ in group if writes(dep.handler) and dep.target.module in self.names]
            seen.update(writers)
            obstacles = (
                _obstacle(dep.target.module, self.names.get(dep.target.module, ""), shared) for dep, _ in group
            )
            members = tuple(dict.fromkeys(self.names[writer] for writer in writers))
            yield Coupled(name, channels, members, next((found for found in obstacles if found), None))

    def importance(self, layer: str, by: str, generator: Any) -> Tensor:
        """How much each output channel of a layer matters, `[channels]`: the `l1` or `l2` norm over all weights that
        would go with it, or anything (`random`)."""
        import torch
        from torch_pruning.pruner.importance import GroupMagnitudeImportance

        group = self._group(layer)
        if by == "random":
            return torch.rand(len(group[0].idxs), generator=generator)
        scores: Tensor = GroupMagnitudeImportance(p={"l1": 1, "l2": 2}[by])(group)
        return scores

    def remove(self, layer: str, channels: Sequence[int]) -> None:
        """Removes output channels of a layer, and all that depends on them."""
        self._group(layer, list(channels)).prune(record_history=False)

    def _group(self, layer: str, channels: list[int] | None = None) -> Any:
        module = self.network.get_submodule(layer)
        pruner = self.dependencies.get_pruner_of_module(module)
        chosen = list(range(pruner.get_out_channels(module))) if channels is None else channels
        return self.dependencies.get_pruning_group(module, pruner.prune_out_channels, chosen)


def tied(network: nn.Module) -> set[nn.Module]:
    """The layers that share a parameter with another one."""
    uses = Counter(id(value) for _, value in network.named_parameters(remove_duplicate=False))
    return {
        module for module in network.modules() if any(uses[id(value)] > 1 for value in module.parameters(recurse=False))
    }


def _obstacle(module: object, name: str, tied: set[nn.Module]) -> str | None:
    from torch import nn

    match module:
        case nn.modules.conv._ConvNd(groups=groups) if 1 < groups < max(module.in_channels, module.out_channels):
            return f"{name} is a convolution in {groups} groups, whose channels do not go one by one"
        case nn.GroupNorm(num_groups=groups) if groups > 1:
            return f"{name} normalizes in {groups} groups, which must keep their size"
        case nn.MultiheadAttention() | nn.RNNBase():
            return f"{name} is a {type(module).__name__}, whose size its own code fixes"
        case nn.Module() if module in tied:
            return f"{name} shares its weights with another layer"
    return None


def without(
    network: nn.Module, inputs: tuple[Tensor, ...], layer: str, count: int, by: str, seed: int
) -> tuple[nn.Module, tuple[int, ...]]:
    """A copy of the network without the `count` output channels of a layer that matter least, and their numbers.

    Raises StepError, with the reason as a clause, if the copy does not run, or its outputs have other shapes.
    """
    import torch

    copied = copy.deepcopy(network)
    graph = ChannelGraph.of(copied, inputs)
    scores = graph.importance(layer, by, torch.Generator().manual_seed(seed))
    channels = tuple(sorted(scores.topk(count, largest=False).indices.tolist()))
    try:
        graph.remove(layer, channels)
        shapes = shapes_of(copied, inputs)
    except Exception as error:  # torch-pruning's code, and the network's own
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise StepError(f"the network does not run with fewer channels: {why}") from error
    if shapes != (wanted := shapes_of(network, inputs)):
        raise StepError(f"an output would be {shapes} instead of {wanted}")
    return copied, channels


def shapes_of(network: nn.Module, inputs: tuple[Tensor, ...]) -> str:
    """The shapes of the network's outputs, in words."""
    import torch

    with torch.no_grad():
        return ", ".join(str(list(value.shape)) for value in outputs_of(network(*inputs)))
