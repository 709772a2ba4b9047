"""Low rank and shared weights on a network that has learned something, and a build that publishes both."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from builder.build import BuildOptions, Listener, build
from builder.codebooks import shared_bytes
from builder.edits import Factor, read_edits
from builder.errors import SpecError, StepError
from builder.source import load_torch
from builder.spec import ModelSpec
from builder.spec_compress import LayerFactoring, Training, WeightPruning, WeightSharing
from builder.spec_file import load_spec
from builder.steps.cluster_weights import ShareWeights
from builder.steps.low_rank import FactorLayers
from builder.steps.prune_weights import PruneWeights
from tests.support.quadrants import accuracy, made, quadrants, quadrants_spec, samples

# PyTorch's exporter copies what PyTorch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
ROOT = Path(__file__).parents[2]
BRIEF = Training(epochs=2, lr=2e-3, batch=50).model_dump()
KERNELS = ("stem.0", "body.0", "depth", "back", "head")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """More only wait for each other on networks of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return quadrants_spec(tmp_path_factory.mktemp("model"))


def low_rank(**settings: object) -> FactorLayers:
    return FactorLayers(LayerFactoring.model_validate({"step": "low_rank", **settings}))


def sharing(**settings: object) -> ShareWeights:
    return ShareWeights(WeightSharing.model_validate({"step": "cluster_weights", **settings}))


def values(network: nn.Module) -> dict[str, int]:
    """How many different ones each kernel has."""
    return {name: len(network.get_submodule(name).get_parameter("weight").unique()) for name in KERNELS}


