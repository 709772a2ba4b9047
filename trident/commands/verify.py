"""`trident verify`: whether every published file is still the one that was verified."""

from __future__ import annotations

import argparse
import json

from builder.repository import Repository
from core.errors import RepositoryError
from core.passports import damage
from trident.console import progress, result_console
from trident.published import chosen_models


def run(options: argparse.Namespace) -> int:
    """0 if all are. Raises RepositoryError after the last one if one is not."""
    repository = Repository.at(options.repository)
    found: list[dict[str, object]] = []
    for name in chosen_models(repository, options.models):
        for version in repository.versions(name):
            progress.print(f"{name} version {version}", soft_wrap=True, markup=False)
            what = damage(repository.root / name / str(version))
            found.append({"name": name, "version": version, "intact": None if what is None else not what, "why": what})
    damaged = [row for row in found if row["intact"] is False]
    unknown = sum(row["intact"] is None for row in found)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        without = f"; {unknown} have no passport to be compared with" if unknown else ""
        intact = len(found) - len(damaged) - unknown
        result_console().print(f"{intact} of {len(found)} versions are as they were verified{without}")
    if damaged:
        which = "; ".join(f"{row['name']} version {row['version']}: {row['why']}" for row in damaged)
        raise RepositoryError(f"{which}; roll back, or build it again")
    return 0
