"""An example's variants in process: their answers beside the original's, and their speed beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from builder.recipes import RECIPES
from builder.runtimes import Predictor, predictor
from builder.source import source_artifact
from builder.spec import ModelSpec
from builder.step import run_recipe
from builder.timing import time_pair
from builder.verify import predict_all
from core.intervals import steady
from core.machine import cores
from core.results import Claim
from core.tensors import Arrays

EXAMPLES = Path(__file__).parent.parent / "examples"
BUDGET: Final = 0.5  # points of the metric that INT8 may lose
ATTEMPTS: Final = 3  # to time a pair on a machine that is busy now and then


@dataclass(frozen=True)
class InProcess:
    """`loaded`: each variant's predictor. `answers`: the outputs of the INT8 variants and, under `original`, of the
    original in PyTorch, name -> `[N, ...]`."""

    loaded: dict[str, Predictor]
    answers: dict[str, Arrays]


def write_spec(name: str, variants: tuple[str, ...], folder: Path) -> Path:
    """The example's spec with these variants, in a folder of its own."""
    source = EXAMPLES / name
    content: dict[str, Any] = yaml.safe_load((source / "model.yaml").read_text())
    content["variants"] = list(variants)
    content["checkpoint"] = {part: str(source / file) for part, file in content["checkpoint"].items()}
    content["data"] |= {part: str(source / content["data"][part]) for part in ("calibration", "evaluation")}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def in_process(spec: ModelSpec, variants: tuple[str, ...], cache: Path, inputs: Arrays) -> InProcess:
    """Loads variants out of the cache of their build, those that a gate rejected too, and lets INT8 answer."""
    source = source_artifact(spec, cache)
    loaded = {}
    for variant in variants:
        steps = RECIPES[variant].steps_from(source.format)
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


def quickest(found: InProcess, variants: tuple[str, ...], inputs: Arrays, batch: int) -> str:
    """Which of these variants is."""
    base = found.loaded[variants[0]]
    return max(variants, key=lambda name: time_pair(base, found.loaded[name], inputs, batch).speedup)


def faster(
    name: str, found: InProcess, base: str, variant: str, inputs: Arrays, batch: int, target: float | None
) -> Claim:
    """How much quicker than `base`. Raises SystemExit if the machine stays too busy for it to be believed."""
    for _ in range(ATTEMPTS):
        timing = time_pair(found.loaded[base], found.loaded[variant], inputs, batch)
        if not timing.disturbed and steady(timing.speedup_ci95):
            break
    else:
        raise SystemExit(f"{name} is not steady ({timing}): run this on a quiet machine")
    low, high = timing.speedup_ci95
    return Claim(
        id=name, value=timing.speedup, ci95=(low, high), target=target, better="higher",
        unit=f"x over {base}, {variant}, batch {batch}, {cores()} threads", holds=target is None or low >= target,
    )  # fmt: skip
