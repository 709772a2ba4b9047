"""Layers that a spec names: by a name or by a pattern such as `blocks.*`."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.errors import StepError

if TYPE_CHECKING:
    from torch import nn


def matches(names: Iterable[str], patterns: tuple[str, ...]) -> bool:
    """Whether one of a layer's names fits one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def check_names(network: nn.Module, patterns: tuple[str, ...], model: str) -> None:
    """Raises StepError for a name or pattern that no layer has."""
    names = [name for name, _ in network.named_modules() if name]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            close = difflib.get_close_matches(pattern, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"its layers are {', '.join(names[:6])}, ..."
            raise StepError(f"{model} has no layer {pattern!r}; {hint}")
