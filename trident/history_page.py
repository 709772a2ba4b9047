"""The history of a model's load tests as a page: one chart a figure, one line a variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from core.comparison import Summary, SummaryRow
from trident.charts import TOP, Scale, family, line, mark, number, padded, spread, svg, text, ticks
from trident.charts_figures import LEFT, RIGHT
from trident.history import row_of, stretches, variants_of
from trident.summary import load_words

BOTTOM: Final = 300
FIGURES: Final[tuple[tuple[str, Callable[[SummaryRow], float | None], bool], ...]] = (
    ("Throughput, samples/s", lambda row: row.throughput_rps, False),
    ("p99, ms", lambda row: row.p99_ms, False),
    ("Capacity, requests/s", lambda row: row.capacity_rps, False),
    ("Served accuracy", lambda row: row.served_accuracy, True),
)
"""Title, how to read it of a row, and whether it is no size, so that its axis need not begin at zero."""


def render(history: Sequence[Summary]) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("trident", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    names = variants_of(history)
    charts = [(title, chart(history, names, title, read, level)) for title, read, level in FIGURES]
    return environment.get_template("history.html.j2").render(
        history=history, names=names, family=family, charts=[one for one in charts if one[1]],
        words=[load_words(summary) for summary in history],
    )  # fmt: skip


def chart(
    history: Sequence[Summary],
    names: Sequence[str],
    title: str,
    read: Callable[[SummaryRow], float | None],
    level: bool,
) -> Markup:
    """A figure over the runs; nothing if no run has it. A line joins only runs that compare."""
    series = {name: _values(history, name, read) for name in names}
    values = [value for one in series.values() for value in one.values()]
    if not values:
        return Markup("")
    low, high = padded(values)
    x = Scale(0, max(1, len(history) - 1), LEFT + 10, RIGHT - 16)
    y = Scale(low if level else 0.0, high, BOTTOM, TOP + 12)
    parts = [line(LEFT, y(value), RIGHT, y(value), "grid") for value in ticks(y.low, y.high)]
    parts += [text(LEFT - 6, y(value) + 4, number(value), "tick", "end") for value in ticks(y.low, y.high)]
    parts += [text(x(run), BOTTOM + 18, str(run + 1), "tick", "middle") for run in _labelled(len(history))]
    ends = spread([y(list(one.values())[-1]) if one else y.low for one in series.values()], 14, TOP + 12, BOTTOM)
    for place, (name, one) in enumerate(series.items(), 1):
        for runs in stretches(history):
            path = " ".join(f"{x(run):.1f},{y(one[run]):.1f}" for run in runs if run in one)
            parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(family(name), path))
        for run, value in one.items():
            dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="dot {}"/>').format(
                x(run), y(value), family(name)
            )
            parts.append(mark(name, f"run {run + 1}: {number(value)}", dot))
        if one:
            parts.append(text(RIGHT + 2, ends[place - 1] + 4, str(place), "key"))
    return svg(BOTTOM + 40, title, parts)


def _values(history: Sequence[Summary], name: str, read: Callable[[SummaryRow], float | None]) -> dict[int, float]:
    rows = {run: row for run, summary in enumerate(history) if (row := row_of(summary, name))}
    return {run: value for run, row in rows.items() if (value := read(row)) is not None}


def _labelled(runs: int) -> range:
    """Every so many runs has its number below, at most a dozen."""
    return range(0, runs, 1 + (runs - 1) // 12)
