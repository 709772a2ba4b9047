"""What `trident optimize` tries: ladders of compressions, each from the mildest to the strongest.

Only what makes a network smaller or quicker as it is served stands here: zeros and shared weights do neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from builder.recipes import RECIPES, Recipe, recipe_of
from builder.search import Candidate, Space
from builder.spec import ModelSpec
from builder.spec_checkpoint import RUN_THEIR_CONTENT
from builder.spec_compress import AnyTechnique, ChannelPruning, Distillation, FineTuning, LayerFactoring, Training
from builder.spec_optimize import Search, SearchedTechnique
from builder.step import Step
from builder.steps.low_rank import FactorLayers
from builder.steps.prune_channels import PruneChannels
from builder.steps.take_student import TakeStudent

SHARES: Final = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
ALPHA: Final = 0.9  # the share of the teachers' answers in what is learned, beside the labels


@dataclass(frozen=True)
class Compression:
    """A rung of a ladder: a structure, and the network in it once it has learned.

    `structure` makes it, with whatever weights, so that it can be measured before it is trained. `shape` is what a spec
    says before the training. `lesson` is how it is taught; without one labels alone train it, which takes less time.
    """

    name: str
    does: str
    structure: Step
    shape: tuple[AnyTechnique, ...] = ()
    lesson: Distillation | None = None

    def learning(self, training: Training, labelled: bool) -> Distillation | FineTuning:
        """The technique that trains it; without labels only what the teachers say is learned."""
        if self.lesson:
            return self.lesson.model_copy(update={"alpha": ALPHA if labelled else 1.0, "train": training})
        return FineTuning.model_validate({"step": "finetune", **training.model_dump()})

    def techniques(self, training: Training | None, labelled: bool = True) -> tuple[AnyTechnique, ...]:
        """As a spec has them; without `training` only the structure."""
        return (*self.shape, self.learning(training, labelled)) if training else self.shape


def _lesson(search: Search, student: str | None = None) -> Distillation:
    """Teachers are asked once: asked `each` time they would take most of the budget."""
    return Distillation(
        step="distill", student=student, teachers=search.teachers, temperature=search.temperature,
        answers=search.answers, ask="once",
    )  # fmt: skip


def _students(search: Search) -> list[Compression]:
    found = []
    for number, factory in enumerate(search.students, 1):
        words = f"student {factory.rpartition(':')[2]}"
        found.append(
            Compression(f"student{number}", words, TakeStudent(factory), lesson=_lesson(search, student=factory))
        )
    return found


def _narrow(search: Search) -> list[Compression]:
    found = []
    for share in SHARES:
        settings = ChannelPruning(step="prune_channels", share=share, keep=search.keep)
        words = f"{share:.1%} fewer channels"
        found.append(Compression(_name("narrow", share), words, PruneChannels(settings), (settings,), _lesson(search)))
    return found


def _thin(search: Search) -> list[Compression]:
    found = []
    for share in SHARES:
        settings = LayerFactoring(step="low_rank", share=share, keep=search.keep)
        words = f"layers of low rank, {share:.1%} less arithmetic"
        found.append(Compression(_name("thin", share), words, FactorLayers(settings), (settings,), _lesson(search)))
    return found


def _tuned(search: Search) -> list[Compression]:
    """As `_thin`: a factored network begins near the original, so it may need no teacher."""
    return [replace(thin, name=f"tuned{thin.name.removeprefix('thin')}", lesson=None) for thin in _thin(search)]


def _name(ladder: str, share: float) -> str:
    return f"{ladder}{int(100 * share)}"


# What pays is a row here: the technique that allows a ladder, and what makes its rungs, from mild to strong.
LADDERS: Final[tuple[tuple[SearchedTechnique, Callable[[Search], list[Compression]]], ...]] = (
    ("distill", _students),
    ("prune_channels", _narrow),
    ("low_rank", _thin),
    ("low_rank", _tuned),
)


@dataclass(frozen=True)
class Candidates:
    """All that is to be tried for one spec: the space that is searched, and its compressions by name. `left_out` says
    what is not, and why. `trains`: whether compressions are trained; `labelled`: by labels as well."""

    space: Space
    compressions: dict[str, Compression]
    left_out: tuple[str, ...]
    trains: bool
    labelled: bool


def candidates_of(spec: ModelSpec) -> Candidates:
    """What can be tried for a spec: with an ONNX file or a program only bases, without training data nothing that has
    to learn."""
    search, kind, left_out = spec.optimize, spec.checkpoint.kind, []
    wanted = (make(search) for name in search.techniques for technique, make in LADDERS if technique == name)
    ladders = [ladder for ladder in wanted if ladder]
    labelled = _labelled(spec)
    if kind == "onnx" or kind in RUN_THEIR_CONTENT:
        ladders = []
        what = "an ONNX file" if kind == "onnx" else f"a program ({kind})"
        left_out.append(f"compressions: the checkpoint is {what}, and they work on the layers of a PyTorch network")
    elif spec.data.training is None:
        ladders = [ladder for ladder in ladders if ladder[0].shape]
        left_out.append(
            "training: the spec names no data.training, so compressed networks are taken as they are, untrained"
            + (", and students are left out" if search.students else "")
        )
    elif "distill" in search.techniques and not search.students:
        left_out.append("students: the spec names none; optimize.students takes functions that make narrower networks")
    if not labelled:
        ladders = [ladder for ladder in ladders if ladder[0].lesson]
    if spec.compress:
        left_out.append(f"the spec's own compressions ({', '.join(spec.compress)}): `trident build` makes those")
    rungs = {rung.name: rung for ladder in ladders for rung in ladder}
    space = Space(search.bases, tuple(tuple(rung.name for rung in ladder) for ladder in ladders))
    trains = spec.data.training is not None and bool(ladders)
    return Candidates(space, rungs, tuple(left_out), trains, labelled)


def with_compression(spec: ModelSpec, name: str, techniques: tuple[AnyTechnique, ...]) -> ModelSpec:
    """The spec with this compression and no other."""
    return spec.model_copy(update={"compress": {name: techniques}})


def recipe_for(spec: ModelSpec, one: Candidate, techniques: tuple[AnyTechnique, ...]) -> Recipe:
    """How a candidate is made, as `trident build` will make it."""
    return recipe_of(with_compression(spec, one.compression, techniques) if one.compression else spec, one.variant)


def structure_for(one: Candidate, compression: Compression) -> Recipe:
    """How its structure is made."""
    base = RECIPES[one.base]
    return replace(base, variant=one.variant, steps=(compression.structure, *base.steps), faithful=False)


def _labelled(spec: ModelSpec) -> bool:
    """Whether there are training samples with labels."""
    if spec.data.training is None:
        return False
    with np.load(spec.data.training, allow_pickle=False) as archive:
        return spec.data.label in archive.files
