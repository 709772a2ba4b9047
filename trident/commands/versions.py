"""`trident versions`: the published versions of each model, and which one serves."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from builder.live import asked_for, is_held
from builder.repository import Repository
from core.passports import damage
from trident.console import number, result_console, score
from trident.published import chosen_models


def run(options: argparse.Namespace) -> int:
    """Prints a row for each version; nothing is started."""
    repository = Repository.at(options.repository)
    rows = [row for name in chosen_models(repository, options.models) for row in _rows(repository, name)]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table("Model", "Version", "Serves", "Accuracy", "Time (ms)", "Files", "Built (UTC)")
    for row in rows:
        fraction = bool(row["fraction"])
        accuracy, time_ms = score(row["accuracy"], fraction), number(row["time_ms"], ".3f")  # type: ignore[arg-type]
        cells = (
            row["name"],
            row["version"],
            row["serves"] or "-",
            accuracy,
            time_ms,
            row["files"],
            row["built_at"] or "-",
        )
        table.add_row(*map(str, cells))
    nothing = f"{options.repository} holds no models; build some with `make build-repo`"
    result_console().print(table if rows else nothing)
    return 0


def _rows(repository: Repository, name: str) -> list[dict[str, object]]:
    """A version a row, the newest first."""
    serving, held, rows = asked_for(repository, name), is_held(repository, name), list[dict[str, object]]()
    for version in reversed(repository.versions(name)):
        passport, found = repository.passport(name, version), damage(repository.root / name / str(version))
        metric = passport.verdict.metric if passport else None
        rows.append(
            {
                "name": name,
                "version": version,
                "serves": ("held" if held else "newest") if version == serving else None,
                "accuracy": metric.value if metric else None,
                "fraction": metric.fraction if metric else None,
                "time_ms": passport.timing.time_ms if passport else None,
                "files": "no passport" if found is None else found or "intact",
                "built_at": passport.built_at if passport else None,
            }
        )
    return rows
