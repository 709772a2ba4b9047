"""In-process latency, paired with the original's so that the machine's mood cancels out."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from builder.runtimes import Predictor
from core.intervals import median_interval, steady
from core.results import Timing
from core.tensors import Arrays

ROUNDS, CALM_ROUNDS, MOST_ROUNDS, BLOCK_S, MOST_S = 12, 6, 36, 0.06, 8.0
# Seconds that our threads, ready to run, waited for a CPU, in each second of a round: at most 0.2 on a quiet machine,
# where a runtime's threads step on each other's toes, and 0.5 or more as soon as one other process is busy. PyTorch's
# threads wait for each other actively, and a call of 1 ms then takes 350.
CALM_WAIT: Final = 0.3


class _Round(NamedTuple):
    """One block of each: milliseconds of the calls."""

    original: list[float]
    variant: list[float]
    calm: bool

    @property
    def ratio(self) -> float:
        return median(self.original) / median(self.variant)


def time_pair(original: Predictor, variant: Predictor, inputs: Arrays, batch: int = 1) -> Timing:
    """Both on the first `batch` samples, in alternating blocks. The speed-up is the median of the rounds' own ratios,
    so that what slows a whole round slows both of its halves. Rounds in which other work took the CPU away are
    repeated, as are all while they disagree, up to three times as many; if that was not enough, the result is
    `disturbed`."""
    sample = {name: array[:batch] for name, array in inputs.items()}
    rounds: list[_Round] = []
    ends = time.perf_counter() + MOST_S
    while True:
        rounds.append(_round(original, variant, sample, variant_first=len(rounds) % 2 == 0))
        calm = [one for one in rounds if one.calm]
        over = len(rounds) >= MOST_ROUNDS or (len(rounds) >= 3 and time.perf_counter() > ends)
        if len(calm) < ROUNDS and not over:
            continue
        disturbed = len(calm) < CALM_ROUNDS
        timing = _timing(rounds if disturbed else calm, disturbed)
        if over or steady(timing.speedup_ci95):
            return timing


def _round(original: Predictor, variant: Predictor, sample: Arrays, variant_first: bool) -> _Round:
    started, before = time.perf_counter(), waited_s()
    if variant_first:
        second, first = _block(variant, sample), _block(original, sample)
    else:
        first, second = _block(original, sample), _block(variant, sample)
    share = (waited_s() - before) / (time.perf_counter() - started)
    return _Round(first, second, calm=share <= CALM_WAIT)


def waited_s() -> float:
    """How long the threads of this process have waited for a CPU so far; 0 where the kernel does not tell."""
    waited_ns = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        try:
            waited_ns += int(file.read_text().split()[1])
        except OSError:  # the thread has ended meanwhile
            continue
    return waited_ns / 1e9


def _block(predict: Predictor, sample: Arrays) -> list[float]:
    """Milliseconds of the calls of one block. The first is not counted: it finds the other model's data in the
    caches."""
    predict(sample)
    found: list[float] = []
    ends = time.perf_counter() + BLOCK_S
    while time.perf_counter() < ends or len(found) < 3:
        started = time.perf_counter()
        predict(sample)
        found.append((time.perf_counter() - started) * 1e3)
    return found


def _timing(rounds: list[_Round], disturbed: bool) -> Timing:
    laps = [lap for one in rounds for lap in one.variant]
    ratios = [one.ratio for one in rounds]
    return Timing(
        time_ms=median(laps),
        original_time_ms=median(lap for one in rounds for lap in one.original),
        speedup=median(ratios),
        speedup_ci95=median_interval(ratios),
        disturbed=disturbed,
        calls=len(laps),
    )
