"""Reports and raw rows of several protocols as one."""

from __future__ import annotations

from pathlib import Path

from core.results import LoadReport
from loadtest.protocols import join_files, merge
from tests.unit.loadtest.test_events import ACCURACY, WINDOW


def report(url: str, protocol: str) -> LoadReport:
    """One protocol's report: a window and an accuracy."""
    return LoadReport(
        created_at=f"then, {protocol}",
        model="digits",
        server_version="2.51.0",
        url=url,
        windows=(WINDOW.model_copy(update={"protocol": protocol}),),
        accuracy=(ACCURACY.model_copy(update={"protocol": protocol}),),
    )


def test_the_rows_of_all_protocols_come_in_their_order() -> None:
    merged = merge([report("http://a:1", "http"), report("grpc://a:2", "grpc")], {"onnx_fp32": 7})
    assert [row.protocol for row in merged.windows] == ["http", "grpc"]
    assert [row.protocol for row in merged.accuracy] == ["http", "grpc"]
    assert (merged.url, merged.created_at) == ("http://a:1, grpc://a:2", "then, http")
    assert merged.resident_bytes == {"onnx_fp32": 7}


def test_raw_rows_are_joined_under_one_header(tmp_path: Path) -> None:
    parts = [tmp_path / "a", tmp_path / "b"]
    parts[0].write_text("x,y\n1,2\n")
    parts[1].write_text("x,y\n3,4\n")
    join_files(parts, tmp_path / "whole")
    assert (tmp_path / "whole").read_text() == "x,y\n1,2\n3,4\n"
    assert not any(part.exists() for part in parts)
