"""The report's pictures of the load test: spreads, tails, capacity, batches, verdicts, cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.comparison import Summary, SummaryRow
from core.load_results import QUANTILES, Contrast, LoadReport
from core.scenario import CapacitySearch
from loadtest.events import PROTOCOL_NAMES
from trident.charts import Figure, family, number
from trident.charts_figures import Bar, bars
from trident.charts_load import Spread, Sureness, distribution, ratios
from trident.report_words import mean_batch
from trident.served import judged_windows
from trident.summary import limited_row, load_words

Index = Mapping[str, int]

BATCH_BINS: Final = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 1 << 30))
"""Executed batch sizes that share a colour, `b0` to `b5`."""
BATCHES: Final = "Batches that were executed"
UNCORRECTED: Final = "p99 from when a request was due, and from when it was sent"
FIGURE_NAMES: Final = {"throughput": "throughput", "p50": "p50", "p99": "p99"}


def load_figures(load: LoadReport, summary: Summary, index: Index) -> list[Figure]:
    """Each of the pictures that there is data for."""
    found = (
        _spreads(load, summary, index),
        *(_verdicts(load, summary, index, figure) for figure in FIGURE_NAMES),
        _tails(summary, index),
        _capacity(summary, index),
        _batches(summary, index),
        _cost(summary, index),
    )
    return [figure for figure in found if figure]


def _spreads(load: LoadReport, summary: Summary, index: Index) -> Figure | None:
    series = []
    for variant, place in index.items():
        level = [
            window.quantiles_ms
            for window in judged_windows(load, variant)
            if (window.protocol, window.users) == (summary.protocol, summary.latency_users) and window.quantiles_ms
        ]
        if level:
            means = [sum(values) / len(level) for values in zip(*level, strict=True)]
            series.append(Spread(place, variant, family(variant), QUANTILES, means))
    if not series:
        return None
    tails = {one.name: dict(zip(QUANTILES, one.latencies_ms, strict=True)) for one in series}
    steady = min(tails, key=lambda name: tails[name][0.99] / tails[name][0.5])
    words = (
        f"Over {PROTOCOL_NAMES[summary.protocol]} at {load_words(summary)}, the mean of the passes at each share. "
        f"Most even is {steady}: its p99 is {tails[steady][0.99] / tails[steady][0.5]:.1f} times its p50."
    )
    return Figure("How latencies are spread", words, distribution(series, "How latencies are spread"))


def _verdicts(load: LoadReport, summary: Summary, index: Index, figure: str) -> Figure | None:
    """Each variant beside the baseline; nothing where there was one pass only, and so no interval."""
    rows = [
        row
        for row in load.contrasts
        if (row.protocol, row.users, row.figure) == (summary.protocol, summary.latency_users, figure)
        and row.variant in index
        and row.ratio is not None
    ]
    if not any(row.ci95 for row in rows):
        return None
    rows.sort(key=lambda row: index[row.variant])
    drawn = [
        Sureness(
            index[row.variant], row.variant, family(row.variant), row.ratio or 1.0, row.ci95, _verdict(row),
            row.verdict != "none",
        )
        for row in rows
    ]  # fmt: skip
    title = f"Beside {rows[0].against}: {FIGURE_NAMES[figure]}"
    better = "right" if figure == "throughput" else "left"
    words = f"At {load_words(summary)}, with 95% intervals; better is to the {better}. {_sum_up(rows)}"
    return Figure(title, words, ratios(drawn, title))


def _verdict(row: Contrast) -> str:
    return "no verdict" if row.verdict == "none" else row.verdict


def _sum_up(rows: list[Contrast]) -> str:
    """The verdicts in a sentence or two, and why there are none where there are none."""
    named = {
        verdict: [row.variant for row in rows if row.verdict == verdict]
        for verdict in ("faster", "slower", "no significant difference")
    }
    found = [f"{verdict[0].upper()}{verdict[1:]}: {', '.join(names)}." for verdict, names in named.items() if names]
    reasons = dict.fromkeys(row.reason for row in rows if row.verdict == "none")
    for reason in reasons:
        names = [row.variant for row in rows if row.verdict == "none" and row.reason == reason]
        who = "all" if len(names) == len(rows) else ", ".join(names)
        found.append(f"No verdict for {who}: {reason}.")
    return " ".join(found)


def _tails(summary: Summary, index: Index) -> Figure | None:
    """Only open loops have two latencies."""
    rows = [row for row in summary.rows if row.p99_ms is not None and row.uncorrected_p99_ms is not None]
    if not rows:
        return None
    drawn = []
    for row in rows:
        due, sent = row.p99_ms or 0.0, row.uncorrected_p99_ms or 0.0
        hidden = max(0.0, due - sent)
        drawn.append(
            Bar(
                index[row.variant], row.variant, (("from the sending", sent), ("hidden by that", hidden)),
                f"{number(due)} ms, not {number(sent)}" if hidden > 0.05 * due else f"{number(due)} ms",
            )
        )  # fmt: skip
    most = max(rows, key=lambda row: (row.p99_ms or 0.0) / (row.uncorrected_p99_ms or 1.0))
    factor = (most.p99_ms or 0.0) / (most.uncorrected_p99_ms or 1.0)
    words = (
        f"At {load_words(summary)}. What counting from the sending leaves out is the wait of requests that were due. "
        + (
            f"Most of it has {most.variant}: {factor:.1f} times."
            if factor > 1.1
            else "Here that is little: no one had to wait."
        )
    )
    swatches = (("s1", "from the sending"), ("s0", "hidden by that"))
    return Figure(UNCORRECTED, words, bars(drawn, UNCORRECTED, "ms", ("s1", "s0")), swatches)


def _capacity(summary: Summary, index: Index) -> Figure | None:
    wanted = summary.scenario.load
    if not isinstance(wanted, CapacitySearch):
        return None
    target = f"p99 within {wanted.p99_ms:g} ms"
    rows = [row for row in summary.rows if row.capacity_rps is not None or row.exceeded_rps is not None]
    drawn = [
        Bar(index[row.variant], row.variant, (("holds", row.capacity_rps or 0.0),), _capacity_note(row)) for row in rows
    ]
    if not rows:
        return None
    best = max(rows, key=lambda row: row.capacity_rps or 0.0)
    words = (
        f"The highest rate that holds {target}, in requests/s; in brackets the lowest that was found not to. "
        f"Most stands {best.variant}: {number(best.capacity_rps)} requests/s."
        if best.capacity_rps
        else f"No variant holds {target} at any rate that was tried."
    )
    title = f"Capacity: {target}"
    return Figure(title, words, bars(drawn, title, "requests/s", ("s1",)))


def _capacity_note(row: SummaryRow) -> str:
    if row.capacity_rps is None:
        return f"none (not {number(row.exceeded_rps or 0.0)})"
    return number(row.capacity_rps) + (f" (not {number(row.exceeded_rps)})" if row.exceeded_rps else " or more")


def _batches(summary: Summary, index: Index) -> Figure | None:
    rows = [row for row in summary.rows if row.batches]
    if not rows:
        return None
    seen = {size for row in rows for size in row.batches}
    bins = [
        (f"b{place}", sizes) for place, sizes in enumerate(BATCH_BINS) if any(_within(size, sizes) for size in seen)
    ]
    drawn = []
    for row in rows:
        executions = sum(row.batches.values())
        parts = tuple(
            (bin_name(*sizes), 100 * sum(n for size, n in row.batches.items() if _within(size, sizes)) / executions)
            for _, sizes in bins
        )
        drawn.append(Bar(index[row.variant], row.variant, parts, f"mean {mean_batch(row.batches) or 0:.1f}"))
    largest = max(rows, key=lambda row: mean_batch(row.batches) or 0)
    words = (
        f"Of the executions at {load_words(summary)}, how many had a batch of which size: large ones mean that "
        f"requests waited for each other. Largest on average: {largest.variant}, {mean_batch(largest.batches):.1f}."
    )
    swatches = tuple((kind, bin_name(*sizes)) for kind, sizes in bins)
    return Figure(BATCHES, words, bars(drawn, BATCHES, "%", tuple(kind for kind, _ in bins)), swatches)


def _within(size: int, sizes: tuple[int, int]) -> bool:
    return sizes[0] <= size <= sizes[1]


def bin_name(low: int, high: int) -> str:
    """The name of some batch sizes."""
    return str(low) if low == high else f"{low} and more" if high >= 1 << 30 else f"{low} to {high}"


def _cost(summary: Summary, index: Index) -> Figure | None:
    rows = [row for row in summary.rows if row.cost_per_million is not None]
    if not rows:
        return None
    drawn = [
        Bar(
            index[row.variant], row.variant, (("", row.cost_per_million or 0.0),),
            "≤ " * limited_row(row) + number(row.cost_per_million or 0.0),
        )
        for row in rows
    ]  # fmt: skip
    least = min(rows, key=lambda row: row.cost_per_million or 0.0)
    rate = "the rate that holds the target" if summary.scenario.load.kind == "capacity" else "its best throughput"
    words = (
        f"A machine at {summary.price_per_hour:g} an hour, always as busy as it can be: price / (3,600 s x {rate}) x "
        f"1,000,000. Cheapest is {least.variant}: {number(least.cost_per_million or 0.0)}."
    )
    title = "Cost of a million inferences"
    return Figure(title, words, bars(drawn, title, "", ("s1",)))
