"""Figures of a verdict at their edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builder.errors import BatchAxisError, CheckpointError
from builder.spec import ModelSpec
from builder.spec_file import load_spec
from builder.verify import Accuracy, axis_sizes, judge, prove_axes, prove_original, sqnr_db
from core.tensors import Arrays
from tests.support.tiny import onnx_spec


def test_sqnr_is_what_its_definition_says() -> None:
    signal = np.array([3.0, 4.0])
    assert sqnr_db(signal, signal + np.array([0.5, 0.0])) == pytest.approx(20)  # 25 over 0.25
    assert sqnr_db(signal, signal) == 200
    assert sqnr_db(np.zeros(2), signal) == -200
    assert sqnr_db(np.zeros(2), np.zeros(2)) == 200


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_in_a_sentence(tmp_path: Path, bad: float) -> None:
    spec = load_spec(onnx_spec(tmp_path))
    original = {"scores": np.eye(3, dtype=np.float32)}
    outputs = {"scores": original["scores"].copy()}
    outputs["scores"][1, 2] = bad
    with pytest.raises(BatchAxisError, match=r"NaN or infinity in 'scores' on 1 of 3 evaluation samples"):
        judge(spec, original, outputs, np.arange(3))


def _sequence_spec(folder: Path) -> ModelSpec:
    path = onnx_spec(folder)
    text = path.read_text().replace("dims: [8]", "dims: [S, 3]")
    path.write_text(text + "axes: {S: {min: 2, opt: 6, max: 7}}\n")
    return load_spec(path)


def _mean(inputs: Arrays) -> Arrays:
    return {"scores": inputs["x"].mean(1)}


def _fixed(inputs: Arrays) -> Arrays:
    """What an exporter makes of a mean whose length it took for a constant."""
    return {"scores": inputs["x"].sum(1) / np.float32(6)}


def _coarse(inputs: Arrays) -> Arrays:
    return {"scores": np.round(inputs["x"].mean(1) * 16) / np.float32(16)}


SIXES = {"x": np.random.default_rng(0).normal(1, 0.3, (5, 6, 3)).astype(np.float32)}


@pytest.mark.parametrize("accuracy", [Accuracy(1e-3, True), Accuracy(5e-2, False)])
def test_a_length_that_was_fixed_is_named_in_every_precision(tmp_path: Path, accuracy: Accuracy) -> None:
    spec = _sequence_spec(tmp_path)
    prove_axes(_mean, _mean, SIXES, spec, accuracy)
    with pytest.raises(BatchAxisError, match=r"output 'scores' at axis S = 2 is off by 0\.\d+.*: the export fixed"):
        prove_axes(_fixed, _mean, SIXES, spec, accuracy)


def test_rounding_is_allowed_where_it_is_promised_and_nowhere_else(tmp_path: Path) -> None:
    spec = _sequence_spec(tmp_path)
    prove_axes(_coarse, _mean, SIXES, spec, Accuracy(5e-2, False))
    with pytest.raises(BatchAxisError, match="output 'scores' at the samples' own size is off by"):
        prove_axes(_coarse, _mean, SIXES, spec, Accuracy(1e-3, True))


def test_what_a_runtime_says_in_many_lines_is_one_sentence(tmp_path: Path) -> None:
    def fails(_: Arrays) -> Arrays:
        raise RuntimeError("Got invalid dimensions:\n index: 1 Got: 2 Expected: 6\n Please fix" + "." * 1000)

    with pytest.raises(
        BatchAxisError, match=r"cannot run at batch 1: RuntimeError: Got invalid dimensions: index: "
    ) as e:
        prove_axes(fails, _mean, SIXES, _sequence_spec(tmp_path), Accuracy(1e-3, True))
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 400


def test_an_original_that_does_not_keep_its_range_is_the_checkpoints_fault(tmp_path: Path) -> None:
    spec = _sequence_spec(tmp_path)

    def third(inputs: Arrays) -> Arrays:
        return {"scores": inputs["x"][:, 2]}

    with pytest.raises(CheckpointError, match="does not run at axis S = 2, which `axes` promises; IndexError"):
        prove_original(third, SIXES, spec)
    with pytest.raises(CheckpointError, match="answers NaN or infinity in 'scores' at axis S = 2"):
        prove_original(lambda inputs: {"scores": _mean(inputs)["scores"] * np.nan}, SIXES, spec)


def test_all_axes_are_proven_alone_and_together(tmp_path: Path) -> None:
    path = onnx_spec(tmp_path)
    text = path.read_text().replace("dims: [8]", "dims: [H, W]")
    path.write_text(text + "axes: {H: {min: 2, opt: 2, max: 4}, W: {min: 1, opt: 3, max: 5}}\n")
    sizes = [found for _, found in axis_sizes(load_spec(path))]
    alone = [{"H": 2}, {"H": 4}, {"W": 1}, {"W": 3}, {"W": 5}]
    assert sizes == [*alone, {"H": 2, "W": 1}, {"H": 4, "W": 5}]
