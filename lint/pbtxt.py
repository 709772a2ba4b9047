"""Reads protobuf's text format into a tree that knows where each part stands. Protobuf's own parser decides what a file
means; this one says where, and goes on where the other stops: at a field that does not exist, or a value of the wrong
kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

MAX_DEPTH: Final = 60  # protobuf's parser calls itself for each level, and Python bounds that
TOKEN: Final = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![A-Za-z0-9_]))
      | (?P<word>-?[A-Za-z_][A-Za-z0-9_.]*)
      | (?P<mark>[{}<>\[\]:,;/])""",
    re.VERBOSE,
)
CLOSES: Final = {"{": "}", "<": ">"}
Kind = Literal["string", "number", "word", "mark"]


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` of the text."""

    start: int
    end: int


@dataclass(frozen=True)
class Scalar:
    """A string (as it is written, with its quotes), a number or a word such as `true` and `TYPE_FP32`."""

    text: str
    kind: Kind
    span: Span


@dataclass(frozen=True)
class Field:
    """One `name: value` or `name { ... }`. A list is so many fields of the same name, with the same `whole`."""

    name: str
    name_span: Span
    value: Scalar | Block
    whole: Span


@dataclass(frozen=True)
class Block:
    """The fields between two braces, or of the whole file."""

    fields: tuple[Field, ...]
    span: Span

    def named(self, name: str) -> tuple[Field, ...]:
        """Its fields of one name, in order."""
        return tuple(field for field in self.fields if field.name == name)


class PbtxtError(ValueError):
    """The text is not in text format; `at` is the first character that does not fit."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True)
class _Token:
    kind: Kind
    text: str
    start: int
    end: int


def place(text: str, at: int) -> tuple[int, int]:
    """Line and column, both from 1, of a character."""
    line_start = text.rfind("\n", 0, at) + 1
    return text.count("\n", 0, at) + 1, at - line_start + 1


def parse(text: str) -> Block:
    """The tree of a text. Raises PbtxtError."""
    return _Reader(text).block(None, 0)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise PbtxtError(f"{text[at]!r} has no meaning here", at)
        at = match.end()
        match match.lastgroup:
            case "string" | "number" | "word" | "mark" as kind:
                yield _Token(kind, match.group(), match.start(), at)


class _Reader:
    """The tokens of one text, read from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = tuple(_tokens(text))
        self._length = len(text)
        self._next = 0

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self, wanted: str) -> _Token:
        token = self._peek()
        if token is None:
            raise PbtxtError(f"the text ends where {wanted} should stand", self._length)
        self._next += 1
        return token

    def _skip(self, marks: str) -> None:
        token = self._peek()
        if token is not None and token.kind == "mark" and token.text in marks:
            self._next += 1

    def block(self, opening: _Token | None, depth: int) -> Block:
        """The fields up to the end of the text, or to the brace that closes `opening`."""
        if depth > MAX_DEPTH:
            raise PbtxtError(f"more than {MAX_DEPTH} braces within each other", opening.start if opening else 0)
        closing = CLOSES[opening.text] if opening else None
        fields: list[Field] = []
        while True:
            token = self._peek()
            if token is None:
                if opening:
                    raise PbtxtError(f"the {opening.text} is never closed", opening.start)
                return Block(tuple(fields), Span(0, self._length))
            if opening and token.text == closing:
                self._next += 1
                return Block(tuple(fields), Span(opening.start, token.end))
            fields += self._field(depth)

    def _field(self, depth: int) -> list[Field]:
        name = self._take("a field")
        if name.kind != "word":
            raise PbtxtError(f"{name.text} stands where a field's name should", name.start)
        token = self._take("a value")
        colon = token.text == ":" and token.kind == "mark"
        if colon:
            token = self._take("a value")
        values: list[Scalar | Block] = []
        if token.kind == "mark" and token.text == "[":
            values = self._list(token, depth)
        elif colon or (token.kind == "mark" and token.text in CLOSES):
            values = [self._value(token, depth)]
        else:
            raise PbtxtError(f"a colon is missing after {name.text}", name.end)
        end = self._tokens[self._next - 1].end
        self._skip(",;")
        span, whole = Span(name.start, name.end), Span(name.start, end)
        return [Field(name.text, span, value, whole) for value in values]

    def _list(self, opening: _Token, depth: int) -> list[Scalar | Block]:
        values: list[Scalar | Block] = []
        token = self._take("a value or ]")
        if token.text == "]":
            return values
        while True:
            values.append(self._value(token, depth))
            mark = self._take("a comma or ]")
            if mark.text == "]":
                return values
            if mark.text != ",":
                raise PbtxtError(f"a comma is missing in the list that begins with {opening.text}", mark.start)
            token = self._take("a value")

    def _value(self, token: _Token, depth: int) -> Scalar | Block:
        if token.kind == "mark":
            if token.text in CLOSES:
                return self.block(token, depth + 1)
            raise PbtxtError(f"{token.text} stands where a value should", token.start)
        text, end = token.text, token.end
        while token.kind == "string" and (more := self._peek()) is not None and more.kind == "string":
            self._next += 1  # strings beside each other are one
            text, end = f"{text} {more.text}", more.end
        return Scalar(text, token.kind, Span(token.start, end))
