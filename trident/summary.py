"""The comparison: what the build measured and what the load test measured, in one row a variant."""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

from rich.table import Table

from client.transport import ProtocolName
from core.intervals import steady
from core.machine import describe, versions
from core.results import BuildRow, Interval, LoadReport, LoadWindow, ModelBuild, ServedAccuracy, Summary, SummaryRow
from loadtest.events import PROTOCOL_NAMES, coverage, limited_by_generator
from trident.console import number, percent, score, stored


def summarize(
    build: ModelBuild, load: LoadReport, created_at: str, own_server: bool = True, commands: tuple[str, ...] = ()
) -> Summary:
    """Joins both reports. Variants that were not loaded keep their row, with the status and reason of their build."""
    users = sorted({window.users for window in load.windows})
    latency_users = 4 if 4 in users else users[len(users) // 2]
    protocol: ProtocolName = "http" if any(window.protocol == "http" for window in load.windows) else "grpc"
    rows = tuple(_row(row, load, latency_users, protocol) for row in build.rows)
    base = next((row.throughput_rps for row in rows if row.variant == build.baseline_variant), None)
    if base:
        rows = tuple(
            row.model_copy(update={"throughput_gain": row.throughput_rps / base}) if row.throughput_rps else row
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
        latency_users=latency_users,
        protocol=protocol,
        rows=rows,
        commands=commands,
    )


def _row(row: BuildRow, load: LoadReport, latency_users: int, protocol: ProtocolName) -> SummaryRow:
    """One variant. A level's figure is the mean over its passes; throughput is that of the best level."""
    windows = [window for window in load.windows if window.variant == row.variant]
    served = [found for found in load.accuracy if found.variant == row.variant]
    main, grpc = (
        _served([window for window in windows if window.protocol == name], latency_users) for name in (protocol, "grpc")
    )
    return SummaryRow(
        variant=row.variant,
        status=row.status,
        reason=row.reason,
        accuracy=row.accuracy,
        served_accuracy=served[0].metric.value if served and served[0].metric else None,
        served_agreement=served[0].agreement if served else None,
        time_ms=row.time_ms,
        p50_ms=main.p50_ms,
        p95_ms=main.p95_ms,
        p99_ms=main.p99_ms,
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
        failures=sum(window.failures for window in windows) + sum(found.failures for found in served)
        if windows
        else None,
    )


def undecided(row: BuildRow) -> bool:
    """Whether a gate's interval straddles its limit: more evaluation samples could change the verdict."""
    return row.verdict is not None and any(gate.undecided for gate in row.verdict.gates)


class _Served(NamedTuple):
    """A variant over one protocol."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    throughput_rps: float | None = None
    best_users: int | None = None


def _served(windows: list[LoadWindow], latency_users: int) -> _Served:
    if not windows:
        return _Served()
    levels = {users: fmean(_at(windows, users, "throughput_rps")) for users in {window.users for window in windows}}
    best = max(levels, key=lambda users: levels[users])
    found = {name: _at(windows, latency_users, name) for name in ("p50_ms", "p95_ms", "p99_ms")}
    p50_ms, p95_ms, p99_ms = (fmean(values) if values else None for values in found.values())
    return _Served(p50_ms, p95_ms, p99_ms, levels[best], best)


def _at(windows: list[LoadWindow], users: int, name: str) -> list[float]:
    values = [getattr(window, name) for window in windows if window.users == users]
    return [value for value in values if value is not None]


AGREEMENT = 0.999  # with the in-process decisions, which FP32 and static INT8 keep
PROTOCOLS = ("http", "grpc")
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
            f"p50, p95, p99 in ms at {summary.latency_users} users, throughput in samples/s at each variant's best "
            f"number of users, both over {PROTOCOL_NAMES[summary.protocol]}{_where(summary)}{_elsewhere(summary)}.\n"
            f"Speed-up over {summary.original_runtime} in process; "
            f"compression and the gain in brackets over {summary.baseline_variant}."
        ),
        title_justify="left",
        caption_justify="left",
    )
    for name in COLUMNS:
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
            number(row.throughput_rps, ".0f") + gain,
            stored(row.size_bytes, row.shared_bytes),
            number(row.speedup, ".2f", "x"),
            number(row.compression, ".2f", "x"),
            percent(row.retention),
            style=None if row.status == "published" else "dim",
        )
    return table


def _where(summary: Summary) -> str:
    return " with the load generator on the same cores" if summary.own_server else ""


def _elsewhere(summary: Summary) -> str:
    tested = summary.protocol == "http" and any(row.grpc_throughput_rps is not None for row in summary.rows)
    return "; gRPC's are in summary.json" if tested else ""


def left_out(summary: Summary) -> list[str]:
    """The variants that were not served, and why."""
    return [f"{row.variant} is {row.status}: {row.reason}" for row in summary.rows if row.status != "published"]


def caveats(summary: Summary, load: LoadReport) -> list[str]:
    """What the figures do not say by themselves: failures, verdicts and speed-ups that are not certain, variants too
    slow for all samples, throughput that the generator limited, disagreement with the in-process run."""
    found = [sentence[0].upper() + sentence[1:] for sentence in summary.warnings]
    found += [
        f"{row.variant} passed its gate, but the interval of its loss straddles the limit: undecided"
        for row in summary.rows
        if row.undecided and row.status == "published"
    ]
    found += [f"{row.variant} is dominated: slower than the original" for row in summary.rows if row.dominated]
    found += [
        f"{row.variant}: {unsteady}"
        for row in summary.rows
        if (unsteady := unsteady_speedup(row.speedup_ci95, row.timing_disturbed))
    ]
    found += [f"{row.variant}: {row.failures} requests failed" for row in summary.rows if row.failures]
    for protocol in PROTOCOLS:
        rows = {row.variant for row in load.windows if row.protocol == protocol and limited_by_generator(row)}
        if rows:
            limit = "the load generator was at its limit, so throughput is a lower bound for"
            found.append(f"over {PROTOCOL_NAMES[protocol]}, {limit} {', '.join(sorted(rows))}")
    for served in load.accuracy:
        where = f"{served.variant} over {PROTOCOL_NAMES[served.protocol]}"
        if served.samples < summary.evaluation_samples:
            found.append(f"{where}: served accuracy is {coverage(served, summary.evaluation_samples)}")
        if served.agreement is not None and served.agreement < AGREEMENT:
            share = f"{(1 - served.agreement) * 100:.2f}%"
            found.append(f"{where}: served answers differ from in-process ones on {share} of samples{_why(served)}")
    return found


def unsteady_speedup(interval: Interval | None, disturbed: bool) -> str:
    """What to say of a speed-up that must not be relied on; nothing of a sound one."""
    if interval is None or (steady(interval) and not disturbed):
        return ""
    found = f"the speed-up ({interval[0]:.2f}x to {interval[1]:.2f}x) is not to be relied on"
    why = "other work took the CPU away while it was measured" if disturbed else "its rounds disagreed"
    return f"{found}: {why}; `trident build --retime` measures again"


def _why(served: ServedAccuracy) -> str:
    if "_int8_dynamic" not in served.variant:
        return ""
    return ", as is expected of dynamic INT8: neighbours in a batch change its ranges, and so its answers, slightly"
