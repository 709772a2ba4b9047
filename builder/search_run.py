"""A search while it goes on: each look is made in the child process and remembered, so that none is made twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.build import Listener
from builder.candidates import Candidates, recipe_for, structure_for
from builder.errors import PublishError
from builder.keys import Keys
from builder.recipes import RECIPES, Recipe, unavailable
from builder.search import Candidate, Known, Look, epochs_that_fit
from builder.search_fates import misses
from builder.search_memory import Memory, Plan, recall, remember
from builder.search_words import facts, size_words, time_words
from builder.search_work import Cost, figures_of, measure_structure, training_cost, training_left_s
from builder.spec import ModelSpec
from builder.spec_compress import AnyTechnique, Training
from builder.worker import Workplace, Workshop, build_variant
from core.files import sha256_parts
from core.optimize_results import Figures, Targets


@dataclass(frozen=True)
class SearchListener:
    """Told of progress: `on_start(what)` before each look, `on_found(variant, sentence, good)` after it, and all of the
    build that publishes."""

    on_start: Callable[[str], None] = lambda what: None  # noqa: ARG005
    on_found: Callable[[str, str, bool], None] = lambda variant, sentence, good: None  # noqa: ARG005
    build: Listener = field(default_factory=Listener)


class TooLongError(Exception):
    """A training does not fit the budget; the text says why."""


@dataclass
class Search:
    """What is known of the candidates of a spec, and where they are looked at. `metric`: its name; `ends`: when the
    budget is used up, by the monotonic clock; `keys`: of what is remembered."""

    spec: ModelSpec
    candidates: Candidates
    targets: Targets
    metric: str
    budget_s: float
    ends: float
    place: Workplace
    workshop: Workshop
    keys: Keys
    listener: SearchListener
    memory: Memory = field(init=False)
    estimated: dict[str, Figures] = field(default_factory=dict)
    measured: dict[str, Figures] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unaffordable: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    trainings: dict[str, Training] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.memory = recall(self.file)

    @property
    def file(self) -> Path:
        """Where what was found is remembered."""
        return self.place.folder / "search.json"

    @property
    def known(self) -> Known:
        """What the next decision is made from."""
        return Known(self.estimated, self.measured, self.failed, self.unaffordable)


def look_at(search: Search, look: Look) -> None:
    """Looks at one candidate, and notes what was found. This is the boundary that turns errors into reasons."""
    one, started = look.candidate, time.monotonic()
    search.listener.on_start(f"{one.variant}, its structure" if look.kind == "estimate" else one.variant)
    if reason := unavailable(search.spec, _untaught(search, one)):
        _failed(search, one, reason)
        return
    try:
        figures = _estimate(search, one) if look.kind == "estimate" else _measure(search, one)
    except TooLongError as error:
        search.unaffordable[one.compression] = str(error)
        search.listener.on_found(one.compression, f"not tried: {error}", False)
        return
    except (PublishError, OSError):
        raise  # neither is this candidate's own fault
    except Exception as error:
        _failed(search, one, search.workshop.reason(error))
        return
    finally:
        search.seconds[one.variant] = search.seconds.get(one.variant, 0.0) + time.monotonic() - started
    (search.estimated if look.kind == "estimate" else search.measured)[one.variant] = figures
    missed = misses(figures, search.targets, search.metric)
    if look.kind == "measure":
        words = facts(figures, search.metric)
    else:
        words = f"its structure takes {size_words(figures.size_bytes)}, {time_words(figures.time_ms)}"
    search.listener.on_found(one.variant, words, not missed)


def _failed(search: Search, one: Candidate, reason: str) -> None:
    search.failed[one.variant] = reason
    search.listener.on_found(one.variant, f"failed: {reason}", False)


def _untaught(search: Search, one: Candidate) -> Recipe:
    """How a candidate is made, but for its training."""
    if not one.compression:
        return RECIPES[one.base]
    return structure_for(one, search.candidates.compressions[one.compression])


def _estimate(search: Search, one: Candidate) -> Figures:
    recipe = _untaught(search, one)
    # Without its training it is the candidate's own; and without its name, since two ladders may share structures.
    key = sha256_parts(["structure", search.keys.of(replace(recipe, variant=""))])
    return _remembered(search, key, lambda: search.workshop.run(measure_structure, search.spec, recipe, search.place))


def _measure(search: Search, one: Candidate) -> Figures:
    recipe = recipe_for(search.spec, one, techniques_of(search, one) if one.compression else ())
    return _remembered(search, search.keys.of(recipe), lambda: _build(search, recipe))


def _build(search: Search, recipe: Recipe) -> Figures:
    built = search.workshop.run(
        build_variant, search.spec, recipe, search.place, search.keys.source,
        on_epoch=lambda line: search.listener.on_start(f"{recipe.variant}, {line}"),
    )  # fmt: skip
    return figures_of(built)


def _remembered(search: Search, key: str, look: Callable[[], Figures]) -> Figures:
    """What an earlier run found, or this one finds. A time that was taken while the machine was busy is taken again,
    if it matters; what was made for it lies in the cache."""
    found = search.memory.figures.get(key)
    if found and not (found.disturbed and search.targets.time_ms is not None):
        return found
    search.memory = search.memory.with_figures(key, look())
    remember(search.file, search.memory)
    return search.memory.figures[key]


def techniques_of(search: Search, one: Candidate) -> tuple[AnyTechnique, ...]:
    """What makes a compression, its training as long as the budget allows. Raises TooLongError if it allows none."""
    compression, candidates = search.candidates.compressions[one.compression], search.candidates
    if not candidates.trains:
        return compression.techniques(None)
    if one.compression not in search.trainings:
        search.trainings[one.compression] = _training(search, one)
    return compression.techniques(search.trainings[one.compression], candidates.labelled)


def _training(search: Search, one: Candidate) -> Training:
    """The spec's training, shortened to what fits. A plan that was made under the same budget or a larger one stays, so
    that a killed training goes on and a finished one is found; unless what is left of it does not fit."""
    compression, wanted = search.candidates.compressions[one.compression], search.spec.optimize.train
    structure = structure_for(one, compression)
    labelled = search.candidates.labelled
    steps = repr([step for step in structure.steps if step.produces == "torch"])
    key = sha256_parts([search.keys.base, steps, compression.learning(wanted, labelled).model_dump_json()])
    plan = search.memory.plans.get(key)
    if plan and (plan.epochs == wanted.epochs or search.budget_s <= plan.budget_s):
        planned = wanted.model_copy(update={"epochs": plan.epochs})
        if _left_s(search, one, planned, plan) <= _time_left_s(search):
            return planned
    search.listener.on_start(f"{one.compression}, how long its training takes")
    cost = search.workshop.run(training_cost, search.spec, structure, compression, wanted, labelled, search.place)
    left_s = _time_left_s(search)
    epochs = epochs_that_fit(wanted.epochs, cost.epoch_s, left_s - cost.before_s)
    if not epochs:
        asking = f", after {cost.before_s:.0f} s of asking the original" if cost.before_s >= 1 else ""
        raise TooLongError(f"an epoch of its training takes {cost.epoch_s:.0f} s{asking}, and {left_s:.0f} s are left")
    plan = Plan(epochs=epochs, budget_s=search.budget_s, before_s=cost.before_s, epoch_s=cost.epoch_s)
    search.memory = search.memory.with_plan(key, plan)
    remember(search.file, search.memory)
    return wanted.model_copy(update={"epochs": epochs})


def _left_s(search: Search, one: Candidate, planned: Training, plan: Plan) -> float:
    """How long a training that was planned will still take; nothing if what it makes was measured."""
    techniques = search.candidates.compressions[one.compression].techniques(planned, search.candidates.labelled)
    recipe = recipe_for(search.spec, one, techniques)
    if search.keys.of(recipe) in search.memory.figures:
        return 0.0
    cost = Cost(plan.before_s, plan.epoch_s)
    return search.workshop.run(training_left_s, search.spec, recipe, plan.epochs, cost, search.place)


def _time_left_s(search: Search) -> float:
    return max(0.0, search.ends - time.monotonic())
