"""Teachers: loaded, found to answer as the student does, and asked."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.answers import ANSWERS, Answer
from builder.errors import StepError
from builder.example_inputs import example_inputs
from builder.factory import call_factory, factory_file
from builder.losses import outputs_of
from builder.source import checkpoint_files, fill, load_torch
from builder.spec_file import load_spec
from builder.training_data import Batch, TrainingData, batches

if TYPE_CHECKING:
    from torch import Tensor, nn

    from builder.spec import ModelSpec
    from builder.spec_compress import Distillation
    from builder.spec_distill import AnswerKind, Teacher

ROOM: Final = 2**28  # numbers of remembered answers: a gigabyte
ASKED: Final = 256  # samples a batch


def teacher_files(teacher: Teacher) -> list[Path]:
    """The files that decide what it answers; none for the spec's own checkpoint. Raises SpecError for a spec that
    cannot be read."""
    if teacher.spec:
        return [teacher.spec, *checkpoint_files(load_spec(teacher.spec).checkpoint)]
    return [teacher.state_dict, factory_file(teacher.factory)] if teacher.state_dict and teacher.factory else []


def load_teacher(spec: ModelSpec, teacher: Teacher) -> nn.Module:
    """The trained network in evaluation mode. Raises CheckpointError if it cannot be loaded, StepError if it is that of
    a spec with other inputs."""
    if teacher.state_dict and teacher.factory:
        network = call_factory(teacher.factory).eval()
        fill(network, teacher.state_dict, teacher.factory)
    elif teacher.spec:
        other = load_spec(teacher.spec)
        if other.checkpoint.onnx:
            raise StepError(f"{other.name} cannot teach: its checkpoint is an ONNX file, and PyTorch runs the teachers")
        mine, theirs = (
            [(tensor.dtype, tensor.dims, wanted.preprocess.get(tensor.name, ())) for tensor in wanted.inputs]
            for wanted in (spec, other)
        )
        if mine != theirs:
            raise StepError(f"{other.name} cannot teach {spec.name}: its inputs, or their `preprocess`, are others")
        network = load_torch(other)
    else:
        network = load_torch(spec)
    return network.requires_grad_(False)


def check_alike(spec: ModelSpec, student: nn.Module, teachers: Sequence[nn.Module]) -> None:
    """Raises StepError unless all answer the spec's inputs, and with outputs of the same shapes."""
    mine = _shapes(spec, student, "the student")
    for number, teacher in enumerate(teachers, 1):
        who = "the teacher" if len(teachers) == 1 else f"teacher {number}"
        if (theirs := _shapes(spec, teacher, who)) != mine:
            raise StepError(
                f"{spec.name}: {who} answers each sample with {_shown(theirs)} and the student with {_shown(mine)}; "
                f"both must answer alike"
            )


def _shapes(spec: ModelSpec, network: nn.Module, who: str) -> list[list[int]]:
    import torch

    try:
        with torch.no_grad():
            return [list(value.shape[1:]) for value in outputs_of(network(*example_inputs(spec)))]
    except Exception as error:  # the user's own code
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise StepError(f"{spec.name}: {who} cannot take the spec's inputs: {why}") from error


def _shown(shapes: list[list[int]]) -> str:
    return " and ".join(map(str, shapes))


def answers_of(spec: ModelSpec, settings: Distillation) -> list[Answer | None]:
    """What each output is, in the spec's order; None for those that are no floating point, of which nothing is learned.

    Raises StepError if the settings name an output that the spec has not, or nothing can be learned.
    """
    names = [tensor.name for tensor in spec.outputs]
    for name in settings.answers:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"its outputs are {', '.join(names)}"
            raise StepError(f"{spec.name} has no output {name!r} for `answers`; {hint}")
    judged: AnswerKind = "scores" if spec.metric.function.labels == "class" else "numbers"
    found: list[Answer | None] = []
    for tensor in spec.outputs:
        kind = settings.answers.get(tensor.name, judged if tensor.name == spec.metric.output else "numbers")
        found.append(ANSWERS[kind] if tensor.dtype.startswith("float") else None)
    if not any(found):
        raise StepError(f"{spec.name} has no output in floating point, so there is nothing to learn from a teacher")
    return found


@dataclass(frozen=True)
class Teachers:
    """Networks in evaluation mode, their weights in the mean, what each output is, and the temperature."""

    networks: tuple[nn.Module, ...]
    weights: tuple[float, ...]
    kinds: tuple[Answer | None, ...]
    temperature: float

    def ask(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """The mean of what they say of each output that is learned from, each `[n, values]`."""
        import torch

        total = sum(self.weights)
        means: list[Tensor] = []
        for network, weight in zip(self.networks, self.weights, strict=True):
            with torch.no_grad():
                outputs = outputs_of(network.to(inputs[0].device)(*inputs))
                said = [
                    kind.said(output.flatten(1).float(), self.temperature) * (weight / total)
                    for kind, output in zip(self.kinds, outputs, strict=True)
                    if kind
                ]
            means = [mean + more for mean, more in zip(means, said, strict=True)] if means else said
        return means

    def loss(self, outputs: list[Tensor], said: list[Tensor]) -> Tensor:
        """How far the student's outputs lie from what they said, summed over the outputs, `[]`."""
        import torch

        mine = [(kind, output) for kind, output in zip(self.kinds, outputs, strict=True) if kind]
        losses = [
            kind.loss(output.flatten(1).float(), wanted, self.temperature)
            for (kind, output), wanted in zip(mine, said, strict=True)
        ]
        return torch.stack(losses).sum()


@dataclass(frozen=True)
class Remembered:
    """What teachers said of samples that are never varied, so that each is asked about once: a table `[N, values]` for
    each output, and the rows that are filled."""

    tables: tuple[Tensor, ...] = ()
    rows: frozenset[int] = frozenset()

    @classmethod
    def of(cls, teachers: Teachers, data: TrainingData, rows: tuple[int, ...], device: str) -> Remembered:
        """Asks about these rows; about none if the answers would take too much room."""
        import torch

        tables: tuple[Tensor, ...] = ()
        for part in batches(rows, ASKED):
            said = teachers.ask(data.batch(part, device).inputs)
            if not tables and len(data.inputs[0]) * sum(value[0].numel() for value in said) > ROOM:
                return cls()
            tables = tables or tuple(torch.zeros(len(data.inputs[0]), *value.shape[1:]) for value in said)
            for table, value in zip(tables, said, strict=True):
                table[part] = value.cpu()
        return cls(tables, frozenset(rows))

    def recall(self, batch: Batch) -> list[Tensor] | None:
        """What was said of a batch; None if it was not asked about."""
        device = batch.inputs[0].device
        return [table[batch.rows].to(device) for table in self.tables] if self.rows.issuperset(batch.rows) else None
