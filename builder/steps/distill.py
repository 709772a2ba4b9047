"""Distillation: a student is trained by what teachers answer, and by what their layers give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from builder.artifact import Artifact, Format
from builder.asking import Remembered, Teachers, answers_of
from builder.edits import Edits, Student
from builder.example_inputs import example_inputs
from builder.factory import call_factory, factory_file
from builder.finetune import Task, device_of, fit, precision
from builder.kernels import zeros_of
from builder.losses import BatchLoss, task_loss
from builder.source import edits_of, fill, load_torch, save_torch
from builder.spec_compress import Distillation
from builder.step import Step, resume_folder
from builder.teachers import check_alike, load_teacher, teacher_files
from builder.training_data import Batch, TrainingData, load_training

if TYPE_CHECKING:
    from torch import Tensor, nn

    from builder.hints import Pair
    from builder.spec import ModelSpec


@dataclass(frozen=True)
class Distill(Step):
    """The loss is `alpha` times that of the answers and the rest that of the labels (Hinton et al., arXiv:1503.02531);
    the hints' are added. Teachers see the very images that the student sees, mirrored and moved as they are (Beyer et
    al., "Knowledge distillation: A good teacher is patient and consistent", arXiv:2106.05237); several answers are
    averaged. Without a `student` the network that is there is trained: after pruning that gets back what was lost,
    alone it is self-distillation (Furlanello et al., "Born-Again Neural Networks", arXiv:1805.04770). Weights that are
    exactly zero stay zero.
    """

    settings: Distillation

    name: ClassVar[str] = "distill"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch",)
    trains: ClassVar[bool] = True

    def reads(self) -> tuple[Path, ...]:
        """The student's code and first weights, and all that decides the teachers' answers."""
        settings = self.settings
        own = [factory_file(settings.student)] if settings.student else []
        own += [settings.init] if settings.init else []
        return (*own, *(file for teacher in settings.teachers for file in teacher_files(teacher)))

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes the student's weights, and the edits that lead to it. Raises StepError if teachers and student do not
        answer alike or layers cannot be compared, CheckpointError if one cannot be loaded."""
        import torch

        from builder.hints import Learner, pairs

        settings, spec = self.settings, source.spec
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.train.seed)
            student, edits = self._student(source)
            hinted = any(teacher.hints for teacher in settings.teachers)
            chosen = settings.teachers if settings.alpha or hinted else ()
            networks = tuple(load_teacher(spec, teacher) for teacher in chosen)
            check_alike(spec, student, networks)
            compared = [
                pair
                for teacher, network in zip(chosen, networks, strict=True)
                for pair in pairs(teacher.hints, network, student, example_inputs(spec))
            ]
        weights = tuple(teacher.weight for teacher in chosen)
        teachers = Teachers(networks, weights, tuple(answers_of(spec, settings)), settings.temperature)
        data = load_training(spec, settings.train, labelled=settings.alpha < 1)
        learner = Learner(student, [pair.mapped for pair in compared])
        loss = self._loss(spec, data, teachers, compared)
        checkpoint = resume_folder(out_dir) / "training.pt"
        fit(learner, Task(spec, data, settings.train, loss, zeros_of(learner), checkpoint=checkpoint))
        save_torch(student, edits, out_dir)

    def _student(self, source: Artifact) -> tuple[nn.Module, Edits]:
        """The student before it is taught, and the edits that lead to it."""
        settings = self.settings
        if settings.student is None:
            return load_torch(source.spec, source.path), edits_of(source)
        student = call_factory(settings.student).eval()
        if settings.init:
            fill(student, settings.init, settings.student)
        return student, (Student(factory=settings.student),)

    def _loss(self, spec: ModelSpec, data: TrainingData, teachers: Teachers, compared: list[Pair]) -> BatchLoss:
        import torch

        settings, labels = self.settings, task_loss(spec, self.settings.train.smoothing)
        known = Remembered()
        if teachers.networks and not compared:
            device = device_of(settings.train)
            varies = settings.train.shift or settings.train.cutout  # a mirrored image is asked about like another one
            rows = data.held if varies and settings.ask == "each" else (*data.held, *data.used)
            with precision(settings.train, device):
                known = Remembered.of(teachers, data, rows, settings.train.mirror and rows != data.held, device)

        def loss(outputs: list[Tensor], batch: Batch) -> Tensor:
            losses = [(1 - settings.alpha) * labels(outputs, batch)] if settings.alpha < 1 else []
            if teachers.networks:
                said = known.recall(batch) or teachers.ask(batch.inputs)
                losses += [settings.alpha * teachers.loss(outputs, said)] if settings.alpha else []
            return torch.stack([*losses, *(pair.loss() for pair in compared)]).sum()

        return loss
