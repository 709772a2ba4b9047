"""The comparison: from a build and a load test to rows and remarks, with figures that can be worked out by hand."""

from __future__ import annotations

from core.comparison import Summary
from core.load_results import Ceiling, LoadReport, LoadWindow, ServedAccuracy
from core.machine import now
from core.results import BuildRow, Gate, GraphFacts, MetricValue, ModelBuild, Timing, Verdict
from loadtest.scenarios import SCENARIOS
from tests.support.report_data import MACHINE
from trident.commands.build import build_table
from trident.remarks import caveats, generator_words, left_out
from trident.summary import summarize, summary_table

METRIC = MetricValue(name="top1", value=0.9, ci95=(0.88, 0.92), samples=2000)
VERDICT = Verdict(
    max_abs_error=0.1, sqnr_db={"logits": 40.0, "other": 31.5}, cosine=1.0, agreement=1.0, metric=METRIC,
    baseline=METRIC, drop=0.0, drop_ci95=(0.0, 0.0), gates=(), passed=True,
)  # fmt: skip
GRAPH = GraphFacts(weights=10, sparsity=0.25, flops=1234, operators={}, executed={})
ROWS = (
    BuildRow(variant="torch_fp32", status="published", triton_name="m_torch_fp32", verdict=VERDICT, graph=GRAPH),
    BuildRow(variant="onnx_int8_dynamic", status="published", triton_name="m_onnx_int8_dynamic", dominated=True),
    BuildRow(variant="openvino_int8", status="rejected", reason="2.1pt lost", triton_name="m_openvino_int8"),
)
BUILD = ModelBuild(
    model="m", spec="m.yaml", source_sha256="0" * 64, baseline_variant="torch_fp32", evaluation_samples=2000,
    original=METRIC, original_runtime="eager PyTorch", rows=ROWS, stale=(),
)  # fmt: skip


def window(variant: str, protocol: str, users: int, rps: float, p50_ms: float, **changes: object) -> LoadWindow:
    """A window with these figures."""
    given = {
        "variant": variant, "triton_name": f"m_{variant}", "protocol": protocol, "users": users, "pass_number": 1,
        "seconds": 4.0, "requests": 100, "failures": 0, "throughput_rps": rps, "p50_ms": p50_ms, "p95_ms": 2 * p50_ms,
        "p99_ms": 3 * p50_ms, "mean_ms": p50_ms,
    }  # fmt: skip
    return LoadWindow.model_validate(given | changes)


def accuracy(variant: str, protocol: str, **changes: object) -> ServedAccuracy:
    """A perfect served accuracy, but for the changes."""
    given = {
        "variant": variant, "triton_name": f"m_{variant}", "protocol": protocol, "samples": 2000, "failures": 0,
        "metric": METRIC, "agreement": 1.0,
    }  # fmt: skip
    return ServedAccuracy.model_validate(given | changes)


def load(windows: tuple[LoadWindow, ...], rows: tuple[ServedAccuracy, ...] = ()) -> LoadReport:
    """A load test's report."""
    return LoadReport(
        created_at="then", model="m", server_version="2.51.0", url="http://a:1, grpc://a:2", windows=windows,
        scenario=SCENARIOS["levels"], seed=1, machine=MACHINE, samples_sha256="b" * 64,
        accuracy=rows, resident_bytes={"torch_fp32": 5_000_000},
    )  # fmt: skip


WINDOWS = (
    window("torch_fp32", "http", 4, 100, 1.0),
    window("torch_fp32", "http", 4, 300, 3.0, pass_number=2),
    window("torch_fp32", "http", 16, 150, 9.0, failures=2),
    window("torch_fp32", "grpc", 4, 50, 5.0),
    window("torch_fp32", "grpc", 16, 80, 7.0, failures=3),
    window("onnx_int8_dynamic", "http", 4, 400, 0.5),
)
ACCURACY = (accuracy("torch_fp32", "http"), accuracy("torch_fp32", "grpc", failures=1, agreement=0.5))


def summary(report: LoadReport) -> Summary:
    """The comparison with that load test."""
    return summarize(BUILD, report, "now")


def test_each_protocol_has_its_own_figures() -> None:
    row = summary(load(WINDOWS, ACCURACY)).rows[0]
    assert (row.p50_ms, row.p95_ms, row.p99_ms) == (2.0, 4.0, 6.0)  # at 4 users, the mean of both passes
    assert (row.throughput_rps, row.best_users) == (200.0, 4)
    assert (row.grpc_p50_ms, row.grpc_throughput_rps) == (5.0, 80.0)  # gRPC's own best level is another
    assert row.failures == 2 + 3 + 1
    assert (row.served_accuracy, row.served_agreement) == (0.9, 1.0)  # HTTP's


def test_what_the_build_and_the_server_know_is_taken_over() -> None:
    first, second, _ = summary(load(WINDOWS, ACCURACY)).rows
    assert (first.sparsity, first.flops, first.sqnr_db, first.resident_bytes) == (0.25, 1234, 31.5, 5_000_000)
    assert (second.sparsity, second.flops, second.sqnr_db, second.resident_bytes) == (None,) * 4
    assert (first.throughput_gain, second.throughput_gain) == (1.0, 2.0)


def test_what_shared_weights_would_take_stands_beside_the_size() -> None:
    row = ROWS[0].model_copy(update={"size_bytes": 1_200_000, "shared_bytes": 300_000})
    build = BUILD.model_copy(update={"rows": (row, ROWS[1])})
    found = summarize(build, load(WINDOWS), "now")
    assert found.rows[0].shared_bytes == 300_000
    for table in (summary_table(found), build_table(build)):
        sizes = next(list(column.cells) for column in table.columns if column.header == "Size (MB)")
        assert sizes == ["1.20 (0.30 shared)", "-"]


