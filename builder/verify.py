"""Is the variant still the model? Its batch axis, numbers and accuracy; and the gates that decide on publishing."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from builder.errors import BatchAxisError, CheckpointError, StepError
from builder.runtimes import Predictor
from builder.spec import ModelSpec, proof_batches
from core.errors import one_line
from core.results import Gate, MetricValue, Verdict
from core.tensors import Arrays, TensorSpec

MOST_DB = 200.0
SMALLEST = 1e-6  # outputs that are zero throughout still have a tolerance
# What a variant with an error of its own keeps to along named axes: half the size of the answers, or, if it is further
# off at the samples' own size, not much more than there. What a fixed axis costs at its ends is more than that.
FLOOR_DB, SLACK_DB = 6.0, 10.0
Compare = Callable[[TensorSpec, NDArray[np.float64], NDArray[np.float64]], str | None]
"""An output, its answer and the expected one to what is wrong with it, in words."""


class Accuracy(NamedTuple):
    """What a variant promises. `tolerance`: see `recipes.Recipe`. `faithful`: only rounding lies between it and the
    original, so that the same tolerance holds against the original's answers."""

    tolerance: float
    faithful: bool


def prove_axes(predict: Predictor, reference: Predictor, inputs: Arrays, spec: ModelSpec, accuracy: Accuracy) -> None:
    """Runs a variant at batch 1, 2, 3 and the spec's maximum, and at the least, usual and largest size of every named
    axis, on real samples.

    The answer for a sample must not depend on the batch that it came in. At each size it must be the original's: within
    the tolerance if the variant is faithful, else by its signal-to-noise ratio. Exporters silently fix axes that they
    were asked to keep dynamic, and lose what is written in place, hence the proof. Raises BatchAxisError.
    """
    rows = list(range(min(3, len(_any(inputs)), spec.batch.max)))
    single = _stack([_run("batch 1", partial(predict, take(inputs, [row]))) for row in rows])
    within = _within(accuracy.tolerance)
    for batch in proof_batches(spec):
        chosen = [row % len(rows) for row in range(batch)]
        run, expected = partial(predict, take(inputs, chosen)), take(single, chosen)
        _check(f"batch {batch}", spec, run, expected, within, "the batch axis is broken")
    own = take(inputs, rows)
    original = reference(own)
    compare = within if accuracy.faithful else _above(min(FLOOR_DB, _worst_db(spec, single, original) - SLACK_DB))
    _check("the samples' own size", spec, partial(predict, own), original, compare, "the export changed the network")
    for where, sizes in axis_sizes(spec):
        part = resize_axes(own, spec, sizes)
        run = partial(predict, part)
        _check(where, spec, run, reference(part), compare, "the export fixed the axis, or something that hangs on it")


def _within(tolerance: float) -> Compare:
    """No number is off by more than this share of the largest one."""

    def compare(tensor: TensorSpec, got: NDArray[np.float64], want: NDArray[np.float64]) -> str | None:  # noqa: ARG001
        error = float(np.abs(got - want).max(initial=0))
        fits = error <= tolerance * max(SMALLEST, float(np.abs(want).max(initial=0)))
        return None if fits else f"is off by {error:.3g}"

    return compare


def _above(floor_db: float) -> Compare:
    """The signal-to-noise ratio is at least this. Decisions in whole numbers may flip; the gate counts those."""

    def compare(tensor: TensorSpec, got: NDArray[np.float64], want: NDArray[np.float64]) -> str | None:
        if not tensor.dtype.startswith("float"):
            return None
        error, found_db = float(np.abs(got - want).max(initial=0)), sqnr_db(want, got)
        return None if found_db >= floor_db or error <= SMALLEST else f"is off by {error:.3g} ({found_db:.1f} dB)"

    return compare


def _worst_db(spec: ModelSpec, got: Arrays, want: Arrays) -> float:
    """The signal-to-noise ratio of the worst output that has one."""
    numbers = [tensor.name for tensor in spec.outputs if tensor.dtype.startswith("float")]
    found = [
        sqnr_db(want[name].astype(np.float64), got[name].astype(np.float64))
        for name in numbers
        if got[name].shape == want[name].shape
    ]
    return min(found, default=MOST_DB)


def prove_original(reference: Predictor, inputs: Arrays, spec: ModelSpec) -> None:
    """Raises CheckpointError unless the original itself answers at every size that the spec's axes promise."""
    own = take(inputs, [0])
    for where, sizes in axis_sizes(spec):
        try:
            answer = reference(resize_axes(own, spec, sizes))
        except Exception as error:  # each network raises kinds of its own
            raise CheckpointError(
                f"the checkpoint of {spec.name} does not run at {where}, which `axes` promises; "
                f"{type(error).__name__}: {one_line(error)}; correct the range"
            ) from error
        for tensor in spec.outputs:
            tensor.check(answer[tensor.name], f"output {tensor.name!r} of the checkpoint of {spec.name} at {where}")
            if not np.isfinite(answer[tensor.name].astype(np.float64)).all():
                raise CheckpointError(
                    f"the checkpoint of {spec.name} answers NaN or infinity in {tensor.name!r} at {where}, which "
                    f"`axes` promises; correct the range"
                )


