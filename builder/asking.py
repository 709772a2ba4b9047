"""What teachers are asked: their mean answer, remembered where it stays the same, and how far off the student is."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.answers import ANSWERS, Answer
from builder.errors import StepError
from builder.losses import outputs_of
from builder.training_data import Batch, TrainingData, batches

if TYPE_CHECKING:
    from torch import Tensor, nn

    from builder.spec import ModelSpec
    from builder.spec_compress import Distillation
    from builder.spec_distill import AnswerKind

ROOM: Final = 2**28  # numbers of remembered answers: a gigabyte
ASKED: Final = 256  # samples a batch


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
    """What teachers said of samples as they are, so that each is asked about once: for each output a table `[2, N,
    values]`, the second half of it for mirrored images, or `[1, N, values]` where none are; and the rows filled."""

    tables: tuple[Tensor, ...] = ()
    rows: frozenset[int] = frozenset()

    @classmethod
    def of(cls, teachers: Teachers, data: TrainingData, rows: tuple[int, ...], mirror: bool, device: str) -> Remembered:
        """Asks about these rows, in both ways if images are to be mirrored; about none if the answers would take too
        much room."""
        import torch

        ways, samples = (2 if mirror else 1), len(data.inputs[0])
        tables: tuple[Tensor, ...] = ()
        for part in batches(rows, ASKED):
            inputs = data.batch(part, device).inputs
            for way in range(ways):
                said = teachers.ask(tuple(value.flip(-1) for value in inputs) if way else inputs)
                if not tables and ways * samples * sum(value[0].numel() for value in said) > ROOM:
                    return cls()
                tables = tables or tuple(torch.zeros(ways, samples, *value.shape[1:]) for value in said)
                for table, value in zip(tables, said, strict=True):
                    table[way, part] = value.cpu()
        return cls(tables, frozenset(rows))

    def recall(self, batch: Batch) -> list[Tensor] | None:
        """What was said of a batch before it was moved or cut; None if it was not asked about."""
        if not self.rows.issuperset(batch.rows):
            return None
        way = 0 if batch.mirrored is None else batch.mirrored.long()
        return [table[way, batch.rows].to(batch.inputs[0].device) for table in self.tables]
