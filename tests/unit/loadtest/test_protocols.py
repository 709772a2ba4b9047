"""Reports and raw rows of several protocols as one."""

from __future__ import annotations

from core.load_results import LoadReport
from loadtest.protocols import merge
from loadtest.scenarios import SCENARIOS
from tests.support.report_data import MACHINE
from tests.unit.loadtest.test_events import ACCURACY, WINDOW


def report(url: str, protocol: str) -> LoadReport:
    """One protocol's report: a window and an accuracy."""
    return LoadReport(
        created_at=f"then, {protocol}",
        model="digits",
        server_version="2.51.0",
        url=url,
        scenario=SCENARIOS["levels"],
        seed=1,
        machine=MACHINE,
        samples_sha256="0" * 64,
        windows=(WINDOW.model_copy(update={"protocol": protocol}),),
        accuracy=(ACCURACY.model_copy(update={"protocol": protocol}),),
    )


def test_the_rows_of_all_protocols_come_in_their_order() -> None:
    merged = merge([report("http://a:1", "http"), report("grpc://a:2", "grpc")], {"onnx_fp32": 7}, None)
    assert [row.protocol for row in merged.windows] == ["http", "grpc"]
    assert [row.protocol for row in merged.accuracy] == ["http", "grpc"]
    assert (merged.url, merged.created_at) == ("http://a:1, grpc://a:2", "then, http")
    assert merged.resident_bytes == {"onnx_fp32": 7}
