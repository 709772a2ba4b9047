"""A student before it has learned anything: what `distill` begins with, to see how large and how quick it will be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from builder.artifact import Artifact, Format
from builder.edits import Student
from builder.factory import call_factory, factory_file
from builder.source import save_torch
from builder.step import Step


@dataclass(frozen=True)
class TakeStudent(Step):
    """Puts the network that `file.py:function` returns, with fresh weights, in the place of the one that was there."""

    factory: str

    name: ClassVar[str] = "take_student"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch",)

    def reads(self) -> tuple[Path, ...]:
        """The student's code."""
        return (factory_file(self.factory),)

    def __call__(self, source: Artifact, out_dir: Path) -> None:  # noqa: ARG002
        """Writes its weights, seeded, and the edit that leads to it. Raises CheckpointError if it cannot be made."""
        import torch

        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            save_torch(call_factory(self.factory).eval(), (Student(factory=self.factory),), out_dir)