def _check(
    where: str, spec: ModelSpec, run: Callable[[], Arrays], expected: Arrays, compare: Compare, meaning: str
) -> None:
    answer = _run(where, run)
    for tensor in spec.outputs:
        got, want = answer[tensor.name], expected[tensor.name]
        if got.shape != want.shape:
            raise BatchAxisError(
                f"output {tensor.name!r} at {where} is {list(got.shape)}, not {list(want.shape)}: {meaning}"
            )
        if got.dtype != tensor.datatype.numpy:
            raise BatchAxisError(f"output {tensor.name!r} is {got.dtype}, the spec says {tensor.dtype}")
        if not np.isfinite(got.astype(np.float64)).all():
            raise BatchAxisError(f"output {tensor.name!r} at {where} holds NaN or infinity")
        if wrong := compare(tensor, got.astype(np.float64), want.astype(np.float64)):
            raise BatchAxisError(f"output {tensor.name!r} at {where} {wrong}: {meaning}")


def _run(where: str, run: Callable[[], Arrays]) -> Arrays:
    try:
        return run()
    except Exception as error:  # each runtime raises kinds of its own, derived from Exception alone
        raise BatchAxisError(f"cannot run at {where}: {type(error).__name__}: {one_line(error)}") from error


def axis_sizes(spec: ModelSpec) -> list[tuple[str, dict[str, int]]]:
    """Where a variant is proven along its named axes, in words and as sizes: each axis by itself, then all of them at
    their least and at their largest."""
    chosen = [{axis: size} for axis, limits in spec.axes.items() for size in limits.proven]
    if len(spec.axes) > 1:
        chosen.append({axis: limits.min for axis, limits in spec.axes.items()})
        chosen.append({axis: limits.max for axis, limits in spec.axes.items()})
    return [(" and ".join(f"axis {axis} = {size}" for axis, size in sizes.items()), sizes) for sizes in chosen]


def take(arrays: Arrays, rows: list[int]) -> Arrays:
    """The given rows of every array."""
    return {name: array[rows] for name, array in arrays.items()}


def resize_axes(inputs: Arrays, spec: ModelSpec, sizes: dict[str, int]) -> Arrays:
    """The inputs with named axes repeated or cut to these sizes."""
    resized = {}
    for tensor in spec.inputs:
        array = inputs[tensor.name]
        for position, dim in enumerate(tensor.dims, start=1):
            if isinstance(dim, str) and dim in sizes:
                array = np.take(array, np.arange(sizes[dim]) % array.shape[position], axis=position)
        resized[tensor.name] = array
    return resized


def predict_all(predict: Predictor, inputs: Arrays, batch: int) -> Arrays:
    """Outputs for all samples, computed in batches."""
    count = len(_any(inputs))
    parts = [predict(take(inputs, list(range(at, min(at + batch, count))))) for at in range(0, count, batch)]
    return _stack(parts)


def _stack(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _any(arrays: Arrays) -> NDArray[np.generic]:
    return next(iter(arrays.values()))


def measure(spec: ModelSpec, outputs: Arrays, labels: NDArray[np.generic]) -> MetricValue:
    """The task metric of some outputs, with its interval."""
    return spec.metric.function.measure(outputs[spec.metric.output], labels)


def judge(spec: ModelSpec, original: Arrays, outputs: Arrays, labels: NDArray[np.generic]) -> Verdict:
    """Compares a variant's outputs with the original's on the same samples, and applies the spec's gates. Raises
    BatchAxisError if they hold NaN or infinity, which no figure could describe, and StepError if the metric does not
    exist for them."""
    for key, value in outputs.items():
        if bad := int((~np.isfinite(value.reshape(len(value), -1).astype(np.float64))).any(axis=1).sum()):
            raise BatchAxisError(f"answers NaN or infinity in {key!r} on {bad} of {len(value)} evaluation samples")
    metric, name = spec.metric.function, spec.metric.output
    baseline, own = measure(spec, original, labels), measure(spec, outputs, labels)
    if not math.isfinite(own.value):
        raise StepError(f"its {own.name} is not defined: it answers the same for every sample")
    loss, drop_ci95 = metric.loss(original[name], outputs[name], labels)
    # Rounded, so that a loss of exactly the limit (15 of 300 samples at 5pt) passes whatever the last bit says.
    drop, limit = round(loss, 12), spec.gates.limit(baseline.value)
    gate = Gate(
        name="max_drop",
        limit=limit,
        value=drop,
        ci95=drop_ci95,
        undecided=drop_ci95[0] <= limit < drop_ci95[1],
        passed=drop <= limit,
    )
    flat = {key: value.reshape(len(value), -1).astype(np.float64) for key, value in outputs.items()}
    base = {key: value.reshape(len(value), -1).astype(np.float64) for key, value in original.items()}
    return Verdict(
        sqnr_db={key: sqnr_db(base[key], flat[key]) for key in flat},
        max_abs_error=max(float(np.abs(flat[key] - base[key]).max()) for key in flat),
        cosine=min(float(_cosine(flat[key], base[key]).mean()) for key in flat),
        agreement=float(metric.same(outputs[name], original[name]).mean()),
        metric=own,
        baseline=baseline,
        drop=drop,
        drop_ci95=drop_ci95,
        gates=(gate,),
        passed=gate.passed,
    )


def sqnr_db(original: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Signal to quantization noise in dB: the original's energy over that of the difference. 6 dB are a factor of two
    in the error's size. Within -200 to 200: equal outputs have no noise, zeros no signal."""
    noise = float(np.square(other - original).sum())
    signal = float(np.square(original).sum())
    if noise <= signal * 1e-20:
        return MOST_DB
    return max(-MOST_DB, 10 * math.log10(signal / noise)) if signal else -MOST_DB


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine similarity of rows, `[N, k]` twice to `[N]`."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    similarity: NDArray[np.float64] = np.einsum("nk,nk->n", a, b) / np.maximum(norms, 1e-30)
    return similarity
