"""Reads a `config.pbtxt`, and says what in it no server would understand."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tritonclient.grpc import model_config_pb2 as pb

from lint.config import Config
from lint.finding import Edit, Finding, Rule, Severity
from lint.pbtxt import Block, Field, PbtxtError, Scalar, parse, place
from lint.releases import FIELD_SINCE, Release

MAX_CONFIG_BYTES: Final = 4 << 20

RULES: Final = (
    Rule(
        "TRN001", "error", "config.pbtxt is not in protobuf's text format",
        "The server reads nothing of a file that it cannot parse: the model is not loaded, and without "
        "`--exit-on-error=false` neither is any other.",
        "Mend the line; every brace and quote must be closed, and a scalar needs a colon.",
        "failed to read text proto from",
    ),
    Rule(
        "TRN002", "error", "A field that does not exist",
        "The server refuses the whole file for one unknown field, most often a slip of the pen or a field one level "
        "too high.",
        "Write the name as ModelConfig has it, at its level.",
        "failed to read text proto from", fixable=True,
    ),
    Rule(
        "TRN003", "error", "A value of the wrong kind",
        "A word where a number is expected, or the name of a data type or kind that does not exist: the server "
        "refuses the whole file.",
        "Give a value of the field's kind; data types are `TYPE_FP32`, `TYPE_INT64`, `TYPE_STRING` and so on.",
        "failed to read text proto from", fixable=True,
    ),
    Rule(
        "TRN004", "error", "A field that this server does not know yet",
        "An older server refuses the whole file for a field that came later.",
        "Take the field out, or serve with a newer Triton.",
        "failed to read text proto from",
    ),
    Rule(
        "TRN005", "error", "config.pbtxt cannot be read as text",
        "It is binary, larger than 4 MiB, no regular file, or closed to you. The server fails on it, or reads it for "
        "minutes.",
        "Put a text file there that everyone who serves may read.",
        "failed to read text proto from",
    ),
    Rule(
        "TRN006", "error", "A field is given twice",
        "Only one value can hold, and the server refuses the file.",
        "Keep one of the two.",
        "failed to read text proto from",
    ),
)  # fmt: skip
_SEVERITY: Final[dict[str, Severity]] = {rule.code: rule.severity for rule in RULES}
INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64,
}  # fmt: skip
FLOATS: Final = {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}
INTEGER: Final = re.compile(r"-?\s*(0[xX][0-9a-fA-F]+|\d+)")
BOOLEANS: Final = {"true", "false", "True", "False", "t", "f", "0", "1"}


@dataclass(frozen=True)
class Reading:
    """A configuration (None if nothing of it can be understood), and what is wrong in its text."""

    config: Config | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Problem:
    code: str
    at: int
    message: str
    edits: tuple[Edit, ...] = ()


def read_config(path: Path, model: str, release: Release) -> Reading:
    """Reads one file. Nothing in it can raise."""
    text, trouble = read_text(path, MAX_CONFIG_BYTES)
    if trouble:
        return Reading(None, (Finding("TRN005", "error", model, path, 0, 0, trouble),))
    try:
        tree = parse(text)
    except PbtxtError as error:
        return Reading(None, (_as_finding(_Problem("TRN001", error.at, str(error)), model, path, text),))
    problems = list(_check(tree, pb.ModelConfig.DESCRIPTOR, "", release))
    message, mended = None, text
    try:
        mended = apply(text, tuple(edit for problem in problems for edit in problem.edits))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of an escape that does not exist; the server's parser, in C++, refuses it
            message = text_format.Parse(mended, pb.ModelConfig(), allow_unknown_field=True)
    except text_format.ParseError as error:
        if not any(problem.code in ("TRN001", "TRN003", "TRN006") for problem in problems):
            problems.append(_Problem("TRN001", _offset(text, error), _without_place(str(error))))
    except (UnicodeError, RecursionError, DeprecationWarning) as error:
        problems.append(_Problem("TRN001", 0, f"protobuf cannot read it: {error}"))
    config = None
    if message is not None:
        names = frozenset(field.name for field in (parse(mended) if mended != text else tree).fields)
        config = Config(path, text, tree, message, names)
    return Reading(config, tuple(_as_finding(problem, model, path, text) for problem in problems))


def read_text(path: Path, limit_bytes: int) -> tuple[str, str]:
    """A text file, or why it cannot be one. Never blocks, as on a named pipe, and never reads more than the limit."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return "", "it is no regular file"
            data = file.read(limit_bytes + 1)
    except OSError as error:
        return "", f"it cannot be read: {error.strerror or error}"
    if len(data) > limit_bytes:
        return "", f"it is larger than {limit_bytes >> 20} MiB"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return "", f"it is no text: byte {error.start} is not UTF-8"
    return (text, "") if "\0" not in text else ("", "it is no text: it holds a zero byte")


def apply(text: str, edits: tuple[Edit, ...]) -> str:
    """The text after the edits; of two that overlap, the earlier one."""
    parts, at = [], 0
    for edit in sorted(set(edits), key=lambda edit: (edit.start, edit.end)):
        if edit.start >= at:
            parts += [text[at : edit.start], edit.text]
            at = edit.end
    return "".join([*parts, text[at:]])


