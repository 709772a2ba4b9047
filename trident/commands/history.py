"""`trident history`: what the load tests of a model came to, as a table and as a page."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from core.comparison import Summary
from core.errors import RepositoryError
from core.files import write_atomically
from trident.built import find_build
from trident.console import number, result_console, score
from trident.history import folder_of, read_history, row_of, variants_of
from trident.history_page import render


def run(options: argparse.Namespace) -> int:
    """Writes the page, and shows the runs."""
    model = find_build(options.artifacts, options.model).model
    history = read_history(options.artifacts, model)
    out = options.out or folder_of(options.artifacts, model) / "history.html"
    try:
        write_atomically(out, render(history).encode())
    except OSError as error:
        raise RepositoryError(f"{out} cannot be written ({error.strerror}); name another file with --out") from error
    if options.json:
        print(json.dumps([json.loads(summary.model_dump_json()) for summary in history], indent=2))
    else:
        console = result_console()
        console.print(_table(history))
        console.print(f"Written: {out}", soft_wrap=True, markup=False)
    return 0


def _table(history: tuple[Summary, ...]) -> Table:
    """A row a run and variant: p99, throughput and served accuracy."""
    table = Table(
        title=f"{history[-1].model}: {len(history)} load test{'s' * (len(history) > 1)}", title_justify="left"
    )
    for name in ("Run", "When", "Scenario", "Variant", "p99 (ms)", "Throughput", "Capacity", "Served accuracy"):
        table.add_column(name, justify="left" if name in ("When", "Scenario", "Variant") else "right", no_wrap=True)
    for place, summary in enumerate(history, 1):
        head = (str(place), summary.created_at, summary.scenario.name)
        for variant in variants_of([summary]):
            row = row_of(summary, variant)
            if row is None:
                continue
            table.add_row(
                *head, variant, number(row.p99_ms), number(row.throughput_rps, ".0f"),
                number(row.capacity_rps, ".0f"), score(row.served_accuracy, summary.original.fraction),
            )  # fmt: skip
            head = ("", "", "")
    return table
