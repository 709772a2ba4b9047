"""What careless exports break: lengths that are fixed, writes in place, recurrent layers, and data types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from builder.build import BuildOptions, Listener, build
from builder.runtimes import predictor
from builder.source import source_artifact
from builder.spec import DEFAULT_VARIANTS
from builder.spec_file import load_spec
from builder.verify import predict_all
from tests.support.networks import FORMATS, factory_checkpoint, prove_variants, scores_of, torchscript, write_spec

RANDOM = np.random.default_rng(2)


FIXED_LENGTH = """
class Net(nn.Linear):
    def forward(self, x):
        return super().forward(x.sum(1) / int(x.shape[1]))


def make():
    return Net(4, 3)
"""


def test_a_length_that_tracing_fixed_is_named(tmp_path: Path) -> None:
    """At the samples' own length of 6, and so on all evaluation samples, the trace is right; at no other."""
    checkpoint, network = factory_checkpoint(tmp_path, FIXED_LENGTH)
    x = RANDOM.normal(size=(60, 6, 4)).astype(np.float32)
    spec = write_spec(
        tmp_path, checkpoint, [("x", "float32", ["S", 4])], [("scores", "float32", [3])], {"x": x}, scores_of(network),
        ("torch_fp32", "onnx_fp32"), axes={"S": {"min": 2, "opt": 6, "max": 7}},
    )  # fmt: skip
    report = build([spec], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener())
    rows = {row.variant: row for row in report.models[0].rows}
    assert rows["torch_fp32"].status == "failed"
    assert rows["torch_fp32"].reason.startswith("output 'scores' at axis S = 2 is off by ")
    assert not (tmp_path / "r" / "net_torch_fp32").exists()
    assert (rows["onnx_fp32"].status, rows["onnx_fp32"].reason) == ("published", "")


ALIASING = """
class Net(nn.Sequential):
    def forward(self, x):
        x += 1
        x[:, 0] = 2 * x[:, 1]
        view = x[:, 2:4]
        view.mul_(3)
        scores = super().forward(x).mean(1)
        scores[:, 0] -= 1
        return scores


def make():
    return Net(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
"""


def _written_in_place(x: np.ndarray, network: torch.nn.Module) -> np.ndarray:
    """`ALIASING` in numpy."""
    weights = [value.detach().numpy() for value in network.parameters()]
    x = x + 1
    x[:, 0] = 2 * x[:, 1]
    x[:, 2:4] *= 3
    scores = np.maximum(x @ weights[0].T + weights[1], 0).mean(axis=1) @ weights[2].T + weights[3]
    scores[:, 0] -= 1
    return np.asarray(scores)


def test_what_is_written_in_place_survives_every_export_and_the_callers_arrays_survive_it(tmp_path: Path) -> None:
    checkpoint, network = factory_checkpoint(tmp_path, ALIASING)
    x = RANDOM.normal(size=(120, 5, 8)).astype(np.float32)
    spec_file = write_spec(
        tmp_path, checkpoint, [("x", "float32", [5, 8])], [("scores", "float32", [3])], {"x": x}, scores_of(network),
        DEFAULT_VARIANTS,
    )  # fmt: skip
    proven, reasons = prove_variants(spec_file, DEFAULT_VARIANTS)
    assert reasons == {}
    with torchscript():
        for artifact in (source_artifact(load_spec(spec_file), tmp_path), *(proven[name] for name in FORMATS)):
            given = {"x": x[:5].copy()}
            answer = predictor(artifact, 1)(given)["scores"]
            assert np.abs(answer - _written_in_place(x[:5], network)).max() < 1e-4
            assert (given["x"] == x[:5]).all(), artifact.history


RECURRENT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.{kind}(4, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.cells(x)[0].mean(1))


def make():
    return Net()
