"""Weights in 8 and 4 bits, activations in floating point: smaller files, close answers, no harm from outliers."""

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
from builder.graph import graph_facts
from builder.recipes import EXPORT, RECIPES
from builder.runtimes import predictor
from builder.step import Step, run_recipe
from builder.steps.quantize_onnx_static import QuantizeOnnxStatic
from builder.steps.quantize_onnx_weights import QuantizeOnnxWeights, round_symmetric
from builder.steps.quantize_openvino import QuantizeOpenVino
from builder.steps.quantize_openvino_weights import QuantizeOpenVinoWeights
from builder.steps.to_openvino import ToOpenVino
from builder.verify import Accuracy, prove_axes
from core.tensors import Arrays
from tests.support.graphs import answers, graph_artifact, noise_db
from tests.support.transformers import transformer_artifact

WORDS, WIDTH, WIDE, TOKENS = 500, 96, 768, 6
COUNT = WORDS * WIDTH + 2 * WIDTH * WIDE + WIDTH * WIDTH * 3 + 3 * WIDTH
STEPS: dict[str, tuple[Step, ...]] = {
    "onnx int8": (QuantizeOnnxWeights(bits=8),),
    "onnx int4": (QuantizeOnnxWeights(bits=4),),
    "openvino int8": (ToOpenVino(), QuantizeOpenVinoWeights(bits=8)),
    "openvino int4": (ToOpenVino(), QuantizeOpenVinoWeights(bits=4)),
}


