"""The comparison: what the build measured and what the load test measured, in one row a variant."""

from __future__ import annotations

from statistics import fmean, median
from typing import NamedTuple

from rich.table import Table

from core.comparison import Summary, SummaryRow
from core.intervals import steady
from core.load_results import LoadReport, LoadWindow, ServedAccuracy
from core.machine import describe, versions
from core.results import BuildRow, Interval, ModelBuild
from core.scenario import ClosedLoop, OpenLoop, Protocol, describe_load
from loadtest.events import PROTOCOL_NAMES, coverage, describe_ceiling, limited_by_generator
from loadtest.verdicts import CEILING_SHARE
from trident.console import number, percent, score, stored


def summarize(
    build: ModelBuild, load: LoadReport, created_at: str, own_server: bool = True, commands: tuple[str, ...] = ()
) -> Summary:
    """Joins both reports. Variants that were not loaded keep their row, with the status and reason of their build."""
    users = sorted({window.users for window in load.windows})
    latency_users = 4 if 4 in users else users[len(users) // 2]
    protocol = "http" if any(window.protocol == "http" for window in load.windows) else load.windows[0].protocol
    rows = tuple(_row(row, load, latency_users, protocol) for row in build.rows)
    base = next((row.throughput_rps for row in rows if row.variant == build.baseline_variant), None)
    limited = any(limited_row(row) for row in rows if row.variant == build.baseline_variant)
    if base and not limited:
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
        ceilings=load.ceilings,
        rows=rows,
        commands=commands,
    )


def _row(row: BuildRow, load: LoadReport, latency_users: int, protocol: Protocol) -> SummaryRow:
    """One variant. A level's figure is the mean over its passes; throughput is that of the best level. Of a capacity
    search, only the rates that were found count."""
    windows = judged_windows(load, row.variant)
    served = [found for found in load.accuracy if found.variant == row.variant]
    main, grpc = (
        _served([window for window in windows if window.protocol == name], latency_users) for name in (protocol, "grpc")
    )
    held_rps = [one.rate_rps for one in load.capacity if (one.variant, one.protocol) == (row.variant, protocol)]
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
        uncorrected_p99_ms=main.uncorrected_p99_ms if load.scenario.load.kind != "closed" else None,
        capacity_rps=median(rates) if (rates := [rate for rate in held_rps if rate]) else None,
        server_cores=main.server_cores,
        generator_share=max(
            (w.generator_share for w in windows if w.protocol == protocol and w.generator_share is not None),
            default=None,
        ),
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


def judged_windows(load: LoadReport, variant: str) -> list[LoadWindow]:
    """The windows from which a variant's figures come; of a capacity search only those at the rates that were found."""
    windows = [window for window in load.windows if window.variant == variant]
    if load.scenario.load.kind != "capacity":
        return windows
    held = {(one.protocol, one.rate_rps) for one in load.capacity if one.variant == variant}
    return [window for window in windows if (window.protocol, window.offered_rps) in held]


def undecided(row: BuildRow) -> bool:
    """Whether a gate's interval straddles its limit: more evaluation samples could change the verdict."""
    return row.verdict is not None and any(gate.undecided for gate in row.verdict.gates)


def limited_row(row: SummaryRow) -> bool:
    """Whether the load generator was a part of what was measured, so that a variant's throughput is a lower bound and
    compares with nothing."""
    return (row.generator_share or 0.0) > CEILING_SHARE


class _Served(NamedTuple):
    """A variant over one protocol."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    uncorrected_p99_ms: float | None = None
    server_cores: float | None = None
    throughput_rps: float | None = None
    best_users: int | None = None


def _served(windows: list[LoadWindow], latency_users: int) -> _Served:
    if not windows:
        return _Served()
    levels = {users: fmean(_at(windows, users, "throughput_rps")) for users in {window.users for window in windows}}
    best = max(levels, key=lambda users: levels[users])
    p50_ms, p95_ms, p99_ms, uncorrected_ms = (
        _mean(_at(windows, latency_users, name)) for name in ("p50_ms", "p95_ms", "p99_ms", "uncorrected_p99_ms")
    )
    cores = [w.server.cores for w in windows if w.users == latency_users and w.server and w.server.cores is not None]
    return _Served(p50_ms, p95_ms, p99_ms, uncorrected_ms, _mean(cores), levels[best], best)


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _at(windows: list[LoadWindow], users: int, name: str) -> list[float]:
    values = [getattr(window, name) for window in windows if window.users == users]
    return [value for value in values if value is not None]


AGREEMENT = 0.999  # with the in-process decisions, which FP32 and static INT8 keep
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc", "raw")
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
            "≥ " * limited_row(row) + number(row.throughput_rps, ".0f") + gain,
            stored(row.size_bytes, row.shared_bytes),
            number(row.speedup, ".2f", "x"),
            number(row.compression, ".2f", "x"),
            percent(row.retention),
            style=None if row.status == "published" else "dim",
        )
    return table


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
            found.append(f"over {PROTOCOL_NAMES[protocol]}, {limit_words(load, protocol)} {', '.join(sorted(rows))}")
    for served in load.accuracy:
        where = f"{served.variant} over {PROTOCOL_NAMES[served.protocol]}"
        if served.samples < summary.evaluation_samples:
            found.append(f"{where}: served accuracy is {coverage(served, summary.evaluation_samples)}")
        if served.agreement is not None and served.agreement < AGREEMENT:
            share = f"{(1 - served.agreement) * 100:.2f}%"
            found.append(f"{where}: served answers differ from in-process ones on {share} of samples{_why(served)}")
    return found


def limit_words(load: LoadReport, protocol: Protocol) -> str:
    """How near its ceiling the load generator came over a protocol, and what follows, up to the variants' names."""
    share = max((w.generator_share or 0.0 for w in load.windows if w.protocol == protocol), default=0.0)
    ceiling = next((row for row in load.ceilings if row.protocol == protocol), None)
    if not share or ceiling is None:
        return "the load generator was at its limit, so throughput is a lower bound for"
    return (
        f"the load generator was at {share:.0%} of the {ceiling.rps:,.0f} requests/s that it can send, above "
        f"{CEILING_SHARE:.0%}: there is no verdict, and throughput is a lower bound, for"
    )


def generator_words(load: LoadReport) -> list[str]:
    """For each protocol, how much of what the load generator can send was used."""
    found = []
    for ceiling in load.ceilings:
        share = max((w.generator_share or 0.0 for w in load.windows if w.protocol == ceiling.protocol), default=0.0)
        found.append(f"{describe_ceiling(ceiling)}; {share:.0%} of it was used at most")
    return [sentence[0].upper() + sentence[1:] + "." for sentence in found]


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
