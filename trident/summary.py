"""The comparison: what the build measured and what the load test measured, in one row a variant."""

from __future__ import annotations

from statistics import fmean

from rich.table import Table

from core.machine import describe, versions
from core.results import BuildRow, LoadReport, LoadWindow, ModelBuild, Summary, SummaryRow
from trident.console import megabytes, number, percent


def summarize(build: ModelBuild, load: LoadReport, created_at: str) -> Summary:
    """Joins both reports. Variants that were not loaded keep their row, with the status and reason of their build."""
    users = sorted({window.users for window in load.windows})
    latency_users = 4 if 4 in users else users[len(users) // 2]
    rows = tuple(_row(row, load, latency_users) for row in build.rows)
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
        baseline_variant=build.baseline_variant,
        evaluation_samples=build.evaluation_samples,
        latency_users=latency_users,
        rows=rows,
    )


def _row(row: BuildRow, load: LoadReport, latency_users: int) -> SummaryRow:
    """One variant. A level's figure is the mean over its passes; throughput is that of the best level."""
    windows = [window for window in load.windows if window.variant == row.variant]
    served = next((found for found in load.accuracy if found.variant == row.variant), None)
    summary = SummaryRow(
        variant=row.variant,
        status=row.status,
        reason=row.reason,
        accuracy=row.accuracy,
        time_ms=row.time_ms,
        size_bytes=row.size_bytes,
        speedup=row.speedup,
        compression=row.compression,
        retention=row.retention,
        dominated=row.dominated,
    )
    if not windows:
        return summary
    levels = {users: fmean(_at(windows, users, "throughput_rps")) for users in {window.users for window in windows}}
    best = max(levels, key=lambda users: levels[users])
    update: dict[str, object] = {
        "throughput_rps": levels[best],
        "best_users": best,
        "failures": sum(window.failures for window in windows) + (served.failures if served else 0),
        "served_accuracy": served.metric.value if served and served.metric else None,
        "served_agreement": served.agreement if served else None,
    }
    for name in ("p50_ms", "p95_ms", "p99_ms"):
        values = _at(windows, latency_users, name)
        update[name] = fmean(values) if values else None
    return summary.model_copy(update=update)


def _at(windows: list[LoadWindow], users: int, name: str) -> list[float]:
    values = [getattr(window, name) for window in windows if window.users == users]
    return [value for value in values if value is not None]


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
            f"Accuracy on {summary.evaluation_samples} samples. Time: in process, batch 1. p50, p95, p99 in ms at "
            f"{summary.latency_users} users, throughput in samples/s at each variant's best number of users, "
            f"both over HTTP with the load generator on the same cores.\nSpeed-up over eager PyTorch in process; "
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
            percent(row.accuracy),
            percent(row.served_accuracy),
            number(row.time_ms, ".3f"),
            number(row.p50_ms),
            number(row.p95_ms),
            number(row.p99_ms),
            number(row.throughput_rps, ".0f") + gain,
            megabytes(row.size_bytes),
            number(row.speedup, ".2f", "x"),
            number(row.compression, ".2f", "x"),
            percent(row.retention),
            style=None if row.status == "published" else "dim",
        )
    return table


def remarks(summary: Summary) -> list[str]:
    """What the table does not say: variants left out and why, failures, disagreement with the in-process run."""
    found = [f"{row.variant} is {row.status}: {row.reason}" for row in summary.rows if row.status != "published"]
    found += [f"{row.variant} is dominated: slower than the original" for row in summary.rows if row.dominated]
    found += [f"{row.variant}: {row.failures} requests failed" for row in summary.rows if row.failures]
    for row in summary.rows:
        if row.served_agreement is not None and row.served_agreement < 0.999:
            share = f"{(1 - row.served_agreement) * 100:.2f}%"
            found.append(f"{row.variant}: served answers differ from in-process ones on {share} of samples")
    return found
