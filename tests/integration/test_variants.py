"""The recipes on real models: what a variant's file holds and what its runtime makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from builder.advice import GENTLER, gentler, int8_advice
from builder.artifact import Artifact
from builder.build import BuildOptions, Listener, build
from builder.graph import graph_facts, parameter_count
from builder.recipes import RECIPES
from builder.source import load_torch, source_artifact
from builder.spec import DEFAULT_VARIANTS
from builder.spec_compress import WeightPruning
from builder.spec_file import load_spec
from builder.step import run_recipe
from builder.steps.fold_onnx import FoldOnnx
from builder.steps.prune_weights import PruneWeights
from core.results import BuildReport, BuildRow
from tests.support.tiny import onnx_spec, torch_spec

EXAMPLE = Path(__file__).parents[2] / "examples/fashion/model.yaml"
MACS = 47_442_368  # of one image, by hand: every convolution's output size times its kernel, and the last layer
WEIGHTS = 295_136  # kernels of the eleven convolutions and the last layer


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildReport, list[str]]:
    """The example with all its variants: (folder, report, the advice that was given)."""
    folder = tmp_path_factory.mktemp("variants")
    told: list[str] = []
    listener = Listener(on_advice=lambda _, sentences: told.extend(sentences))
    return folder, build([EXAMPLE], BuildOptions(folder / "repository", folder / "artifacts"), listener), told


@pytest.fixture(scope="module")
def rows(report: tuple[Path, BuildReport, list[str]]) -> dict[str, BuildRow]:
    """The report's rows by variant."""
    return {row.variant: row for row in report[1].models[0].rows}


def test_all_nine_variants_are_built(rows: dict[str, BuildRow]) -> None:
    assert list(rows) == list(DEFAULT_VARIANTS)
    published = dict.fromkeys(DEFAULT_VARIANTS, ("published", ""))
    assert {name: (row.status, row.reason) for name, row in rows.items()} == published


@pytest.mark.parametrize("variant", DEFAULT_VARIANTS)
def test_weights_and_arithmetic_are_counted_alike_in_every_format(rows: dict[str, BuildRow], variant: str) -> None:
    graph = rows[variant].graph
    assert graph is not None
    assert (graph.weights, graph.flops) == (WEIGHTS, 2 * MACS)
    assert graph.operators


def test_the_parameters_of_the_original_are_counted(report: tuple[Path, BuildReport, list[str]]) -> None:
    assert report[1].models[0].original_parameters == 296_554


def test_int8_files_are_three_times_smaller(rows: dict[str, BuildRow]) -> None:
    for variant, base in (
        ("onnx_int8_dynamic", "onnx_fp32"),
        ("onnx_int8_static", "onnx_fp32"),
        ("openvino_int8", "openvino_fp32"),
        ("pruned_openvino_int8", "openvino_fp32"),
    ):
        assert rows[base].size_bytes >= 3 * rows[variant].size_bytes  # type: ignore[operator]
    assert rows["openvino_fp32"].size_bytes >= 1.8 * rows["openvino_fp16"].size_bytes  # type: ignore[operator]


def test_what_is_executed_has_the_precision_that_the_name_says(rows: dict[str, BuildRow]) -> None:
    executed = {variant: row.graph for variant, row in rows.items()}
    fp32 = executed["openvino_fp32"].executed_precisions  # type: ignore[union-attr]
    assert set(fp32) <= {"f32", "i32", "i64"}  # not bfloat16, whatever the CPU can
    assert executed["openvino_int8"].executed_precisions["i8"] >= 12  # type: ignore[union-attr]
    half = executed["openvino_fp16"].executed_precisions  # type: ignore[union-attr]
    assert half == fp32  # the kernels', not the weights'
    assert executed["onnx_int8_static"].executed["QLinearConv"] == 11  # type: ignore[union-attr]
    assert executed["onnx_int8_dynamic"].executed["ConvInteger"] == 11  # type: ignore[union-attr]
    assert executed["onnx_fp32"].executed["Conv"] == 11  # type: ignore[union-attr]
    assert "Relu" in executed["onnx_fp32"].operators  # type: ignore[union-attr]
    assert "Relu" not in executed["onnx_fp32"].executed  # type: ignore[union-attr]  # fused at load


