"""`trident lint`: what is wrong in a model repository; nothing is started."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.errors import RepositoryError
from core.files import write_atomically
from core.machine import cores, versions
from lint.finding import SEVERITIES
from lint.fix import fix
from lint.output import as_result, plain, sarif
from lint.run import Report, lint, release_for, worst

FOUND = 9


def run(options: argparse.Namespace) -> int:
    """Prints the findings. Returns 0, or 9 if one is at least as bad as `--fail-on`."""
    release = release_for(options.triton, options.paths[0])
    limit = options.cores or cores()
    reports = [lint(path, release, limit) for path in options.paths]
    if options.fix:
        mended = 0
        for at, report in enumerate(reports):
            reports[at], count = fix(report, limit)
            mended += count
        print(f"mended: {mended}", file=sys.stderr)
    report = _together(reports)
    if options.sarif:
        _write(options.sarif, sarif(report, versions(("trident-triton",)).get("trident-triton", "0")))
    print(as_result(report).to_json().decode().rstrip() if options.json else plain(report))
    found = worst(report)
    return FOUND if found and SEVERITIES.index(found) <= SEVERITIES.index(options.fail_on) else 0


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode() + b"\n")
    except OSError as error:
        raise RepositoryError(f"{path} cannot be written: {error.strerror or error}; name another file") from error


def _together(reports: list[Report]) -> Report:
    """Several paths, as pre-commit gives them, in one report."""
    first = reports[0]
    findings = dict.fromkeys(found for report in reports for found in report.findings)
    return Report(first.path, first.release, sum(report.models for report in reports), tuple(findings))
