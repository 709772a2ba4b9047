"""Compressions on a network that has learned something: each does what its name says, and a build publishes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from builder.artifact import Artifact
from builder.build import BuildOptions, Listener, build
from builder.edits import RemoveChannels, read_edits
from builder.errors import CheckpointError, StepError
from builder.keys import make_keys
from builder.recipes import recipe_of
from builder.source import load_torch
from builder.spec import ModelSpec
from builder.spec_compress import ChannelPruning, FineTuning, LotteryTicket, Training, WeightPruning
from builder.spec_file import load_spec
from builder.step import step_key
from builder.steps import lottery_ticket
from builder.steps.fine_tune import FineTune
from builder.steps.lottery_ticket import DrawTicket
from builder.steps.prune_channels import PruneChannels, channels_left
from builder.steps.prune_weights import PruneWeights, cubic
from tests.support.quadrants import accuracy, fresh, made, quadrants, quadrants_spec, samples
from tests.support.tiny import onnx_spec

# PyTorch's exporter copies what PyTorch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
BRIEF = Training(epochs=2, lr=2e-3, batch=50)


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


def network(spec: ModelSpec, artifact: Artifact) -> nn.Module:
    return load_torch(spec, artifact.path)


def zeros(found: nn.Module) -> dict[str, float]:
    """The share of zeros in each kernel."""
    return {name: float((v == 0).float().mean()) for name, v in found.named_parameters() if v.dim() > 1}


def weights(share: float, **more: object) -> PruneWeights:
    return PruneWeights(WeightPruning.model_validate({"step": "prune_weights", "share": share, **more}))


def channels(share: float, **more: object) -> PruneChannels:
    return PruneChannels(ChannelPruning.model_validate({"step": "prune_channels", "share": share, **more}))


def ticket(share: float, **more: object) -> DrawTicket:
    return DrawTicket(LotteryTicket.model_validate({"step": "lottery_ticket", "share": share, **more}))


TUNE = FineTune(FineTuning(step="finetune", **BRIEF.model_dump()))


def test_fine_tuning_keeps_the_zeros_and_recovers_what_they_cost(spec: ModelSpec, tmp_path: Path) -> None:
    pruned, tuned = (network(spec, made(spec, tmp_path, weights(0.9), *more)) for more in ((), (TUNE,)))
    assert accuracy(tuned) > accuracy(pruned) + 0.05
    assert zeros(tuned) == zeros(pruned)
    count = sum(value.numel() for name, value in pruned.named_parameters() if name in zeros(pruned))
    lost = sum(int((value == 0).sum()) for name, value in pruned.named_parameters() if name in zeros(pruned))
    assert lost == round(0.9 * count)
    layerwise = zeros(network(spec, made(spec, tmp_path, weights(0.75, scope="layer"))))
    assert set(layerwise.values()) == {0.75}
    assert len(set(zeros(pruned).values())) > 1


def test_the_control_loses_more_than_the_smallest_weights(spec: ModelSpec, tmp_path: Path) -> None:
    found = {by: accuracy(network(spec, made(spec, tmp_path, weights(0.6, by=by)))) for by in ("magnitude", "random")}
    assert found["magnitude"] > found["random"] + 0.1


def test_a_gradual_schedule_rises_while_it_trains_and_ends_at_its_share(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    def note(self: PruneWeights, found: nn.Module, share: float) -> dict[str, torch.Tensor]:
        shares.append(share)
        return masks(self, found, share)

    masks = PruneWeights._masks
    monkeypatch.setattr(PruneWeights, "_masks", note)
    step = weights(0.8, gradual=True, train=Training(epochs=4, lr=2e-3, batch=50).model_dump())
    found = network(spec, made(spec, tmp_path, step))
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 0.8
    assert len(set(shares)) > 10
    kernels = [value for name, value in found.named_parameters() if name in zeros(found)]
    assert sum(int((v == 0).sum()) for v in kernels) == round(0.8 * sum(v.numel() for v in kernels))
    assert accuracy(found) > 0.6
    assert [cubic(0.8, at) for at in (0, 0.5, 1)] == pytest.approx([0, 0.7, 0.8])


def test_channels_go_with_all_that_depends_on_them(spec: ModelSpec, tmp_path: Path) -> None:
    artifact = made(spec, tmp_path, channels(0.5), TUNE)
    found = network(spec, artifact)
    assert (found.stem[0].out_channels, found.back.out_channels, found.body[0].in_channels) == (8, 8, 8)
    assert (found.body[0].out_channels, found.depth.groups, found.back.in_channels) == (16, 16, 16)
    assert (found.head.in_features, found.head.out_features) == (32, 4)  # what is answered stays
    before = sum(value.numel() for value in load_torch(spec).parameters())
    assert sum(value.numel() for value in found.parameters()) < 0.35 * before
    assert accuracy(found) > accuracy(load_torch(spec)) - 0.1
    edits = read_edits(artifact.folder)
    assert [edit.layer for edit in edits if isinstance(edit, RemoveChannels)] == ["stem.0", "body.0"]
    assert edits == read_edits(made(spec, tmp_path, channels(0.5)).folder)


def test_the_channels_that_matter_least_go(spec: ModelSpec, tmp_path: Path) -> None:
    """By the norm over all weights of the group; at random it is others, and it costs more."""
    folder = tmp_path / "model"
    state = load_file(spec.checkpoint.file)
    quiet = [1, 4, 6, 20, 21, 22, 30, 31]
    for name in ("body.0.weight", "body.1.weight", "body.1.bias", "depth.weight", "depth.bias"):
        state[name][quiet] *= 1e-3
    state["back.weight"][:, quiet] *= 1e-3
    prepared = load_spec(quadrants(folder))
    save_file(state, folder / "net.safetensors")
    gone = {}
    for by in ("l1", "l2", "random"):
        artifact = made(prepared, tmp_path, channels(0.25, by=by, layers=["body.0"]))
        (edit,) = read_edits(artifact.folder)
        assert isinstance(edit, RemoveChannels)
        gone[by] = list(edit.channels)
    assert gone["l1"] == gone["l2"] == quiet
    assert gone["random"] != quiet


@pytest.mark.parametrize(
    ("count", "share", "multiple", "left"),
    [
        (32, 0.5, 8, 16),
        (32, 0.6, 8, 16),
        (32, 0.7, 8, 8),
        (32, 0.95, 8, 8),
        (4, 0.5, 8, 4),
        (6, 0.875, 8, 6),
        (8, 0.95, 8, 8),
        (1, 0.9, 1, 1),
        (10, 0.95, 1, 0),
        (10, 0.9, 1, 1),
    ],
)
def test_widths_are_multiples(count: int, share: float, multiple: int, left: int) -> None:
    assert channels_left(count, share, multiple) == left


def test_a_threshold_prunes_as_far_as_the_held_out_samples_allow(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without training, so that the first layer's limit is met soon; the state that lost too much is not kept."""
    artifact = made(spec, tmp_path, channels(0.9, multiple=2, threshold="1pt", patience=2))
    trials = re.findall(r"(\S+): with (\d+) of (\d+) channels, (\S+) points are lost", capsys.readouterr().out)
    found = network(spec, artifact)
    for layer, width in (("body.0", found.body[0].out_channels), ("stem.0", found.stem[0].out_channels)):
        lost = {int(left): float(points) for name, left, _, points in trials if name == layer}
        assert lost.get(width, 0) <= 1
        assert all(points > 1 for left, points in lost.items() if left < width)
        assert list(lost) == sorted(lost, reverse=True)
    at_least = {name for name, left, of, _ in trials if int(left) == channels_left(int(of), 0.9, 2)}
    limited = {name for name, *_ in trials} - at_least
    assert limited  # a layer that was not pruned down to the least that the share allows
    for layer in limited:
        points = [float(points) for name, _, _, points in trials if name == layer]
        assert [lost > 1 for lost in points[-2:]] == [True, True]  # patience: a second raise is tried


