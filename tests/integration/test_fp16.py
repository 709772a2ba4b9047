"""FP16 in ONNX: smaller, finite, and in FP32 where it has to be, node by node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from builder.artifact import Artifact
from builder.errors import StepError
from builder.step import Step, run_recipe
from builder.steps.to_onnx_fp16 import ToOnnxFp16
from core.tensors import Arrays
from tests.support.graphs import answers, graph_artifact, noise_db

WIDTH = 32


def normal(*size: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def made(source: Artifact, *steps: Step) -> Artifact:
    return run_recipe(steps, source, source.folder / "cache")


def precisions(artifact: Artifact) -> dict[str, int]:
    """Node -> the type of its first output that inference finds, without casts."""
    model = onnx.shape_inference.infer_shapes(onnx.load(artifact.path), strict_mode=True)
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    return {node.name: types[node.output[0]] for node in graph.node if node.op_type not in ("Cast", "Identity")}


def products(count: int) -> Arrays:
    return {f"w{number}": normal(WIDTH, WIDTH, seed=number) / WIDTH**0.5 for number in range(count)}


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Four products; between the second and the third, values are squared, multiplied by 1e5, and brought back."""
    constants = products(4) | {"much": np.float32(1e5), "little": np.float32(1e-5)}
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], "a"),
        helper.make_node("MatMul", ["a", "w1"], ["b"], "b"),
        helper.make_node("Mul", ["b", "much"], ["large"], "large"),
        helper.make_node("Mul", ["large", "little"], ["small"], "small"),
        helper.make_node("MatMul", ["small", "w2"], ["c"], "c"),
        helper.make_node("MatMul", ["c", "w3"], ["y"], "y"),
    ]
    return graph_artifact(tmp_path_factory.mktemp("over"), nodes, constants, {"x": normal(40, WIDTH)}, f"[{WIDTH}]")


def test_what_overflows_stays_in_fp32_and_nothing_else(overflowing: Artifact) -> None:
    half = made(overflowing, ToOnnxFp16())
    found = precisions(half)
    wide = {name for name, kind in found.items() if kind == TensorProto.FLOAT}
    # The node that overflows, and the one that reads what it made: between them there is no cast to overflow.
    assert wide == {"large", "small"}
    assert {name for name, kind in found.items() if kind == TensorProto.FLOAT16} == {"a", "b", "c", "y"}
    inputs = {"x": normal(100, WIDTH, seed=9)}
    assert np.isfinite(answers(half, inputs)).all()
    assert noise_db(overflowing, half, inputs) > 45
    assert overflowing.size_bytes > 1.7 * half.size_bytes


def test_on_other_samples_it_would_overflow_as_well() -> None:
    large = (normal(100, WIDTH, seed=9) @ products(4)["w0"] @ products(4)["w1"]) * 1e5
    assert np.abs(large).max() > 65504


def test_a_network_that_fits_is_converted_whole(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], "a"),
        helper.make_node("Softmax", ["a"], ["b"], "b"),
        helper.make_node("MatMul", ["b", "w1"], ["y"], "y"),
    ]
    source = graph_artifact(tmp_path, nodes, products(2), {"x": normal(40, WIDTH)}, f"[{WIDTH}]")
    half = made(source, ToOnnxFp16())
    assert set(precisions(half).values()) == {TensorProto.FLOAT16}
    model = onnx.load(half.path)
    assert [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)] == [1, 1]


def test_what_is_finite_but_far_off_stays_in_fp32(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sine of numbers in the thousands, between which FP16 has steps of 2: finite and meaningless."""
    nodes = [
        helper.make_node("Mul", ["x", "fast"], ["phase"], "phase"),
        helper.make_node("Sin", ["phase"], ["wave"], "wave"),
        helper.make_node("MatMul", ["wave", "w0"], ["a"], "a"),
        helper.make_node("MatMul", ["a", "w1"], ["y"], "y"),
    ]
    constants = products(2) | {"fast": np.float32(1000)}
    source = graph_artifact(tmp_path, nodes, constants, {"x": normal(40, WIDTH)}, f"[{WIDTH}]")
    half = made(source, ToOnnxFp16())
    # With what makes its input, which would come to it rounded otherwise.
    assert {name for name, kind in precisions(half).items() if kind == TensorProto.FLOAT} == {"phase", "wave"}
    assert "wave (Sin) stays in FP32: SQNR" in capsys.readouterr().out
    assert noise_db(source, half, {"x": normal(50, WIDTH, seed=3)}) > 45


def test_a_tensor_that_two_kept_nodes_read_and_one_that_is_an_output(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], "a"),
        helper.make_node("Mul", ["a", "much"], ["left"], "left"),
        helper.make_node("Mul", ["a", "more"], ["right"], "right"),
        helper.make_node("Add", ["left", "right"], ["y"], "y"),
    ]
    constants = products(1) | {"much": np.float32(5e4), "more": np.float32(1e6)}
    source = graph_artifact(tmp_path, nodes, constants, {"x": normal(40, WIDTH)}, f"[{WIDTH}]")
    half = made(source, ToOnnxFp16())
    assert {name for name, kind in precisions(half).items() if kind == TensorProto.FLOAT} == {"left", "right", "y"}
    assert noise_db(source, half, {"x": normal(50, WIDTH, seed=3)}) > 45


def test_a_network_of_which_nothing_fits_is_told_of_in_one_sentence(tmp_path: Path) -> None:
    source = graph_artifact(
        tmp_path, [helper.make_node("Mul", ["x", "much"], ["y"])], {"much": np.float32(1e9)}, {"x": normal(40, 3)}
    )
    with pytest.raises(StepError, match=r"^small has no node that could be computed in FP16; leave this variant out$"):
        made(source, ToOnnxFp16())