"""


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_keep_their_dynamic_length_in_all_default_variants(tmp_path: Path, kind: str) -> None:
    checkpoint, network = factory_checkpoint(tmp_path, RECURRENT.replace("{kind}", kind))
    x = RANDOM.normal(size=(80, 6, 4)).astype(np.float32)
    spec = write_spec(
        tmp_path, checkpoint, [("x", "float32", ["S", 4])], [("scores", "float32", [3])], {"x": x}, scores_of(network),
        DEFAULT_VARIANTS, axes={"S": {"min": 1, "opt": 6, "max": 11}},
    )  # fmt: skip
    proven, reasons = prove_variants(spec, DEFAULT_VARIANTS)
    assert reasons == {}
    graph = onnx.load(proven["onnx_fp32"].path).graph
    assert [node.op_type for node in graph.node].count(kind) == 2  # one operator a layer, not a loop of small ones


TYPES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, small, large, half, single, flag):
        rows = self.table(large).mean(1) + small.sum(1, keepdim=True)
        kept = torch.where(flag, single, half.float())
        scores = self.head(torch.cat([rows, kept], 1))
        return scores, scores.argmax(1, keepdim=True), small + 1, half * 2, ~flag


def make():
    return Net()
"""


def test_several_inputs_and_outputs_of_all_common_types(tmp_path: Path) -> None:
    checkpoint, network = factory_checkpoint(tmp_path, TYPES)
    arrays = {
        "small": RANDOM.integers(-3, 4, (60, 2)).astype(np.int32),
        "large": RANDOM.integers(0, 10, (60, 5)),
        "half": RANDOM.normal(size=(60, 4)).astype(np.float16),
        "single": RANDOM.normal(size=(60, 4)).astype(np.float32),
        "flag": RANDOM.random((60, 4)) < 0.5,
    }
    inputs = [(name, array.dtype.name, array.shape[1:]) for name, array in arrays.items()]
    outputs = [
        ("scores", "float32", [3]), ("best", "int64", [1]), ("more", "int32", [2]), ("double", "float16", [4]),
        ("not", "bool", [4]),
    ]  # fmt: skip
    spec = write_spec(tmp_path, checkpoint, inputs, outputs, arrays, scores_of(network))
    # Half precision inside is what ONNX Runtime's folding adds casts for, which its conversion must live with.
    proven, reasons = prove_variants(spec, (*FORMATS, "onnx_fp16"))
    assert reasons == {}
    for artifact in proven.values():
        with torchscript():
            answer = predictor(artifact, 1)({name: array[:8] for name, array in arrays.items()})
        assert [answer[name].dtype.name for name, _, _ in outputs] == [dtype for _, dtype, _ in outputs]
        assert (answer["not"] == ~arrays["flag"][:8]).all()
        assert (answer["more"] == arrays["small"][:8] + 1).all()
        assert np.allclose(answer["double"], arrays["half"][:8] * 2)
        assert (answer["best"][:, 0] == answer["scores"].argmax(1)).all()


PAIR = """
class Net(nn.Module):
    def forward(self, left, right):
        return (left - right).float(), left * 2


def make():
    net = Net()
    net.register_buffer("unused", torch.zeros(1))
    return net
"""


def test_whole_numbers_beyond_32_bits_are_said_to_be_beyond_openvino(tmp_path: Path) -> None:
    checkpoint, network = factory_checkpoint(tmp_path, PAIR)
    arrays = {name: RANDOM.integers(0, 5, (40, 3)) * 2**38 for name in ("left", "right")}
    outputs = [("scores", "float32", [3]), ("twice", "int64", [3])]
    inputs = [(name, "int64", [3]) for name in arrays]
    spec = write_spec(tmp_path, checkpoint, inputs, outputs, arrays, scores_of(network))
    proven, reasons = prove_variants(spec, FORMATS)
    assert list(proven) == ["torch_fp32", "onnx_fp32"]
    assert "at the samples' own size is off by" in reasons["openvino_fp32"]


