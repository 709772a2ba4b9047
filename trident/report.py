"""The report: one offline HTML file without script, from the three result files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from core.comparison import Summary, SummaryRow
from core.files import write_atomically
from core.load_results import LoadReport, LoadWindow
from core.results import BuildRow, ModelBuild
from core.scenario import describe_load
from loadtest.events import PROTOCOL_NAMES
from trident.charts import Figure, family, number
from trident.charts_figures import Bar, Point, bars, curves, scatter
from trident.console import megabytes, percent, score, stored
from trident.doctor_words import diagnosis, relative_error
from trident.remarks import caveats, generator_words, left_out, unsteady_speedup
from trident.report_load import load_figures
from trident.report_words import answer, beside_http, failed_words, mean_batch, time_goes, why
from trident.served import judged_windows
from trident.summary import limited_row, load_words

DEGRADED_DB: Final = 40.0
MOST_LAYERS: Final = 15
DOCTOR: Final = "What INT8 costs, layer by layer"


def write(path: Path, build: ModelBuild, load: LoadReport, summary: Summary) -> None:
    """Renders and writes the report, whole or not at all. Raises OSError."""
    write_atomically(path, render(build, load, summary).encode())


def render(build: ModelBuild, load: LoadReport, summary: Summary) -> str:
    """The report's HTML."""
    environment = Environment(
        loader=PackageLoader("trident", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    index = {row.variant: place for place, row in enumerate(summary.rows, 1)}
    columns = _columns(summary)
    degraded = [row for row in build.rows if row.verdict and _degraded(row)]
    return environment.get_template("report.html.j2").render(
        build=build, load=load, summary=summary, index=index, answer=answer(build, summary),
        family=family, figures=_figures(build, load, summary, index), degraded=degraded, why=why,
        columns=columns, rows=[(row, _cells(row, build, columns)) for row in summary.rows],
        diagnosis=diagnosis, server=SERVER_CELLS,
        server_rows=[row for row in summary.rows if row.throughput_rps is not None],
        graphs=[row for row in build.rows if row.graph], caveats=caveats(summary, load), left_out=left_out(summary),
        generator=generator_words(load), protocol=PROTOCOL_NAMES[summary.protocol], load_words=load_words(summary),
    )  # fmt: skip


def _degraded(row: BuildRow) -> bool:
    verdict = row.verdict
    worst = min(verdict.sqnr_db.values(), default=200.0) if verdict else 200.0
    return row.status == "rejected" or bool(verdict and verdict.drop > 0) or worst < DEGRADED_DB


def _figures(build: ModelBuild, load: LoadReport, summary: Summary, index: dict[str, int]) -> list[Figure]:
    """Each picture that there is data for."""
    verdicts = {row.variant: row.verdict for row in build.rows}
    points = []
    for row in summary.rows:
        verdict, accuracy = verdicts.get(row.variant), row.accuracy
        if row.p50_ms is not None and accuracy is not None:
            interval = verdict.metric.ci95 if verdict else None
            low, high = verdict.drop_ci95 if verdict else (0.0, 0.0)
            points.append(
                Point(
                    index[row.variant], row.variant, family(row.variant), row.p50_ms, accuracy, row.size_bytes,
                    interval, noise=(high - low) / 2,
                )
            )  # fmt: skip
    found: list[Figure] = []
    if points:
        quick = min(points, key=lambda point: point.x)
        gates = [gate.limit for verdict in verdicts.values() if verdict for gate in verdict.gates]
        sign = -1 if build.original.higher_is_better else 1
        limit = build.original.value + sign * gates[0] if gates else None
        best = score(quick.y, build.original.fraction)
        words = (
            f"Quickest is {quick.name}, at {number(quick.x)} ms and {best}. Area is file size; the line joins what no "
            f"quicker variant equals in accuracy, differences within the noise of these samples left out."
        )
        chart = scatter(points, build.original, limit, f"p50 at {load_words(summary)}")
        found.append(Figure("Accuracy against latency", words, chart))
    for protocol, name in PROTOCOL_NAMES.items():
        series = _series(load, index, protocol) if load.scenario.load.kind != "open" else []
        if series:
            most = max((point for one in series for point, _ in one), key=lambda point: point.y)
            words = f"{most.name} serves most: {number(most.y)} samples/s." + (
                beside_http(summary) if protocol != summary.protocol else ""
            )
            title = f"Throughput against latency, {name}"
            found.append(Figure(title, words, curves(series, title)))
    if stacks := _stacks(load, summary, index):
        words = (
            f"Mean latency over {PROTOCOL_NAMES[summary.protocol]} at {load_words(summary)}: queue, compute, "
            f"and the rest (transport and waiting). {time_goes(stacks)}"
        )
        chart = bars(stacks, "Where the time goes", "ms", ("s0", "s1", "s2"))
        swatches = (("s0", "queue"), ("s1", "compute"), ("s2", "rest"))
        found.append(Figure("Where the time goes", words, chart, swatches))
    found += load_figures(load, summary, index)
    sizes = (("File size", "size_bytes", "s1"), ("Memory of the server's process", "resident_bytes", "s0"))
    for title, field, colour in sizes:
        known = [(row, getattr(row, field)) for row in summary.rows if getattr(row, field) is not None]
        served = [(value, row.variant) for row, value in known if row.status == "published"]
        if known:
            one = [
                Bar(
                    index[row.variant], row.variant, (("", value / 1e6),), f"{number(value / 1e6)} MB",
                    row.status != "published",
                )
                for row, value in known
            ]  # fmt: skip
            words = f"Least: {min(served)[1]}, {number(min(served)[0] / 1e6)} MB." if served else ""
            found.append(Figure(title, words, bars(one, title, "MB", (colour,))))
    return found + [_doctor(row) for row in build.rows if row.layers]


def _doctor(row: BuildRow) -> Figure:
    """What INT8 costs in the worst layers of a variant in mixed precision, with those kept in float marked."""
    one = [
        Bar(
            None, f"{layer.layer} ({layer.operator})", (("error", relative_error(layer)),), f"{layer.sqnr_db:.1f} dB",
            colour="s0" if layer.kept_float else "s1",
        )
        for layer in row.layers[:MOST_LAYERS]
    ]  # fmt: skip
    title = f"{DOCTOR}: {row.variant}"
    left = f" Shown are the worst {MOST_LAYERS}." if len(row.layers) > MOST_LAYERS else ""
    words = f"{diagnosis(row.layers)}{left} Bars: the error of the network's output, in percent of its size."
    return Figure(title, words, bars(one, title, "%", ("s1",)), (("s0", "kept in float"), ("s1", "in INT8")))


def _mean(windows: list[LoadWindow], read: Callable[[LoadWindow], float | None]) -> float | None:
    values = [value for window in windows if (value := read(window)) is not None]
    return fmean(values) if values else None


def _series(load: LoadReport, index: dict[str, int], protocol: str) -> list[list[tuple[Point, str]]]:
    found = []
    for variant, place in index.items():
        mine = [window for window in load.windows if window.variant == variant and window.protocol == protocol]
        one = []
        for users, rate_rps in sorted({(window.users, window.offered_rps or 0.0) for window in mine}):
            level = [window for window in mine if (window.users, window.offered_rps or 0.0) == (users, rate_rps)]
            p50, rate = _mean(level, lambda w: w.p50_ms), _mean(level, lambda w: w.throughput_rps)
            if p50 is not None and rate is not None:
                one.append((Point(place, variant, family(variant), p50, rate), describe_load(users, rate_rps or None)))
        if one:
            found.append(one)
    return found


def _stacks(load: LoadReport, summary: Summary, index: dict[str, int]) -> list[Bar]:
    found = []
    for variant, place in index.items():
        level = [
            window
            for window in judged_windows(load, variant)
            if (window.protocol, window.users) == (summary.protocol, summary.latency_users) and window.server
        ]
        mean = _mean(level, lambda w: w.mean_ms)
        queue = _mean(level, lambda w: w.server.queue_ms if w.server else None)
        compute = _mean(level, lambda w: w.server.compute_ms if w.server else None)
        batch = _mean(level, lambda w: w.server.mean_batch if w.server else None)
        if mean is None or queue is None or compute is None or batch is None:
            continue
        rest = max(0.0, mean - queue - compute)
        note = f"{number(mean)} ms, batch {batch:.1f}"
        found.append(Bar(place, variant, (("queue", queue), ("compute", compute), ("rest", rest)), note))
    return found


def _form(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _count(value: int | None) -> str:
    return "-" if value is None else number(value / 1e6) + " M"


def _gain(row: SummaryRow) -> str:
    gain = f"{row.throughput_gain:.2f}x, " if row.throughput_gain else ""
    return (
        "≥ " * limited_row(row)
        + _form(row.throughput_rps, ",.0f")
        + (f" ({gain}{row.best_users} user{'s' * (row.best_users > 1)})" if row.best_users else "")
    )


def _cost(row: SummaryRow) -> str:
    if row.cost_per_million is None:
        return "-"
    return "≤ " * limited_row(row) + number(row.cost_per_million)


def _speedup(row: SummaryRow) -> str:
    if row.speedup is None:
        return "-"
    low, high = row.speedup_ci95 or (row.speedup, row.speedup)
    mark = "?" if unsteady_speedup(row.speedup_ci95, row.timing_disturbed) else ""
    return f"{row.speedup:.2f}{mark} ({low:.2f} to {high:.2f})"


def _weights(build: ModelBuild, variant: str) -> int | None:
    return next((row.graph.weights for row in build.rows if row.variant == variant and row.graph), None)


CELLS: Final[tuple[tuple[str, Callable[[SummaryRow, ModelBuild], str]], ...]] = (
    ("Status", lambda r, _: r.status),
    ("Accuracy", lambda r, b: score(r.accuracy, b.original.fraction)),
    ("Served accuracy", lambda r, b: score(r.served_accuracy, b.original.fraction)),
    ("Time (ms)", lambda r, _: _form(r.time_ms, ".3f")),
    ("p50 (ms)", lambda r, _: _form(r.p50_ms, ".2f")),
    ("p95 (ms)", lambda r, _: _form(r.p95_ms, ".2f")),
    ("p99 (ms)", lambda r, _: _form(r.p99_ms, ".2f")),
    ("Throughput (1/s)", lambda r, _: _gain(r)),
    ("gRPC (1/s)", lambda r, _: _form(r.grpc_throughput_rps, ",.0f")),
    ("Cost of a million", lambda r, _: _cost(r)),
    ("Size (MB)", lambda r, _: stored(r.size_bytes, r.shared_bytes)),
    ("Memory (MB)", lambda r, _: megabytes(r.resident_bytes)),
    ("Speed-up", lambda r, _: _speedup(r)),
    ("Compression", lambda r, _: _form(r.compression, ".2f")),
    ("Retention", lambda r, _: percent(r.retention)),
    ("Weights", lambda r, b: _count(_weights(b, r.variant))),
    ("Sparsity", lambda r, _: percent(r.sparsity)),
    ("FLOPs", lambda r, _: _count(r.flops)),
    ("SQNR (dB)", lambda r, _: _form(r.sqnr_db, ".1f")),
)

SERVER_CELLS: Final[tuple[tuple[str, Callable[[SummaryRow], str]], ...]] = (
    ("Queue (ms)", lambda r: _form(r.queue_ms, ".2f")),
    ("Compute (ms)", lambda r: _form(r.compute_ms, ".2f")),
    ("Mean batch", lambda r: _form(mean_batch(r.batches), ".1f")),
    ("CPU (cores)", lambda r: _form(r.server_cores, ".2f")),
    ("Memory (MB)", lambda r: megabytes(r.resident_bytes)),
    ("Rejected", lambda r: f"{r.reasons.get('rejected', 0):,}"),
    ("Failed otherwise", lambda r: failed_words(r.reasons)),
)


def _columns(summary: Summary) -> list[str]:
    """The names of CELLS, without those that only some load tests have."""
    given = {"Cost of a million": any(row.cost_per_million is not None for row in summary.rows)}
    return [name for name, _ in CELLS if given.get(name, True)]


def _cells(row: SummaryRow, build: ModelBuild, columns: list[str]) -> list[str]:
    return [cell(row, build) for name, cell in CELLS if name in columns]
