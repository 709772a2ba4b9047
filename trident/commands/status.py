"""`trident status`: a server, what it has loaded, and how that is doing."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from client import InferenceClient, ServedVersion
from trident.connect import connect
from trident.console import number, result_console


def run(options: argparse.Namespace) -> int:
    """Prints the server and a row for each version that it has loaded."""
    with connect(options) as client:
        version, ready = client.server_version(), client.is_ready()
        rows = [_row(client, served) for served in client.served()]
    if options.json:
        print(json.dumps({"version": version, "ready": ready, "models": rows}, indent=2))
        return 0
    table = Table("Model", "Version", "Ready", "Requests", "Failed", "Mean batch", "Queue (ms)", "Compute (ms)")
    for row in rows:
        table.add_row(
            str(row["name"]), str(row["version"]), "yes" if row["ready"] else "NO", str(row["requests"]),
            str(row["failures"]), _cell(row, "mean_batch", ".1f"), _cell(row, "queue_ms", ".3f"),
            _cell(row, "compute_ms", ".3f"),
        )  # fmt: skip
    console = result_console()
    console.print(f"version {version}, {'ready' if ready else 'NOT ready: not all of its models take requests'}")
    console.print(table if rows else "no model is loaded")
    return 0


def _row(client: InferenceClient, served: ServedVersion) -> dict[str, str | bool | int | float | None]:
    """A version and its counters, the times as means over its requests; none without any."""
    counted = served.statistics
    return {
        "name": served.model,
        "version": served.version,
        "ready": client.is_ready(served.model),
        "requests": counted.requests,
        "failures": counted.failures,
        "mean_batch": counted.inferences / counted.executions if counted.executions else None,
        "queue_ms": counted.queue_ns / counted.requests / 1e6 if counted.requests else None,
        "compute_ms": counted.compute_ns / counted.requests / 1e6 if counted.requests else None,
    }


def _cell(row: dict[str, str | bool | int | float | None], name: str, form: str) -> str:
    value = row[name]
    return number(value if isinstance(value, float) else None, form)
