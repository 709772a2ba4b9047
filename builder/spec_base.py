"""What all parts of the spec are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Positive = Annotated[int, Field(ge=1)]
Loss = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(pt|%)$")]
"""How much of a metric may be lost: in points, `1pt` being 0.01, or in percent of what the original scores."""


class SpecModel(BaseModel):
    """Base of the spec's parts: frozen, and a field that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def loss_limit(text: Loss, original: float) -> float:
    """A loss such as `1pt` or `2%` in the metric's own unit, beside what the original scores."""
    share = float(text.rstrip("pt%")) / 100
    return share * abs(original) if text.endswith("%") else share
