"""Made-up result files of nine variants, for the tests of the report. No figure here was measured."""

from __future__ import annotations

from core.comparison import Summary
from core.load_results import QUANTILES, Contrast, LoadReport, LoadWindow, ServedAccuracy, ServerDelta
from core.results import BuildRow, Gate, GraphFacts, Machine, MetricValue, ModelBuild, Timing, Verdict
from loadtest.scenarios import SCENARIOS
from loadtest.verdicts import decide
from trident.summary import summarize

# variant, status, accuracy, SQNR in dB, p50 in ms, samples/s, bytes, dominated
ROWS = (
    ("torch_fp32", "published", 0.9355, 140.0, 3.74, 1208.0, 1_190_000, False),
    ("onnx_fp32", "published", 0.9355, 121.0, 2.12, 2161.0, 1_230_000, False),
    ("onnx_int8_dynamic", "published", 0.9330, 27.5, 4.90, 905.0, 350_000, True),
    ("onnx_int8_static", "published", 0.9345, 31.2, 1.71, 2980.0, 360_000, False),
    ("openvino_fp32", "published", 0.9355, 118.0, 2.02, 2310.0, 1_210_000, False),
    ("openvino_fp16", "published", 0.9355, 71.0, 2.03, 2290.0, 620_000, False),
    ("openvino_int8", "published", 0.9360, 33.0, 1.55, 3420.0, 380_000, False),
    ("pruned_onnx_fp32", "published", 0.9315, 19.4, 2.10, 2170.0, 1_230_000, False),
    ("pruned_openvino_int8", "rejected", 0.9105, 14.2, None, None, 380_000, False),
)
MACHINE = Machine(
    cpu_model="a CPU", cores=2, memory_bytes=8_000_000_000, isa_flags=("avx2",), system="Linux", python="3.11"
)
ORIGINAL = MetricValue(name="top1", value=0.9355, ci95=(0.9239, 0.9455), samples=2000)


def report_data() -> tuple[ModelBuild, LoadReport, Summary]:
    """Build, load test and comparison, whole and consistent."""
    built = tuple(_build_row(row) for row in ROWS)
    build = ModelBuild(
        model="fashion", spec="examples/fashion/model.yaml", source_sha256="a" * 64, baseline_variant="torch_fp32",
        evaluation_samples=2000, original=ORIGINAL, original_runtime="eager PyTorch", original_parameters=296_000,
        advice=("VNNI: INT8 should pay.",), rows=built, stale=(),
    )  # fmt: skip
    windows = tuple(w for row in ROWS for protocol in ("http", "grpc") for w in _windows(row, protocol))
    load = LoadReport(
        created_at="2026-11-25T00:00:00Z", model="fashion", server_version="2.51.0", url="127.0.0.1:8000",
        scenario=SCENARIOS["levels"], seed=1, machine=MACHINE, samples_sha256="b" * 64,
        windows=windows, accuracy=tuple(_served(row) for row in ROWS if row[4]),
        resident_bytes={row[0]: 90_000_000 + row[6] * 10 for row in ROWS if row[4]},
        contrasts=tuple(contrast for row in ROWS[1:] if row[4] for contrast in _contrasts(row)),
    )  # fmt: skip
    commands = ("trident build examples/fashion/model.yaml", "trident loadtest fashion --users 1 4 16")
    summary = summarize(build, load, "2026-11-25T00:00:00Z", commands=commands, price=0.36)
    return build, load, summary


def _build_row(row: tuple) -> BuildRow:
    name, status, accuracy, sqnr, _, _, size, dominated = row
    drop = round(ORIGINAL.value - accuracy, 6)
    interval, gap = (drop - 0.004, drop + 0.004), drop <= 0.01
    verdict = Verdict(
        max_abs_error=0.1, sqnr_db={"logits": sqnr}, cosine=0.999, agreement=0.98,
        metric=MetricValue(name="top1", value=accuracy, ci95=(accuracy - 0.012, accuracy + 0.01), samples=2000),
        baseline=ORIGINAL, drop=drop, drop_ci95=interval, passed=gap,
        gates=(Gate(name="max_drop", limit=0.01, value=drop, ci95=interval, undecided=False, passed=gap),),
    )  # fmt: skip
    graph = GraphFacts(
        weights=295_000, sparsity=0.5 if "pruned" in name else 0.0, flops=62_000_000,
        operators={"Conv": 9, "Relu": 8}, executed={"Convolution": 9}, executed_precisions={"i8": 9},
    )  # fmt: skip
    reason = "" if gap else "max_drop: lost 2.50 points, at most 1.00 allowed"
    place = [row[0] for row in ROWS].index(name) + 1
    timing = Timing(
        time_ms=1.25 / place, original_time_ms=2.5, speedup=2.0 * place, calls=99,
        speedup_ci95=(1.9 * place, 2.1 * place),
    )  # fmt: skip
    return BuildRow(
        variant=name, status=status, reason=reason, triton_name=f"fashion_{name}", accuracy=accuracy, size_bytes=size,
        dominated=dominated, verdict=verdict, graph=graph, timing=timing, time_ms=timing.time_ms,
        speedup=timing.speedup, compression=1_190_000 / size, retention=accuracy / ORIGINAL.value,
    )  # fmt: skip


def _contrasts(row: tuple) -> list[Contrast]:
    """Beside the baseline, as the figures are, with intervals of 5% to each side."""
    rate, wait = row[5] / ROWS[0][5], row[4] / ROWS[0][4]
    return [
        Contrast(
            variant=row[0], against=ROWS[0][0], protocol="http", users=4, offered_rps=None, figure=figure, blocks=8,
            ratio=ratio, ci95=(ratio * 0.95, ratio * 1.05), verdict=decide((ratio * 0.95, ratio * 1.05), figure),
        )
        for figure, ratio in (("throughput", rate), ("p50", wait), ("p99", wait))
    ]  # fmt: skip


def _served(row: tuple) -> ServedAccuracy:
    return ServedAccuracy(
        variant=row[0], triton_name=f"fashion_{row[0]}", protocol="http", samples=2000, failures=0, agreement=1.0,
        metric=MetricValue(name="top1", value=row[2] - 0.0005, ci95=(0.9, 0.95), samples=2000),
    )  # fmt: skip


def _windows(row: tuple, protocol: str) -> list[LoadWindow]:
    name, _, accuracy, _, p50, rate, _, _ = row
    if p50 is None:
        return []
    speed = 1.5 if protocol == "grpc" else 1.0
    return [
        LoadWindow(
            variant=name, triton_name=f"fashion_{name}", protocol=protocol, users=users, pass_number=1, seconds=4,
            requests=1000, failures=0, throughput_rps=rate * share * speed, p50_ms=p50 * wait, p95_ms=p50 * wait * 1.5,
            p99_ms=p50 * wait * 2, mean_ms=p50 * wait * 1.1, accuracy=accuracy,
            quantiles_ms=tuple(p50 * wait * (0.6 + 0.4 * (share / 0.5) ** 1.8) for share in QUANTILES),
            server=ServerDelta(
                requests=1000, failures=0, executions=500, mean_batch=2, queue_ms=p50 * 0.2, compute_ms=p50 * 0.4,
                batches={1: 300, 2: 100, 6: 100 - users}, cores=0.5, resident_bytes=90_000_000,
                server_resident_bytes=70_000_000,
            ),
        )
        for users, share, wait in ((1, 0.5, 0.6), (4, 0.85, 1.0), (16, 1.0, 3.2))
    ]  # fmt: skip
