"""What values a network's activations take on calibration samples, found while they stream by: nothing is kept of a
sample but what it does to a few numbers of each tensor. (ONNX Runtime's own histogram calibrators keep every activation
of every sample until the end: gigabytes for a thousand images.)"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from core.machine import cores
from core.tensors import Arrays

Method = Literal["minmax", "entropy", "percentile"]
Range = tuple[float, float]

BINS: Final = 8192  # of a histogram, on each side of zero: fine enough beside an outlier a thousand times the usual
MOST_VALUES: Final = 1 << 16  # of one tensor in one sample that are counted; extremes are taken over all of them
CANDIDATES: Final = 160  # thresholds that the entropy method tries, in equal ratios
FEWEST: Final = 1000  # values that make a distribution
CLIPPED: Final = 1e-4  # of a value: what a bin that only clipped ones fill counts as, for the logarithm's sake
SMALLEST: Final = 1e-30  # a tensor below is zero


def find_ranges(
    model: Path, tensors: list[str], rows: Iterable[Arrays], method: Method = "minmax", percentile: float = 99.99
) -> dict[str, Range]:
    """The least and the greatest value to represent, for each of the `tensors` of an ONNX file that held any value.

    `minmax` is what occurred. `percentile` leaves the rarest `100 - percentile` per cent out, half of them at each end.
    `entropy` picks the threshold whose quantized distribution tells least apart from the real one. Both cut outliers
    off, which would widen the steps of all other values. `rows` is gone through once for `minmax`, else twice.
    """
    extremes = find_extremes(model, tensors, rows)
    if method == "minmax":
        return extremes
    histograms = _histograms(model, extremes, rows)
    if method == "entropy":
        return {name: entropy_range(counts, extremes[name]) for name, counts in histograms.items()}
    return {name: percentile_range(counts, extremes[name], percentile) for name, counts in histograms.items()}


def watch(model: Path, tensors: list[str], rows: Iterable[Arrays]) -> Iterator[Arrays]:
    """Runs an ONNX file on one row after the other and yields the values of the `tensors`, inputs among them, by name.
    Only those of the row at hand are in memory, whatever the rows' shapes."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    watched = onnx.load(model)
    given = {value.name for value in watched.graph.input}
    asked = [name for name in tensors if name not in given]
    there = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in asked if name not in there
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # it grows in powers of two and never shrinks
    options.enable_mem_pattern = False  # of no use where lengths vary
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    del watched
    for row in rows:
        values = dict(zip(asked, session.run(asked, row), strict=True)) if asked else {}
        yield values | {name: row[name] for name in tensors if name in given}


def float_tensors(model: Any, operators: Iterable[str] | None = None) -> list[str]:
    """The activations in float32 that nodes (with one of these `operators`, if given) read or write, in the graph's
    order. `model` is an onnx.ModelProto, its types inferred."""
    from onnx import TensorProto

    graph, kinds = model.graph, None if operators is None else set(operators)
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    constants = {tensor.name for tensor in graph.initializer}
    used = (
        name for node in graph.node if kinds is None or node.op_type in kinds for name in (*node.input, *node.output)
    )
    return [name for name in dict.fromkeys(used) if types.get(name) == TensorProto.FLOAT and name not in constants]


def find_extremes(model: Path, tensors: list[str], rows: Iterable[Arrays]) -> dict[str, Range]:
    """The least and the greatest finite value of each tensor. Infinities are masks, and no range could hold them."""
    found: dict[str, Range] = {}
    for values in watch(model, tensors, rows):
        for name, value in values.items():
            ends = _extremes(value)
            if not all(map(math.isfinite, ends)):
                ends = _extremes(_finite(value))
            low, high = found.get(name, ends)
            found[name] = min(low, ends[0]), max(high, ends[1])
    return {name: ends for name, ends in found.items() if math.isfinite(ends[0])}


def _extremes(value: NDArray[Any]) -> Range:
    return float(value.min(initial=np.inf)), float(value.max(initial=-np.inf))


def channel_maxima(model: Path, tensors: list[str], rows: Iterable[Arrays]) -> dict[str, NDArray[np.float32]]:
    """The greatest magnitude of each tensor `[..., C]` by its last axis: `[C]`."""
    found: dict[str, NDArray[np.float32]] = {}
    for values in watch(model, tensors, rows):
        for name, value in values.items():
            if value.size:
                most = np.abs(value.reshape(-1, value.shape[-1])).max(axis=0).astype(np.float32)
                found[name] = np.maximum(found.get(name, most), most)
    return found


