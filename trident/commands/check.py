"""`trident check`: whether a release of Triton can load what a repository holds; and copies that it can."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from core.errors import BuildError, RepositoryError, UsageError
from core.findings import CheckReport, CheckRow
from core.machine import cores
from lint.compatibility import Judgement, judge
from lint.releases import AS_OF
from lint.run import read, release_for
from trident.console import result_console

FOUND = 9


def run(options: argparse.Namespace) -> int:
    """Prints a row for each artifact. Returns 0, or 9 if one would not load."""
    release = release_for(options.triton, options.path)
    models, _context = read(options.path, release, cores())
    judged = [row for row in (judge(model, release) for model in models) if row is not None]
    rows = tuple(_row(row, options.lower) for row in judged)
    report = CheckReport(path=str(options.path), release=release.name, table_of=AS_OF, rows=rows)
    if options.json:
        print(report.to_json().decode().rstrip())
    else:
        table = Table(
            "Model", "File", "Loads", "Why", title=f"{release.said}, by the table of {AS_OF}", title_justify="left"
        )
        for row in rows:
            why = f"{row.reason}; {row.lowered}" if row.lowered else row.reason
            table.add_row(escape(row.model), Path(row.file).name, row.loads, escape(why))
        result_console().print(table if rows else f"{options.path} holds no artifact to be judged")
    return FOUND if any(row.loads == "no" and not row.lowered_to for row in rows) else 0


def _row(row: Judgement, target: Path | None) -> CheckRow:
    lowered, where = "", None
    if target is not None and row.lower is not None:
        lowered, where = _lower(row, target)
    elif row.lower is not None:
        lowered = "`--lower FOLDER` writes a copy that it reads, if that can be proven"
    return CheckRow(
        model=row.model, file=str(row.file), loads=row.loads, reason=row.reason, lowered=lowered, lowered_to=where
    )


def _lower(row: Judgement, target: Path) -> tuple[str, str | None]:
    """Copies a model's folder, its file lowered; what came of it, and where it lies. Raises UsageError and
    RepositoryError."""
    try:
        from builder.lower_onnx import lower_onnx
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; `pip install 'trident-triton[build]'` brings it") from error
    assert row.lower is not None
    model = row.file.parent.parent
    beside, final = target / f".{model.name}.tmp", target / model.name
    # Other versions stay as they are, and what was recorded of this one does not hold for its copy.
    left_out = {path.name for path in model.iterdir() if path.name.isdecimal() and path != row.file.parent}
    left_out |= {"passport.json", "golden.npz"}
    if final.exists():
        raise RepositoryError(f"{final} is there already; name another folder for --lower")
    try:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copytree(model, beside, symlinks=True, ignore=lambda _folder, names: set(names) & left_out)
        proof = lower_onnx(row.file, beside / row.file.parent.name / row.file.name, *row.lower)
        beside.rename(final)
    except OSError as error:
        raise RepositoryError(f"{final} cannot be written: {error.strerror or error}") from error
    except BuildError as error:
        return f"not lowered: {error}", None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    said = f"lowered in {final}: same answers within {proof.relative_error:.1g} on {proof.samples} random samples"
    return said, str(final)
