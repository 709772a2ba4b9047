"""The INT8 doctor: which layers does INT8 hurt, and which few must stay in floating point? Knows of no runtime.

A step hands in a network that can be written with any set of its layers in floating point and the others in INT8. Each
layer is examined alone: the network with only that layer in INT8, and how far its outputs then are from the original's
(SQNR). The worst stay in floating point, as few as will do. To look at layers one at a time and at the outputs, not at
the layer, is Wu et al., "Integer Quantization for Deep Learning Inference" (arXiv:2004.09602), section 6.1.

Two disjoint parts of the *calibration* samples take part: one finds the ranges of INT8, the other judges. Evaluation
samples are never looked at, so that the verdict on the variant stays honest.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from builder.artifact import Artifact
from builder.data import load_samples
from builder.errors import StepError
from builder.layers import write_layers
from builder.runtimes import predictor
from builder.spec import ModelSpec
from builder.verify import MOST_DB, predict_all, sqnr_db, take
from core.machine import cores
from core.results import LayerNoise
from core.tensors import Arrays

BATCH = 8  # of a trial's runs: activations of large images stay small


@dataclass(frozen=True)
class Plan:
    """How the calibration samples are used. `judging`: the share of them that judges; the others find the ranges, at
    most `samples` of them. `ranked`: on so many of those that judge the layers are ranked. `safety`: the share of the
    spec's gate that the judged loss may use up, since what is found on few samples is not exact on others.
    `floor_db`: the least SQNR of every output; 20 dB are an error of a tenth of its size. Samples that the network was
    trained on are decided with wide margins and forgive noise that others do not, but the noise is the same on both."""

    samples: int = 300
    judging: float = 0.4
    ranked: int = 24
    safety: float = 0.5
    floor_db: float = 20.0

    def limit(self, spec: ModelSpec, original: Arrays, labels: NDArray[np.generic] | None) -> float:
        """The largest judged loss, in the metric's own unit, or a share of samples where there are no labels."""
        value = 1.0 if labels is None else spec.metric.function.value(original[spec.metric.output], labels)
        return self.safety * spec.gates.limit(value)


@dataclass(frozen=True)
class Parts:
    """Calibration samples, split: inputs by name, each `[n, ...]`, and the labels `[n]` of those that judge, if any."""

    ranges: Arrays
    judging: Arrays
    labels: NDArray[np.generic] | None

    @property
    def rows(self) -> list[Arrays]:
        """What finds the ranges, one sample `[1, ...]` after the other."""
        count = len(next(iter(self.ranges.values())))
        return [take(self.ranges, [row]) for row in range(count)]


Write = Callable[[AbstractSet[str], Path], None]
"""`write(floats, folder)`: the model's files, with these layers in floating point and all others in INT8."""


def split_calibration(spec: ModelSpec, plan: Plan) -> Parts:
    """Splits the calibration samples, the same way each time, shuffled since files are often sorted by label. Labels
    are used where the file has them. Raises StepError if there is only one sample."""
    path = spec.data.calibration
    with np.load(path, allow_pickle=False) as archive:
        labelled = spec.data.label in archive.files
    samples = load_samples(spec, path, labelled=labelled)
    count = round(plan.judging * len(samples)) or 1
    if len(samples) < 2:
        raise StepError(f"{path} holds one sample, but one finds ranges and another judges; give some hundred")
    rows = [int(row) for row in np.random.default_rng(0).permutation(len(samples))]
    judging, ranges = rows[:count], rows[count:][: plan.samples]
    labels = samples.labels[judging] if labelled else None
    return Parts(take(samples.inputs, ranges), take(samples.inputs, judging), labels)


def judged_loss(spec: ModelSpec, original: Arrays, outputs: Arrays, labels: NDArray[np.generic] | None) -> float:
    """What the metric loses on the same samples, negative for a gain; without labels the share of samples whose answer
    is not the original's. All is lost if an output holds NaN or infinity, or the metric does not exist for it."""
    metric, name = spec.metric.function, spec.metric.output
    if not all(np.isfinite(value.astype(np.float64)).all() for value in outputs.values()):
        return math.inf
    if labels is None:
        return 1.0 - float(metric.same(outputs[name], original[name]).mean())
    worse = metric.worse(original[name], outputs[name], labels)
    return round(worse, 12) if math.isfinite(worse) else math.inf