def test_noise_is_ordered_as_the_methods_are(rows: dict[str, BuildRow]) -> None:
    noise = {variant: row.verdict.sqnr_db["logits"] for variant, row in rows.items()}  # type: ignore[union-attr]
    assert min(noise["torch_fp32"], noise["onnx_fp32"], noise["openvino_fp32"]) > 100
    assert 50 < noise["openvino_fp16"] < noise["openvino_fp32"]
    assert 15 < noise["openvino_int8"] < noise["openvino_fp16"]
    assert 15 < noise["onnx_int8_static"] < noise["onnx_fp32"]


def test_pruning_is_reported_and_kept_by_quantization(rows: dict[str, BuildRow]) -> None:
    for variant, row in rows.items():
        sparsity = row.graph.sparsity  # type: ignore[union-attr]
        assert sparsity is not None
        if variant.startswith("pruned_"):
            assert sparsity == pytest.approx(0.3, abs=0.002) or sparsity > 0.3
        else:
            assert sparsity < 0.05
    assert rows["pruned_onnx_fp32"].graph.sparsity == pytest.approx(0.3, abs=1e-4)  # type: ignore[union-attr]


def test_advice_comes_before_building_and_stays_in_the_report(report: tuple[Path, BuildReport, list[str]]) -> None:
    assert tuple(report[2]) == report[1].models[0].advice != ()


def test_advice_follows_the_flags() -> None:
    assert "AMX" in int8_advice(["amx_int8", "avx512_vnni", "avx2"])[0]
    assert "VNNI instructions: four" in int8_advice(["avx2", "avx_vnni"])[0]
    assert "no VNNI" in int8_advice(["avx2"])[0]
    assert "neither" in int8_advice([])[0]


def test_a_rejected_variant_names_what_else_to_try_in_its_runtime() -> None:
    assert all({name, *others} <= RECIPES.keys() for name, others in GENTLER.items())
    assert gentler("openvino_int8", ["openvino_int8"]) == (
        "; try `variants`: openvino_int8_mixed keeps the worst layers in float, "
        "openvino_int8_smooth is for transformers"
    )
    assert "mixed" not in gentler("openvino_int8", ["openvino_int8", "openvino_int8_mixed"])
    assert gentler("onnx_fp32", []) == ""
    assert gentler("small_onnx_int8_dynamic", []) == "; try `variants`: small_onnx_int8_weights computes in float"
    assert gentler("small_onnx_int8_dynamic", ["small_onnx_int8_weights"]) == ""


def test_pruning_takes_the_smallest_weights_of_the_whole_network(tmp_path: Path) -> None:
    spec = load_spec(torch_spec(tmp_path / "model"))
    source = source_artifact(spec, tmp_path / "cache")
    step = PruneWeights(WeightPruning(step="prune_weights", share=0.25))
    pruned = run_recipe((step,), source, tmp_path / "cache")
    before, after = load_torch(spec).state_dict(), load_torch(spec, pruned.path).state_dict()
    kernels = np.concatenate([before[name].numpy().ravel() for name in ("0.weight", "2.weight")])
    limit = np.sort(np.abs(kernels))[len(kernels) // 4 - 1]
    for name, value in before.items():
        expected = np.where(np.abs(value.numpy()) <= limit, 0, value.numpy()) if "weight" in name else value.numpy()
        assert (after[name].numpy() == expected).all()


def test_pruned_variants_of_an_onnx_checkpoint_are_unavailable_and_not_silently_dense(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model", variants="onnx_fp32, pruned_onnx_fp32, pruned_openvino_int8")
    options = BuildOptions(tmp_path / "repository", tmp_path / "artifacts")
    rows = build([spec], options, Listener()).models[0].rows
    assert [row.status for row in rows] == ["published", "unavailable", "unavailable"]
    assert rows[1].reason == "the checkpoint is an ONNX file, and prune_weights works on a PyTorch network"
    assert parameter_count(load_spec(spec)) is None


def test_folding_leaves_a_file_for_any_runtime(tmp_path: Path) -> None:
    """A graph with a batch norm, constants to fold and an identity."""
    folder = tmp_path / "model"
    spec_file = onnx_spec(folder)
    ones, weight = np.ones(3, np.float32), np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    constants = {"w": weight, "two": 2 * ones, "three": 3 * ones}
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["two", "three"], ["five"]),
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("MatMul", ["same", "w"], ["product"]),
            helper.make_node("Add", ["product", "five"], ["scores"]),
        ],
        "foldable",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), folder / "model.onnx"
    )
    source = source_artifact(load_spec(spec_file), tmp_path / "cache")
    folded: Artifact = run_recipe((FoldOnnx(),), source, tmp_path / "cache")
    model = onnx.load(folded.path)
    assert [node.op_type for node in model.graph.node] in (["MatMul", "Add"], ["Gemm"])
    assert [entry.domain for entry in model.opset_import] == [""]
    facts = graph_facts(folded, 1)
    assert (facts.weights, facts.flops) == (24, 48)


