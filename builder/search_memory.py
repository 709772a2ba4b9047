"""What searches have found, by the key of what was measured; a later or a killed one takes it from here."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from core.files import write_atomically
from core.optimize_results import Figures
from core.results import ResultModel


class Plan(ResultModel):
    """For how many epochs a compression is trained, and the budget under which that was decided. `before_s` and
    `epoch_s`: what asking the teachers and an epoch were found to take."""

    epochs: int
    budget_s: float
    before_s: float
    epoch_s: float


class Memory(ResultModel):
    """`artifacts/<model>/search.json`."""

    figures: dict[str, Figures] = Field(default_factory=dict)
    plans: dict[str, Plan] = Field(default_factory=dict)

    def with_figures(self, key: str, figures: Figures) -> Memory:
        """The same, and these."""
        return self.model_copy(update={"figures": {**self.figures, key: figures}})

    def with_plan(self, key: str, plan: Plan) -> Memory:
        """The same, and this plan."""
        return self.model_copy(update={"plans": {**self.plans, key: plan}})


def recall(path: Path) -> Memory:
    """What was written there; nothing if there is none, or it cannot be read."""
    try:
        return Memory.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Memory()


def remember(path: Path, memory: Memory) -> None:
    """Writes it, whole or not at all."""
    write_atomically(path, memory.to_json())
