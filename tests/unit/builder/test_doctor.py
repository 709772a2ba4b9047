"""The doctor's search, split and judgement, without any runtime."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from builder.doctor import Plan, _worst_sqnr, fewest, judged_loss, split_calibration
from builder.errors import StepError
from builder.recipes import RECIPES
from builder.spec_file import load_spec
from builder.step import _read
from tests.support.tiny import onnx_spec


@pytest.mark.parametrize("count", [1, 2, 3, 10, 65])
def test_the_search_finds_the_fewest_in_few_trials(count: int) -> None:
    for needed in range(count):
        tried: list[int] = []

        def passes(kept: int, needed: int = needed, tried: list[int] = tried) -> bool:
            tried.append(kept)
            return kept >= needed

        assert fewest(count, passes) == needed
        assert len(tried) == len(set(tried)) <= 2 * math.log2(needed + 1) + 3
        assert needed in tried  # what is written was itself judged


def test_the_search_gives_up_when_even_one_layer_in_int8_is_too_many() -> None:
    assert fewest(9, lambda kept: kept >= 9) is None
    assert fewest(1, lambda _: False) is None


def test_the_split_is_the_same_each_time_and_shares_no_sample(tmp_path: Path) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    one, two = split_calibration(spec, Plan()), split_calibration(spec, Plan())
    assert (one.ranges["x"] == two.ranges["x"]).all()
    assert (len(one.ranges["x"]), len(one.judging["x"])) == (180, 120)
    assert len(np.unique(np.concatenate([one.ranges["x"], one.judging["x"]]), axis=0)) == 300
    assert len(split_calibration(spec, Plan(samples=50)).ranges["x"]) == 50
    with np.load(spec.data.calibration) as file:
        found = [int(np.where((file["x"] == row).all(axis=1))[0][0]) for row in one.judging["x"]]
        assert (file["label"][found] == one.labels).all()
    assert found != sorted(found)  # shuffled: files are often sorted by label


def test_labels_are_used_only_where_the_file_has_them(tmp_path: Path) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    np.savez(spec.data.calibration, x=np.zeros((10, 8), np.float32))
    assert split_calibration(spec, Plan()).labels is None
    np.savez(spec.data.calibration, x=np.zeros((1, 8), np.float32))
    with pytest.raises(StepError, match="holds one sample"):
        split_calibration(spec, Plan())


def test_what_is_lost_is_judged_by_labels_else_by_decisions(tmp_path: Path) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    original = {"scores": np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]}
    outputs = {"scores": np.eye(3, dtype=np.float32)[[0, 1, 1, 1]]}
    assert judged_loss(spec, original, outputs, None) == 0.5
    assert judged_loss(spec, original, outputs, np.array([0, 1, 2, 0])) == 0.5
    assert judged_loss(spec, original, outputs, np.array([0, 1, 1, 0])) == 0  # one lost, one won
    outputs["scores"][0, 0] = np.nan
    assert judged_loss(spec, original, outputs, None) == math.inf


def test_noise_is_that_of_the_worst_output_and_whole_numbers_have_none() -> None:
    original = {"a": np.ones((4, 2), np.float32), "b": np.ones((4, 2), np.float32), "best": np.arange(4)}
    outputs = {
        "a": original["a"] * np.float32(1.1),
        "b": original["b"] * np.float32(1.01),
        "best": original["best"] + 1,
    }
    assert _worst_sqnr(original, outputs) == pytest.approx(20, abs=0.1)
    assert _worst_sqnr(original, outputs | {"b": original["b"] * np.float32(np.inf)}) == -200
    assert _worst_sqnr({"best": original["best"]}, outputs) == 200


def test_a_step_that_judges_is_made_again_for_another_gate(tmp_path: Path) -> None:
    strict, lax = (load_spec(onnx_spec(tmp_path / gate, max_drop=gate)) for gate in ("1pt", "2pt"))
    for variant, differ in (("onnx_int8_mixed", True), ("openvino_int8_controlled", True), ("onnx_int8_static", False)):
        step = RECIPES[variant].steps[-1]
        assert (_read(step, strict, "data", "") != _read(step, lax, "data", "")) is differ
