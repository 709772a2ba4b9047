"""Mends what can be mended without asking: only the characters at fault change, comments and layout stay."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

from core.errors import RepositoryError
from core.files import write_atomically
from lint.finding import Edit, Finding
from lint.reading import MAX_CONFIG_BYTES, apply, read_text
from lint.run import Report, lint

MAX_ROUNDS: Final = 5  # an edit can bring to light what stood behind it


def fix(report: Report, cores: int) -> tuple[Report, int]:
    """Writes the edits of a report's findings and looks again, until nothing is left to mend. Gives the last report and
    how many findings were mended. Raises RepositoryError if a file cannot be written."""
    mended = 0
    for _round in range(MAX_ROUNDS):
        edits = _by_file(report.findings)
        if not edits:
            break
        for path, changes in edits.items():
            _rewrite(path, changes)
        before, report = report, lint(report.path, report.release, cores)
        mended += len(set(_keys(before)) - set(_keys(report)))
    return report, mended


def _keys(report: Report) -> list[tuple[str, Path, str]]:
    return [(found.code, found.file, found.message) for found in report.findings]


def _by_file(findings: tuple[Finding, ...]) -> dict[Path, tuple[Edit, ...]]:
    edits: dict[Path, list[Edit]] = defaultdict(list)
    for found in findings:
        edits[found.file] += found.edits
    return {path: tuple(changes) for path, changes in edits.items() if changes}


def _rewrite(path: Path, edits: tuple[Edit, ...]) -> None:
    text, trouble = read_text(path, MAX_CONFIG_BYTES)
    if trouble or path.is_symlink():
        raise RepositoryError(f"{path} cannot be mended: {trouble or 'it is a link'}; mend what it points to by hand")
    try:
        mode = path.stat().st_mode
        write_atomically(path, apply(text, edits).encode())
        path.chmod(mode)
    except OSError as error:
        raise RepositoryError(f"{path} cannot be written: {error.strerror}; see who may write it") from error
