"""`trident list`: what a model repository holds, read from passports; nothing is started."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from builder.repository import Repository
from core.errors import RepositoryError
from trident.console import number, result_console, score


def run(options: argparse.Namespace) -> int:
    """Prints a row for each published version."""
    repository = Repository.at(options.repository)
    if not repository.root.is_dir():
        raise RepositoryError(f"{options.repository} does not exist; build one with `make build-repo`")
    rows = []
    for name in repository.models():
        for version in repository.versions(name):
            passport = repository.passport(name, version)
            rows.append(
                {
                    "name": name,
                    "version": version,
                    "model": passport.model if passport else None,
                    "variant": passport.variant if passport else None,
                    "format": passport.format if passport else None,
                    "metric": passport.verdict.metric.name if passport else None,
                    "fraction": passport.verdict.metric.fraction if passport else None,
                    "accuracy": passport.verdict.metric.value if passport else None,
                    "time_ms": passport.timing.time_ms if passport else None,
                    "intact": repository.intact(name, version) if passport else None,
                    "built_at": passport.built_at if passport else None,
                }
            )
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table("Name", "Version", "Format", "Accuracy", "Time (ms)", "Files", "Built (UTC)")
    for row in rows:
        intact = {True: "intact", False: "CHANGED", None: "no passport"}[row["intact"]]  # type: ignore[index]
        fraction = bool(row.pop("fraction"))
        accuracy, time_ms = score(row["accuracy"], fraction), number(row["time_ms"], ".3f")  # type: ignore[arg-type]
        cells = (row["name"], row["version"], row["format"] or "-", accuracy, time_ms, intact, row["built_at"] or "-")
        table.add_row(*map(str, cells))
    nothing = f"{options.repository} holds no models; build some with `make build-repo`"
    result_console().print(table if rows else nothing)
    return 0
