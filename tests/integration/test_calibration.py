"""Ranges of activations: what each method makes of outliers, and that samples are not kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from builder.artifact import Artifact
from builder.calibration import CalibrationRows
from builder.data import load_samples
from builder.ranges import Method, find_ranges, float_tensors
from builder.spec_file import load_spec
from builder.step import run_recipe
from builder.steps.quantize_onnx_static import QuantizeOnnxStatic
from core.tensors import Arrays
from tests.support.graphs import graph_artifact, noise_db

WIDTH = 512
SPEC = """
name: streamed
checkpoint: {onnx: model.onnx}
inputs:
  - {name: image, dtype: float32, dims: [2, 3, 4]}
  - {name: ids, dtype: int64, dims: [tokens]}
outputs:
  - {name: y, dtype: float32, dims: [3]}
axes: {tokens: {min: 1, opt: 5, max: 9}}
data: {calibration: calibration.npz, evaluation: evaluation.npz}
metric: {name: top1, output: y}
preprocess: {image: [{op: scale, by: 0.5, plus: 1.0}]}
"""


def normal(count: int, seed: int) -> NDArray[np.float32]:
    """`[count, WIDTH]`."""
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A matrix product; among its calibration samples two values are a thousand times too large, in a channel that the
    weights hardly look at."""
    calibration = normal(300, 0)
    calibration[[7, 150], 0] = 1500, -1200
    weights = np.random.default_rng(1).normal(size=(WIDTH, 8)).astype(np.float32)
    weights[0] = 1e-4
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return graph_artifact(tmp_path_factory.mktemp("spoilt"), nodes, {"w": weights}, {"x": calibration}, "[8]")


def quantized(source: Artifact, method: Method) -> Artifact:
    return run_recipe((QuantizeOnnxStatic(method=method),), source, source.folder / "cache")


@pytest.mark.parametrize(("method", "least_db"), [("percentile", 30), ("entropy", 15)])
def test_an_outlier_ruins_min_max_and_not_the_methods_that_cut_it_off(
    spoilt: Artifact, method: Method, least_db: float
) -> None:
    inputs = {"x": normal(200, 2)}
    naive_db = noise_db(spoilt, quantized(spoilt, "minmax"), inputs)
    robust_db = noise_db(spoilt, quantized(spoilt, method), inputs)
    print(f"minmax {naive_db:.1f} dB, {method} {robust_db:.1f} dB")
    assert naive_db < 5
    assert robust_db > max(least_db, naive_db + 12)


def test_scores_survive_the_masks_beside_them(tmp_path: Path) -> None:
    """In 256 steps from -1e9 to 3, all scores would be one."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(16, 8)).astype(np.float32) / 2

    def inputs(count: int) -> Arrays:
        masked = random.uniform(size=(count, 8)) < 0.3
        return {
            "x": random.normal(size=(count, 16)).astype(np.float32),
            "mask": np.where(masked, -1e9, 0).astype(np.float32),
        }

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["y"]),
    ]
    source = graph_artifact(tmp_path, nodes, {"w": weights}, inputs(64), "[8]")
    assert noise_db(source, quantized(source, "minmax"), inputs(64)) > 20


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_lengths_may_differ_and_inputs_may_be_several_and_whole_numbers(tmp_path: Path, method: Method) -> None:
    random = np.random.default_rng(0)
    table, weights = (random.normal(size=size).astype(np.float32) for size in ((50, 8), (8, 3)))
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("Mul", ["rows", "shares"], ["weighed"]),
            helper.make_node("MatMul", ["weighed", "w"], ["y"]),
        ],
        "lengths",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", "tokens"]),
            helper.make_tensor_value_info("shares", TensorProto.FLOAT, ["N", "tokens", 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "tokens", 3])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, tmp_path / "model.onnx")
    rows = [
        {
            "ids": random.integers(0, 50, (1, tokens)),
            "shares": random.uniform(0, 1, (1, tokens, 1)).astype(np.float32),
        }
        for tokens in (3, 9, 1, 6)
    ]
    assert float_tensors(model) == ["rows", "shares", "weighed", "y"]
    assert float_tensors(model, ["MatMul"]) == ["weighed", "y"]
    found = find_ranges(tmp_path / "model.onnx", float_tensors(model), rows, method)
    weighed = [table[row["ids"]] * row["shares"] for row in rows]
    values = {
        "rows": [table[row["ids"]] for row in rows],
        "shares": [row["shares"] for row in rows],
        "weighed": weighed,
        "y": [value @ weights for value in weighed],
    }
    for name, parts in values.items():
        flat = np.concatenate([part.ravel() for part in parts])
        low, high = found[name]
        if method == "minmax":
            assert (low, high) == pytest.approx((flat.min(), flat.max()), rel=1e-5)
        assert flat.min() - 1e-5 <= low < high <= flat.max() + 1e-5


def test_rows_are_the_samples_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(SPEC)
    (tmp_path / "model.onnx").touch()
    random = np.random.default_rng(0)
    spec = load_spec(tmp_path / "model.yaml")
    image, ids = random.integers(0, 255, (7, 2, 3, 4), np.uint8), random.integers(0, 9, (7, 5))
    for save, stored in ((np.savez, image), (np.savez_compressed, np.asfortranarray(image))):
        save(tmp_path / "calibration.npz", image=stored, ids=ids)
        whole = load_samples(spec, spec.data.calibration, labelled=False)
        for most in (3, 7, 100):
            rows = CalibrationRows(spec, most)
            assert len(rows) == len([*rows]) == min(most, 7)
            for place, row in enumerate(rows):
                assert {name: value.dtype for name, value in row.items()} == {"image": np.float32, "ids": np.int64}
                assert all((row[name] == whole.inputs[name][place : place + 1]).all() for name in row)


PEAK = """
import resource, sys
from pathlib import Path
from builder.artifact import Artifact
from builder.source import source_artifact
from builder.spec_file import load_spec
from builder.steps.quantize_onnx_static import QuantizeOnnxStatic
folder = Path(sys.argv[1])
source = source_artifact(load_spec(folder / "model.yaml"), folder / "cache")
(folder / sys.argv[2]).mkdir()
QuantizeOnnxStatic(samples=int(sys.argv[2]), method=sys.argv[3])(source, folder / sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_memory_does_not_grow_with_the_samples(tmp_path: Path, method: Method) -> None:
    """A hundred samples of 12 MB of activations each, of which ONNX Runtime's own would keep 1.2 GB."""
    random = np.random.default_rng(0)
    constants = {
        "first": random.normal(size=(12, 1, 3, 3)).astype(np.float32),
        "last": random.normal(size=(1, 12, 1, 1)).astype(np.float32),
        "axes": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["wide"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("Conv", ["active", "last"], ["narrow"]),
        helper.make_node("ReduceMean", ["narrow", "axes"], ["y"], keepdims=0),
    ]
    images = random.normal(size=(100, 1, 360, 360)).astype(np.float32)
    graph_artifact(tmp_path, nodes, constants, {"x": images}, "[1]")

    def peak_mb(samples: int) -> float:
        command = [sys.executable, "-c", PEAK, str(tmp_path), str(samples), method]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        return int(done.stdout.split()[-1]) / 1024

    few, many = peak_mb(4), peak_mb(100)
    print(f"{method}: peak {few:.0f} MB with 4 samples, {many:.0f} MB with 100")
    assert many < few + 60