def test_a_graph_that_openvino_cannot_read_is_published_without_its_counts(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    spec = onnx_spec(folder)
    model = onnx.load(folder / "model.onnx")
    model.graph.node[1].op_type, model.graph.node[1].domain = "Binarizer", "ai.onnx.ml"
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(model, folder / "model.onnx")
    artifact = source_artifact(load_spec(spec), tmp_path / "cache")
    facts = graph_facts(artifact, 1)
    assert facts.operators == {"Gemm": 2, "Binarizer": 1}
    assert (facts.weights, facts.sparsity, facts.flops) == (None, None, None)


@pytest.mark.parametrize(("opset", "ir_version"), [(11, 6), (21, 14)])
def test_an_old_or_new_onnx_file_becomes_one_that_all_steps_and_runtimes_take(
    tmp_path: Path, opset: int, ir_version: int
) -> None:
    spec = onnx_spec(tmp_path / "model", variants="onnx_fp32, onnx_int8_static, openvino_int8", max_drop="20pt")
    path = tmp_path / "model" / "model.onnx"
    model = onnx.load(path)
    model.ir_version, model.opset_import[0].version = ir_version, opset
    onnx.save(model, path)
    rows = build([spec], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener()).models[0].rows
    assert [(row.status, row.reason) for row in rows] == [("published", "")] * 3
    for row in rows[:2]:
        stored = onnx.load(tmp_path / "r" / row.triton_name / "1" / "model.onnx")
        assert stored.ir_version <= 10
        assert 14 <= stored.opset_import[0].version <= 21


RECURRENT = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(4, 6, batch_first=True)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        y = self.cells(x.reshape(-1, 2, 4))[0]
        return self.head(self.attention(y, y, y)[0][:, -1])
"""


def test_a_recurrent_network_is_pruned_whole_and_not_half_counted(tmp_path: Path) -> None:
    path = torch_spec(tmp_path / "model", variants="torch_fp32, onnx_fp32, pruned_onnx_fp32", max_drop="100pt")
    (tmp_path / "model" / "factory.py").write_text(RECURRENT + "\n\nmake = Net\n")
    scope: dict[str, Any] = {}
    exec(RECURRENT, scope)
    torch.manual_seed(0)
    save_file(scope["Net"]().state_dict(), tmp_path / "model" / "tiny.safetensors")
    rows = build([path], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener()).models[0].rows
    assert [(row.status, row.reason) for row in rows] == [("published", "")] * 3
    assert [(row.graph.weights, row.graph.flops) for row in rows if row.graph] == [(None, None)] * 3
    step = PruneWeights(WeightPruning(step="prune_weights", share=0.5))
    pruned = run_recipe((step,), source_artifact(load_spec(path), tmp_path / "c"), tmp_path / "c")
    state = load_torch(load_spec(path), pruned.path).state_dict()
    weights = [value for name, value in state.items() if "weight" in name]
    assert sum(int((w == 0).sum()) for w in weights) == sum(w.numel() for w in weights) // 2
