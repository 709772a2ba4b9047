"""Distillation on a network that has learned something: who teaches, what the student learns, and that a build
publishes it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from builder import finetune
from builder.answers import ANSWERS
from builder.artifact import Artifact
from builder.asking import Remembered, Teachers
from builder.build import BuildOptions, Listener, build
from builder.edits import RemoveChannels, Student, read_edits
from builder.errors import CheckpointError, DataError, SpecError, StepError
from builder.recipes import recipe_of
from builder.source import load_torch, source_artifact
from builder.spec import ModelSpec
from builder.spec_base import resolved
from builder.spec_compress import ChannelPruning, Distillation, Training, WeightPruning
from builder.spec_distill import Teacher
from builder.spec_file import load_spec
from builder.step import Step, run_recipe, step_key
from builder.steps.distill import Distill
from builder.steps.prune_channels import PruneChannels
from builder.steps.prune_weights import PruneWeights
from builder.teachers import load_teacher
from builder.training_data import load_training, varied
from builder.training_state import TrainingState, save
from tests.support.quadrants import quadrants, samples
from tests.support.tiny import onnx_spec

# PyTorch's exporter copies what PyTorch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
ROOT = Path(__file__).parents[2]
STUDENT = """\
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))

def two():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(81, 4))
"""
TRAIN = {"epochs": 8, "lr": 1e-2, "batch": 50}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """More only wait for each other on networks of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_student(path: Path) -> Path:
    """The spec, with a student's code beside it."""
    (path.parent / "student.py").write_text(STUDENT)
    return path


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return load_spec(with_student(quadrants(tmp_path_factory.mktemp("model"))))


def student(spec: ModelSpec, name: str = "make") -> str:
    return f"{spec.data.calibration.parent / 'student.py'}:{name}"


def distill(**settings: object) -> Distill:
    return Distill(Distillation.model_validate({"step": "distill", "train": TRAIN, **settings}))


def made(spec: ModelSpec, folder: Path, *steps: Step) -> Artifact:
    return run_recipe(steps, source_artifact(spec, folder / "cache"), folder / "cache")


def answers(network: nn.Module) -> torch.Tensor:
    """Shares of the classes for samples that nothing was trained on."""
    with torch.no_grad():
        shares: torch.Tensor = network(torch.from_numpy(samples(1000, 50)[0])).softmax(1)
    return shares


def divergence(theirs: nn.Module, mine: nn.Module) -> float:
    yours, own = answers(theirs), answers(mine)
    return float((yours * (yours.log() - own.log())).sum(1).mean())


def accuracy(network: nn.Module) -> float:
    return float((answers(network).argmax(1).numpy() == samples(1000, 50)[1]).mean())


