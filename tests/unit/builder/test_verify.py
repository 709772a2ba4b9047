"""Figures of a verdict at their edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builder.errors import BatchAxisError
from builder.spec_file import load_spec
from builder.verify import judge, sqnr_db
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
