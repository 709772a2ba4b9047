"""The report's charts, each a pure function from numbers to SVG. A variant's number is the same in every chart."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from core.results import MetricValue
from trident.charts import TOP, WIDTH, Scale, line, mark, number, padded, pareto, spread, svg, text, ticks

LEFT, RIGHT = 52, 372


@dataclass(frozen=True)
class Point:
    """One variant: its number, name, family (`f0` to `f3`, its colour), coordinates, and interval of `y`."""

    index: int
    name: str
    family: str
    x: float
    y: float
    size_bytes: int | None = None
    interval: tuple[float, float] | None = None
    noise: float = 0.0  # how far `y` may be off beside another's on the same samples


@dataclass(frozen=True)
class Bar:
    """One variant's bar: named parts one after the other, and what stands at its end. A bar that is no variant's has
    no number."""

    index: int | None
    name: str
    parts: tuple[tuple[str, float], ...]
    note: str
    off: bool = False  # not published: drawn paler
    colour: str = ""  # its own, in place of the chart's


def _axes(x: Scale, y: Scale, labels: tuple[str, str], percent: bool = False) -> list[Markup]:
    parts = [text(LEFT - 46, TOP + 14, labels[1], "axis")]
    for value in ticks(y.low, y.high):
        shown = f"{value * 100:.4g}%" if percent else number(value)
        parts += [line(LEFT, y(value), RIGHT, y(value), "grid"), text(LEFT - 6, y(value) + 4, shown, "tick", "end")]
    parts += [text(x(value), y.start + 18, number(value), "tick", "middle") for value in ticks(x.low, x.high)]
    return [*parts, text(RIGHT, y.start + 36, labels[0], "axis", "end")]


def scatter(
    points: list[Point], metric: MetricValue, limit: float | None, latency: str, longest: float | None = None
) -> Markup:
    """Accuracy against `latency` in ms: area is size, whiskers the 95% interval, the front joined, the gate's limit
    dashed, and the longest latency that is allowed, if there is such a limit."""

    def shown(value: float, digits: int) -> str:
        return f"{value * 100:.{digits}f}%" if metric.fraction else f"{value:.{digits + 2}f}"

    ys = [value for point in points for value in (point.y, *(point.interval or ()))]
    ys += [] if limit is None else [limit]
    low, high = padded([*(point.x for point in points), *([] if longest is None else [longest])], 0.12)
    x = Scale(max(0.0, low), high, LEFT, RIGHT)
    y = Scale(*padded(ys, 0.05), 300, TOP + 26)
    parts = _axes(x, y, (f"{latency}, ms", metric.name), metric.fraction)
    if limit is not None:
        parts += [
            line(LEFT, y(limit), RIGHT, y(limit), "limit"),
            text(RIGHT, y(limit) - 5, "gate's limit", "limit-text", "end"),
        ]
    if longest is not None:
        parts.append(line(x(longest), y.start, x(longest), y.end, "limit"))
    gains = [(point.x, point.y if metric.higher_is_better else -point.y) for point in points]
    front = sorted(pareto(gains, [point.noise for point in points]), key=lambda i: points[i].x)
    path = " ".join(f"{x(points[i].x):.1f},{y(points[i].y):.1f}" for i in front)
    parts.append(Markup('<polyline class="front" points="{}"/>').format(path))
    largest = max((point.size_bytes or 0 for point in points), default=0) or 1
    # The numbers stand in one row at the top, pushed apart sideways, each with a leader to its bubble.
    places = spread([x(point.x) for point in points], 17, LEFT + 6, RIGHT + 10)
    for i, point in enumerate(points):
        px, py = x(point.x), y(point.y)
        radius = 4 + 10 * ((point.size_bytes or 0) / largest) ** 0.5
        kind = f"{point.family} {'on-front' if i in front else ''}"
        shapes = Markup("")
        facts = f"{shown(point.y, 2)}, {number(point.x)} ms"
        if point.interval:
            shapes += line(px, y(point.interval[0]), px, y(point.interval[1]), "whisker")
            facts += f", 95% {shown(point.interval[0], 1)} to {shown(point.interval[1], 1)}"
        shapes += Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" class="dot {}"/>').format(px, py, radius, kind)
        shapes += line(px, py, places[i], TOP + 36, "leader")
        shapes += text(places[i], TOP + 32, str(point.index), "key", "middle")
        parts.append(mark(point.name, facts, shapes))
    return svg(345, f"{metric.name} against latency", parts)


def curves(series: list[list[tuple[Point, str]]], label: str) -> Markup:
    """Throughput against latency: a line a variant, a point a load."""
    flat = [point for one in series for point, _ in one]
    x = Scale(0, padded([point.x for point in flat])[1], LEFT, RIGHT - 10)
    y = Scale(0, padded([point.y for point in flat])[1], 300, TOP + 26)
    parts = _axes(x, y, ("p50, ms", "samples/s"))
    ends = spread([y(one[-1][0].y) for one in series], 14, TOP + 26, 300)
    for one, end in zip(series, ends, strict=True):
        last, family = one[-1][0], one[0][0].family
        path = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point, _ in one)
        parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(family, path))
        parts.append(line(x(last.x), y(last.y), RIGHT + 6, end, "leader"))
        parts.append(text(RIGHT + 10, end + 4, str(last.index), "key"))
        for point, load in one:
            dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="dot {}"/>').format(
                x(point.x), y(point.y), family
            )
            facts = f"{load}: {number(point.y)} samples/s, p50 {number(point.x)} ms"
            parts.append(mark(point.name, facts, dot))
    return svg(345, label, parts)


def bars(rows: list[Bar], label: str, unit: str, colours: tuple[str, ...]) -> Markup:
    """Horizontal bars, stacked where they have several parts, the figure written at the end."""
    longest = max((sum(value for _, value in row.parts) for row in rows), default=0) or 1
    scale, parts = Scale(0, longest, 0, 290), []
    for place, row in enumerate(rows):
        top, left, shapes = TOP + place * 40.0, 0.0, Markup("")
        name = row.name if len(row.name) <= 38 else row.name[:37] + "…"
        parts.append(text(0, top + 12, name if row.index is None else f"{row.index}  {name}", "name"))
        for (_, value), colour in zip(row.parts, (row.colour,) if row.colour else colours, strict=False):
            wide = max(scale(value), 0.5)
            form = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="14" class="bar {}"/>')
            shapes += form.format(left, top + 18, wide, colour)
            left += wide
        facts = ", ".join(f"{what} {number(value)} {unit}".strip() for what, value in row.parts)
        shapes += text(min(left + 6, WIDTH - 90), top + 30, row.note, "tick")
        drawn = mark(row.name, facts, shapes)
        parts.append(Markup('<g class="off">{}</g>').format(drawn) if row.off else drawn)
    return svg(TOP + len(rows) * 40 + 4, label, parts)
