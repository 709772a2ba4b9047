"""What a search runs in the child process, beside `worker.build_variant`: structures timed, trainings timed."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from builder.candidates import Compression
from builder.recipes import TECHNIQUES, Recipe
from builder.source import source_artifact
from builder.spec import ModelSpec
from builder.spec_compress import FEWEST, Training
from builder.step import run_recipe, unfinished
from builder.training_data import load_training
from builder.training_state import epochs_done
from builder.worker import Built, Workplace
from core.machine import cores
from core.optimize_results import Figures
from core.results import Timing
from core.samples import read_pack

TRIAL_SAMPLES = 1024


def figures_of(built: Built) -> Figures:
    """What a build measured."""
    verdict = built.verdict
    found = _timed(built.artifact.size_bytes, built.timing)
    update = {"accuracy": verdict.metric.value, "drop": verdict.drop, "drop_ci95": verdict.drop_ci95}
    return found.model_copy(update=update)


def measure_structure(spec: ModelSpec, recipe: Recipe, place: Workplace) -> Figures:
    """Size and time of what a recipe makes; its answers are not looked at, since nothing was trained."""
    from builder.runtimes import predictor
    from builder.timing import time_pair

    print(f"== {recipe.variant}: its structure, before training")
    source = source_artifact(spec, place.cache)
    artifact = run_recipe(recipe.steps, source, place.cache)
    timing = time_pair(predictor(source, cores()), predictor(artifact, cores()), read_pack(place.folder).inputs)
    return _timed(artifact.size_bytes, timing)


class Cost(NamedTuple):
    """What a training takes in seconds: `before_s` once, for asking the original, and `epoch_s` for each epoch."""

    before_s: float
    epoch_s: float


def training_left_s(spec: ModelSpec, recipe: Recipe, epochs: int, cost: Cost, place: Workplace) -> float:
    """What is still to do of a candidate's training: nothing if its network is in the cache, and less than all if it
    was killed on the way."""
    torch_steps = tuple(step for step in recipe.steps if step.produces == "torch")
    folder = unfinished(torch_steps, source_artifact(spec, place.cache), place.cache)
    if folder is None:
        return 0.0
    return cost.before_s + cost.epoch_s * (epochs - epochs_done(folder / "training.pt"))


def training_cost(
    spec: ModelSpec, structure: Recipe, compression: Compression, training: Training, labelled: bool, place: Workplace
) -> Cost:
    """What this training will take, scaled up from some of its samples."""
    import torch

    torch.set_num_threads(cores())
    data = load_training(spec, training, labelled)
    count = len(data.used) + len(data.held)
    torch_steps = tuple(step for step in structure.steps if step.produces == "torch")
    artifact = run_recipe(torch_steps, source_artifact(spec, place.cache), place.cache)

    def seconds(samples: int, epochs: int) -> float:
        brief = training.model_copy(update={"samples": samples, "epochs": epochs, "patience": None})
        learning = compression.learning(brief, labelled)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "trial"
            out.mkdir()
            started = time.perf_counter()
            TECHNIQUES[learning.step](learning)(artifact, out)
            return time.perf_counter() - started

    few = min(count, TRIAL_SAMPLES)
    fewer = max(FEWEST, few // 4)
    seconds(fewer, 1)  # pays for what is done once in a process
    first, one, two = seconds(fewer, 1), seconds(few, 1), seconds(few, 2)
    epoch = max(two - one, one / 20) / few  # of one sample; the floor is for times that are all noise
    whole = (one - first) / (few - fewer) if few > fewer else epoch  # asked about, and an epoch
    return Cost(max(0.0, whole - epoch) * count, epoch * count)


def _timed(size_bytes: int, timing: Timing) -> Figures:
    return Figures(size_bytes=size_bytes, time_ms=timing.time_ms, speedup=timing.speedup, disturbed=timing.disturbed)
