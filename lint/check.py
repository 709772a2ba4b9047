"""What a check is given and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lint.finding import Edit
from lint.releases import Release
from lint.repository import Model


@dataclass(frozen=True)
class Context:
    """What a check may ask beside its model: the other models by name, the server that is aimed at, and its CPU
    cores."""

    repository: Path
    models: Mapping[str, Model]
    release: Release
    cores: int


@dataclass(frozen=True)
class Hit:
    """A fault that a check has found. `at` is the path in the configuration; `file` another file or folder that it is
    in."""

    code: str
    message: str
    at: tuple[str | int, ...] = ()
    edits: tuple[Edit, ...] = ()
    file: Path | None = None


Check = Callable[[Model, Context], Iterator[Hit]]