def test_ranks_are_lower_and_what_is_left_answers_much_as_before(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = made(spec, tmp_path, low_rank(share=0.4, multiple=2, keep=["head"]))
    found, whole, said = load_torch(spec, artifact.path), load_torch(spec), capsys.readouterr().out
    assert [part.out_channels for part in found.body[0]] == [10, 20, 32]
    assert [part.out_channels for part in found.back] == [6, 16]
    assert "depth stays whole: depth is a convolution in 32 groups" in said
    assert re.search(r"back: rank 6, 44% of its arithmetic goes, 8\d\.\d% of its energy stays", said)
    product = found.back[1].weight.flatten(1) @ found.back[0].weight.flatten(1)
    assert int(torch.linalg.matrix_rank(product)) == 6 < int(torch.linalg.matrix_rank(whole.back.weight.flatten(1)))
    assert torch.equal(found.back[1].bias, whole.back.bias)
    assert accuracy(found) > accuracy(whole) - 0.1
    assert read_edits(artifact.folder) == (
        Factor(layer="stem.0", ranks=(1, 2)), Factor(layer="body.0", ranks=(10, 20)),
        Factor(layer="back", ranks=(32, 6)),
    )  # fmt: skip


def test_ranks_by_energy_are_trained_and_the_same_in_a_new_process(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what saves something is factored, and it keeps at least the energy that was asked for."""
    step = low_rank(energy=0.7, multiple=1, layers=["body.*", "back"], train=BRIEF)
    artifact = made(spec, tmp_path, step)
    said = capsys.readouterr().out
    kept = [float(value) for value in re.findall(r"goes, (\S+)% of its energy stays", said)]
    assert len(kept) == 2
    assert all(70 <= value < 80 for value in kept)
    assert "epoch 2 of 2: loss" in said
    found = load_torch(spec, artifact.path)
    untrained = load_torch(spec, made(spec, tmp_path, low_rank(energy=0.7, multiple=1, layers=["body.*", "back"])).path)
    assert not torch.equal(found.back[0].weight, untrained.back[0].weight)
    images, _ = samples(16, 7)
    np.save(tmp_path / "x.npy", images)
    subprocess.run(
        [sys.executable, "-c", ANSWER, spec.checkpoint.file.parent / "model.yaml", artifact.path, tmp_path],
        cwd=ROOT,
        check=True,
    )
    with torch.no_grad():
        assert np.array_equal(np.load(tmp_path / "answers.npy"), found(torch.from_numpy(images)).numpy())


ANSWER = """
import sys
from pathlib import Path
import numpy as np, torch
from builder.source import load_torch
from builder.spec_file import load_spec
torch.set_num_threads(1)
spec, weights, folder = map(Path, sys.argv[1:])
with torch.no_grad():
    network = load_torch(load_spec(spec), weights)
    np.save(folder / "answers.npy", network(torch.from_numpy(np.load(folder / "x.npy"))).numpy())
"""


def test_a_threshold_factors_as_far_as_the_held_out_samples_allow(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The heaviest layer first; the state that lost too much is not kept."""
    artifact = made(spec, tmp_path, low_rank(share=0.9, multiple=2, threshold="2pt", patience=2))
    trials = re.findall(r"(\S+): rank ([\d and]+), \d+% .* stays, (\S+) points are lost", capsys.readouterr().out)
    order = list(dict.fromkeys(name for name, *_ in trials))
    assert order == ["body.0", "back", "stem.0", "head"]
    edits = {edit.layer: edit.ranks for edit in read_edits(artifact.folder) if isinstance(edit, Factor)}
    whole = {"body.0": (16, 32), "back": (32, 16), "stem.0": (1, 16), "head": (64, 4)}
    limited = set()
    for layer in order:
        mine = [(ranks, float(lost)) for name, ranks, lost in trials if name == layer]
        good = [ranks for ranks, lost in mine if lost <= 2]
        kept = [str(r) for r, full in zip(edits.get(layer, whole[layer]), whole[layer], strict=True) if r < full]
        assert " and ".join(kept) == (good[-1] if good else "")
        limited |= {layer} if mine[-1][1] > 2 else set()
    assert limited  # a layer that was not taken as far as `share` allows
    assert accuracy(load_torch(spec, artifact.path)) > accuracy(load_torch(spec)) - 0.1


UNFIT = """
from torch import nn


class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 4)
        self.second.weight = self.first.weight
        self.read = nn.Linear(64, 64)
        self.grouped = nn.Conv1d(64, 64, 1, groups=4)

    def forward(self, x):
        x = self.first(x.flatten(1)).relu() * self.second(x.flatten(1))
        x = self.read(x.to(self.read.weight.dtype))
        return self.head(self.grouped(x[:, :, None])[:, :, 0])
"""


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"share": 0.5, "layers": ["first"]}, "first cannot be factored: first shares its weights with another layer"),
        ({"share": 0.5, "layers": ["grouped"]}, "grouped cannot be factored: grouped is a convolution in 4 groups"),
        (
            {"share": 0.5, "layers": ["read"]},
            "read cannot be factored: the network does not run with read in parts: 'Sequential' object has no",
        ),
        (
            {"share": 0.99, "multiple": 1, "layers": ["head"]},
            "head cannot be factored: no rank that is a multiple of 1 saves 99% of its arithmetic",
        ),
        (
            {"energy": 0.99, "layers": ["head"]},
            "head cannot be factored: the ranks that keep 99% of its energy save no arithmetic",
        ),
        ({"share": 0.5}, "quadrants has no layer that low_rank could factor: none can be, or no rank saves enough"),
        ({"share": 0.5, "layers": ["haed"]}, r"quadrants has no layer 'haed'; did you mean 'head'\?"),
    ],
)
def test_what_cannot_be_factored_is_refused(tmp_path: Path, settings: dict[str, object], sentence: str) -> None:
    unfit = quadrants_spec(tmp_path / "model", UNFIT)
    with pytest.raises(StepError, match=sentence) as caught:
        made(unfit, tmp_path, low_rank(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("techniques", "sentence"),
    [
        ([{"step": "low_rank"}], "low_rank goes by one of energy, such as 0.9, and share, such as 0.5; give one"),
        ([{"step": "low_rank", "share": 0.5, "energy": 0.5}], "low_rank goes by one of energy"),
        ([{"step": "low_rank", "energy": 0.5, "threshold": "1pt"}], "threshold finds the ranks itself; give share"),
        ([{"step": "cluster_weights", "bits": 9}], "less than or equal to 8"),
        (
            [{"step": "cluster_weights"}, {"step": "finetune"}],
            "compress.small: finetune would part the weights that cluster_weights makes share values; put "
            "cluster_weights last",
        ),
    ],
)
def test_a_spec_with_settings_that_do_not_go_together_is_refused(
    tmp_path: Path, techniques: list[dict[str, object]], sentence: str
) -> None:
    with pytest.raises(SpecError, match=re.escape(sentence)):
        load_spec(quadrants(tmp_path, {"small": techniques}))


def test_training_moves_the_shared_values_and_keeps_them_shared(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned = PruneWeights(WeightPruning(step="prune_weights", share=0.6))
    artifacts = [
        made(spec, tmp_path, pruned, sharing(bits=1, keep=["head"], **more)) for more in ({}, {"train": BRIEF})
    ]
    plain, trained = (load_torch(spec, artifact.path) for artifact in artifacts)
    found = values(trained)
    assert {**values(plain), "head": 0} == {**found, "head": 0} == {**dict.fromkeys(KERNELS, 2), "head": 0}
    assert found["head"] > 100  # it was kept, though half of it has been pruned
    for name in KERNELS[:-1]:
        before, after = (net.get_submodule(name).get_parameter("weight") for net in (plain, trained))
        assert torch.equal(before == 0, after == 0)
        for value in before.unique():
            assert len(after[before == value].unique()) == 1
    assert not torch.equal(plain.depth.weight, trained.depth.weight)
    losses = [float(loss) for loss in re.findall(r"epoch \d of 2: loss (\S+),", capsys.readouterr().out)]
    assert losses[-1] < losses[0]
    whole = load_torch(spec)
    count = sum(whole.get_submodule(name).get_parameter("weight").numel() for name in KERNELS[:-1])
    head = min(4 * 256, 256 + 4 * found["head"])
    assert shared_bytes(trained) == shared_bytes(whole) - 4 * count + count // 8 + 4 * 2 * 4 - (4 * 256 - head)
    with pytest.raises(StepError, match="quadrants has no kernel whose weights could be shared that `keep` does not"):
        made(spec, tmp_path, sharing(keep=["*"]))


def test_a_build_publishes_both_and_says_what_they_save(tmp_path: Path) -> None:
    path = quadrants(
        tmp_path / "model",
        {
            "lowrank": [{"step": "low_rank", "share": 0.4, "multiple": 4}, {"step": "finetune", "epochs": 1}],
            "few": [{"step": "cluster_weights", "bits": 3}],
        },
        ("lowrank_onnx_fp32", "few_onnx_fp32"),
    )
    rows = {
        row.variant: row
        for row in build([path], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener()).models[0].rows
    }
    assert {name: (row.status, row.reason) for name, row in rows.items()} == dict.fromkeys(rows, ("published", ""))
    few, low = rows["few_onnx_fp32"], rows["lowrank_onnx_fp32"]
    assert few.graph is not None
    assert low.graph is not None
    assert few.graph.flops == 711168
    assert low.graph.flops == 711168 - 2 * 64 * (4608 - 1792) - 2 * 64 * (512 - 192)  # body.0 and back
    assert low.history == ("low_rank", "finetune", "export_onnx", "fold_onnx")
    file = onnx.load(tmp_path / "r/quadrants_lowrank_onnx_fp32/1/model.onnx")
    assert {(8, 16, 1, 1), (16, 8, 3, 3), (32, 16, 1, 1)} <= {tuple(v.dims) for v in file.graph.initializer}
    assert few.size_bytes is not None
    assert few.size_bytes > 4 * few.graph.weights  # the runtime's file gains nothing
    assert low.shared_bytes is None
    assert few.shared_bytes == 3330
