"""When what the load generator can send is measured, and when it is remembered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.load_results import Ceiling
from loadtest.ceiling import Ceilings, find_ceiling


def counter() -> Callable[[], float]:
    """Measures 1000, then 1001, and so on."""
    return itertools.count(1000.0).__next__


def find(kept: Path, measure: Callable[[], float], answer_bytes: int = 40) -> float:
    """The ceiling over HTTP."""
    return find_ceiling(kept, "http", 3000, answer_bytes, measure).rps


def change(kept: Path, **changes: object) -> None:
    """Rewrites the only row that is kept."""
    (row,) = Ceilings.model_validate_json(kept.read_bytes()).rows
    kept.write_bytes(Ceilings(rows=(Ceiling.model_validate(row.model_dump() | changes),)).to_json())


def ago(days: float) -> str:
    """A time as it is written."""
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


def test_it_is_measured_once_for_each_size(tmp_path: Path) -> None:
    kept, measure = tmp_path / "new" / "ceilings.json", counter()
    assert [find(kept, measure), find(kept, measure), find(kept, measure, 80), find(kept, measure)] == [
        1000, 1000, 1001, 1000,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"measured_at": ago(8)}, id="old"),
        pytest.param({"measured_at": ago(-1)}, id="from the future"),
        pytest.param({"conditions": "another CPU, locust 1.0"}, id="another host or version"),
    ],
)
def test_what_no_longer_holds_is_measured_again_and_replaced(tmp_path: Path, changes: dict[str, object]) -> None:
    kept, measure = tmp_path / "ceilings.json", counter()
    find(kept, measure)
    change(kept, measured_at=ago(6))
    assert find(kept, measure) == 1000
    change(kept, **changes)
    assert [find(kept, measure), find(kept, measure)] == [1001, 1001]
    (row,) = Ceilings.model_validate_json(kept.read_bytes()).rows
    assert "locust 2" in row.conditions
    assert "cores" in row.conditions


def test_a_file_that_cannot_be_read_or_written_only_costs_time(tmp_path: Path) -> None:
    kept, measure = tmp_path / "ceilings.json", counter()
    kept.write_text("{")
    assert [find(kept, measure), find(kept, measure)] == [1000, 1000]
    assert [find(Path("/proc/no/ceilings.json"), measure) for _ in range(2)] == [1001, 1002]
