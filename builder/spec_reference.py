"""Writes the reference of the spec from its models: `python -m builder.spec_reference [FILE]`, default docs/spec.md."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from builder.spec import ModelSpec
from core.datatypes import BY_NAME
from core.tensors import TensorSpec
from core.transforms import AnyTransform, Transform

HEAD: Final = """\
# The spec

Every field of a model's YAML file. [models/README.md](../models/README.md) shows how to write one;
`examples/fashion/model.yaml` is a full one. A field that is not listed here is a mistake, which `trident build` answers
with file, line and remedy. Paths are relative to the spec's own file.

This page is written by `python -m builder.spec_reference` from `builder/spec*.py`; a test fails when they differ.
"""
PLAIN: Final = {str: "text", int: "whole number", float: "number", Path: "path", bool: "yes or no"}
# Models of `core/` that result files hold too: what their fields mean in a spec is said here.
MEANINGS: Final[dict[tuple[type[BaseModel], str], str]] = {
    (
        TensorSpec,
        "name",
    ): "from PyTorch a name of your choice (the order decides), from ONNX the file's own; requests use it",
    (TensorSpec, "dtype"): f"one of {', '.join(f'`{name}`' for name in BY_NAME)}",
    (TensorSpec, "dims"): "sizes, or names of axes that vary; the batch axis is not written",
}


def reference() -> str:
    """The whole page, in Markdown."""
    return "\n".join([HEAD, *(_section(model) for model in _models()), _transforms()])


def _models() -> list[type[BaseModel]]:
    """The spec, and every model that it is made of, in the order of first use."""
    found: list[type[BaseModel]] = [ModelSpec]
    for model in found:  # grows while it is walked
        for field in model.model_fields.values():
            found += [part for part in _parts(field.annotation) if part not in found]
    return found


def _parts(kind: Any) -> list[type[BaseModel]]:
    """The models within a type, transforms apart: they have a table of their own."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [] if issubclass(kind, Transform) else [kind]
    return list(dict.fromkeys(part for inner in get_args(kind) for part in _parts(inner)))


def _section(model: type[BaseModel]) -> str:
    described = [base for base in model.__bases__ if issubclass(base, BaseModel) and base.model_fields]
    inherited = {name for base in described for name in base.model_fields}
    rows = [
        f"| `{name}` | {_type(field.annotation, field.metadata)} | {_default(field)} | {_meaning(model, name, field)} |"
        for name, field in model.model_fields.items()
        if name not in inherited
    ]
    more = "".join(f" Further fields are those of {_type(base)}." for base in described)
    return f"## {model.__name__}\n\n{_text(model)}{more}\n\n" + _table("field", "type", "default", "meaning", rows=rows)


def _transforms() -> str:
    kinds: tuple[type[Transform], ...] = get_args(get_args(AnyTransform)[0])
    rows = []
    for kind in kinds:
        fields = [
            f"`{name}`: {_type(field.annotation, field.metadata)}"
            + ("" if field.is_required() else f" (default {_default(field)})")
            for name, field in kind.model_fields.items()
            if name != "op"
        ]
        rows.append(f"| `{get_args(kind.model_fields['op'].annotation)[0]}` | {'; '.join(fields)} | {_text(kind)} |")
    head = "## Transforms\n\nWhat `preprocess` may name for an input, in order. They run outside the model.\n\n"
    return head + _table("op", "fields", "meaning", rows=rows)


def _table(*heads: str, rows: list[str]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", "| " + " | ".join(["---"] * len(heads)) + " |", *rows, ""])


def _text(model: type[BaseModel]) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split())


def _meaning(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    return field.description or MEANINGS[model, name]


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, BaseModel):
        return "its own"
    return "all of them" if isinstance(value, tuple) else f"`{value}`"


def _type(kind: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    """A type in plain words, with the limits that its metadata sets."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(inner[0], inner[1:])
    if origin is Literal:
        return _either([f"`{value}`" for value in inner])
    if origin in (Union, UnionType):
        kinds = [part for part in inner if part is not NoneType]
        if all(isinstance(part, type) and issubclass(part, Transform) for part in kinds):
            return "[transform](#transforms)"
        return _either([_type(part) for part in kinds])
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"mapping of name to {_type(inner[1])}"
    if issubclass(kind, BaseModel):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    return PLAIN[kind] + _limits(metadata)


def _limits(metadata: list[Any] | tuple[Any, ...]) -> str:
    flat = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    words = ""
    for part in flat:
        if isinstance(part, Ge):
            words += f" from {part.ge}"
        elif isinstance(part, Gt):
            words += f" above {part.gt}"
        elif isinstance(part, Le):
            words += f" to {part.le}"
        elif isinstance(part, Lt):
            words += f" below {part.lt}"
        elif pattern := getattr(part, "pattern", None):
            words += f" matching `{pattern}`".replace("|", "\\|")  # which would end the table's cell
    return words


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/spec.md").write_text(reference())
