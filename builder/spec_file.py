"""Reads a spec file and answers every mistake with file, line and remedy."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from builder.errors import SpecError
from builder.spec import ModelSpec
from builder.spec_base import resolved

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

EXAMPLES = {
    "name": "my-model", "factory": "model.py:build_model", "max_drop": "1pt, or 2%", "threshold": "1pt, or 2%",
    "[key]": "small", "students": "model.py:build_half",
}  # fmt: skip
TAGS = ("step", "op")  # fields that tell the members of a union apart


class _Loader(yaml.SafeLoader):
    """The safe loader; a value that its type cannot hold (`2024-13-45`) is a mistake with a place, like any other."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Raises ConstructorError, with the node's place."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError, LookupError, AttributeError) as error:
            value = getattr(node, "value", None)
            why = f"{value!r} cannot be read ({error}), put it in quotes" if isinstance(value, str) else str(error)
            raise yaml.constructor.ConstructorError(None, None, why, node.start_mark) from error


def load_spec(path: Path) -> ModelSpec:
    """Reads a spec; its relative paths come back resolved against the spec's folder.

    Raises SpecError with file, line and remedy for anything that is wrong with it.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise SpecError(f"{path} does not exist; name a spec such as examples/fashion/model.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated_keys(node)
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise SpecError(f"{path}:{line}: {problem}; mend the YAML there") from error
    except RecursionError:
        raise SpecError(f"{path}:1: the YAML is nested too deeply; see examples/fashion/model.yaml") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path}:1: a spec is a mapping that begins with `name:`; see examples/fashion/model.yaml")
    try:
        spec = ModelSpec.model_validate(content)
    except ValidationError as error:
        raise SpecError(_explain(path, node, error)) from None
    return _resolved(spec, path.resolve().parent)


def _refuse_repeated_keys(root: yaml.Node | None) -> None:
    """Raises ConstructorError for a key that stands twice in a mapping, of which YAML would silently keep the last."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias, which may even lead back to its own anchor
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                waiting.append(value)
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in lines:
                    why = f"{key.value!r} stands twice, first in line {lines[key.value]}"
                    raise yaml.constructor.ConstructorError(None, None, why, key.start_mark)
                lines[key.value] = key.start_mark.line + 1


def _resolved(spec: ModelSpec, folder: Path) -> ModelSpec:
    source, data = spec.checkpoint, spec.data
    paths = ("state_dict", "onnx", "torchscript", "exported", "huggingface", "head")
    checkpoint = source.model_copy(
        update={
            **{name: folder / path for name in paths if (path := getattr(source, name))},
            "factory": str(folder / source.factory) if source.factory else None,
        }
    )
    files = {"calibration": folder / data.calibration, "evaluation": folder / data.evaluation}
    imports = {name: folder / path for name, path in spec.imports.items()}
    if data.training:
        files["training"] = folder / data.training
    metric = spec.metric
    if ".py:" in metric.name:
        metric = metric.model_copy(update={"name": str(folder / metric.name)})
    compress = {name: resolved(parts, folder) for name, parts in spec.compress.items()}
    update = {"checkpoint": checkpoint, "data": data.model_copy(update=files), "metric": metric, "imports": imports}
    return spec.model_copy(update={**update, "compress": compress, "optimize": resolved(spec.optimize, folder)})


