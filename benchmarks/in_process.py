"""An example's variants in process: their answers beside the original's, and their speed beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from builder.recipes import recipe_of
from builder.runtimes import Predictor, predictor
from builder.source import source_artifact
from builder.spec import ModelSpec
from builder.step import run_recipe
from builder.timing import time_pair
from builder.verify import predict_all
from core.comparison import Claim
from core.intervals import steady
from core.machine import cores
from core.results import Timing
from core.tensors import Arrays

EXAMPLES = Path(__file__).parent.parent / "examples"
BUDGET: Final = 0.5  # points of the metric that INT8 may lose
Loaded = Mapping[str, Predictor]
"""Predictors by the name of their variant."""
ATTEMPTS: Final = 3  # to time a pair on a machine that is busy now and then


@dataclass(frozen=True)
class InProcess:
    """`loaded`: each variant's predictor. `answers`: the outputs of the INT8 variants and, under `original`, of the
    original in PyTorch, name -> `[N, ...]`."""

    loaded: dict[str, Predictor]
    answers: dict[str, Arrays]


def write_spec(
    name: str, variants: tuple[str, ...], folder: Path, compress: Mapping[str, list[dict[str, Any]]] | None = None
) -> Path:
    """The example's spec with these variants, in a folder of its own; with `compress`, with these compressions too."""
    source = EXAMPLES / name
    content: dict[str, Any] = yaml.safe_load((source / "model.yaml").read_text())
    content["variants"] = list(variants)
    content["checkpoint"] = {part: str(source / file) for part, file in content["checkpoint"].items()}
    files = ("calibration", "evaluation", "training")
    content["data"] |= {part: str(source / file) for part, file in content["data"].items() if part in files}
    if compress is not None:
        content["compress"] = dict(compress)
    for technique in (part for parts in content.get("compress", {}).values() for part in parts):
        if "student" in technique:
            technique["student"] = str(source / technique["student"])
    if students := content.get("optimize", {}).get("students"):
        content["optimize"]["students"] = [str(source / student) for student in students]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def in_process(spec: ModelSpec, variants: tuple[str, ...], cache: Path, inputs: Arrays) -> InProcess:
    """Loads variants out of the cache of their build, those that a gate rejected too, and lets INT8 answer."""
    source = source_artifact(spec, cache)
    loaded = {}
    for variant in variants:
        steps = recipe_of(spec, variant).steps_from(source.format)
        assert steps is not None, variant
        loaded[variant] = predictor(run_recipe(steps, source, cache), cores())
    asked = {"original": predictor(source, cores())} | {name: loaded[name] for name in variants if "int8" in name}
    return InProcess(loaded, {name: predict_all(one, inputs, spec.batch.max) for name, one in asked.items()})


def lost(
    name: str, spec: ModelSpec, found: InProcess, variant: str, labels: NDArray[np.int64], target: float | None = BUDGET
) -> Claim:
    """Points of the spec's metric lost against the original on the same samples."""
    output = spec.metric.output
    original, answers = found.answers["original"][output], found.answers[variant][output]
    value, (low, high) = spec.metric.function.loss(original, answers, labels)
    return points(name, (value, low, high), f"of {spec.metric.name}, {variant}, {len(labels)} samples", target)


def points(name: str, loss: tuple[float, float, float], unit: str, target: float | None) -> Claim:
    """A claim on `(loss, low, high)`, given as fractions."""
    value, low, high = (100 * part for part in loss)
    return Claim(
        id=name, value=value, ci95=(low, high), better="lower", target=target, unit=f"points {unit}",
        holds=target is None or high <= target,
    )  # fmt: skip


def quickest(loaded: Loaded, variants: tuple[str, ...], inputs: Arrays, batch: int) -> str:
    """Which of these variants is."""
    base = loaded[variants[0]]
    return max(variants, key=lambda name: time_pair(base, loaded[name], inputs, batch).speedup)


def timed(loaded: Loaded, base: str, variant: str, inputs: Arrays, batch: int) -> Timing:
    """`variant` beside `base`. Raises SystemExit if the machine stays too busy for it to be believed."""
    for _ in range(ATTEMPTS):
        timing = time_pair(loaded[base], loaded[variant], inputs, batch)
        if not timing.disturbed and steady(timing.speedup_ci95):
            return timing
    raise SystemExit(f"{variant} over {base} is not steady ({timing}): run this on a quiet machine")


def faster(
    name: str, loaded: Loaded, base: str, variant: str, inputs: Arrays, batch: int, target: float | None
) -> Claim:
    """How much quicker than `base`. Raises SystemExit as `timed` does."""
    timing = timed(loaded, base, variant, inputs, batch)
    low, high = timing.speedup_ci95
    return Claim(
        id=name, value=timing.speedup, ci95=(low, high), target=target, better="higher",
        unit=f"x over {base}, {variant}, batch {batch}, {cores()} threads", holds=target is None or low >= target,
    )  # fmt: skip
