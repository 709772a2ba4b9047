"""The comparison: what the build measured and what the load test measured, in one row a variant."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from rich.table import Table

from core.comparison import Summary, SummaryRow
from core.load_results import LoadReport
from core.machine import describe, versions
from core.results import BuildRow, ModelBuild
from core.scenario import CapacitySearch, ClosedLoop, OpenLoop, Protocol, describe_load
from loadtest.events import PROTOCOL_NAMES
from loadtest.verdicts import CEILING_SHARE
from trident.console import number, percent, score, stored
from trident.served import added, figures_of, judged_windows


def summarize(
    build: ModelBuild,
    load: LoadReport,
    created_at: str,
    own_server: bool = True,
    commands: tuple[str, ...] = (),
    price: float | None = None,
) -> Summary:
    """Joins both reports. Variants that were not loaded keep their row, with the status and reason of their build. With
    the machine's `price` an hour, each has its cost."""
    users = sorted({window.users for window in load.windows})
    latency_users = 4 if 4 in users else users[len(users) // 2]
    protocol = "http" if any(window.protocol == "http" for window in load.windows) else load.windows[0].protocol
    rows = tuple(_row(row, load, latency_users, protocol, price) for row in build.rows)
    base = next((row.throughput_rps for row in rows if row.variant == build.baseline_variant), None)
    limited = any(limited_row(row) for row in rows if row.variant == build.baseline_variant)
    if base and not limited and load.scenario.load.kind != "open":  # whose throughput is what was asked for
        rows = tuple(
            row.model_copy(update={"throughput_gain": row.throughput_rps / base})
            if row.throughput_rps and not limited_row(row)
            else row
            for row in rows
        )
    return Summary(
        created_at=created_at,
        model=build.model,
        machine=describe(),
        versions=versions(),
        server_version=load.server_version,
        own_server=own_server,
        source_sha256=build.source_sha256,
        baseline_variant=build.baseline_variant,
        original_runtime=build.original_runtime,
        original=build.original,
        warnings=build.warnings,
        evaluation_samples=build.evaluation_samples,
        scenario=load.scenario,
        latency_users=latency_users,
        protocol=protocol,
        price_per_hour=price,
        server_resident_bytes=figures_of(load.windows, latency_users).server_resident_bytes,
        ceilings=load.ceilings,
        rows=rows,
        commands=commands,
    )


def _cost(
    load: LoadReport, throughput_rps: float | None, capacity_rps: float | None, price: float | None
) -> float | None:
    """What a million inferences cost on a machine at `price` an hour that is kept as busy as it can be. An open loop's
    rate is given, and says nothing of that."""
    rps = {"closed": throughput_rps, "capacity": capacity_rps, "open": None}[load.scenario.load.kind]
    return price / (rps * 3600) * 1e6 if rps and price is not None else None


def _row(row: BuildRow, load: LoadReport, latency_users: int, protocol: Protocol, price: float | None) -> SummaryRow:
    """One variant. A level's figure is the mean over its passes; throughput is that of the best level. Of a capacity
    search, only the rates that were found count."""
    windows = judged_windows(load, row.variant)
    accuracy = [found for found in load.accuracy if found.variant == row.variant]
    main, grpc = (
        figures_of([window for window in windows if window.protocol == name], latency_users)
        for name in (protocol, "grpc")
    )
    found = [one for one in load.capacity if (one.variant, one.protocol) == (row.variant, protocol)]
    rates, beyond = (
        [one.rate_rps for one in found if one.rate_rps],
        [one.exceeded_rps for one in found if one.exceeded_rps],
    )
    return SummaryRow(
        variant=row.variant,
        status=row.status,
        reason=row.reason,
        accuracy=row.accuracy,
        served_accuracy=accuracy[0].metric.value if accuracy and accuracy[0].metric else None,
        served_agreement=accuracy[0].agreement if accuracy else None,
        time_ms=row.time_ms,
        p50_ms=main.p50_ms,
        p95_ms=main.p95_ms,
        p99_ms=main.p99_ms,
        uncorrected_p99_ms=main.uncorrected_p99_ms if load.scenario.load.kind != "closed" else None,
        capacity_rps=median(rates) if rates else None,
        exceeded_rps=median(beyond) if beyond else None,
        server_cores=main.server_cores,
        queue_ms=main.queue_ms,
        compute_ms=main.compute_ms,
        batches=dict(sorted(main.batches.items())),
        generator_share=main.generator_share,
        throughput_rps=main.throughput_rps,
        best_users=main.best_users,
        grpc_p50_ms=grpc.p50_ms,
        grpc_throughput_rps=grpc.throughput_rps,
        size_bytes=row.size_bytes,
        shared_bytes=row.shared_bytes,
        resident_bytes=load.resident_bytes.get(row.variant),
        sparsity=row.graph.sparsity if row.graph else None,
        flops=row.graph.flops if row.graph else None,
        sqnr_db=min(row.verdict.sqnr_db.values(), default=None) if row.verdict else None,
        speedup=row.speedup,
        speedup_ci95=row.timing.speedup_ci95 if row.timing else None,
        timing_disturbed=bool(row.timing and row.timing.disturbed),
        compression=row.compression,
        retention=row.retention,
        dominated=row.dominated,
        undecided=undecided(row),
        failures=sum(one.failures for one in windows) + sum(one.failures for one in accuracy) if windows else None,
        reasons=added(window.reasons for window in windows),
        cost_per_million=_cost(load, main.throughput_rps, median(rates) if rates else None, price),
    )


def undecided(row: BuildRow) -> bool:
    """Whether a gate's interval straddles its limit: more evaluation samples could change the verdict."""
    return row.verdict is not None and any(gate.undecided for gate in row.verdict.gates)


def limited_row(row: SummaryRow) -> bool:
    """Whether the load generator was a part of what was measured, so that a variant's throughput is a lower bound and
    compares with nothing."""
    return (row.generator_share or 0.0) > CEILING_SHARE


COLUMNS = (
    "Variant", "Accuracy", "Served accuracy", "Time (ms)", "p50", "p95", "p99",
    "Throughput", "Size (MB)", "Speed-up", "Compression", "Retention",
)  # fmt: skip


def summary_table(summary: Summary) -> Table:
    """The before/after table of the field, with what was served beside what was computed."""
    machine = summary.machine
    table = Table(
        title=f"{summary.model} on Triton {summary.server_version}, {machine.cpu_model}, {machine.cores} cores",
        caption=(
            f"Accuracy is {summary.original.name} on {summary.evaluation_samples} samples. Time: in process, batch 1. "
            f"p50, p95, p99 in ms at {load_words(summary)}, throughput in samples/s{_best(summary)}, "
            f"both over {PROTOCOL_NAMES[summary.protocol]}{_where(summary)}{_elsewhere(summary)}.\n"
            f"Speed-up over {summary.original_runtime} in process; "
            f"compression and the gain in brackets over {summary.baseline_variant}."
        ),
        title_justify="left",
        caption_justify="left",
    )
    extra = _extra(summary)
    for name in (*COLUMNS, *extra):
        table.add_column(name, justify="left" if name == "Variant" else "right", no_wrap=True)
    for row in summary.rows:
        gain = f" ({row.throughput_gain:.2f}x)" if row.throughput_gain else ""
        table.add_row(
            row.variant,
            score(row.accuracy, summary.original.fraction),
            score(row.served_accuracy, summary.original.fraction),
            number(row.time_ms, ".3f"),
            number(row.p50_ms),
            number(row.p95_ms),
            number(row.p99_ms),
            "≥ " * limited_row(row) + number(row.throughput_rps, ".0f") + gain,
            stored(row.size_bytes, row.shared_bytes),
            number(row.speedup, ".2f", "x"),
            number(row.compression, ".2f", "x"),
            percent(row.retention),
            *(cell(row) for cell in extra.values()),
            style=None if row.status == "published" else "dim",
        )
    return table


def _extra(summary: Summary) -> dict[str, Callable[[SummaryRow], str]]:
    """The columns that only some load tests have, and how to read them of a row."""
    found: dict[str, Callable[[SummaryRow], str]] = {}
    if isinstance(summary.scenario.load, CapacitySearch):
        found["Capacity"] = lambda row: number(row.capacity_rps, ".4g")
    if any(row.cost_per_million is not None for row in summary.rows):
        found["Cost of a million"] = lambda row: "≤ " * limited_row(row) + number(row.cost_per_million, ".3g")
    return found


def load_words(summary: Summary) -> str:
    """Under which load the latencies were taken."""
    load = summary.scenario.load
    if isinstance(load, ClosedLoop):
        return describe_load(summary.latency_users, None)
    if isinstance(load, OpenLoop):
        shape = "" if len(load.phases) == 1 else "up to "
        mixed = " over all variants together" if load.mixed else ""
        return f"{shape}{describe_load(0, load.rate_rps)} ({load.arrivals}){mixed}"
    return f"the highest rate whose p99 stays within {load.p99_ms:g} ms"


def _best(summary: Summary) -> str:
    return " at each variant's best number of users" if isinstance(summary.scenario.load, ClosedLoop) else ""


def _where(summary: Summary) -> str:
    return " with the load generator on the same cores" if summary.own_server else ""


def _elsewhere(summary: Summary) -> str:
    tested = summary.protocol == "http" and any(row.grpc_throughput_rps is not None for row in summary.rows)
    return "; gRPC's are in summary.json" if tested else ""