def _explain(path: Path, node: yaml.Node | None, error: ValidationError) -> str:
    """The first mistake in a sentence: `file:line: field: what; remedy`."""
    # An unknown field comes first: a typo of a required one is reported as missing too, which would mislead.
    mistakes = [mistake for mistake in error.errors() if not _follows(mistake, error.errors())]
    first, count = min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden"), len(mistakes)
    remedy, message = "", first["msg"].removeprefix("Value error, ")
    # What concerns several fields has no place; it is told at the first one that it speaks of.
    spoken = [word for word in re.findall(r"[a-z]+", message) if word in ModelSpec.model_fields and not first["loc"]]
    line, where = _locate(node, first["loc"] or tuple(spoken[:1]))
    where = where if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
        message = "unknown field"
        remedy = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}" if known else ""
    elif first["type"] == "missing":
        message, remedy = "required, but missing", "; add it"
    elif first["type"] == "literal_error":
        close = difflib.get_close_matches(str(first["input"]), str(first["ctx"]["expected"]).split("'"), 1)
        message = f"{first['input']!r} is not known: {first['msg']}"
        remedy = f"; did you mean {close[0]!r}?" if close else ""
    elif first["type"] == "union_tag_invalid":
        field = str(first["ctx"]["discriminator"]).strip("'")
        known = str(first["ctx"]["expected_tags"]).split("'")[1::2]
        close = difflib.get_close_matches(str(first["ctx"]["tag"]), known, 1)
        message = f"{field} {first['ctx']['tag']!r} is not known; known are {', '.join(known)}"
        remedy = f"; did you mean {close[0]!r}?" if close else ""
        if str(first["ctx"]["tag"]).startswith(("export", "quantize")):
            remedy = "; the variant's base exports and quantizes, after all of them"
    elif first["type"] == "union_tag_not_found":
        message, remedy = f"{first['ctx']['discriminator']} is required, but missing".replace("'", ""), "; add it"
    elif first["type"] == "too_short":
        message, remedy = "empty", "; give at least one"
    elif first["type"] == "string_pattern_mismatch":
        named = next(part for part in reversed(first["loc"]) if isinstance(part, str))
        message = f"{first['input']!r} cannot be read; write it such as {EXAMPLES.get(named, '...')}"
    elif not isinstance(first["input"], dict | list) and repr(first["input"]) not in message:
        message = f"{message} (it is {first['input']!r})"
    more = f" (and {count - 1} more)" if count > 1 else ""
    return f"{path}:{line}: {where + ': ' if where else ''}{message}{remedy}{more}"


def _follows(mistake: ErrorDetails, others: list[ErrorDetails]) -> bool:
    """Whether it is only that a list is too short without the entries that are mistakes themselves."""
    loc = mistake["loc"]
    return mistake["type"] == "too_short" and any(other["loc"][: len(loc)] == loc != other["loc"] for other in others)


def _locate(node: yaml.Node | None, loc: tuple[int | str, ...]) -> tuple[int, str]:
    """Line (from 1) of the deepest YAML node on the way to `loc`, and that way as `data.label` or `inputs[0].dims`."""
    line, where = node.start_mark.line + 1 if node else 1, ""
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            if any(key.value in TAGS and value.value == part for key, value in node.value):
                continue  # pydantic names the kind as well, which is no level of the file
            where += f".{part}" if where else str(part)
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            where += f"[{part}]"
            node = node.value[part]
            line = node.start_mark.line + 1
    return line, where


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    """The fields that the spec knows at a place, for hints; empty where the place is no fixed set of fields."""
    kind: Any = ModelSpec
    for part in loc:
        kind = _within(kind, part)
        if NoneType in (members := get_args(kind)):  # a field that may be left out
            kind = next(member for member in members if member is not NoneType)
    return list(getattr(kind, "model_fields", {}))


def _within(kind: Any, part: int | str) -> Any:
    """The type at `part` of a type: a field, an entry, or the member of a union that a tag names. None if unknown."""
    if get_origin(kind) is Annotated:
        return _within(get_args(kind)[0], part)
    if field := getattr(kind, "model_fields", {}).get(part):
        return field.annotation
    if get_origin(kind) is tuple:
        return get_args(kind)[0]
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    return next((member for member in get_args(kind) if part in _tags(member)), None)


def _tags(kind: Any) -> list[str]:
    """What the fields that tell the members of a union apart say in this one."""
    fields = getattr(kind, "model_fields", {})
    return [word for tag in TAGS if tag in fields for word in get_args(fields[tag].annotation)]