def normal(*size: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def tokens(count: int, seed: int) -> Arrays:
    return {"ids": np.random.default_rng(seed).integers(0, WORDS, (count, TOKENS))}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An embedding, one channel of which is made loud, two matrix products, a convolution over the tokens, a Gemm; a
    seventh of the weights are zero."""
    table, kernel = normal(WORDS, WIDTH), normal(WIDTH, WIDE, seed=1) / 10
    loud = np.ones(WIDTH, np.float32)
    loud[5], kernel[5] = 300, kernel[5] / 300
    constants: Arrays = {
        "table": table, "first": kernel, "second": normal(WIDE, WIDTH, seed=2) / 27,
        "conv": normal(WIDTH, WIDTH, 3, seed=3) / 17, "last": normal(3, WIDTH, seed=4) / 10, "bias": normal(3, seed=5),
        "loud": loud, "axes": np.array([2], np.int64),
    }  # fmt: skip
    for value in constants.values():
        value.reshape(-1)[::7] *= 0 if value.ndim > 1 else 1
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Mul", ["words", "loud"], ["uneven"]),
        helper.make_node("MatMul", ["uneven", "first"], ["one"]),
        helper.make_node("Relu", ["one"], ["active"]),
        helper.make_node("MatMul", ["active", "second"], ["two"]),
        helper.make_node("Transpose", ["two"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["turned", "conv"], ["three"], pads=[1, 1]),
        helper.make_node("ReduceMean", ["three", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "last", "bias"], ["y"], transB=1),
    ]
    return graph_artifact(tmp_path_factory.mktemp("mixed"), nodes, constants, tokens(64, 0))


def made(source: Artifact, *steps: Step) -> Artifact:
    return run_recipe(steps, source, source.folder / "cache")


@pytest.mark.parametrize(("kind", "smaller", "least_db"), [
    ("onnx int8", 3.6, 30), ("onnx int4", 4.7, 15), ("openvino int8", 3.5, 30), ("openvino int4", 4.7, 15),
])  # fmt: skip
def test_the_file_is_smaller_and_the_answers_are_close(
    mixed: Artifact, kind: str, smaller: float, least_db: float
) -> None:
    quantized = made(mixed, *STEPS[kind])
    plain = made(mixed, ToOpenVino()) if "openvino" in kind else mixed
    noise = noise_db(mixed, quantized, tokens(100, 1))
    print(f"{kind}: {plain.size_bytes / quantized.size_bytes:.2f} times smaller, {noise:.1f} dB")
    assert plain.size_bytes > smaller * quantized.size_bytes
    assert noise > least_db
    one_by_one = np.concatenate([answers(quantized, {"ids": row[None]}) for row in tokens(3, 1)["ids"]])
    assert one_by_one == pytest.approx(answers(quantized, tokens(3, 1)), rel=1e-3, abs=1e-3)


def test_outliers_among_activations_do_less_harm_than_in_full_int8(mixed: Artifact) -> None:
    inputs = tokens(100, 1)
    weights_db = {kind: noise_db(mixed, made(mixed, *steps), inputs) for kind, steps in STEPS.items()}
    full_db = {
        "onnx": noise_db(mixed, made(mixed, QuantizeOnnxStatic()), inputs),
        "openvino": noise_db(mixed, made(mixed, ToOpenVino(), QuantizeOpenVino()), inputs),
    }
    print(weights_db, full_db)
    assert weights_db["onnx int8"] > full_db["onnx"] + 6
    assert weights_db["openvino int8"] > full_db["openvino"] + 6


@pytest.mark.parametrize("kind", STEPS)
def test_weights_and_zeros_are_counted_as_in_other_formats(mixed: Artifact, kind: str) -> None:
    facts = graph_facts(made(mixed, *STEPS[kind]), 1)
    assert facts.weights == COUNT
    assert facts.flops == graph_facts(mixed, 1).flops
    assert facts.sparsity is not None
    # Rounding makes zeros of small numbers, and asymmetric blocks may have a zero point that is none.
    assert 1 / 7 - 0.005 < facts.sparsity < (0.35 if "int4" in kind else 0.2)


def test_8_bits_need_nothing_but_onnxs_own_operators(mixed: Artifact) -> None:
    model = onnx.load(made(mixed, QuantizeOnnxWeights(bits=8)).path)
    assert {node.domain for node in model.graph.node} == {""}
    assert Counter(node.op_type for node in model.graph.node)["DequantizeLinear"] == 4
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert all(len(tensor.dims) == 1 for tensor in floats)  # biases and scales


def test_4_bits_are_for_matrix_products_alone(mixed: Artifact) -> None:
    model = onnx.load(made(mixed, QuantizeOnnxWeights(bits=4)).path)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (kinds["MatMulNBits"], kinds["MatMul"], kinds["Gemm"]) == (3, 0, 0)
    assert kinds["DequantizeLinear"] == 1  # the convolution's


def test_rounding_is_within_half_a_step_of_each_channel() -> None:
    weights = normal(5, 4, 3) * np.array([1, 10, 100, 0], np.float32)[:, None]
    rounded, scale = round_symmetric(weights, 1)
    assert scale[:3] == pytest.approx(np.abs(weights).max(axis=(0, 2))[:3] / 127)
    assert (np.abs(rounded * scale[:, None] - weights) <= scale[:, None] * 0.5001).all()


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")  # PyTorch's exporter, of itself
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_transformers_answer_closely_at_every_length(tmp_path: Path, kind: str) -> None:
    source = transformer_artifact(tmp_path, kind)
    samples = np.load(tmp_path / "evaluation.npz")
    inputs = {"ids": samples["ids"], "mask": samples["mask"]}
    exported = made(source, *EXPORT)
    for name, steps in STEPS.items():
        quantized = made(source, *EXPORT, *steps)
        accuracy = Accuracy(RECIPES["onnx_fp32"].tolerance, False)
        prove_axes(predictor(quantized, 1), predictor(exported, 1), inputs, source.spec, accuracy)
        noise, ratio = noise_db(exported, quantized, inputs), exported.size_bytes / quantized.size_bytes
        print(f"{kind}, {name}: {noise:.1f} dB, {ratio:.2f} times smaller")
        assert noise > (10 if "int4" in name else 20)
        assert ratio > 2.3
        plain = made(source, *EXPORT, ToOpenVino()) if "openvino" in name else exported
        before, after = graph_facts(plain, 1), graph_facts(quantized, 1)
        assert (after.weights, after.flops) == (before.weights, before.flops)


@pytest.mark.parametrize("kind", STEPS)
def test_a_network_without_weights_is_told_of_in_one_sentence(tmp_path: Path, kind: str) -> None:
    source = graph_artifact(
        tmp_path, [helper.make_node("Add", ["x", "one"], ["y"])], {"one": normal(3)}, {"x": normal(4, 3)}
    )
    with pytest.raises(StepError, match=r"^small has no [\w ,]+; leave this variant out of the spec$"):
        made(source, *STEPS[kind])