def test_the_networks_names_in_another_order_are_refused(tmp_path: Path) -> None:
    checkpoint, network = factory_checkpoint(tmp_path, PAIR)
    arrays = {name: RANDOM.integers(0, 5, (40, 3)) for name in ("right", "left")}
    outputs = [("scores", "float32", [3]), ("twice", "int64", [3])]
    inputs = [(name, "int64", [3]) for name in arrays]
    spec = write_spec(tmp_path, checkpoint, inputs, outputs, arrays, scores_of(network))
    _, reasons = prove_variants(spec, ("torch_fp32",))
    assert "the network's arguments are left, right, and the spec has inputs of these names" in reasons["torch_fp32"]


NAMES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, linear):
        rows = self.table(linear)
        return self.head(rows).sum(1), rows.mean(1)


def make():
    return Net()
"""


def test_names_that_the_exporter_uses_inside_are_free_for_inputs_and_outputs(tmp_path: Path) -> None:
    checkpoint, network = factory_checkpoint(tmp_path, NAMES)
    arrays = {"linear": RANDOM.integers(0, 10, (60, 5))}
    outputs = [("embedding", "float32", [3]), ("sum_1", "float32", [4])]
    spec = write_spec(tmp_path, checkpoint, [("linear", "int64", [5])], outputs, arrays, scores_of(network))
    assert prove_variants(spec, ("onnx_fp32", "openvino_fp32"))[1] == {}


def test_a_range_that_the_network_does_not_take_is_said_before_anything_is_built(tmp_path: Path) -> None:
    from core.errors import InputError

    checkpoint, network = factory_checkpoint(
        tmp_path,
        "class Net(nn.Linear):\n    def forward(self, x):\n        return super().forward(x[:, 2])\n\n\n"
        "def make():\n    return Net(4, 3)\n",
    )
    x = RANDOM.normal(size=(60, 6, 4)).astype(np.float32)
    spec = write_spec(
        tmp_path, checkpoint, [("x", "float32", ["S", 4])], [("scores", "float32", [3])], {"x": x}, scores_of(network),
        axes={"S": {"min": 2, "opt": 6, "max": 8}},
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"the checkpoint of net does not run at axis S = 2, which `axes` promises; In"
    ):
        build([spec], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener())
    assert not (tmp_path / "r").exists()


REUSING = """
class Net(nn.Linear):
    def forward(self, x):
        torch.mul(super().forward(x), 1, out=self.out[: len(x)])
        return self.out[: len(x)]


def make():
    net = Net(8, 3)
    net.out = torch.zeros(8, 3)
    return net
"""


def test_answers_stay_though_the_network_writes_the_next_ones_into_the_same_memory(tmp_path: Path) -> None:
    checkpoint, network = factory_checkpoint(tmp_path, REUSING)
    x = RANDOM.normal(size=(40, 8)).astype(np.float32)
    fresh = x @ network.weight.detach().numpy().T + network.bias.detach().numpy()  # type: ignore[union-attr,operator]
    spec_file = write_spec(
        tmp_path, checkpoint, [("x", "float32", [8])], [("scores", "float32", [3])], {"x": x}, lambda given: given["x"]
    )
    found = predict_all(predictor(source_artifact(load_spec(spec_file), tmp_path), 1), {"x": x}, 8)["scores"]
    assert np.abs(found - fresh).max() < 1e-5


def test_outputs_that_the_spec_does_not_have_are_counted(tmp_path: Path) -> None:
    from core.errors import InputError

    checkpoint, network = factory_checkpoint(tmp_path, PAIR)
    arrays = {name: RANDOM.integers(0, 5, (40, 3)) for name in ("left", "right")}
    inputs = [(name, "int64", [3]) for name in arrays]
    spec = write_spec(tmp_path, checkpoint, inputs, [("scores", "float32", [3])], arrays, scores_of(network))
    with pytest.raises(InputError, match="the network gives 2 outputs, and the spec has scores; write all of them"):
        build([spec], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener())
