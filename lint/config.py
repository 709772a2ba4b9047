"""One `config.pbtxt`: its message, and where each part of it stands in the text."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from lint.finding import Edit
from lint.pbtxt import Block, Field, place


@dataclass(frozen=True)
class Config:
    """`message` is Triton's ModelConfig, with its misspellings read as what they were meant to be, and `names` the
    fields that it is given, also with a value of 0; `tree` is the text as it stands. Where there is no file, and all is
    left to the server, `text` is empty and `tree` without fields."""

    path: Path
    text: str
    tree: Block
    message: Any
    names: frozenset[str] = frozenset()

    def find(self, *path: str | int) -> Field | None:
        """The field at a path such as `("input", 1, "dims")`; None if it is not written. A number counts the fields of
        the name before it; without one the first is taken."""
        return _find(self.tree, path)

    def place(self, *path: str | int) -> tuple[int, int]:
        """Line and column of the deepest part of a path that is written; (0, 0) if none of it is."""
        for length in range(len(path), 0, -1):
            field = self.find(*path[:length])
            if field is not None:
                return place(self.text, field.name_span.start)
        return (0, 0)

    def comment(self, name: str) -> str:
        """What the comment lines right above a field say, without their marks; empty if there are none."""
        field = self.find(name)
        if field is None:
            return ""
        above = self.text[: field.name_span.start].split("\n")[:-1]
        lines = [line.strip().lstrip("#").strip() for line in takewhile(_is_comment, reversed(above))]
        return " ".join(reversed(lines))

    def entry(self, name: str, key: str) -> tuple[str | int, ...]:
        """The path of a map's entry."""
        for at, field in enumerate(self.tree.named(name)):
            if isinstance(field.value, Block):
                keys = [part.value for part in field.value.named("key")]
                if any(not isinstance(part, Block) and part.text.strip("\"'") == key for part in keys):
                    return (name, at)
        return (name,)

    def parameter(self, name: str) -> str:
        """The value of a parameter, empty if it is not set."""
        return str(self.message.parameters[name].string_value) if name in self.message.parameters else ""

    def set_value(self, text: str, *path: str | int) -> tuple[Edit, ...]:
        """Replaces the value at a path, where it is written as a single one."""
        field = self.find(*path)
        if field is None or isinstance(field.value, Block):
            return ()
        return (Edit(field.value.span.start, field.value.span.end, text),)

    def remove(self, *path: str | int) -> tuple[Edit, ...]:
        """Takes out what is written at a path, with its line if nothing else stands there."""
        field = self.find(*path)
        if field is None:
            return ()
        start, end = field.whole.start, field.whole.end
        line_start = self.text.rfind("\n", 0, start) + 1
        line_end = self.text.find("\n", end)
        line_end = len(self.text) if line_end < 0 else line_end + 1
        if not self.text[line_start:start].strip() and not self.text[end:line_end].strip(" \t\r\n,;"):
            start, end = line_start, line_end
        return (Edit(start, end, ""),)

    def add(self, text: str) -> tuple[Edit, ...]:
        """Adds lines at the end."""
        gap = "" if not self.text or self.text.endswith("\n") else "\n"
        return (Edit(len(self.text), len(self.text), f"{gap}{text}\n"),)


def _is_comment(line: str) -> bool:
    return line.strip().startswith("#")


def _find(block: Block, path: tuple[str | int, ...]) -> Field | None:
    name, rest = str(path[0]), path[1:]
    index = rest[0] if rest and isinstance(rest[0], int) else 0
    rest = rest[1:] if rest and isinstance(rest[0], int) else rest
    named = block.named(name)
    if index >= len(named):
        return None
    field = named[index]
    if not rest:
        return field
    return _find(field.value, rest) if isinstance(field.value, Block) else None
