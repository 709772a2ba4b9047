"""The part of SARIF 2.1.0 that `trident lint --sarif` writes, as a JSON schema after the standard's own, which may not
be copied here: required members, no unknown ones, counts from 1, and fixes that replace something."""

from __future__ import annotations

from typing import Any, Final


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


_TEXT: Final = {"type": "string", "minLength": 1}
_MESSAGE: Final = _object({"text": _TEXT})
_LEVEL: Final = {"enum": ["none", "note", "warning", "error"]}
_FROM_ONE: Final = {"type": "integer", "minimum": 1}
_FROM_ZERO: Final = {"type": "integer", "minimum": 0}
_FILE: Final = _object({"uri": {"type": "string", "pattern": r"^[^\s<>\"{}|\\^`]+$"}})
_RULE: Final = _object(
    {
        "id": {"type": "string", "pattern": r"^TRN\d{3}$"},
        "shortDescription": _MESSAGE,
        "fullDescription": _MESSAGE,
        "help": _MESSAGE,
        "defaultConfiguration": _object({"level": _LEVEL}),
    }
)
_LOCATION: Final = _object(
    {
        "physicalLocation": _object(
            {"artifactLocation": _FILE}, {"region": _object({"startLine": _FROM_ONE, "startColumn": _FROM_ONE})}
        )
    }
)
_REPLACEMENT: Final = _object(
    {
        "deletedRegion": _object({"charOffset": _FROM_ZERO, "charLength": _FROM_ZERO}),
        "insertedContent": _object({"text": {"type": "string"}}),
    }
)
_CHANGE: Final = _object(
    {"artifactLocation": _FILE, "replacements": {"type": "array", "minItems": 1, "items": _REPLACEMENT}}
)
_FIX: Final = _object(
    {"description": _MESSAGE, "artifactChanges": {"type": "array", "minItems": 1, "items": _CHANGE}},
)
_RESULT: Final = _object(
    {
        "ruleId": _TEXT,
        "ruleIndex": _FROM_ZERO,
        "level": _LEVEL,
        "message": _MESSAGE,
        "locations": {"type": "array", "minItems": 1, "items": _LOCATION},
    },
    {"fixes": {"type": "array", "uniqueItems": True, "items": _FIX}},
)
_DRIVER: Final = _object({"name": _TEXT, "version": _TEXT, "rules": {"type": "array", "items": _RULE}})
_RUN: Final = _object(
    {
        "tool": _object({"driver": _DRIVER}),
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "results": {"type": "array", "items": _RESULT},
    }
)
SARIF: Final = _object(
    {"$schema": {"type": "string"}, "version": {"const": "2.1.0"}, "runs": {"type": "array", "items": _RUN}}
)
