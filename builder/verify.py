"""Is the variant still the model? Its batch axis, numbers and accuracy; and the gates that decide on publishing."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from builder.errors import BatchAxisError, StepError
from builder.runtimes import Predictor
from builder.spec import ModelSpec, proof_batches
from core.results import Gate, MetricValue, Verdict
from core.tensors import Arrays

MOST_DB = 200.0
SMALLEST = 1e-6  # outputs that are zero throughout still have a tolerance


def prove_axes(predict: Predictor, reference: Predictor, inputs: Arrays, spec: ModelSpec, tolerance: float) -> None:
    """Runs a variant at batch 1, 2, 3 and the spec's maximum, and at the ends of every named axis.

    The answer for a sample must not depend on the batch that it came in; along named axes, where there is no other
    yardstick, finite answers of the reference's shape are asked for. Exporters silently fix axes that they were asked
    to keep dynamic, hence the proof. Raises BatchAxisError.
    """
    single = _stack([predict(take(inputs, [row])) for row in range(min(3, len(_any(inputs))))])
    for batch in proof_batches(spec):
        rows = [row % len(_any(single)) for row in range(batch)]
        _check(f"batch {batch}", spec, partial(predict, take(inputs, rows)), take(single, rows), tolerance)
    for axis, limits in spec.axes.items():
        for size in sorted({limits.min, limits.max}):
            part = resize_axis(take(inputs, [0]), spec, axis, size)
            expected = reference(part)
            _check(f"axis {axis} = {size}", spec, partial(predict, part), expected, tolerance=np.inf)


def _check(where: str, spec: ModelSpec, run: Callable[[], Arrays], expected: Arrays, tolerance: float) -> None:
    try:
        answer = run()
    except Exception as error:  # each runtime raises kinds of its own, derived from Exception alone
        raise BatchAxisError(f"cannot run at {where}: {type(error).__name__}: {str(error).strip()[:200]}") from error
    for tensor in spec.outputs:
        got, want = answer[tensor.name], expected[tensor.name]
        if got.shape != want.shape:
            raise BatchAxisError(f"output {tensor.name!r} at {where} is {list(got.shape)}, not {list(want.shape)}")
        if got.dtype != tensor.datatype.numpy:
            raise BatchAxisError(f"output {tensor.name!r} is {got.dtype}, the spec says {tensor.dtype}")
        if not np.isfinite(got.astype(np.float64)).all():
            raise BatchAxisError(f"output {tensor.name!r} at {where} holds NaN or infinity")
        error_size = float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0))
        if error_size > tolerance * max(SMALLEST, float(np.abs(want).max(initial=0))):
            raise BatchAxisError(
                f"output {tensor.name!r} at {where} is off by {error_size:.3g}: the batch axis is broken"
            )


def take(arrays: Arrays, rows: list[int]) -> Arrays:
    """The given rows of every array."""
    return {name: array[rows] for name, array in arrays.items()}


def resize_axis(inputs: Arrays, spec: ModelSpec, axis: str, size: int) -> Arrays:
    """The inputs with a named axis repeated or cut to `size`."""
    resized = {}
    for tensor in spec.inputs:
        array = inputs[tensor.name]
        for position, dim in enumerate(tensor.dims, start=1):
            if dim == axis:
                array = np.take(array, np.arange(size) % array.shape[position], axis=position)
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
