"""The training loop: what it learns, what it keeps, and that a killed training ends as an undisturbed one does."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from builder import finetune
from builder.errors import DataError, StepError
from builder.finetune import Task, fit, labelled_task, standing
from builder.losses import outputs_of, task_loss
from builder.source import load_torch
from builder.spec import MetricSpec, ModelSpec
from builder.spec_compress import Training, WeightPruning
from builder.spec_file import load_spec
from builder.steps.prune_weights import PruneWeights
from builder.training_data import Batch, load_training, varied
from tests.support.quadrants import fresh, made, quadrants, quadrants_spec

ROOT = Path(__file__).parents[3]
TRAINING = Training(epochs=4, lr=3e-3, batch=50)
# Trains with a checkpoint, and is killed after so many epochs, when the checkpoint has just been written.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from builder import finetune
from builder.spec_compress import Training
from builder.spec_file import load_spec
from tests.support.quadrants import fresh
torch.set_num_threads(1)
folder = Path(sys.argv[1])
written = finetune.save
def save(state, path):
    written(state, path)
    if state.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
finetune.save = save
spec, network = load_spec(folder / "model.yaml"), fresh(folder / "net.py").eval()
training = Training.model_validate_json(sys.argv[2])
finetune.fit(network, finetune.labelled_task(spec, training, network, folder / "training.pt"))
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return quadrants_spec(tmp_path_factory.mktemp("model"))


def untrained(spec: ModelSpec) -> nn.Module:
    """The network with fresh weights, always the same."""
    return fresh(Path((spec.checkpoint.factory or "").rpartition(":")[0])).eval()


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_learns_and_shows_loss_and_metric(
    spec: ModelSpec, capsys: pytest.CaptureFixture[str], optimizer: str
) -> None:
    network = untrained(spec)
    task = labelled_task(spec, TRAINING.model_copy(update={"optimizer": optimizer, "lr": 0.01}), network)
    before = standing(network, task)
    after = fit(network, task)
    assert after.metric > before.metric + 0.2
    assert after == standing(network, task)
    assert not network.training
    shown = re.findall(r"epoch (\d) of 4: loss [\d.]+, top1 ([\d.]+) on 60 held-out samples", capsys.readouterr().out)
    assert [int(epoch) for epoch, _ in shown] == [0, 1, 2, 3, 4]
    assert max(float(metric) for _, metric in shown) == pytest.approx(after.metric, abs=1e-3)


def test_equal_settings_give_equal_weights_and_leave_other_randomness_alone(spec: ModelSpec) -> None:
    states = []
    for seed in (0, 0, 1):
        network = untrained(spec)
        torch.manual_seed(5)
        fit(network, labelled_task(spec, Training(epochs=1, seed=seed), network))
        states.append((state(network), torch.rand(1)))
    assert same(states[0][0], states[1][0])
    assert not same(states[0][0], states[2][0])
    assert states[0][1] == states[1][1] == states[2][1]


def test_a_training_killed_after_an_epoch_ends_as_an_undisturbed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With dropout, variation and momentum, all of which would tell."""
    path = quadrants(tmp_path)
    spec, training = load_spec(path), TRAINING.model_copy(update={"mirror": True, "shift": 1})
    whole = untrained(spec)
    fit(whole, labelled_task(spec, training, whole))
    program = (sys.executable, "-c", KILLED, str(tmp_path), training.model_dump_json())
    killed = subprocess.run(program, cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    capsys.readouterr()
    resumed = untrained(spec)
    fit(resumed, labelled_task(spec, training, resumed, tmp_path / "training.pt"))
    shown = capsys.readouterr().out
    assert "goes on after epoch 2" in shown
    assert "epoch 2 of" not in shown
    assert same(state(resumed), state(whole))


def test_a_finished_training_is_not_done_again_and_a_damaged_checkpoint_starts_anew(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = []
    for damage in (None, None, b"damaged"):
        network = untrained(spec)
        if damage:
            (tmp_path / "training.pt").write_bytes(damage)
        fit(network, labelled_task(spec, Training(epochs=1), network, tmp_path / "training.pt"))
        states.append((state(network), "epoch 1 of 1" in capsys.readouterr().out))
    assert [trained for _, trained in states] == [True, False, True]
    assert same(states[0][0], states[1][0])
    assert same(states[0][0], states[2][0])


def test_the_best_state_is_kept_and_patience_ends_it(spec: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    """A learning rate that ruins a trained network: nothing is better than the state before."""
    network = load_torch(spec)
    before = state(network)
    ruin = Training(epochs=9, lr=1.0, warmup=0, patience=2)
    fit(network, labelled_task(spec, ruin, network))
    assert same(state(network), before)
    assert re.findall(r"epoch (\d) of 9", capsys.readouterr().out) == ["0", "1", "2"]
    fit(network, replace(labelled_task(spec, ruin, network), keep_from=1))
    assert not same(state(network), before)  # the state before training may not be kept


def test_masks_are_kept_through_training(spec: ModelSpec) -> None:
    network = load_torch(spec)
    with torch.no_grad():
        network.head.weight[:, ::2] = 0
    before = state(network)
    fit(network, replace(labelled_task(spec, TRAINING, network), keep_from=4))
    assert (network.head.weight[:, ::2] == 0).all()
    assert (network.head.weight[:, 1::2] != before["head.weight"][:, 1::2]).all()


def test_a_metric_is_shown_with_its_sign(spec: ModelSpec, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def below(output, labels):\n    return -0.25\n")
    for higher in (True, False):
        metric = MetricSpec(name=f"{tmp_path / 'own.py'}:below", output="scores", higher_is_better=higher)
        judged = spec.model_copy(update={"metric": metric})
        network = untrained(judged)
        fit(network, labelled_task(judged, Training(epochs=1), network))
        assert capsys.readouterr().out.count(", below -0.25 on 60 held-out samples") == 2


@pytest.mark.parametrize(("epochs", "batch"), [(1, 600), (2, 600), (2, 50), (3, 200), (4, 100)])
def test_a_gradual_schedule_is_complete_in_whatever_epoch_is_kept(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, batch: int
) -> None:
    """The earlier the epoch the better it is said to be, so that the earliest that may be kept is."""
    said = iter(range(99))
    monkeypatch.setattr(finetune, "standing", lambda *_: finetune.Standing(-float(next(said)), 0.0))
    training = {"epochs": epochs, "batch": batch}
    settings = {"step": "prune_weights", "share": 0.8, "gradual": True, "train": training}
    artifact = made(spec, tmp_path, PruneWeights(WeightPruning.model_validate(settings)))
    kernels = [value for value in load_torch(spec, artifact.path).parameters() if value.dim() > 1]
    zeros = sum(int((value == 0).sum()) for value in kernels)
    assert zeros == round(0.8 * sum(value.numel() for value in kernels))


def test_no_training_learns_from_what_another_one_judges_by(spec: ModelSpec) -> None:
    """Whatever seeds and numbers of samples the techniques of a compression have."""
    trainings = [Training(seed=seed, samples=samples) for seed in (0, 1) for samples in (None, 50, 599)]
    found = [load_training(spec, training) for training in trainings]
    for one in found:
        assert len({*one.used, *one.held}) == len(one.used) + len(one.held)
        assert all(not set(one.held) & set(other.used) for other in found)
    assert [(len(one.used), len(one.held)) for one in found[:3]] == [(540, 60), (45, 5), (540, 59)]
    assert set(found[1].used) != set(found[4].used)  # chosen by the seed


def test_a_frozen_network_keeps_its_statistics(spec: ModelSpec) -> None:
    means = []
    for frozen in (True, False):
        network = load_torch(spec)
        before = network.stem[1].running_mean.clone()
        fit(network, replace(labelled_task(spec, Training(epochs=1), network), frozen=frozen, keep_from=1))
        means.append(torch.equal(network.stem[1].running_mean, before))
    assert means == [True, False]


def test_mixed_precision_computes_in_bfloat16(spec: ModelSpec) -> None:
    kinds = []

    def loss(outputs: list[torch.Tensor], batch: Batch) -> torch.Tensor:
        kinds.append(outputs[0].dtype)
        return task_loss(spec)(outputs, batch)

    training = Training(epochs=1, mixed=True)
    fit(untrained(spec), Task(spec, load_training(spec, training), training, loss))
    assert set(kinds) == {torch.bfloat16}


def test_the_rate_rises_along_a_line_and_falls_along_a_cosine() -> None:
    rates = [finetune._rate(step, 100, 0.1) for step in range(100)]
    assert rates[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert rates[10] == max(rates) == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_images_are_mirrored_and_moved_each_by_itself() -> None:
    images = torch.arange(1.0, 1 + 64 * 25).view(64, 1, 5, 5)
    batch = Batch(list(range(64)), (images,), None)
    generator = torch.Generator().manual_seed(0)
    mirrored = varied(batch, Training(mirror=True), generator).inputs[0]
    turned = [torch.equal(new, old.flip(-1)) for new, old in zip(mirrored, images, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(mirrored, images, strict=True)]
    assert 16 < sum(turned) < 48
    assert sum(turned) + sum(kept) == 64
    moved = varied(batch, Training(shift=2), generator).inputs[0]
    places = {tuple((new[0] == old[0, 2, 2]).nonzero()[0].tolist()) for new, old in zip(moved, images, strict=True)}
    assert len(places) > 15  # of the 25 there are
    assert moved.shape == images.shape
    whole = torch.ones(64, 1, 6, 9)
    blanked = 1 - varied(Batch(list(range(64)), (whole,), None), Training(cutout=3), generator).inputs[0][:, 0]
    holes = set()
    for hole in blanked:
        rows, columns = hole.amax(1), hole.amax(0)
        assert torch.equal(hole, rows[:, None] * columns)  # a rectangle, of 3 x 3 unless it reaches over the border
        assert 2 <= rows.sum() <= 3
        assert 2 <= columns.sum() <= 3
        holes.add((*rows.tolist(), *columns.tolist()))
    assert len(holes) > 20  # of the 54 there are
    with pytest.raises(StepError, match="mirror, shift and cutout are for images"):
        varied(Batch([0], (torch.zeros(1, 4),), None), Training(shift=1), generator)


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "expected"),
    [
        ("top1", [[2.0, 0.0]], [0], 0.126928),  # log(1 + exp(-2))
        ("auc", [[2.0]], [1], 0.126928),
        ("mae", [[2.0]], [5.0], 3.0),
        ("pearson", [[2.0]], [5.0], 9.0),
    ],
)
def test_each_kind_of_metric_has_its_loss(
    spec: ModelSpec, metric: str, outputs: list[list[float]], labels: list[float], expected: float
) -> None:
    judged = spec.model_copy(update={"metric": MetricSpec(name=metric, output="scores")})
    loss = task_loss(judged)([torch.tensor(outputs)], Batch([0], (), torch.tensor(labels)))
    assert float(loss) == pytest.approx(expected, abs=1e-5)


OWN = """\
def hits(output, labels):
    return (output.argmax(1) == labels).mean()
"""


def test_a_metric_of_ones_own_on_a_classifier_is_trained_by_its_classes(tmp_path: Path) -> None:
    """Squared errors would drive all four scores towards the class's number, and the metric to a quarter."""
    (tmp_path / "own.py").write_text(OWN)
    own = MetricSpec(name=f"{tmp_path / 'own.py'}:hits", output="scores")
    judged = quadrants_spec(tmp_path).model_copy(update={"metric": own})
    network = untrained(judged)
    task = labelled_task(judged, TRAINING.model_copy(update={"lr": 0.01}), network)
    assert fit(network, task).metric > 0.5
    batch = task.data.batch([0, 1])
    scores = torch.zeros(2, 4)
    assert float(task.loss([scores], batch)) == pytest.approx(np.log(4))
    with pytest.raises(StepError, match=r"each label is one number, and 'scores' has 4 values a sample.*; give whole"):
        task.loss([scores], batch._replace(labels=torch.tensor([0.5, 1.5])))
    single = judged.outputs[0].model_copy(update={"dims": (1,)})
    measured = load_training(judged.model_copy(update={"outputs": (single,)}), TRAINING)
    assert measured.labels is not None and measured.labels.dtype == torch.float32  # counts, such as years


def test_outputs_of_every_kind_are_a_list() -> None:
    one = torch.zeros(1)
    for result in (one, (one,), [one], {"scores": one}):
        assert outputs_of(result) == [one]  # type: ignore[arg-type]


def test_what_cannot_be_trained_on_is_refused_in_a_sentence(tmp_path: Path, spec: ModelSpec) -> None:
    training = np.load(spec.data.training or "")
    file = tmp_path / "training.npz"
    for arrays, error, sentence in (
        ({"x": training["x"]}, DataError, r"training\.npz has no array 'label'; it holds x"),
        (
            {"x": training["x"], "label": training["label"] + 1},
            DataError,
            "labels go from 1 to 4, but there are 4 class",
        ),
        (
            {"x": training["x"][:9], "label": training["label"][:9]},
            StepError,
            "has 9 samples to train on; give 10 or m",
        ),
    ):
        np.savez(file, **arrays)
        with pytest.raises(error, match=sentence):
            load_training(spec, Training(), file=file)
    network = untrained(spec)
    with pytest.raises(StepError, match=r"quadrants: the loss is (nan|inf) in epoch 1; lower `lr`"):
        fit(network, labelled_task(spec, Training(epochs=1, lr=1e30, warmup=0, optimizer="sgd"), network))
    if not torch.cuda.is_available():
        with pytest.raises(StepError, match="`device: cuda` asks for a GPU, and PyTorch finds none"):
            fit(network, labelled_task(spec, Training(device="cuda"), network))