def _histograms(model: Path, extremes: dict[str, Range], rows: Iterable[Arrays]) -> dict[str, NDArray[np.int64]]:
    """How often values fell into `2 * BINS` equal bins from minus to plus the greatest magnitude of their tensor."""
    found = {name: np.zeros(2 * BINS, np.int64) for name in extremes}
    for number, values in enumerate(watch(model, list(extremes), rows)):
        for name, value in values.items():
            greatest = max(map(abs, extremes[name]))
            step = -(-value.size // MOST_VALUES) | 1  # odd: no multiple of an even count of channels
            part = _finite(value.reshape(-1)[number % step :: step])
            if part.size and greatest > SMALLEST:
                bins = ((part / np.float32(greatest) + 1) * BINS).astype(np.int64)
                found[name] += np.bincount(np.clip(bins, 0, 2 * BINS - 1), minlength=2 * BINS)
    return found


def _finite(value: NDArray[Any]) -> NDArray[Any]:
    finite: NDArray[Any] = value[np.isfinite(value)]
    return finite


def percentile_range(counts: NDArray[np.int64], extremes: Range, percentile: float) -> Range:
    """The range that holds `percentile` per cent of the values counted in `counts` `[2 * BINS]`, and the same share of
    the rest on either side. Wu et al., "Integer Quantization for Deep Learning Inference: Principles and Empirical
    Evaluation" (arXiv:2004.09602), section 3.4."""
    if not counts.any():  # nothing but zeros
        return extremes
    width, below = max(map(abs, extremes)) / BINS, np.cumsum(counts)
    cut = below[-1] * (100 - percentile) / 200
    first, last = np.searchsorted(below, cut, "right"), np.searchsorted(below, below[-1] - cut)
    return _within((float(first) - BINS) * width, (float(last) + 1 - BINS) * width, extremes)


def entropy_range(counts: NDArray[np.int64], extremes: Range) -> Range:
    """The range with the least Kullback-Leibler divergence between the values counted in `counts` `[2 * BINS]`, those
    beyond the threshold moved onto it, and the same in the 256 steps of an unsigned 8-bit number: all on one side of
    zero, or half of them on each. Migacz, "8-bit Inference with TensorRT" (GTC 2017); Wu et al. (arXiv:2004.09602)."""
    if counts.sum() < FEWEST:
        return extremes
    width, sides = max(map(abs, extremes)) / BINS, counts[:BINS][::-1] + counts[BINS:]
    one_sided = extremes[0] >= 0 or extremes[1] <= 0
    threshold = _least_divergence(sides.astype(np.float64), 256 if one_sided else 128) * width
    return _within(-threshold, threshold, extremes)


def _least_divergence(counts: NDArray[np.float64], steps: int) -> int:
    """How many of the bins `[BINS]` of magnitudes to keep."""
    # A heap of equal values (zeros behind a ReLU, the background of images) says nothing of how wide a step may be, but
    # would decide it: it is cut down to twice what is usual around it.
    around = np.lib.stride_tricks.sliding_window_view(np.pad(counts, 2, "reflect"), 5)
    counts = np.minimum(counts, 2 * np.maximum(np.median(around, axis=1), counts.mean()))
    total = max(counts.sum(), 1)
    best, least = BINS, np.inf
    for kept in np.unique(np.geomspace(steps, BINS, CANDIDATES).astype(np.int64)):
        real, starts = counts[:kept].copy(), np.arange(steps) * kept // steps
        filled = real > 0
        mean = np.add.reduceat(real, starts) / np.maximum(np.add.reduceat(filled, starts, dtype=np.int64), 1)
        stepped = np.maximum(np.repeat(mean, np.diff(np.append(starts, kept))), CLIPPED)
        inside = max(real.sum(), CLIPPED)
        real[-1] += total - real.sum()
        at = real > 0
        stepped[-1] = stepped[-1] if filled[-1] else CLIPPED
        divergence = (real[at] * np.log(real[at] / stepped[at])).sum() / total + np.log(inside / total)
        if divergence <= least:  # of equals the wider: less is clipped
            best, least = int(kept), divergence
    return best


def _within(low: float, high: float, extremes: Range) -> Range:
    """A range cut down to what occurred."""
    return max(low, extremes[0]), min(high, extremes[1])
