"""What a search runs in the child process, beside `worker.build_variant`: structures timed, an epoch timed."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from builder.candidates import Compression
from builder.recipes import TECHNIQUES, Recipe
from builder.source import source_artifact
from builder.spec import ModelSpec
from builder.spec_compress import Training
from builder.step import run_recipe
from builder.training_data import load_training
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


def epoch_seconds(
    spec: ModelSpec, structure: Recipe, compression: Compression, training: Training, labelled: bool, place: Workplace
) -> float:
    """How long an epoch of this training will take: scaled up from some samples, of which the first do not count, since
    they pay for what is done once."""
    import torch

    torch.set_num_threads(cores())
    data = load_training(spec, training, labelled)
    count = len(data.used) + len(data.held)
    torch_steps = tuple(step for step in structure.steps if step.produces == "torch")
    artifact = run_recipe(torch_steps, source_artifact(spec, place.cache), place.cache)

    def seconds(samples: int) -> float:
        brief = training.model_copy(update={"samples": samples, "epochs": 1, "patience": None})
        learning = compression.learning(brief, labelled)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "trial"
            out.mkdir()
            started = time.perf_counter()
            TECHNIQUES[learning.step](learning)(artifact, out)
            return time.perf_counter() - started

    if count < 2 * TRIAL_SAMPLES:
        return seconds(count)
    first, more = seconds(TRIAL_SAMPLES // 4), seconds(TRIAL_SAMPLES)
    return max(more - first, more / 2) * count / (0.75 * TRIAL_SAMPLES)


def _timed(size_bytes: int, timing: Timing) -> Figures:
    return Figures(size_bytes=size_bytes, time_ms=timing.time_ms, speedup=timing.speedup, disturbed=timing.disturbed)
