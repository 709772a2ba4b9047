"""What a rule is, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
"""Worst first. Error: the server refuses it, or it answers wrongly or never. Warning: it works, and costs speed, memory
or safety. Note: worth a thought."""


@dataclass(frozen=True)
class Rule:
    """One kind of fault. Its page in `docs/lint/` is written from this.

    `why` says why it hurts, `fix` how to mend it. `server_says` is what the real server (2.51) was seen to say, if it
    refuses such a model; a test repeats it.
    """

    code: str
    severity: Severity
    title: str
    why: str
    fix: str
    server_says: str = ""
    fixable: bool = False


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` of the finding's file become `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Finding:
    """One fault at one place. `line` and `column` count from 1; line 0 means the file or folder as a whole. `edits`
    mend it, where that can be done without knowing more than the file says."""

    code: str
    severity: Severity
    model: str
    file: Path
    line: int
    column: int
    message: str
    edits: tuple[Edit, ...] = ()

    @property
    def page(self) -> str:
        """Its page, from the project's root."""
        return f"docs/lint/{self.code}.md"
