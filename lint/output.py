"""A report in the forms that people, programs and code hosts read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from core.findings import LintFinding, LintReport
from lint.finding import SEVERITIES, Finding
from lint.run import RULES, Report

SARIF_LEVELS: Final = {"error": "error", "warning": "warning", "note": "note"}


def plain(report: Report) -> str:
    """A line for each finding, as compilers write them, and what to do about each kind below."""
    lines = [f"{_where(found)}: {found.severity} {found.code}: {found.message}" for found in report.findings]
    codes = dict.fromkeys(found.code for found in report.findings)
    if codes:
        lines += ["", *(f"{code}  {RULES[code].title}. {RULES[code].fix}" for code in sorted(codes))]
        lines += ["", "Why each of them hurts: docs/lint/<code>.md, or `--json`."]
    return "\n".join([*lines, summary(report)])


def summary(report: Report) -> str:
    """One sentence."""
    kinds = ", ".join(
        f"{count} {severity}{'s' * (count != 1)}"
        for severity in SEVERITIES
        if (count := sum(found.severity == severity for found in report.findings))
    )
    fixable = sum(bool(found.edits) for found in report.findings)
    hint = f"; `--fix` mends {fixable} of them" if fixable else ""
    models = f"{report.models} model{'s' * (report.models != 1)} for {report.release.said}"
    return f"{models}: {kinds or 'nothing found'}{hint}"


def _where(found: Finding) -> str:
    path = os.path.relpath(found.file)
    path = path if not path.startswith("..") else str(found.file)
    return f"{path}:{found.line}:{found.column}" if found.line else path


def as_result(report: Report) -> LintReport:
    """The report as it is written to JSON."""
    return LintReport(
        path=str(report.path),
        release=report.release.name,
        server_version=".".join(map(str, report.release.server)),
        models=report.models,
        counts={severity: sum(found.severity == severity for found in report.findings) for severity in SEVERITIES},
        findings=tuple(
            LintFinding(
                code=found.code, severity=found.severity, model=found.model, file=str(found.file), line=found.line,
                column=found.column, message=found.message, why=RULES[found.code].why, fix=RULES[found.code].fix,
                page=found.page, fixable=bool(found.edits),
            )
            for found in report.findings
        ),
    )  # fmt: skip


def sarif(report: Report, version: str) -> str:
    """SARIF 2.1.0, which code hosts show beside the lines. Paths are relative to the folder that one is in.

    Format: OASIS, Static Analysis Results Interchange Format 2.1.0.
    """
    codes = sorted(RULES)
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "trident lint", "version": version, "rules": list(_sarif_rules(codes))}},
                "columnKind": "unicodeCodePoints",
                "results": [_sarif_result(found, codes) for found in report.findings],
            }
        ],
    }
    return json.dumps(document, indent=2)


def _sarif_rules(codes: list[str]) -> Iterator[dict[str, object]]:
    for code in codes:
        rule = RULES[code]
        yield {
            "id": code,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.why},
            "help": {"text": rule.fix},
            "defaultConfiguration": {"level": SARIF_LEVELS[rule.severity]},
        }


def _sarif_result(found: Finding, codes: list[str]) -> dict[str, object]:
    location: dict[str, object] = {"artifactLocation": {"uri": _uri(found.file)}}
    if found.line:
        location["region"] = {"startLine": found.line, "startColumn": found.column}
    result: dict[str, object] = {
        "ruleId": found.code,
        "ruleIndex": codes.index(found.code),
        "level": SARIF_LEVELS[found.severity],
        "message": {"text": f"{found.message}. {RULES[found.code].fix}"},
        "locations": [{"physicalLocation": location}],
    }
    if found.edits:
        replacements = [
            {
                "deletedRegion": {"charOffset": edit.start, "charLength": edit.end - edit.start},
                "insertedContent": {"text": edit.text},
            }
            for edit in found.edits
        ]
        change = {"artifactLocation": {"uri": _uri(found.file)}, "replacements": replacements}
        result["fixes"] = [{"description": {"text": RULES[found.code].fix}, "artifactChanges": [change]}]
    return result


def _uri(path: Path) -> str:
    relative = os.path.relpath(path)
    return path.as_uri() if relative.startswith("..") else quote(Path(relative).as_posix())
