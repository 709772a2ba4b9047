"""Who teaches: networks loaded, and found to take and to answer what the student does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import StepError
from builder.example_inputs import example_inputs
from builder.factory import call_factory, factory_file
from builder.losses import outputs_of
from builder.source import checkpoint_files, fill, load_torch
from builder.spec_file import load_spec

if TYPE_CHECKING:
    from torch import nn

    from builder.spec import ModelSpec
    from builder.spec_distill import Teacher


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