def test_a_student_comes_to_answer_as_its_teacher(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Closer than the same student that has only seen the labels (alpha 0)."""
    teacher, found = load_torch(spec), {}
    for alpha in (0.0, 0.9):
        artifact = made(spec, tmp_path, distill(student=student(spec), alpha=alpha, temperature=2.0))
        assert read_edits(artifact.folder) == (Student(factory=student(spec)),)
        found[alpha] = load_torch(spec, artifact.path)
    losses = re.findall(r"epoch \d of 8: loss (\S+), top1 \S+ on 60", capsys.readouterr().out)[-9:]
    assert float(min(losses)) < 0.4 * float(losses[0])
    assert divergence(teacher, found[0.9]) < 0.6 * divergence(teacher, found[0.0])
    assert accuracy(found[0.9]) > accuracy(found[0.0]) - 0.02
    assert sum(value.numel() for value in found[0.9].parameters()) == 268


def test_no_labels_are_needed_where_only_the_teacher_is_asked(tmp_path: Path) -> None:
    path = with_student(quadrants(tmp_path / "model"))
    np.savez(path.parent / "training.npz", x=samples(600, 2)[0])
    spec = load_spec(path)
    found = load_torch(spec, made(spec, tmp_path, distill(student=student(spec), alpha=1)).path)
    assert divergence(load_torch(spec), found) < 0.1
    with pytest.raises(DataError, match=r"training\.npz has no array 'label'"):
        made(spec, tmp_path, distill(student=student(spec), alpha=0.9))


def test_several_teachers_are_averaged(spec: ModelSpec, tmp_path: Path) -> None:
    """Two that always answer the same, one of them with three times the weight: the mean of their shares is learned."""
    code = "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))\n"
    (tmp_path / "sure.py").write_text(code)
    for name, klass in (("first", 0), ("third", 2)):
        bias = torch.zeros(4)
        bias[klass] = 8.0
        save_file({"1.weight": torch.zeros(4, 64), "1.bias": bias}, tmp_path / f"{name}.safetensors")
    teachers = [
        {"state_dict": f"{tmp_path}/{name}.safetensors", "factory": f"{tmp_path}/sure.py:make", "weight": weight}
        for name, weight in (("first", 3), ("third", 1))
    ]
    step = distill(student=student(spec), teachers=teachers, alpha=1, temperature=1)
    shares = answers(load_torch(spec, made(spec, tmp_path, step).path)).mean(0)
    assert shares.tolist() == pytest.approx([0.75, 0, 0.25, 0], abs=0.03)


def test_another_spec_teaches(spec: ModelSpec, tmp_path: Path) -> None:
    """A pruned network's own spec names the whole one; what that spec names decides the key."""
    path = with_student(quadrants(tmp_path / "small"))
    state = {name: torch.zeros_like(value) for name, value in load_file(spec.checkpoint.file).items()}
    save_file(state, path.parent / "net.safetensors")
    taught = load_spec(path)
    whole = spec.data.calibration.parent / "model.yaml"
    step = distill(student=student(taught), alpha=1, teachers=[{"spec": str(whole)}])
    found = load_torch(taught, made(taught, tmp_path, step).path)
    assert divergence(load_torch(spec), found) < 0.1
    named = {file.name for file in step.reads()}
    assert named == {"student.py", "model.yaml", "net.safetensors", "net.py"}


def test_a_pruned_network_learns_from_what_it_was(spec: ModelSpec, tmp_path: Path) -> None:
    """Self-distillation: without a student the network goes on as it is, its structure and its zeros with it."""
    prune: dict[str, Step] = {
        "channels": PruneChannels(ChannelPruning(step="prune_channels", share=0.5)),
        "weights": PruneWeights(WeightPruning(step="prune_weights", share=0.8)),
    }
    whole = load_torch(spec)
    for kind, step in prune.items():
        before = load_torch(spec, made(spec, tmp_path, step).path)
        artifact = made(spec, tmp_path, step, distill(alpha=1, temperature=2))
        after = load_torch(spec, artifact.path)
        assert divergence(whole, after) < 0.5 * divergence(whole, before), kind
        edits = read_edits(artifact.folder)
        assert {type(edit) for edit in edits} == ({RemoveChannels} if kind == "channels" else set())
        assert all(
            torch.equal(new == 0, old == 0)
            for new, old in zip(after.parameters(), before.parameters(), strict=True)
            if new.dim() > 1
        )


def test_layers_are_pulled_together(spec: ModelSpec, tmp_path: Path) -> None:
    """By hints alone: with alpha 0 the teacher's answers tell nothing. The student is a network like it, untrained."""
    teacher, images = load_torch(spec), torch.from_numpy(samples(200, 50)[0])

    def stems(hints: list[dict[str, object]]) -> list[torch.Tensor]:
        """What the first layers give, `[n, channels, height, width]`: the teacher's and the student's."""
        step = distill(student=spec.checkpoint.factory, alpha=0, teachers=[{"hints": hints}])
        learned = load_torch(spec, made(spec, tmp_path, step).path)
        with torch.no_grad():
            return [network.get_submodule("stem")(images) for network in (teacher, learned)]

    def features(theirs: torch.Tensor, mine: torch.Tensor) -> float:
        return float((theirs - mine).square().mean() / theirs.square().mean())

    def attention(theirs: torch.Tensor, mine: torch.Tensor) -> float:
        maps = [nn.functional.normalize(value.square().mean(1).flatten(1)) for value in (theirs, mine)]
        return float((maps[0] - maps[1]).square().sum(1).mean())

    for match, distance in (("features", features), ("attention", attention)):
        hint: dict[str, object] = {"match": match, "layers": {"stem": "stem"}, "weight": 5.0}
        assert distance(*stems([hint])) < 0.5 * distance(*stems([])), match


def test_a_killed_distillation_ends_as_an_undisturbed_one(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hints, whose linear maps must come back too, and images that vary."""
    hints = [{"match": "features", "layers": {"stem": "0"}}]
    code = STUDENT.replace("nn.Conv2d(1, 8, 4, 4), nn.ReLU()", "nn.Conv2d(1, 8, 1), nn.MaxPool2d(4)")
    (tmp_path / "pooled.py").write_text(code)
    train = {"epochs": 3, "lr": 1e-2, "batch": 50, "mirror": True, "cutout": 3}
    step = distill(student=f"{tmp_path}/pooled.py:make", teachers=[{"hints": hints}], train=train)
    undisturbed = load_file(made(spec, tmp_path / "whole", step).path)

    def killed(state: TrainingState, path: Path | None) -> None:
        save(state, path)
        if state.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetune, "save", killed)
        made(spec, tmp_path / "killed", step)
    resumed = load_file(made(spec, tmp_path / "killed", step).path)
    assert all(torch.equal(resumed[name], value) for name, value in undisturbed.items())


def test_a_teacher_is_asked_once_about_what_does_not_change(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def note(self: Teachers, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        asked.append(len(inputs[0]))
        return ask(self, inputs)

    ask = Teachers.ask
    monkeypatch.setattr(Teachers, "ask", note)
    counts = {
        ("each", 0, False): 600,
        ("each", 0, True): 2 * 600,
        ("each", 1, True): 60 + 3 * 540,
        ("once", 1, True): 2 * 600,
    }
    for (how, shift, mirror), count in counts.items():
        asked.clear()
        train = {"epochs": 3, "batch": 50, "shift": shift, "mirror": mirror}
        made(spec, tmp_path, distill(student=student(spec), ask=how, train=train))
        assert sum(asked) == count, (how, shift, mirror)


def test_what_is_remembered_is_what_would_be_said(spec: ModelSpec) -> None:
    """Of the image, or of the mirrored one, whatever the order of the rows."""
    teachers = Teachers((load_torch(spec),), (1.0,), (ANSWERS["scores"],), 2.0)
    training = Training(mirror=True)
    data = load_training(spec, training)
    known = Remembered.of(teachers, data, data.used, True, "cpu")
    batch = varied(data.batch(list(data.used[5:40:3])), training, torch.Generator().manual_seed(0))
    assert batch.mirrored is not None
    assert 0 < batch.mirrored.sum() < len(batch.rows)
    recalled = known.recall(batch)
    assert recalled is not None
    assert torch.allclose(recalled[0], teachers.ask(batch.inputs)[0], atol=1e-6)
    assert known.recall(data.batch(list(data.held))) is None


def test_what_decides_the_answers_decides_the_key(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("teacher.py", "teacher.safetensors", "student.py", "init.safetensors")]
    step = distill(
        student=f"{files[2]}:make", init=str(files[3]),
        teachers=[{"state_dict": str(files[1]), "factory": f"{files[0]}:make"}, {}],
    )  # fmt: skip
    for file in files:
        file.write_bytes(b"before")
    keys = {step_key(step, "", "")}
    for file in files:
        file.write_bytes(b"after")
        keys.add(step_key(step, "", ""))
    assert len(keys) == 5


REFUSED: dict[str, tuple[dict[str, object], type[Exception], str]] = {
    "other outputs": (
        {"student": "student.py:two"}, StepError,
        r"quadrants: the teacher answers each sample with \[4\] and the student with \[2\]; both must answer alike",
    ),
    "other inputs": (
        {"student": "student.py:wide"}, StepError,
        "quadrants: the student cannot take the spec's inputs: mat1 and mat2 shapes cannot be multiplied",
    ),
    "unknown layer": (
        {"teachers": [{"hints": [{"match": "features", "layers": {"steem": "stem"}}]}]}, StepError,
        r"the teacher has no layer 'steem'; did you mean 'stem'\?",
    ),
    "unknown output": (
        {"answers": {"score": "scores"}}, StepError,
        r"quadrants has no output 'score' for `answers`; did you mean 'scores'\?",
    ),
    "first weights": (
        {"student": "student.py:make", "init": "net.safetensors"}, CheckpointError, "does not fit .*student.py:make: ",
    ),
    "no such teacher": ({"teachers": [{"spec": "none.yaml"}]}, SpecError, r"none\.yaml does not exist; name a spec"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_distilled_is_refused_in_a_sentence(spec: ModelSpec, tmp_path: Path, kind: str) -> None:
    settings, error, sentence = REFUSED[kind]
    folder = spec.data.calibration.parent
    with pytest.raises(error, match=sentence) as caught:
        made(spec, tmp_path, Distill(resolved(distill(**settings).settings, folder)))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_specs_that_cannot_teach(spec: ModelSpec, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    content = yaml.safe_load((spec.data.calibration.parent / "model.yaml").read_text())
    content["inputs"][0]["dims"] = [1, 9, 9]
    other.write_text(yaml.safe_dump(content))
    with pytest.raises(StepError, match="quadrants cannot teach quadrants: its inputs, or their `preprocess`, are oth"):
        load_teacher(spec, Teacher(spec=other))
    with pytest.raises(StepError, match="tiny cannot teach: its checkpoint is an ONNX file, and PyTorch runs the teac"):
        load_teacher(spec, Teacher(spec=onnx_spec(tmp_path / "onnx")))


def test_no_training_data(tmp_path: Path) -> None:
    path = quadrants(tmp_path / "model")
    content = yaml.safe_load(path.read_text())
    del content["data"]["training"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(StepError, match=r"no samples to train on; name a file of them in data\.training"):
        made(load_spec(path), tmp_path, distill())


@pytest.mark.parametrize(
    ("techniques", "sentence"),
    [
        (
            [{"step": "prune_channels", "share": 0.5}, {"step": "distill", "student": "student.py:make"}],
            r"compress\.kd: distill with a `student` must come first, since that network takes the place of what "
            r"prune_channels made",
        ),
        ([{"step": "distill", "init": "a.safetensors"}], "init has weights for `student`, and none is given"),
        (
            [{"step": "distill", "teachers": [{"factory": "a.py:b"}]}],
            "a teacher's state_dict and factory .* go together",
        ),
        (
            [{"step": "distill", "teachers": [{"state_dict": "a", "factory": "a.py:b", "spec": "c.yaml"}]}],
            "a teacher is a state_dict with its factory, or a spec, not both",
        ),
        (
            [{"step": "distill", "ask": "once", "teachers": [{"hints": [{"match": "hidden", "layers": {"a": "b"}}]}]}],
            "hints are given by the teacher's layers in each epoch: leave out `ask: once`, or the hints",
        ),
        ([{"step": "distill", "techer": []}], r"compress\.kd\[0\]\.techer: unknown field; did you mean 'teachers'\?"),
        ([{"step": "distill", "answers": {"scores": "score"}}], "'score' is not known: .*; did you mean 'scores'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_their_place(
    tmp_path: Path, techniques: list[dict[str, object]], sentence: str
) -> None:
    with pytest.raises(SpecError, match=rf"model\.yaml:\d+: .*{sentence}"):
        load_spec(quadrants(tmp_path, {"kd": techniques}))


def test_a_spec_is_built_to_published_variants_and_replayed_in_a_new_process(tmp_path: Path) -> None:
    """Distil, prune, distil again, export: the student's own code is found again wherever the weights are loaded."""
    chain: list[dict[str, object]] = [
        {"step": "distill", "student": "student.py:make", "train": TRAIN},
        {"step": "prune_channels", "share": 0.5, "multiple": 4},
        {"step": "distill", "alpha": 1, "train": TRAIN},
    ]
    path = with_student(quadrants(tmp_path / "model", {"kd": chain}, ("kd_onnx_fp32",)))
    (row,) = build([path], BuildOptions(tmp_path / "repository", tmp_path / "artifacts"), Listener()).models[0].rows
    assert (row.status, row.reason) == ("published", "")
    assert row.history == ("distill", "prune_channels", "distill", "export_onnx", "fold_onnx")
    assert row.graph is not None
    assert row.graph.weights == 4 * 16 + 4 * 4 * 4
    spec = load_spec(path)
    cache = tmp_path / "artifacts/cache"
    artifact = run_recipe(recipe_of(spec, "kd_onnx_fp32").steps[:3], source_artifact(spec, cache), cache)
    assert [edit.edit for edit in read_edits(artifact.folder)] == ["student", "remove_channels"]
    program = (
        "import sys, torch; from pathlib import Path; from builder.source import load_torch; "
        "from builder.spec_file import load_spec; torch.set_num_threads(1); "
        "torch.save(load_torch(load_spec(Path(sys.argv[1])), Path(sys.argv[2]))(torch.ones(3, 1, 8, 8)), sys.argv[3])"
    )
    subprocess.run([sys.executable, "-c", program, path, artifact.path, tmp_path / "out.pt"], cwd=ROOT, check=True)
    here = load_torch(spec, artifact.path)(torch.ones(3, 1, 8, 8))
    assert torch.equal(torch.load(tmp_path / "out.pt"), here)
