"""Quantization-aware training, on small networks whose own decisions are the labels: seeded, in seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import save_file

from builder.artifact import Artifact
from builder.build import BuildOptions, Listener, build
from builder.errors import DataError, StepError
from builder.keys import make_keys
from builder.runtimes import predictor
from builder.source import load_torch, source_artifact
from builder.spec_file import load_spec
from builder.step import run_recipe
from builder.steps.fold_onnx import FoldOnnx
from builder.steps.train_quantized import TrainQuantized
from core.tensors import Arrays
from tests.support.tiny import onnx_spec

# PyTorch's exporter copies what PyTorch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
SPEC = """\
name: small
checkpoint: {{state_dict: small.safetensors, factory: factory.py:make}}
inputs:
  - {{name: x, dtype: float32, dims: {dims}}}
outputs:
  - {{name: scores, dtype: float32, dims: [5]}}
batch: {{max: 8}}
data: {{calibration: calibration.npz, evaluation: evaluation.npz, training: training.npz}}
metric: {{name: top1, output: scores}}
gates: {{max_drop: 5pt}}
variants: [onnx_int8_qat, openvino_int8_qat]
"""
# Batch norms, ReLUs and a sum computed in place, a branch that two layers use, pools, a last layer.
CONVOLUTIONS = """
from torch import nn


class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8 * 4, 5)

    def forward(self, x):
        x = self.pool(self.first(x))
        y = self.second(x)
        y += x
        return self.head(nn.functional.avg_pool2d(y.relu_(), 2).flatten(1))
"""
# Linear layers on three axes with and without bias, one of them tied to another place, attention, a layer norm.
ATTENTION = """
from torch import nn


class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(8, 16)
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.back = nn.Linear(16, 8, bias=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        y = self.norm(self.lift(x))
        y = y + self.attention(y, y, y, need_weights=False)[0]
        y = self.back(y.relu()) + nn.functional.linear(y, self.lift.weight.t())
        return self.head(y.mean(1))
"""
NETWORKS = {"convolutions": (CONVOLUTIONS, (2, 8, 8)), "attention": (ATTENTION, (6, 8))}
QUANTIZED = {"convolutions": {"Conv": 2, "Gemm": 1}, "attention": {"MatMul": 3, "Gemm": 2}}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """More only wait for each other on networks of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(folder: Path, kind: str = "convolutions") -> Path:
    """The spec of an untrained network, whose decisions have thin margins, with data in `folder`."""
    source, shape = NETWORKS[kind]
    folder.mkdir(exist_ok=True)
    (folder / "factory.py").write_text(source)
    path = folder / "small.yaml"
    path.write_text(SPEC.format(dims=list(shape)))
    torch.manual_seed(0)
    scope: dict[str, type[torch.nn.Module]] = {}
    exec(source, scope)
    network = scope["make"]()
    with torch.no_grad():
        network.head.weight.mul_(10)  # answers that differ, as a trained network's do
    for _ in range(20):
        network(torch.randn(64, *shape))  # the batch norms' statistics
    save_file(network.state_dict(), folder / "small.safetensors")
    network.eval()
    for name, count in (("calibration", 64), ("training", 400), ("evaluation", 400)):
        x = torch.randn(count, *shape)
        label = network(x).argmax(1).numpy()
        np.savez(folder / f"{name}.npz", x=x.numpy(), label=label)
    return path


def trained(path: Path, step: TrainQuantized, cache: Path) -> Artifact:
    """The step's result, folded as in the recipes."""
    return run_recipe((step, FoldOnnx()), source_artifact(load_spec(path), cache), cache)


def samples(path: Path) -> tuple[Arrays, np.ndarray]:
    """The evaluation's inputs and the original's decisions."""
    with np.load(path.parent / "evaluation.npz") as data:
        return {"x": data["x"]}, data["label"]


def test_training_recovers_what_rounding_to_few_bits_loses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small(tmp_path / "model")
    inputs, labels = samples(path)
    wrong = []
    for epochs, lr in ((1, 1e-9), (12, 2e-3)):
        artifact = trained(path, TrainQuantized(epochs=epochs, lr=lr, batch=16, bits=4), tmp_path / "cache")
        scores = predictor(artifact, 1)(inputs)["scores"]
        wrong.append(float((scores.argmax(1) != labels).mean()))
    before, after = wrong
    assert before > 0.1
    assert after < before / 2
    losses = [
        float(loss) for loss in re.findall(r"epoch \d+ of 12: loss (\S+) on 40 held-out", capsys.readouterr().out)
    ]
    assert len(losses) == 13
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_exported_is_what_was_trained(tmp_path: Path, kind: str) -> None:
    path = small(tmp_path / "model", kind)
    step = TrainQuantized(epochs=1, samples=100)
    artifact = trained(path, step, tmp_path / "cache")
    network = step.train(source_artifact(load_spec(path), tmp_path / "cache"))
    inputs, _ = samples(path)
    run = predictor(artifact, 1)
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs["x"])).numpy()
        original = load_torch(load_spec(path))(torch.from_numpy(inputs["x"])).numpy()
    step_size = np.ptp(expected) / 255
    assert np.abs(expected - original).max() > step_size / 10  # it does round
    for batch in (1, 2, 3, 8):
        found = run({"x": inputs["x"][:batch]})["scores"]
        assert found.shape == (batch, 5)
        assert np.abs(found - expected[:batch]).max() < step_size