def test_a_variant_without_grpc_has_no_figures_for_it() -> None:
    row = summary(load(WINDOWS)).rows[1]
    assert (row.throughput_rps, row.grpc_p50_ms, row.grpc_throughput_rps) == (400.0, None, None)


def test_grpc_alone_is_what_the_table_shows_and_says() -> None:
    found = summary(load((window("torch_fp32", "grpc", 4, 50, 5.0),)))
    row = found.rows[0]
    assert found.protocol == "grpc"
    assert (row.p50_ms, row.throughput_rps, row.grpc_p50_ms, row.failures) == (5.0, 50.0, 5.0, 0)
    assert "both over gRPC with" in str(summary_table(found).caption)


def test_a_loss_that_straddles_the_limit_is_told_of() -> None:
    gate = Gate(name="max_drop", limit=0.01, value=0.008, ci95=(0.002, 0.014), undecided=True, passed=True)
    unsure = ROWS[0].model_copy(update={"verdict": VERDICT.model_copy(update={"gates": (gate,)})})
    report = load(WINDOWS)
    found = summarize(BUILD.model_copy(update={"rows": (unsure,)}), report, "now")
    assert "torch_fp32 passed its gate, but the interval of its loss straddles the limit: undecided" in caveats(
        found, report
    )
    assert not any("undecided" in sentence for sentence in caveats(summary(report), report))


def test_a_speed_up_measured_on_a_busy_machine_is_told_of() -> None:
    report = load(WINDOWS)
    for disturbed, interval, told in ((False, (3.9, 4.1), 0), (True, (3.9, 4.1), 1), (False, (2.0, 9.0), 1)):
        timing = Timing(time_ms=1, original_time_ms=4, speedup=4, speedup_ci95=interval, disturbed=disturbed, calls=9)
        row = ROWS[0].model_copy(update={"timing": timing, "speedup": 4.0})
        found = summarize(BUILD.model_copy(update={"rows": (row,)}), report, "now")
        assert sum("not to be relied on" in sentence for sentence in caveats(found, report)) == told


def test_a_rejected_variant_stays_with_its_reason() -> None:
    report = load(WINDOWS)
    row = summary(report).rows[2]
    assert (row.status, row.reason, row.throughput_rps, row.failures) == ("rejected", "2.1pt lost", None, None)
    assert left_out(summary(report)) == ["openvino_int8 is rejected: 2.1pt lost"]
    assert "onnx_int8_dynamic is dominated: slower than the original" in caveats(summary(report), report)


def test_remarks_on_what_was_served() -> None:
    report = load(
        (window("torch_fp32", "grpc", 4, 50, 5.0, generator_cores=0.95), window("torch_fp32", "http", 4, 50, 5.0)),
        (
            accuracy("torch_fp32", "http", samples=812),
            accuracy("torch_fp32", "grpc", agreement=0.99),
            accuracy("onnx_int8_dynamic", "http", agreement=0.9885),
            accuracy("onnx_int8_dynamic", "grpc", agreement=0.9995),
        ),
    )
    assert caveats(summary(report), report)[1:] == [
        "over gRPC, the load generator was at its limit, so throughput is a lower bound for torch_fp32",
        "torch_fp32 over HTTP: served accuracy is over the first 812 of 2000 samples, since it is slow",
        "torch_fp32 over gRPC: served answers differ from in-process ones on 1.00% of samples",
        "onnx_int8_dynamic over HTTP: served answers differ from in-process ones on 1.15% of samples, as is expected "
        "of dynamic INT8: neighbours in a batch change its ranges, and so its answers, slightly",
    ]


def test_beyond_the_generators_ceiling_throughput_is_a_bound_and_compares_with_nothing() -> None:
    windows = (
        window("torch_fp32", "http", 4, 100, 1.0, generator_share=0.2),
        window("onnx_int8_dynamic", "http", 4, 400, 1.0, generator_share=0.8),
        window("onnx_int8_dynamic", "grpc", 4, 400, 1.0, generator_share=0.1),
    )
    ceiling = Ceiling(
        protocol="http", rps=500, request_bytes=3000, answer_bytes=40, measured_at=now(), conditions="here"
    )  # fmt: skip
    report = load(windows).model_copy(update={"ceilings": (ceiling,)})
    found = summary(report)
    base, other = found.rows[0], found.rows[1]
    assert (base.throughput_gain, other.throughput_rps, other.throughput_gain) == (1.0, 400, None)
    assert (base.generator_share, other.generator_share, found.ceilings) == (0.2, 0.8, (ceiling,))
    assert list(summary_table(found).columns[7].cells)[:2] == ["100 (1.00x)", "≥ 400"]
    assert (
        "over HTTP, the load generator was at 80% of the 500 requests/s that it can send, above 70%: there is no "
        "verdict, and throughput is a lower bound, for onnx_int8_dynamic"
    ) in caveats(found, report)
    (used,) = generator_words(report)
    assert used.endswith("; 80% of it was used at most.")
    assert "The load generator can send 500 requests/s over HTTP (3 kB each; measured just now)" in used
    limited = windows[0].model_copy(update={"generator_share": 0.9})
    assert summary(load((limited, windows[1]))).rows[1].throughput_gain is None  # nor with a baseline that was limited