def fewest(count: int, passes: Callable[[int], bool]) -> int | None:
    """The smallest `k` below `count` for which `passes(k)`, or None if not even `count - 1` does.

    `passes` is taken to stay true once it is: tried are 0, 1, 2, 4, 8, ... until one passes, then the gap below it is
    halved, so that about `2 log2(k) + 3` trials are made, each of which writes and runs a whole network.
    """
    low, high = -1, 0
    while not passes(high):
        if high >= count - 1:
            return None
        low, high = high, min(max(1, 2 * high), count - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def treat(
    source: Artifact, out_dir: Path, plan: Plan, parts: Parts, layers: dict[str, str], write: Write
) -> tuple[LayerNoise, ...]:
    """Writes the model with as few `layers` (name -> operator) in floating point as will do, and `layers.json`.

    The layers are ranked by SQNR, worst first (of equals the one that comes first in the graph), and the first few are
    kept: see `fewest`. What is written was itself judged. Raises StepError if nothing can be quantized, or if even
    with a single layer in INT8 too much is lost: more than `plan.limit`, or an SQNR below `plan.floor_db`.
    """
    spec = source.spec
    if not layers:
        raise StepError(f"{spec.name} has no layer that INT8 applies to; leave this variant out")
    original = _answers(source, parts.judging)
    limit = plan.limit(spec, original, parts.labels)
    few = list(range(min(plan.ranked, len(next(iter(parts.judging.values()))))))
    first, rank_on = take(original, few), take(parts.judging, few)

    def trial(floats: AbstractSet[str], inputs: Arrays) -> Arrays:
        with tempfile.TemporaryDirectory() as folder:
            write(floats, Path(folder))
            return _answers(Artifact(source.format, Path(folder), spec, "", "", ("trial",)), inputs)

    noise = {name: _worst_sqnr(first, trial(layers.keys() - {name}, rank_on)) for name in layers}
    ranking = sorted(layers, key=lambda name: noise[name])

    def passes(kept: int) -> bool:
        outputs = trial(frozenset(ranking[:kept]), parts.judging)
        loss, quiet = judged_loss(spec, original, outputs, parts.labels), _worst_sqnr(original, outputs)
        print(f"   doctor: {kept} of {len(layers)} layers in float, lost {100 * loss:.2f} points, SQNR {quiet:.1f} dB")
        return loss <= limit and quiet >= plan.floor_db

    kept = fewest(len(layers), passes)
    if kept is None:
        raise StepError(
            f"{spec.name} loses more than {100 * limit:.3g} points on the calibration samples that judge, or "
            f"its SQNR is below {plan.floor_db:g} dB, even with one layer in INT8; stay with FP32, or train it for INT8"
        )
    write(frozenset(ranking[:kept]), out_dir)
    found = tuple(
        LayerNoise(layer=name, operator=layers[name], sqnr_db=round(noise[name], 2), kept_float=place < kept)
        for place, name in enumerate(ranking)
    )
    write_layers(out_dir, found)
    return found


def _answers(artifact: Artifact, inputs: Arrays) -> Arrays:
    return predict_all(predictor(artifact, cores()), inputs, min(BATCH, artifact.spec.batch.max))


def _worst_sqnr(original: Arrays, outputs: Arrays) -> float:
    """Signal to noise in dB of the worst output; the least there is if it holds NaN or infinity. Whole numbers, such as
    a class that the network itself decides on, are no signal and only judged by the metric."""
    pairs = [
        (value.astype(np.float64), outputs[name].astype(np.float64))
        for name, value in original.items()
        if np.issubdtype(value.dtype, np.floating)
    ]
    return min((sqnr_db(a, b) if np.isfinite(b).all() else -MOST_DB for a, b in pairs), default=MOST_DB)
