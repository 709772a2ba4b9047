"""Every kind of checkpoint through the default recipes: programs, Hugging Face folders, old and new ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from builder.build import BuildOptions, Listener, build
from builder.errors import CheckpointError
from builder.graph import parameter_count
from builder.recipes import RECIPES
from builder.runtimes import predictor
from builder.spec import DEFAULT_VARIANTS
from builder.spec_file import load_spec
from core.results import BuildRow
from tests.support.networks import FORMATS, prove_variants, scores_of, tiny_bert, torchscript, write_spec
from tests.support.tiny import forward, onnx_model, onnx_spec, torch_spec

PRUNED = [name for name in DEFAULT_VARIANTS if name.startswith("pruned_")]
X = np.random.default_rng(5).normal(size=(120, 8)).astype(np.float32)


class Gated(nn.Module):
    """A network with a decision that only a script keeps: the data chooses between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, 8]` to `[N, 3]`."""
        if bool(x.sum() > 1e6):
            return self.first(x)
        return self.second(x)


def network(seed: int = 0) -> nn.Module:
    """A small perceptron that looks at its own batch size, as exporters tend to fix it."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x.reshape(x.shape[0], 2, 4)).mean(dim=1)

    torch.manual_seed(seed)
    return Net().eval()


def rows_of(folder: Path, spec: Path) -> dict[str, BuildRow]:
    """Builds, and gives the rows by variant."""
    report = build([spec], BuildOptions(folder / "repository", folder / "artifacts"), Listener())
    return {row.variant: row for row in report.models[0].rows}


def published(rows: dict[str, BuildRow]) -> dict[str, tuple[str, str]]:
    """Status and reason."""
    return {name: (row.status, row.reason) for name, row in rows.items()}


def goldens_are_of(folder: Path, rows: dict[str, BuildRow], original: nn.Module, tolerance: float = 1e-4) -> None:
    """Each published variant's own recorded answers are the original's."""
    for name in FORMATS:
        golden = np.load(folder / "repository" / rows[name].triton_name / "1" / "golden.npz")
        inputs = {key: golden[key] for key in golden.files if key.startswith("input/")}
        assert np.abs(golden["golden/scores"] - scores_of(original)(inputs)).max() < tolerance


def spec_of(folder: Path, checkpoint: dict[str, object], original: nn.Module, variants: tuple[str, ...]) -> Path:
    """A spec from `x` `[N, 8]` to `scores` `[N, 3]`."""
    tensors = [("x", "float32", [8])], [("scores", "float32", [3])]
    return write_spec(folder, checkpoint, *tensors, {"x": X}, scores_of(original), variants)


@pytest.mark.parametrize("kind", ["traced", "frozen", "scripted"])
def test_torchscript_goes_all_the_way(tmp_path: Path, kind: str) -> None:
    original = Gated().eval() if kind == "scripted" else network()
    with torchscript(), torch.no_grad():
        script = torch.jit.script(original) if kind == "scripted" else torch.jit.trace(original, torch.zeros(2, 8))
        torch.jit.save(torch.jit.freeze(script) if kind == "frozen" else script, tmp_path / "net.pt")
    variants = (*FORMATS, "onnx_int8_dynamic")
    spec = spec_of(tmp_path, {"torchscript": "net.pt", "trust": True}, original, variants)
    proven, reasons = prove_variants(spec, variants)
    assert reasons == {}
    with torchscript():
        for name in FORMATS:
            assert np.abs(predictor(proven[name], 1)({"x": X})["scores"] - scores_of(original)({"x": X})).max() < 1e-4
        assert parameter_count(load_spec(spec)) == (None if kind == "frozen" else 54 if kind == "scripted" else 131)
        stored = torch.jit.load(proven["torch_fp32"].path)
    assert ("prim::If" in str(stored.graph)) == (kind == "scripted")  # the decision is still there


def test_a_script_is_built_judged_and_published(tmp_path: Path) -> None:
    original = network()
    with torchscript(), torch.no_grad():
        torch.jit.save(torch.jit.trace(original, torch.zeros(2, 8)), tmp_path / "net.pt")
    checkpoint: dict[str, object] = {"torchscript": "net.pt", "trust": True}
    rows = rows_of(tmp_path, spec_of(tmp_path, checkpoint, original, (*FORMATS, "pruned_onnx_fp32")))
    pruned = rows.pop("pruned_onnx_fp32")
    assert published(rows) == dict.fromkeys(FORMATS, ("published", ""))
    assert pruned.status == "unavailable"
    assert "works on the layers of a PyTorch network, and a torchscript file has none" in pruned.reason
    goldens_are_of(tmp_path, rows, original)
    report = json.loads((tmp_path / "artifacts/net/build.json").read_text())
    assert (report["original_runtime"], report["original_parameters"]) == ("TorchScript", 131)


def test_an_exported_program_goes_all_the_way(tmp_path: Path) -> None:
    original = network()
    program = torch.export.export(
        original, (torch.zeros(2, 8),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    variants = tuple(name for name in DEFAULT_VARIANTS if name not in PRUNED)
    spec = spec_of(tmp_path, {"exported": "net.pt2", "trust": True}, original, (*FORMATS, "pruned_onnx_fp32"))
    rows = rows_of(tmp_path, spec)
    assert rows.pop("pruned_onnx_fp32").status == "unavailable"
    assert published(rows) == dict.fromkeys(FORMATS, ("published", ""))
    goldens_are_of(tmp_path, rows, original)
    assert prove_variants(spec, variants)[1] == {}


def test_a_program_exported_with_a_fixed_batch_is_refused_with_the_reason(tmp_path: Path) -> None:
    original = network()
    torch.export.save(torch.export.export(original, (torch.zeros(2, 8),)), tmp_path / "net.pt2")
    spec = spec_of(tmp_path, {"exported": "net.pt2", "trust": True}, original, FORMATS)
    with pytest.raises(CheckpointError, match=r"the checkpoint of net does not run .* to be equal to 2, but got 1"):
        rows_of(tmp_path, spec)
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(("pooling", "normalize", "head"), [("mean", True, False), ("cls", False, True)])
def test_a_hugging_face_folder_goes_all_the_way(tmp_path: Path, pooling: str, normalize: bool, head: bool) -> None:
    original = tiny_bert(tmp_path / "bert")
    random = np.random.default_rng(0)
    ids = random.integers(5, 60, (80, 7))
    mask = (np.arange(7) < random.integers(2, 8, (80, 1))).astype(np.int64)
    width = 3 if head else 16
    weight, bias = random.normal(size=(3, 16)).astype(np.float32), random.normal(size=3).astype(np.float32)

    def answer(arrays: dict[str, np.ndarray]) -> np.ndarray:
        """The same in numpy, from the encoder's own last state."""
        with torch.no_grad():
            state = original(
                torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["mask"])
            ).last_hidden_state.numpy()
        kept = arrays["mask"][:, :, None]
        vectors = state[:, 0] if pooling == "cls" else (state * kept).sum(1) / kept.sum(1)
        if normalize:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors @ weight.T + bias if head else vectors

    checkpoint: dict[str, object] = {"huggingface": "bert", "pooling": pooling, "normalize": normalize}
    if head:
        from safetensors.numpy import save_file

        save_file({"weight": weight, "bias": bias}, tmp_path / "head.safetensors")
        checkpoint["head"] = "head.safetensors"
    inputs = [("input_ids", "int64", ["S"]), ("attention_mask", "int64", ["S"])]
    arrays = {"input_ids": ids, "attention_mask": mask}
    variants = (*FORMATS, "onnx_int8_dynamic", "pruned_onnx_fp32") if head else FORMATS
    spec = write_spec(
        tmp_path, checkpoint, inputs, [("scores", "float32", [width])], arrays,
        lambda given: answer({"ids": given["input_ids"], "mask": given["attention_mask"]}),
        variants, axes={"S": {"min": 1, "opt": 8, "max": 16}},
    )  # fmt: skip
    proven, reasons = prove_variants(spec, variants)
    assert reasons == {}
    for name in FORMATS:
        with torchscript():
            got = predictor(proven[name], 1)(arrays)["scores"]
        assert np.abs(got - answer({"ids": ids, "mask": mask})).max() < 1e-4
    if head:
        weights = [
            onnx.numpy_helper.to_array(part) for part in onnx.load(proven["pruned_onnx_fp32"].path).graph.initializer
        ]
        zeros = [(part == 0).mean() for part in weights if part.ndim == 2 and part.size > 100]
        assert max(zeros) > 0.2


@pytest.mark.parametrize("opset", [14, 24])
def test_onnx_files_of_all_opsets_are_taken(tmp_path: Path, opset: int) -> None:
    variants = [name for name in DEFAULT_VARIANTS if name != "torch_fp32" and name not in PRUNED]
    spec = onnx_spec(tmp_path / "model", variants=", ".join(variants), max_drop="30pt")
    model = onnx_model()
    model.opset_import[0].version = opset
    onnx.save(model, tmp_path / "model" / "model.onnx")
    proven, reasons = prove_variants(spec, variants)
    assert reasons == {}
    assert np.abs(predictor(proven["openvino_fp32"], 1)({"x": X})["scores"] - forward(X)).max() < 1e-4
    assert onnx.load(proven["onnx_fp32"].path).opset_import[0].version == opset


def test_an_operator_that_the_exporter_lacks_is_named(tmp_path: Path) -> None:
    spec = torch_spec(tmp_path / "model", variants="torch_fp32, onnx_fp32")
    (tmp_path / "model" / "factory.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def forward(self, x):\n        return super().forward(x) + 0 * torch.special.bessel_j0(x[:, :3])\n\n\n"
        "def make():\n    return Net(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))\n"
    )
    rows = rows_of(tmp_path, spec)
    assert rows["torch_fp32"].status == "published"
    assert rows["onnx_fp32"].status == "failed"
    assert "the operator prims.bessel_j0 has no counterpart in ONNX" in rows["onnx_fp32"].reason
    assert "\n" not in rows["onnx_fp32"].reason
    assert not (tmp_path / "repository/tiny_onnx_fp32").exists()


def test_an_operator_that_openvino_lacks_is_named_and_the_other_runtime_goes_on(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model", variants="onnx_fp32, openvino_fp32", max_drop="100pt")
    model = onnx_model()
    square = [
        onnx.helper.make_node("Reshape", ["x", "square"], ["squares"]),
        onnx.helper.make_node("Det", ["squares"], ["volumes"]),
        onnx.helper.make_node("Add", ["gained", "volumes"], ["scores"]),
    ]
    model.graph.node[2].output[0] = "gained"
    model.graph.node.extend(square)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 1, 2, 2]), "square"))
    model.graph.node[3].input[0] = "x4"
    model.graph.node.insert(3, onnx.helper.make_node("Split", ["x"], ["x4", "rest"], axis=1, num_outputs=2))
    onnx.save(model, tmp_path / "model" / "model.onnx")
    rows = rows_of(tmp_path, spec)
    assert (rows["onnx_fp32"].status, rows["onnx_fp32"].reason) == ("published", "")
    assert rows["openvino_fp32"].status == "failed"
    assert rows["openvino_fp32"].reason.startswith("tiny: OpenVINO does not know Det-18 (operator and opset); leave")
    assert "\n" not in rows["openvino_fp32"].reason
    assert not (tmp_path / "repository/tiny_openvino_fp32").exists()


def test_a_file_whose_export_fixed_the_batch_is_told_so(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model")
    model = onnx_model()
    model.graph.node.insert(0, onnx.helper.make_node("Reshape", ["x", "one"], ["single"]))
    model.graph.node[1].input[0] = "single"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 8]), "one"))
    onnx.save(model, tmp_path / "model" / "model.onnx")
    with pytest.raises(
        CheckpointError, match=r"runs on one sample and not on a batch of 8: its batch axis is fixed"
    ) as e:
        rows_of(tmp_path, spec)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "repository").exists()


def test_every_default_variant_has_its_recipe() -> None:
    assert set(DEFAULT_VARIANTS) <= RECIPES.keys()
