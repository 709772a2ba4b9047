"""What an instance of a variant takes to run, measured in process: the facts that `planner` decides by."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from builder.artifact import Artifact, Format
from builder.runtimes import Predictor, predictor
from builder.timing import CALM_WAIT, waited_s
from core.machine import cores, memory_bytes
from core.results import CallTime, Costs
from core.tensors import Arrays

ROUNDS, MOST_ROUNDS, BLOCK_S, LONGEST_CALL_MS, MOST_S = 3, 8, 0.01, 800.0, 4.0
CROWD_ROUNDS, CROWD_S, CROWD_CALL_MS, MOST_COPIES = 3, 0.05, 2.0, 8
# Resident memory of a server's process with nothing but the runtime in it (measured: Triton's Python stub).
RUNTIME_BYTES: Final[dict[Format, int]] = {"torchscript": 240 << 20, "onnx": 70 << 20, "openvino": 97 << 20}


def measure_costs(artifact: Artifact, all_cores: Predictor, inputs: Arrays, limit: int) -> Costs:
    """Times calls with one thread and with all cores (`all_cores` is the artifact, loaded with them) at batches up to
    `limit`, and the memory that one more instance takes. `inputs` are samples `[N, ...]`. Takes a few seconds at most:
    batches whose calls take long are left out."""
    before = _resident_bytes()
    alone = predictor(artifact, 1)
    predictors = {1: alone} if cores() == 1 else {1: alone, cores(): all_cores}
    samples = {batch: _rows(inputs, batch) for batch in batches(limit)}
    cells = _times(predictors, samples)
    calls = tuple(
        CallTime(threads=threads, batch=batch, ms=round(cell.ms, 4)) for (threads, batch), cell in sorted(cells.items())
    )
    largest = max(call.batch for call in calls)
    alone(samples[largest])
    grown = max(_resident_bytes() - before, artifact.size_bytes)
    batch = next((one.batch for one in calls if one.threads == 1 and one.ms >= CROWD_CALL_MS), largest)
    fits = cores() > 1 and min(cores(), MOST_COPIES) * grown < memory_bytes() // 4
    return Costs(
        calls=calls,
        crowding=_crowding(artifact, alone, samples[batch]) if fits else 1.0,
        disturbed=any(math.isinf(cell.calm_ms) for cell in cells.values()),
        resident_bytes=RUNTIME_BYTES[artifact.format] + grown,
    )


def batches(limit: int) -> list[int]:
    """The batch sizes that are timed: powers of two, and the limit."""
    return sorted({limit, *(1 << power for power in range(limit.bit_length()) if 1 << power <= limit)})


def _rows(inputs: Arrays, batch: int) -> Arrays:
    """The first samples, repeated if there are too few."""
    return {name: np.resize(array, (batch, *array.shape[1:])) for name, array in inputs.items()}


@dataclass
class _Cell:
    """The quickest call of so many threads on one batch, in a calm block and in any."""

    calm_ms: float = math.inf
    any_ms: float = math.inf

    @property
    def ms(self) -> float:
        return self.calm_ms if math.isfinite(self.calm_ms) else self.any_ms


def _times(predictors: dict[int, Predictor], samples: dict[int, Arrays]) -> dict[tuple[int, int], _Cell]:
    """The quickest block of each `(threads, batch)`, since whatever else the machine does only adds time. Each is
    visited in every round, so that a busy moment spoils one block of it and not all."""
    cells: dict[tuple[int, int], _Cell] = {}
    started = time.perf_counter()
    for visit in range(MOST_ROUNDS):
        for threads, predict in predictors.items():
            for batch, sample in samples.items():
                if 2 * cells.get((threads, batch // 2), _Cell(0, 0)).ms > LONGEST_CALL_MS:
                    break
                if not visit:
                    predict(sample)  # memory for this size, and compilation
                cell = cells.setdefault((threads, batch), _Cell())
                ms, calm = _one_thread_ms(predict, sample) if threads == 1 else _wall_ms(predict, sample)
                cell.any_ms = min(cell.any_ms, ms)
                cell.calm_ms = min(cell.calm_ms, ms if calm else math.inf)
        calm_so_far = all(math.isfinite(cell.calm_ms) for cell in cells.values())
        if time.perf_counter() - started > MOST_S or (visit + 1 >= ROUNDS and calm_so_far):
            break
    return cells


def _one_thread_ms(predict: Predictor, sample: Arrays) -> tuple[float, bool]:
    """The CPU time of a call, which other work hardly changes: without a second thread to wait for, that is its
    time."""
    started, calls = time.process_time(), 0
    ends = time.perf_counter() + BLOCK_S
    while time.perf_counter() < ends or calls < 2:
        predict(sample)
        calls += 1
    return (time.process_time() - started) * 1e3 / calls, True


def _wall_ms(predict: Predictor, sample: Arrays) -> tuple[float, bool]:
    """The median time of a block of calls, and whether their threads got the CPU when they wanted it."""
    found: list[float] = []
    began, waited = time.perf_counter(), waited_s()
    while time.perf_counter() < began + BLOCK_S or len(found) < 2:
        started = time.perf_counter()
        predict(sample)
        found.append((time.perf_counter() - started) * 1e3)
    calm = waited_s() - waited <= CALM_WAIT * (time.perf_counter() - began)
    return median(found), calm


def _crowding(artifact: Artifact, alone: Predictor, sample: Arrays) -> float:
    """How much more CPU time a one-threaded call takes while the other cores compute the same: they share caches and
    memory, and often the clock that a lone core may raise."""
    copies = [alone, *(predictor(artifact, 1) for _ in range(min(cores(), MOST_COPIES) - 1))]
    ratios = []
    with ThreadPoolExecutor(len(copies)) as pool:
        for _ in range(CROWD_ROUNDS):
            lone, _ = _one_thread_ms(alone, sample)
            started, ends = time.process_time(), time.perf_counter() + CROWD_S
            calls = sum(pool.map(lambda one: _calls_until(ends, one, sample), copies))  # noqa: B023  # used at once
            ratios.append((time.process_time() - started) * 1e3 / calls / lone)
    return round(max(1.0, median(ratios)), 3)


def _calls_until(ends: float, predict: Predictor, sample: Arrays) -> int:
    calls = 0
    while time.perf_counter() < ends or not calls:
        predict(sample)
        calls += 1
    return calls


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