def test_a_ticket_is_rewound_to_its_early_weights_and_trained(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = tmp_path / "early.safetensors"
    save_file(fresh(Path((spec.checkpoint.factory or "").rpartition(":")[0])).state_dict(), early)
    rewound: list[dict[str, torch.Tensor]] = []

    def note(found: nn.Module, early: lottery_ticket.State, masks: lottery_ticket.Masks) -> None:
        rewind(found, early, masks)
        rewound.append({name: value.clone() for name, value in found.state_dict().items()})

    rewind = lottery_ticket.rewind
    monkeypatch.setattr(lottery_ticket, "rewind", note)
    found = network(spec, made(spec, tmp_path, ticket(0.75, rounds=2, early=str(early), train=BRIEF.model_dump())))
    saved = load_file(early)
    shares = []
    for state in rewound:
        kernels = [name for name, value in state.items() if value.dim() > 1]
        for name, value in state.items():
            kept = value != 0 if name in kernels else torch.ones_like(value, dtype=torch.bool)
            assert torch.equal(value[kept], saved[name][kept])
        shares.append(sum(int((state[name] == 0).sum()) for name in kernels) / sum(state[n].numel() for n in kernels))
    assert shares == pytest.approx([0.5, 0.75], abs=1e-3)
    last = rewound[-1]
    for name, value in found.named_parameters():
        if value.dim() > 1:
            assert torch.equal(value == 0, last[name] == 0)  # kept through the last training
    assert not torch.equal(found.head.bias, last["head.bias"])  # which did happen
    first = {name: value for name, value in load_torch(spec).named_parameters() if value.dim() > 1}
    limit = torch.cat([value.abs().flatten() for value in first.values()]).median()
    for name, value in first.items():  # the first round prunes the checkpoint itself
        assert torch.equal(rewound[0][name] == 0, value.abs() <= limit)


def test_a_ticket_from_fresh_weights_learns(spec: ModelSpec, tmp_path: Path) -> None:
    train = Training(epochs=4, lr=5e-3, batch=50).model_dump()
    found = network(spec, made(spec, tmp_path, channels(0.5), ticket(0.5, rounds=1, train=train)))
    assert found.depth.groups == 16  # the structure stays what the step before made it
    assert accuracy(found) > 0.55
    kernels = [value for name, value in found.named_parameters() if value.dim() > 1]
    assert sum(int((value == 0).sum()) for value in kernels) == round(0.5 * sum(value.numel() for value in kernels))


# Networks with layers whose channels cannot go, and what is said when they are named.
SHARED = """
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 32), nn.Linear(64, 32), nn.Linear(32, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        x = x.flatten(1)
        return self.head(self.first(x).relu() * self.second(x))
"""
GROUPED = """
def make():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)
    )
"""
RESHAPED = """
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(64, 32), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.first(x.flatten(1)).relu().view(-1, 4, 8).mean(1))
"""
RECURRENT = """
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift, self.cells, self.head = nn.Linear(8, 16), nn.GRU(16, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.cells(self.lift(x.flatten(1, 2)))[0][:, -1])
"""
TWICE = """
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift, self.again, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.again(self.again(self.lift(x.flatten(1))).relu()).relu())
"""
OBSTACLES = {
    "shared": (SHARED, "first", "shares its weights with another layer"),
    "grouped": (GROUPED, "1", "1 is a convolution in 4 groups, whose channels do not go one by one"),
    "before the grouped": (GROUPED, "0", "1 is a convolution in 4 groups, whose channels do not go one by one"),
    "reshaped": (RESHAPED, "first", "the network does not run with fewer channels: "),
    "answer": (RESHAPED, "head", r"an output would be \[2, 2\] instead of \[2, 4\]"),
    "recurrent": (RECURRENT, "lift", "what depends on the channels of lift cannot be followed"),
}


@pytest.mark.parametrize("kind", OBSTACLES)
def test_a_layer_that_cannot_lose_channels_is_refused_where_it_is_named(tmp_path: Path, kind: str) -> None:
    code, layer, sentence = OBSTACLES[kind]
    spec = quadrants_spec(tmp_path / "model", "from torch import nn\n\n" + code)
    with pytest.raises(StepError, match=f"quadrants: {layer} cannot lose channels: .*{sentence}") as caught:
        made(spec, tmp_path, channels(0.5, multiple=1, layers=[layer]))
    assert "\n" not in str(caught.value)


def test_a_layer_that_is_called_twice_is_pruned_right(tmp_path: Path) -> None:
    spec = quadrants_spec(tmp_path / "model", "from torch import nn\n\n" + TWICE)
    found = network(spec, made(spec, tmp_path, channels(0.5)))
    assert (found.again.in_features, found.again.out_features, found.lift.out_features) == (16, 16, 16)


def test_what_is_left_whole_is_said_and_the_rest_is_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "from torch import nn\n\n" + RESHAPED.replace(
        "nn.Linear(8, 4)", "nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))"
    )
    spec = quadrants_spec(tmp_path / "model", code)
    found = network(spec, made(spec, tmp_path, channels(0.5)))
    assert (found.first.out_features, found.head[0].out_features) == (32, 8)
    assert "first keeps its 32 channels: the network does not run with fewer channels" in capsys.readouterr().out
    with pytest.raises(StepError, match="quadrants has not lost a channel: no layer can"):
        made(spec, tmp_path, channels(0.5, keep=["head.*"]))


def test_layers_that_are_too_narrow_do_not_keep_the_others_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One score, and a layer of six channels, of which seven eighths would leave none."""
    code = "from torch import nn\n\nLAYERS = nn.Linear(64, 32), nn.Linear(32, 6), nn.Linear(6, 1)\n\n"
    code += "def make():\n    return nn.Sequential(nn.Flatten(), *LAYERS)\n"
    spec = quadrants_spec(tmp_path / "model", code)
    found = network(spec, made(spec, tmp_path, channels(0.875)))
    assert [found[at].out_features for at in (1, 2, 3)] == [8, 6, 1]
    shown = capsys.readouterr().out
    assert "2 keeps its 6 channels: the share leaves no smaller multiple of 8" in shown
    assert "3 keeps its 1 channel: it has a single one" in shown
    for layer, why in (("2", "the share leaves no smaller multiple of 8"), ("3", "it has a single one")):
        with pytest.raises(StepError, match=f"quadrants: {layer} cannot lose channels: {why}"):
            made(spec, tmp_path, channels(0.875, layers=["1", layer]))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"share": 0.97},
            r"a share of 0\.97 leaves \S+ none of its (16|32) channels; ask for 0\.9\d? or less",
        ),
        ({"share": 0.5, "layers": ["bdoy.0"]}, r"quadrants has no layer 'bdoy\.0'; did you mean 'body\.0'\?"),
        ({"share": 0.5, "keep": ["x*"]}, r"quadrants has no layer 'x\*'; its layers are stem, stem\.0, "),
        ({"share": 0.1, "multiple": 32}, "quadrants has not lost a channel"),
        ({"share": 0.5, "threshold": "0pt", "multiple": 16}, "or each costs more than `threshold`"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(
    spec: ModelSpec, tmp_path: Path, settings: dict[str, object], sentence: str
) -> None:
    with pytest.raises(StepError, match=sentence):
        made(spec, tmp_path, PruneChannels(ChannelPruning.model_validate({"step": "prune_channels", **settings})))


def test_a_ticket_needs_early_weights_that_fit(spec: ModelSpec, tmp_path: Path) -> None:
    early = tmp_path / "early.safetensors"
    save_file({"head.weight": torch.zeros(4, 64)}, early)
    with pytest.raises(CheckpointError, match="does not fit the network that the lottery ticket is drawn from"):
        made(spec, tmp_path, ticket(0.5, early=str(early)))


def test_what_a_technique_reads_decides_its_key(tmp_path: Path) -> None:
    """The early weights' contents, and the settings; and nothing of a compression concerns the other variants."""
    path = quadrants(
        tmp_path / "model",
        {"rare": [{"step": "lottery_ticket", "share": 0.5, "early": "early.safetensors"}]},
        ("onnx_fp32", "rare_onnx_fp32"),
    )
    early = tmp_path / "model/early.safetensors"

    def keys() -> dict[str, str]:
        spec = load_spec(path)
        return {variant: make_keys(spec).of(recipe_of(spec, variant)) for variant in spec.variants}

    with pytest.raises(CheckpointError, match=r"early\.safetensors does not exist; correct `compress` in the spec"):
        keys()
    found = []
    for content, share in ((b"a", 0.5), (b"b", 0.5), (b"b", 0.6), (b"b", 0.6)):
        early.write_bytes(content)
        path.write_text(re.sub(r"share: \S+", f"share: {share}", path.read_text()))
        found.append(keys())
    assert len({key["rare_onnx_fp32"] for key in found}) == 3
    assert len({key["onnx_fp32"] for key in found}) == 1
    before = step_key(ticket(0.5, early=str(early)), "", "")
    early.write_bytes(b"c")
    assert step_key(ticket(0.5, early=str(early)), "", "") != before


def test_other_samples_or_another_metric_are_another_training(tmp_path: Path) -> None:
    """And concern nothing that does not train."""
    path, keys = quadrants(tmp_path / "model"), []

    def note() -> None:
        spec = load_spec(path)
        keys.append([made(spec, tmp_path, *recipe).key for recipe in ((channels(0.5),), (TUNE,))])

    note()
    path.write_text(path.read_text().replace("top1", "f1"))
    note()
    images, labels = samples(300, 9)
    np.savez(tmp_path / "model/training.npz", x=images, label=labels)
    note()
    assert len({pruned for pruned, _ in keys}) == 1
    assert len({tuned for _, tuned in keys}) == 3


def test_a_spec_is_built_to_a_published_variant_that_is_smaller(tmp_path: Path) -> None:
    told: list[str] = []
    path = quadrants(
        tmp_path / "model",
        {"small": [{"step": "prune_channels", "share": 0.5}, {"step": "finetune", "epochs": 3}]},
        ("torch_fp32", "small_torch_fp32", "small_onnx_fp32", "small_openvino_int8"),
    )
    options = BuildOptions(tmp_path / "repository", tmp_path / "artifacts")
    listener = Listener(on_start=lambda _, what: told.append(what))
    rows = {row.variant: row for row in build([path], options, listener).models[0].rows}
    assert {name: (row.status, row.reason) for name, row in rows.items()} == dict.fromkeys(rows, ("published", ""))
    made = rows["small_onnx_fp32"]
    assert made.triton_name == "quadrants_small_onnx_fp32"
    assert made.history == ("prune_channels", "finetune", "export_onnx", "fold_onnx")
    whole = rows["torch_fp32"].graph
    assert whole is not None
    for name in ("small_torch_fp32", "small_onnx_fp32", "small_openvino_int8"):
        graph = rows[name].graph
        assert graph is not None
        assert (graph.weights, graph.flops) == (1624, 191744)
    assert (whole.weights, whole.flops) == (5808, 711168)
    file = onnx.load(tmp_path / "repository/quadrants_small_onnx_fp32/1/model.onnx")
    assert sorted(tuple(value.dims) for value in file.graph.initializer if len(value.dims) == 4) == [
        (8, 1, 3, 3), (8, 16, 1, 1), (16, 1, 3, 3), (16, 8, 3, 3),
    ]  # fmt: skip
    passport = json.loads((tmp_path / "repository/quadrants_small_onnx_fp32/1/passport.json").read_text())
    assert passport["training_sha256"] == make_keys(load_spec(path)).training
    assert any(
        re.fullmatch(r"small_torch_fp32, epoch 3 of 3: loss \S+, top1 \S+ on 60 held-out samples", t) for t in told
    )
    assert not list((tmp_path / "artifacts/cache").glob("*.resume"))
    again = build([path], options, Listener()).models[0].rows
    assert all(row.from_cache for row in again)


def test_checkpoints_without_layers_are_unavailable(tmp_path: Path) -> None:
    path = onnx_spec(tmp_path / "model", variants="small_onnx_fp32")
    path.write_text(path.read_text() + "compress: {small: [{step: prune_channels, share: 0.5}]}\n")
    row = build([path], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener()).models[0].rows[0]
    assert (row.status, row.reason) == (
        "unavailable", "the checkpoint is an ONNX file, and prune_channels works on a PyTorch network",
    )  # fmt: skip
