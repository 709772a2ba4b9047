"""What all parts of the spec are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Positive = Annotated[int, Field(ge=1)]
Loss = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(pt|%)$")]
"""How much of a metric may be lost: in points, `1pt` being 0.01, or in percent of what the original scores."""


class SpecModel(BaseModel):
    """Base of the spec's parts: frozen, and a field that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def resolved(part: Any, folder: Path) -> Any:
    """A part of a spec with its relative paths, of files and of `file.py:function`, taken from `folder`."""
    match part:
        case Path():
            return folder / part
        case str() if ".py:" in part:
            return str(folder / part)
        case tuple():
            return tuple(resolved(inner, folder) for inner in part)
        case SpecModel():
            fields = type(part).model_fields
            return part.model_copy(update={name: resolved(getattr(part, name), folder) for name in fields})
    return part


def loss_limit(text: Loss, original: float) -> float:
    """A loss such as `1pt` or `2%` in the metric's own unit, beside what the original scores."""
    share = float(text.rstrip("pt%")) / 100
    return share * abs(original) if text.endswith("%") else share
