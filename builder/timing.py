"""In-process latency, paired with the original's so that the machine's mood cancels out."""

from __future__ import annotations

import time
from statistics import median

from builder.runtimes import Predictor
from core.results import Timing
from core.tensors import Arrays

ROUNDS, BLOCK_S = 12, 0.06


def time_pair(original: Predictor, variant: Predictor, inputs: Arrays) -> Timing:
    """Median milliseconds at batch 1 of both, measured in alternating blocks; the first call of a block is not counted,
    since it finds the other model's data in the caches."""
    sample = {name: array[:1] for name, array in inputs.items()}
    laps: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        for which, predict in ((0, original), (1, variant)) if number % 2 else ((1, variant), (0, original)):
            predict(sample)
            ends = time.perf_counter() + BLOCK_S
            counted = 0
            while time.perf_counter() < ends or counted < 3:
                started = time.perf_counter()
                predict(sample)
                laps[which].append((time.perf_counter() - started) * 1e3)
                counted += 1
    original_ms, variant_ms = median(laps[0]), median(laps[1])
    return Timing(
        time_ms=variant_ms,
        original_time_ms=original_ms,
        speedup=original_ms / variant_ms,
        calls=len(laps[1]),
    )
