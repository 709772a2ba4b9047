"""Structured pruning: whole channels go, and the network is really smaller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from builder.artifact import Artifact, Format
from builder.channels import ChannelGraph, Coupled, without
from builder.edits import RemoveChannels
from builder.errors import StepError
from builder.example_inputs import example_inputs
from builder.finetune import fit, labelled_task
from builder.layer_names import check_names, matches
from builder.source import edits_of, load_torch, save_torch
from builder.spec import ModelSpec
from builder.spec_compress import ChannelPruning
from builder.step import Step, resume_folder
from builder.threshold import Allowance, Reduced, as_far_as_allowed


@dataclass(frozen=True)
class PruneChannels(Step):
    """Removes the channels that matter least from each layer that can lose some, and all that depends on them.

    A channel is judged by the norm of all weights that go with it: Li et al., "Pruning Filters for Efficient ConvNets"
    (arXiv:1608.08710), over whole groups as in Fang et al. (arXiv:2301.12900). A layer is left whole, with a printed
    reason, if that would change the outputs' shapes or break the network's own code: each is tried. With `threshold`,
    layers are pruned one after the other, a tenth of their channels at a time, as far as the held-out samples allow.
    """

    settings: ChannelPruning

    name: ClassVar[str] = "prune_channels"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "torch-pruning")

    @property
    def reads_training(self) -> bool:
        """Only if it trains, or judges by held-out samples."""
        return self.settings.trains

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes the weights, and the edits with those of this step. Raises StepError if no channel can go, or a layer
        that was named cannot lose any, or would lose all."""
        whole = Reduced(load_torch(source.spec, source.path))
        layers = self._layers(whole, source.spec)
        way = self._by_threshold if self.settings.threshold else self._at_once
        pruned = way(whole, layers, source.spec, resume_folder(out_dir))
        if not pruned.edits:
            raise StepError(
                f"{source.spec.name} has not lost a channel: no layer can, or none is wide enough for `multiple` and "
                f"`share`, or each costs more than `threshold`; the log says which"
            )
        save_torch(pruned.network, (*edits_of(source), *pruned.edits), out_dir)

    def _layers(self, whole: Reduced, spec: ModelSpec) -> list[Coupled]:
        """The layers that are to lose channels, and can."""
        settings, found = self.settings, []
        check_names(whole.network, (*settings.layers, *settings.keep), spec.name)
        for layer in ChannelGraph.of(whole.network, example_inputs(spec)).coupled():
            if not matches(layer.members, settings.layers) or matches(layer.members, settings.keep):
                continue
            left = channels_left(layer.channels, settings.share, settings.multiple)
            obstacle = self._obstacle(whole, layer, left, spec)
            if obstacle:
                if named := [name for name in layer.members if name in settings.layers]:
                    raise StepError(f"{spec.name}: {named[0]} cannot lose channels: {obstacle}")
                print(f"{layer.layer} keeps its {layer.channels} channel{'s' * (left != 1)}: {obstacle}")
            elif left == 0:
                raise StepError(
                    f"{spec.name}: a share of {settings.share:g} leaves {layer.layer} none of its {layer.channels} "
                    f"channels; ask for {1 - 1 / layer.channels:.2g} or less, or add it to `keep`"
                )
            else:
                found.append(layer)
        return found

    def _obstacle(self, whole: Reduced, layer: Coupled, left: int, spec: ModelSpec) -> str | None:
        """Why a layer cannot go down to so many channels, if so: known from its kind, or found out by trying."""
        if layer.channels == 1:
            return "it has a single one"
        if left == layer.channels:
            return f"the share leaves no smaller multiple of {self.settings.multiple}"
        if layer.obstacle:
            return layer.obstacle
        try:
            self._less(whole, layer.layer, layer.channels - max(1, left), spec)
        except StepError as error:
            return str(error)
        return None

    def _less(self, pruned: Reduced, layer: str, count: int, spec: ModelSpec) -> Reduced:
        settings = self.settings
        network, gone = without(pruned.network, example_inputs(spec), layer, count, settings.by, settings.seed)
        return Reduced(network, (*pruned.edits, RemoveChannels(layer=layer, channels=gone)))

    def _at_once(self, whole: Reduced, layers: list[Coupled], spec: ModelSpec, folder: Path) -> Reduced:
        settings, pruned = self.settings, whole
        for layer in layers:
            left = channels_left(layer.channels, settings.share, settings.multiple)
            pruned = self._less(pruned, layer.layer, layer.channels - left, spec)
            print(f"{layer.layer}: {left} of {layer.channels} channels stay")
        if settings.train and layers:
            fit(pruned.network, labelled_task(spec, settings.train, pruned.network, folder / "training.pt"))
        return pruned

    def _by_threshold(self, whole: Reduced, layers: list[Coupled], spec: ModelSpec, folder: Path) -> Reduced:
        settings = self.settings
        widest = sorted(layers, key=lambda layer: -layer.channels)
        allowance = Allowance(settings.threshold or "", settings.patience, settings.train)
        return as_far_as_allowed(
            whole, [partial(self._narrower, layer, spec) for layer in widest], allowance, spec, folder
        )

    def _narrower(self, layer: Coupled, spec: ModelSpec, best: Reduced) -> Iterator[tuple[Reduced, str]]:
        """Networks in which the layer loses a tenth of its channels, and another tenth of what that one was trained to,
        and so on."""
        settings, trial, width = self.settings, best, layer.channels
        least = channels_left(layer.channels, settings.share, settings.multiple)
        bit = max(1, round(layer.channels / 10 / settings.multiple)) * settings.multiple
        while width > least:
            fewer = max(least, (width - 1) // bit * bit)
            trial, width = self._less(trial, layer.layer, width - fewer, spec), fewer
            yield trial, f"{layer.layer}: with {width} of {layer.channels} channels"


def channels_left(channels: int, share: float, multiple: int) -> int:
    """How many channels stay: the multiple nearest to what the share leaves, at least one of it; none if the share
    leaves less than one channel. All of them if there are no more than one multiple."""
    if channels <= multiple:
        return channels
    left = round(channels * (1 - share), 6)  # 10 of which 0.9 go leave one, whatever the last bit says
    return min(channels, max(1, round(left / multiple)) * multiple) if left >= 1 else 0
