"""What the load tests of a model came to over time: each comparison is kept, in `<artifacts>/<model>/history/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from core.comparison import Summary, SummaryRow
from core.errors import InputError
from core.files import write_atomically


def folder_of(artifacts: Path, model: str) -> Path:
    """Where a model's comparisons are kept."""
    return artifacts / model / "history"


def keep(summary: Summary, artifacts: Path) -> Path:
    """Adds a comparison to the others. Raises OSError."""
    stamp = summary.created_at.replace(":", "-").replace("+00-00", "Z")
    path = folder_of(artifacts, summary.model) / f"{stamp}.json"
    write_atomically(path, summary.to_json())
    return path


def read_history(artifacts: Path, model: str) -> tuple[Summary, ...]:
    """All that were kept, the oldest first. Raises InputError if there are none, or one cannot be read."""
    folder = folder_of(artifacts, model)
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(Summary.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise InputError(f"{path} cannot be read, or another version wrote it; move it away") from error
    if not found:
        raise InputError(f"{folder} holds no load test of {model}; run `trident loadtest {model}` first")
    return tuple(sorted(found, key=lambda summary: summary.created_at))


def stretches(history: Sequence[Summary]) -> list[list[int]]:
    """The runs, by their number, in stretches within which they compare: under one scenario, over one protocol, on one
    machine and version of the server."""
    found: list[list[int]] = []
    for number, summary in enumerate(history):
        if found and _conditions(history[found[-1][-1]]) == _conditions(summary):
            found[-1].append(number)
        else:
            found.append([number])
    return found


def _conditions(summary: Summary) -> tuple[object, ...]:
    machine = summary.machine.model_copy(update={"python": ""})
    return summary.scenario, summary.protocol, machine, summary.server_version, summary.own_server


def row_of(summary: Summary, variant: str) -> SummaryRow | None:
    """A variant's row in a run, if it was loaded there."""
    return next((row for row in summary.rows if row.variant == variant and row.p50_ms is not None), None)


def variants_of(history: Sequence[Summary]) -> list[str]:
    """All variants that were loaded in any run, in the order of the last ones."""
    names = (row.variant for summary in reversed(history) for row in summary.rows if row.p50_ms is not None)
    return list(dict.fromkeys(names))
