"""The file of raw requests."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from loadtest.errors import RecordingError
from loadtest.judge import record
from loadtest.raw import SCHEMA, RawRequests, join_files
from tests.unit.loadtest.test_judge import EXCHANGES, PACK


def write(path: Path, variant: str) -> None:
    """One window of the exchanges of test_judge.py."""
    with RawRequests(path) as raw:
        raw.write(variant, "grpc", 8, None, 2, record(EXCHANGES, PACK))


def test_rows_are_written_as_they_were_answered(tmp_path: Path) -> None:
    write(tmp_path / "out" / "requests.parquet", "a")
    table = pq.read_table(tmp_path / "out" / "requests.parquet")
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert {(row["variant"], row["protocol"], row["users"], row["offered_rps"], row["pass"]) for row in rows} == {
        ("a", "grpc", 8, None, 2)
    }
    assert [row["sample"] for row in rows] == [1, 0, 2, 3]
    assert [row["sent_s"] for row in rows] == pytest.approx([0.1, 0.0, 0.2, 0.3])
    assert [row["due_s"] for row in rows] == [row["sent_s"] for row in rows]
    assert [row["latency_ms"] for row in rows] == [100, 300, 200, 200]
    assert [(row["ok"], row["reason"], row["score"]) for row in rows] == [
        (True, None, 1.0), (True, None, 1.0), (False, "rejected", None), (True, None, 0.0),
    ]  # fmt: skip


def test_an_open_loop_counts_from_its_beginning(tmp_path: Path) -> None:
    late = [exchange._replace(due_s=exchange.began_s - 0.05) for exchange in EXCHANGES]
    with RawRequests(tmp_path / "r.parquet") as raw:
        raw.write("a", "http", 8, 10.0, 1, record(late, PACK, origin_s=99.0))
    rows = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["sent_s"] for row in rows] == pytest.approx([1.1, 1.0, 1.2, 1.3])
    assert [row["due_s"] for row in rows] == pytest.approx([1.05, 0.95, 1.15, 1.25])
    assert rows[0]["offered_rps"] == 10.0


def test_half_a_run_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RawRequests(tmp_path / "r.parquet") as raw:
        raw.write("a", "http", 8, None, 1, record(EXCHANGES, PACK))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_files_are_joined_whole(tmp_path: Path) -> None:
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for part in parts:
        write(part, part.stem)
    join_files(parts, tmp_path / "whole.parquet")
    assert [row["variant"] for row in pq.read_table(tmp_path / "whole.parquet").to_pylist()] == ["a"] * 4 + ["b"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["whole.parquet"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match=r"cannot be written to .*; make room there or name another folder"):
        RawRequests(tmp_path / "file" / "requests.parquet")
