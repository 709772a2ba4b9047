"""Low rank: layers become chains of thinner ones, with less arithmetic."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from builder.artifact import Artifact, Format
from builder.edits import Factor
from builder.errors import StepError
from builder.example_inputs import example_inputs
from builder.factors import (
    Layer,
    Ranks,
    does_not_run,
    factored,
    kept_energy,
    kernel_of,
    layers_of,
    put,
    ranks_by_energy,
    ranks_by_share,
)
from builder.finetune import fit, labelled_task
from builder.layer_names import check_names, matches
from builder.source import edits_of, load_torch, save_torch
from builder.spec import ModelSpec
from builder.spec_compress import LayerFactoring
from builder.step import Step, resume_folder
from builder.threshold import Allowance, Reduced, as_far_as_allowed

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FactorLayers(Step):
    """Factors each layer that gains by it: SVD of matrices (Denton et al., "Exploiting Linear Structure Within
    Convolutional Networks for Efficient Evaluation", arXiv:1404.0736), Tucker-2 of convolutions (Kim et al.,
    arXiv:1511.06530). A layer stays whole, with a printed reason, if no rank saves enough, or the network's own code
    reads its weights: each is tried. With `threshold`, layers are factored one after the other, those with the most
    arithmetic first, a tenth of it at a time, as far as the held-out samples allow.
    """

    settings: LayerFactoring

    name: ClassVar[str] = "low_rank"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch",)

    @property
    def reads_training(self) -> bool:
        """Only if it trains, or judges by held-out samples."""
        return self.settings.trains

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes the weights, and the edits with those of this step. Raises StepError if no layer can be factored, or
        one cannot that was named."""
        spec = source.spec
        whole = Reduced(load_torch(spec, source.path))
        layers = self._layers(whole.network, spec)
        way = self._by_threshold if self.settings.threshold else self._at_once
        found = way(whole, layers, spec, resume_folder(out_dir))
        if not found.edits:
            raise StepError(
                f"{spec.name} has no layer that low_rank could factor: none can be, or no rank saves enough, or each "
                f"costs more than `threshold`; the log says which"
            )
        save_torch(found.network, (*edits_of(source), *found.edits), out_dir)

    def _layers(self, network: nn.Module, spec: ModelSpec) -> list[tuple[Layer, Ranks]]:
        """The layers that are to be factored and can be, and the ranks to go to."""
        settings, inputs, found = self.settings, example_inputs(spec), []
        check_names(network, (*settings.layers, *settings.keep), spec.name)
        for layer in layers_of(network, inputs):
            if not matches([layer.name], settings.layers) or matches([layer.name], settings.keep):
                continue
            ranks, obstacle = None, layer.obstacle
            if not obstacle:
                ranks = self._ranks(network, layer)
                obstacle = does_not_run(network, layer.name, ranks, inputs) if ranks else self._too_little()
            if obstacle and layer.name in settings.layers:
                raise StepError(f"{spec.name}: {layer.name} cannot be factored: {obstacle}")
            if obstacle:
                print(f"{layer.name} stays whole: {obstacle}")
            elif ranks:
                found.append((layer, ranks))
        return found

    def _ranks(self, network: nn.Module, layer: Layer) -> Ranks | None:
        settings = self.settings
        if settings.share is not None:
            return ranks_by_share(layer, self._shares()[0], settings.multiple)
        kernel = kernel_of(network.get_submodule(layer.name))
        ranks = ranks_by_energy(layer, kernel, settings.energy or 1.0, settings.multiple)
        return ranks if layer.saved(ranks) > 0 else None

    def _shares(self) -> list[float]:
        """The shares of a layer's arithmetic that are tried: with a threshold tenth by tenth, else the one."""
        most = self.settings.share or 0.0
        less = [tenth / 10 for tenth in range(1, 10) if tenth / 10 < most] if self.settings.threshold else []
        return [*less, most]

    def _too_little(self) -> str:
        settings = self.settings
        if settings.share is None:
            return f"the ranks that keep {100 * (settings.energy or 1):g}% of its energy save no arithmetic"
        return f"no rank that is a multiple of {settings.multiple} saves {100 * self._shares()[0]:g}% of its arithmetic"

    def _at_once(self, whole: Reduced, layers: list[tuple[Layer, Ranks]], spec: ModelSpec, folder: Path) -> Reduced:
        found = whole
        for layer, ranks in layers:
            found, words = _with_chain(found, layer, ranks)
            print(words)
        if self.settings.train and layers:
            fit(found.network, labelled_task(spec, self.settings.train, found.network, folder / "training.pt"))
        return found

    def _by_threshold(
        self, whole: Reduced, layers: list[tuple[Layer, Ranks]], spec: ModelSpec, folder: Path
    ) -> Reduced:
        settings = self.settings
        heaviest = sorted((layer for layer, _ in layers), key=lambda layer: -layer.multiply_adds())
        allowance = Allowance(settings.threshold or "", settings.patience, settings.train)
        return as_far_as_allowed(whole, [partial(self._thinner, layer) for layer in heaviest], allowance, spec, folder)

    def _thinner(self, layer: Layer, best: Reduced) -> Iterator[tuple[Reduced, str]]:
        """Networks in which the layer, whole before, has a tenth less of its arithmetic, two tenths, and so on."""
        before = None
        for share in self._shares():
            ranks = ranks_by_share(layer, share, self.settings.multiple)
            if ranks and ranks != before:
                yield _with_chain(best, layer, ranks)
            before = ranks


def _with_chain(reduced: Reduced, layer: Layer, ranks: Ranks) -> tuple[Reduced, str]:
    """A copy of the network with the layer as a chain, and what became of the layer."""
    network = copy.deepcopy(reduced.network)
    module = network.get_submodule(layer.name)
    parts = factored(module, ranks)
    put(network, layer.name, parts)
    sides = [rank for rank, whole in zip(ranks, (layer.inputs, layer.outputs), strict=True) if rank < whole]
    words = (
        f"{layer.name}: rank {' and '.join(map(str, sides))}, {100 * layer.saved(ranks):.0f}% of its arithmetic goes, "
        f"{100 * kept_energy(module, parts, ranks):.1f}% of its energy stays"
    )
    return Reduced(network, (*reduced.edits, Factor(layer=layer.name, ranks=ranks))), words