def _as_finding(problem: _Problem, model: str, path: Path, text: str) -> Finding:
    line, column = place(text, problem.at)
    return Finding(problem.code, _SEVERITY[problem.code], model, path, line, column, problem.message, problem.edits)


def _offset(text: str, error: text_format.ParseError) -> int:
    lines = text.splitlines(keepends=True)
    line, column = (error.GetLine() or 1) - 1, (error.GetColumn() or 1) - 1
    return min(sum(map(len, lines[:line])) + column, len(text))


def _without_place(message: str) -> str:
    head, _, rest = message.partition(" : ")
    return rest if rest and head.replace(":", "").isdecimal() else message


def _check(block: Block, kind: Descriptor, path: str, release: Release) -> Iterator[_Problem]:
    seen: set[str] = set()
    for field in block.fields:
        known = kind.fields_by_name.get(field.name)
        at = field.name_span.start
        if known is None:
            yield _unknown(field, kind, path)
            continue
        full = f"{path}{field.name}"
        since = FIELD_SINCE.get(full)
        if since is not None and since > release.server:
            yield _Problem(
                "TRN004", at, f"{full} came with Triton {since[0]}.{since[1]}; {release.said} does not know it"
            )
        if field.name in seen and not known.is_repeated:
            yield _Problem("TRN006", at, f"{full} is given twice")
        seen.add(field.name)
        if known.message_type is not None and isinstance(field.value, Block):
            yield from _check(field.value, known.message_type, f"{full}.", release)
        else:
            yield from _check_value(field, known, full)


def _unknown(field: Field, kind: Descriptor, path: str) -> _Problem:
    where = path.rstrip(".") or "ModelConfig"
    message = f"{where} has no field `{field.name}`"
    near = get_close_matches(field.name, list(kind.fields_by_name), 1, 0.75)
    if near:
        edit = Edit(field.name_span.start, field.name_span.end, near[0])
        return _Problem("TRN002", field.name_span.start, f"{message}; did you mean `{near[0]}`?", (edit,))
    homes = _HOMES.get(field.name, ())
    hint = f"; it belongs into {' or '.join(homes)}" if homes else ""
    return _Problem("TRN002", field.name_span.start, message + hint)


def _check_value(field: Field, known: FieldDescriptor, full: str) -> Iterator[_Problem]:
    value = field.value
    if isinstance(value, Block):
        yield _Problem("TRN003", field.name_span.start, f"{full} takes a single value, not braces")
        return
    if known.message_type is not None:
        yield _Problem("TRN003", value.span.start, f"{full} takes fields in braces, not {value.text}")
        return
    if known.enum_type is not None:
        yield from _check_word(value, list(known.enum_type.values_by_name), full)
        return
    wanted, right = _expected(value, known)
    if not right:
        yield _Problem("TRN003", value.span.start, f"{full} takes {wanted}, not {value.text}")


def _expected(value: Scalar, known: FieldDescriptor) -> tuple[str, bool]:
    if known.cpp_type in INTEGERS:
        return "a whole number", value.kind == "number" and bool(INTEGER.fullmatch(value.text))
    if known.cpp_type in FLOATS:
        return "a number", value.kind == "number" or value.text.lstrip("-").lower() in ("inf", "infinity", "nan")
    if known.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "true or false", value.text in BOOLEANS
    return "a string in quotes", value.kind == "string"


def _check_word(value: Scalar, names: list[str], full: str) -> Iterator[_Problem]:
    if value.kind == "number" or value.text in names:
        return
    word = value.text.strip("\"'")
    near = [name for name in names if word.upper() in (name, name.partition("_")[2])]
    near = near[:1] or get_close_matches(ALIASES.get(word.upper(), word.upper()), names, 1, 0.75)
    hint = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(names)}"
    edits = (Edit(value.span.start, value.span.end, near[0]),) if near else ()
    yield _Problem("TRN003", value.span.start, f"{full} has no value {value.text}{hint}", edits)


# What other tools call Triton's data types.
ALIASES: Final = {
    f"{prefix}{name}": f"TYPE_{triton}"
    for name, triton in {
        "FLOAT": "FP32", "FLOAT32": "FP32", "FLOAT16": "FP16", "HALF": "FP16", "DOUBLE": "FP64", "FLOAT64": "FP64",
        "LONG": "INT64", "INT": "INT32", "BYTES": "STRING", "BOOLEAN": "BOOL", "BFLOAT16": "BF16",
        "FP32": "FP32", "FP16": "FP16", "INT64": "INT64", "INT32": "INT32", "INT8": "INT8", "UINT8": "UINT8",
        "STRING": "STRING", "BOOL": "BOOL",
    }.items()
    for prefix in ("", "TYPE_")
}  # fmt: skip


def _homes(kind: Descriptor, path: str, depth: int, found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Field name -> the messages that have it, by their path from the top."""
    for name, field in kind.fields_by_name.items():
        if path:
            found.setdefault(name, []).append(path)
        if field.message_type is not None and depth < 4 and not field.message_type.GetOptions().map_entry:
            _homes(field.message_type, f"{path}.{name}".lstrip("."), depth + 1, found)
    return found


_HOMES: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(f"`{path}`" for path in paths[:2])
    for name, paths in _homes(pb.ModelConfig.DESCRIPTOR, "", 0, {}).items()
}