@pytest.mark.parametrize("kind", NETWORKS)
def test_layers_stand_between_quantizers_and_weights_keep_a_bit_of_headroom(tmp_path: Path, kind: str) -> None:
    artifact = trained(small(tmp_path / "model", kind), TrainQuantized(epochs=1, samples=100), tmp_path / "cache")
    graph = onnx.load(artifact.path).graph
    makers = {name: node for node in graph.node for name in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in makers:
            continue
        if makers[node.input[1]].op_type == "DequantizeLinear":
            found[node.op_type] = found.get(node.op_type, 0) + 1
            weight, activation = (makers[name] for name in (node.input[1], node.input[0]))
            stored = values[weight.input[0]]
            assert stored.dtype == np.int8
            assert 0 < np.abs(stored.astype(int)).max() <= 63
            assert values[weight.input[1]].size == stored.shape[1 if node.op_type == "MatMul" else 0]
            assert activation.op_type == "DequantizeLinear"
            assert makers[activation.input[0]].op_type == "QuantizeLinear"
    assert found == QUANTIZED[kind]
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


def test_both_variants_are_published_and_compute_in_integers(tmp_path: Path) -> None:
    path = small(tmp_path / "model")
    rows = build([path], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener()).models[0].rows
    assert [(row.variant, row.status, row.reason) for row in rows] == [
        ("onnx_int8_qat", "published", ""),
        ("openvino_int8_qat", "published", ""),
    ]
    of_onnx, of_openvino = (row.graph for row in rows)
    assert of_onnx is not None
    assert of_onnx.executed["QLinearConv"] == 2
    assert of_onnx.executed["QGemm"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm"} & set(of_onnx.executed)
    assert of_openvino is not None
    assert of_openvino.executed_precisions["i8"] >= 3  # type: ignore[index]
    assert "epoch 5 of 5: loss" in (tmp_path / "a" / "small" / "build.log").read_text()


def test_the_same_again(tmp_path: Path) -> None:
    path = small(tmp_path / "model")
    step = TrainQuantized(epochs=1, lr=2e-3, bits=4)
    assert trained(path, step, tmp_path / "one").sha256 == trained(path, step, tmp_path / "two").sha256


def test_an_onnx_checkpoint_is_unavailable_and_not_silently_left_as_it_is(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model", variants="onnx_int8_qat, openvino_int8_qat")
    rows = build([spec], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener()).models[0].rows
    reason = "the checkpoint is an ONNX file, and train_quantized works on a PyTorch network"
    assert [(row.status, row.reason) for row in rows] == [("unavailable", reason)] * 2


def test_other_training_data_is_another_result_and_none_means_the_calibration_samples(tmp_path: Path) -> None:
    path = small(tmp_path / "model")
    step, folder = TrainQuantized(epochs=1, lr=2e-3, bits=4), tmp_path / "model"
    keys, results = [], []

    def note() -> None:
        keys.append(make_keys(load_spec(path)).base)
        results.append(trained(path, step, tmp_path / "cache"))

    note()
    np.savez(folder / "training.npz", x=np.random.default_rng(7).normal(size=(100, 2, 8, 8)).astype(np.float32))
    note()
    path.write_text(path.read_text().replace(", training: training.npz", ""))
    note()
    assert len(set(keys)) == len({result.key for result in results}) == len({result.sha256 for result in results}) == 3


def test_training_and_evaluation_share_no_sample(tmp_path: Path) -> None:
    path = small(tmp_path / "model")
    (tmp_path / "model" / "training.npz").write_bytes((tmp_path / "model" / "evaluation.npz").read_bytes())
    with pytest.raises(DataError, match=r"400 samples stand in both training\.npz and evaluation\.npz"):
        build([path], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener())
    (tmp_path / "model" / "training.npz").unlink()
    with pytest.raises(DataError, match=r"training\.npz cannot be read: No such file or directory; correct `data`"):
        build([path], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener())


NO_LAYER = """
from torch import nn

make = nn.Flatten
"""
ONE_LAYER = """
from torch import nn


def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 5))
"""
BY_VALUE = """
from torch import nn


class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(128, 5)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x) if x.sum() > 0 else self.head(-x)
"""


@pytest.mark.parametrize(
    ("source", "count", "sentence"),
    [
        (NO_LAYER, 20, "small has no convolution or linear layer that could be quantized"),
        (ONE_LAYER, 9, "small has 9 samples to train on; give 10 or more, better 1000"),
        (BY_VALUE, 20, "small cannot be quantized for training, since torch.export does not follow it: "),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(
    tmp_path: Path, source: str, count: int, sentence: str
) -> None:
    folder = tmp_path / "model"
    path = small(folder)
    (folder / "factory.py").write_text(source)
    scope: dict[str, type[torch.nn.Module]] = {}
    exec(source, scope)
    save_file(scope["make"]().state_dict(), folder / "small.safetensors")
    np.savez(folder / "training.npz", x=np.ones((count, 2, 8, 8), np.float32))
    with pytest.raises(StepError, match=sentence) as raised:
        trained(path, TrainQuantized(), tmp_path / "cache")
    assert "\n" not in str(raised.value)
