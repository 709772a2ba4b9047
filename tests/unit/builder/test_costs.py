"""What a variant costs to run: real calls of a tiny network, and calls of a known length."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from builder import costs
from builder.costs import batches, measure_costs
from builder.runtimes import predictor
from builder.source import source_artifact
from builder.spec_file import load_spec
from core.machine import cores
from core.tensors import Arrays
from tests.support.tiny import onnx_spec


def test_calls_are_timed_with_one_thread_and_with_all_cores(tmp_path: Path) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    artifact = source_artifact(spec, tmp_path / "cache")
    found = measure_costs(artifact, predictor(artifact, cores()), {"x": np.zeros((3, 8), np.float32)}, 8)
    timed = {(call.threads, call.batch) for call in found.calls}
    assert timed == {(threads, batch) for threads in {1, cores()} for batch in (1, 2, 4, 8)}
    assert all(0 < call.ms < 100 for call in found.calls)
    assert found.crowding >= 1
    assert 70 << 20 <= found.resident_bytes < 1 << 30


def test_batches_are_powers_of_two_and_the_limit() -> None:
    assert batches(1) == [1]
    assert batches(12) == [1, 2, 4, 8, 12]
    assert batches(32) == [1, 2, 4, 8, 16, 32]


def test_batches_whose_calls_take_long_are_left_out() -> None:
    def slow(sample: Arrays) -> Arrays:
        time.sleep(0.11 * len(sample["x"]))
        return {}

    samples = {batch: {"x": np.zeros((batch, 1), np.float32)} for batch in (1, 2, 4, 8, 16)}
    cells = costs._times({2: slow}, samples)
    assert {batch for _threads, batch in cells} == {1, 2, 4}
    assert 430 <= cells[2, 4].ms < 800


def test_one_thread_is_timed_by_its_cpu_time_which_other_work_does_not_change() -> None:
    def waits(_sample: Arrays) -> Arrays:
        time.sleep(0.02)
        return {}

    ms, calm = costs._one_thread_ms(waits, {})
    assert ms < 5
    assert calm
    assert costs._wall_ms(waits, {})[0] >= 20
