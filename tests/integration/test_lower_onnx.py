"""Lowering an ONNX model for an older release: proven, or not written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from builder.errors import StepError
from builder.lower_onnx import lower_onnx
from tests.support.lint_repositories import good_onnx


def save(path: Path, nodes: list[onnx.NodeProto], opset: int, ir_version: int, kind: int = TensorProto.FLOAT) -> Path:
    """`x [n, 4]` to `y`, with weights `w [4, 4]`."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", kind, ["n", 4])], [helper.make_tensor_value_info("y", kind, ["n", 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32) * 3, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", opset)]), path)
    return path


def test_the_copy_is_lower_and_computes_the_same(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    source = save(tmp_path / "new.onnx", nodes, opset=22, ir_version=11)
    proof = lower_onnx(source, tmp_path / "old.onnx", 9, 19)
    lowered = onnx.load(tmp_path / "old.onnx")
    assert (lowered.ir_version, lowered.opset_import[0].version) == (9, 19)
    assert proof.relative_error == 0 and proof.samples == 4
    x = np.random.default_rng(3).standard_normal((5, 4)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for path in (source, tmp_path / "old.onnx")
    ]
    assert np.array_equal(*answers)


def test_only_the_ir_version_is_lowered_where_the_opset_is_low_enough(tmp_path: Path) -> None:
    source = save(tmp_path / "new.onnx", [helper.make_node("Gelu", ["x"], ["y"])], opset=20, ir_version=11)
    lower_onnx(source, tmp_path / "old.onnx", 9, 0)
    assert onnx.load(tmp_path / "old.onnx").opset_import[0].version == 20


def test_an_operator_that_did_not_exist_yet_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "new.onnx", [helper.make_node("Gelu", ["x"], ["y"])], opset=20, ir_version=10)
    with pytest.raises(StepError, match=r"new.onnx(, lowered,|) .*(cannot be lowered|not valid|cannot be run)"):
        lower_onnx(source, tmp_path / "old.onnx", 8, 17)
    assert not (tmp_path / "old.onnx").exists()


def test_a_data_type_that_did_not_exist_yet_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.INT4),
        helper.make_node("Cast", ["a"], ["y"], to=TensorProto.FLOAT),
    ]
    source = save(tmp_path / "new.onnx", nodes, opset=21, ir_version=10)
    with pytest.raises(StepError, match=r"holds a data type of IR version 10, and cannot be lowered to 9"):
        lower_onnx(source, tmp_path / "old.onnx", 9, 0)


def test_other_answers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path / "new.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], opset=20, ir_version=10)
    other = onnx.load(save(tmp_path / "other.onnx", [helper.make_node("Add", ["x", "x"], ["y"])], 19, 9))
    monkeypatch.setattr("builder.lower_onnx.version_converter.convert_version", lambda _model, _opset: other)
    with pytest.raises(StepError, match=r"answers otherwise"):
        lower_onnx(source, tmp_path / "old.onnx", 9, 19)
    assert not (tmp_path / "old.onnx").exists()


def test_check_writes_the_copy(tmp_path: Path) -> None:
    folder = good_onnx(tmp_path / "models")
    save(folder / "1" / "model.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], opset=23, ir_version=11)
    command = [sys.executable, "-m", "trident.main", "check", str(tmp_path / "models"), "--triton", "24.01", "--json"]
    command += ["--lower", str(tmp_path / "lowered")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["loads"], row["lowered_to"]) == ("no", str(tmp_path / "lowered" / "m"))
    assert onnx.load(tmp_path / "lowered" / "m" / "1" / "model.onnx").ir_version == 9
    assert [path.name for path in (tmp_path / "lowered").iterdir()] == ["m"]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr.count("\n")) == (5, 1)
