"""SmoothQuant, ours for ONNX and NNCF's for OpenVINO: the same function before, less noise behind quantization."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from builder.artifact import Artifact
from builder.errors import StepError
from builder.recipes import EXPORT
from builder.step import run_recipe
from builder.steps.quantize_onnx_static import QuantizeOnnxStatic
from builder.steps.quantize_openvino import QuantizeOpenVino
from builder.steps.smooth_onnx import SmoothOnnx, smoothing
from builder.steps.to_openvino import ToOpenVino
from core.tensors import Arrays
from tests.support.graphs import answers, graph_artifact, noise_db
from tests.support.transformers import transformer_artifact

# PyTorch's exporter warns about itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")
WIDTH = 32
LOUD = (2, 17)


def normal(*size: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A normalization with two loud channels that feeds two products, one of them a Gemm with transposed weights; what
    that makes is read by a third product and by an addition."""
    gamma, beta = np.ones(WIDTH, np.float32), normal(WIDTH, seed=1) / 10
    gamma[list(LOUD)] = 100
    first, second = normal(WIDTH, WIDTH, seed=2), normal(WIDTH, WIDTH, seed=3)
    first[list(LOUD)] /= 100
    second[:, list(LOUD)] /= 100
    constants: Arrays = {
        "gamma": gamma, "beta": beta, "first": first, "second": second, "bias": normal(WIDTH, seed=4),
        "third": normal(WIDTH, 3, seed=5),
    }  # fmt: skip
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["even"]),
        helper.make_node("MatMul", ["even", "first"], ["left"]),
        helper.make_node("Gemm", ["even", "second", "bias"], ["right"], transB=1),
        helper.make_node("Add", ["left", "right"], ["both"]),
        helper.make_node("MatMul", ["left", "third"], ["a"]),
        helper.make_node("MatMul", ["both", "third"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    return graph_artifact(tmp_path_factory.mktemp("loud"), nodes, constants, {"x": normal(64, WIDTH)})


def operators(artifact: Artifact) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(artifact.path).graph.node)


def test_the_network_stays_what_it_was(loud: Artifact) -> None:
    smooth = run_recipe((SmoothOnnx(),), loud, loud.folder / "cache")
    inputs = {"x": normal(100, WIDTH, seed=9)}
    before, after = answers(loud, inputs), answers(smooth, inputs)
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
    # The normalization took its factors in; `left` and `both`, which sums make, have one multiplication each.
    assert operators(smooth) - operators(loud) == Counter({"Mul": 2})
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(smooth.path).graph.initializer}
    gamma = next(value for name, value in stored.items() if name.startswith("gamma"))
    assert np.abs(gamma).max() / np.abs(gamma).min() < 30  # 100 before


def test_quantization_behind_it_keeps_a_lot_more(loud: Artifact) -> None:
    inputs, quantize = {"x": normal(100, WIDTH, seed=9)}, QuantizeOnnxStatic(products_only=True)
    plain_db, smooth_db = (
        noise_db(loud, run_recipe(steps, loud, loud.folder / "cache"), inputs)
        for steps in ((quantize,), (SmoothOnnx(), quantize))
    )
    print(f"plain {plain_db:.1f} dB, smooth {smooth_db:.1f} dB")
    assert smooth_db > plain_db + 6


def test_an_encoder_is_unchanged_and_quantizes_better(tmp_path: Path) -> None:
    source = transformer_artifact(tmp_path, "encoder")
    samples = np.load(tmp_path / "evaluation.npz")
    inputs = {"ids": samples["ids"], "mask": samples["mask"]}
    original = run_recipe(EXPORT, source, tmp_path / "cache")
    smooth = run_recipe((*EXPORT, SmoothOnnx()), source, tmp_path / "cache")
    before, after = answers(original, inputs), answers(smooth, inputs)
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
    quantize = QuantizeOnnxStatic(products_only=True)
    plain_db = noise_db(original, run_recipe((*EXPORT, quantize), source, tmp_path / "cache"), inputs)
    smooth_db = noise_db(original, run_recipe((*EXPORT, SmoothOnnx(), quantize), source, tmp_path / "cache"), inputs)
    print(f"plain {plain_db:.1f} dB, smooth {smooth_db:.1f} dB")
    assert smooth_db > plain_db + 3


def test_openvinos_smoothing_keeps_more_too(tmp_path: Path) -> None:
    """Loud channels behind a ReLU: those behind a normalization OpenVINO moves into the weights while converting."""
    first, second = normal(WIDTH, WIDTH, seed=2), normal(WIDTH, 3, seed=3)
    first[:, list(LOUD)] *= 100
    second[list(LOUD)] /= 100
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("MatMul", ["active", "second"], ["y"]),
    ]
    source = graph_artifact(tmp_path, nodes, {"first": first, "second": second}, {"x": normal(64, WIDTH)})
    recipes = ((ToOpenVino(), QuantizeOpenVino(smooth=alpha)) for alpha in (-1.0, 0.95))  # below 0: not smoothed
    off_db, smooth_db = (
        noise_db(source, run_recipe(steps, source, tmp_path / "cache"), {"x": normal(100, WIDTH, seed=9)})
        for steps in recipes
    )
    print(f"not smoothed {off_db:.1f} dB, smoothed {smooth_db:.1f} dB")
    assert smooth_db > off_db + 3


def test_the_factor_shares_the_difficulty() -> None:
    activations, weights = np.array([100, 1, 0, 5], np.float32), np.array([1, 4, 3, 0], np.float32)
    assert smoothing(activations, weights, 0.5).tolist() == pytest.approx([10, 0.5, 1, 1])
    assert smoothing(activations, weights, 1.0).tolist() == pytest.approx([100, 1, 1, 1])


def test_a_network_without_products_is_told_of_in_one_sentence(tmp_path: Path) -> None:
    source = graph_artifact(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {}, {"x": normal(4, 3)})
    with pytest.raises(StepError, match=r"^small has no matrix product with constant weights to smooth; leave [\w ]+$"):
        run_recipe((SmoothOnnx(),), source, tmp_path / "cache")
