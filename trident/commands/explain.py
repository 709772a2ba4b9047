"""`trident explain`: one model's configuration in plain words."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from core.errors import RepositoryError
from core.machine import cores
from lint.explain import explain
from lint.run import checked, release_for
from trident.console import result_console


def run(options: argparse.Namespace) -> int:
    """Prints a line for each part of the configuration."""
    folder = find_folder(options.model, options.repository)
    limit = options.cores or cores()
    model, context, findings = checked(folder, release_for(options.triton, folder), limit)
    lines = explain(model, context)
    if options.json:
        print(json.dumps({"model": model.name, "cores": limit, "lines": [asdict(line) for line in lines]}, indent=2))
        return 0
    table = Table("Field", "Value", "Meaning", title=f"{model.name}, on {limit} cores", title_justify="left")
    for line in lines:
        why = f"\n[dim]Its comment: {escape(line.reason)}[/dim]" if line.reason else ""
        table.add_row(escape(line.field), escape(line.value), escape(line.meaning) + why)
    console = result_console()
    console.print(table)
    if findings:
        codes = ", ".join(sorted({found.code for found in findings}))
        console.print(f"`trident lint {folder}` has something to say: {codes}", soft_wrap=True, markup=False)
    return 0


def find_folder(model: str, repository: Path) -> Path:
    """The folder of a model that is given by its path, or by its name in a repository. Raises RepositoryError."""
    for folder in (Path(model), repository / model):
        if folder.is_dir():
            return folder
    raise RepositoryError(
        f"no model {model!r}: it is neither a folder nor in {repository}; name one of them, or another --repository"
    )
