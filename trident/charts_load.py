"""The charts of a load test: how latencies are spread, and how sure a difference is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from core.results import Interval
from trident.charts import TOP, WIDTH, Scale, line, mark, number, spread, svg, text
from trident.charts_figures import LEFT, RIGHT

BOTTOM: Final = 300
ROW: Final = 34
SHARES: Final = (0.0, 0.5, 0.9, 0.99, 0.999)
"""Those that the axis of a distribution names; the last is its end."""
DOTS: Final = (0.5, 0.99)


@dataclass(frozen=True)
class Spread:
    """One variant's latencies in ms, ascending, at shares of its answers."""

    index: int
    name: str
    family: str
    shares: Sequence[float]
    latencies_ms: Sequence[float]


@dataclass(frozen=True)
class Sureness:
    """A ratio to the baseline's figure with its interval, if there is one, and what follows from it."""

    index: int
    name: str
    family: str
    ratio: float
    interval: Interval | None
    words: str
    judged: bool


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within `low..high`; of more than seven only the powers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [step * 10.0**power for power in powers for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    return found if len(found) <= 7 else [value for value in found if round(math.log10(value), 9).is_integer()]


def tail(share: float) -> float:
    """Where a share of the answers stands: the rarer what lies beyond it, the more room it has, as it is the tail that
    callers complain of. Half, nine tenths, 99 and 99.9 percent are nearly as far from each other."""
    return -math.log10(1 - share)


def distribution(series: list[Spread], label: str) -> Markup:
    """The share of answers that came within a latency (logarithmic), a line a variant."""
    values = [value for one in series for value in one.latencies_ms]
    low, high = min(values) * 0.9, max(values) * 1.1
    x = Scale(math.log10(low), math.log10(high), LEFT, RIGHT)
    y = Scale(0.0, tail(SHARES[-1]), BOTTOM, TOP + 34)
    parts = [text(LEFT - 46, TOP + 10, "answered within", "axis")]
    for share in SHARES:
        top = y(tail(share))
        parts += [line(LEFT, top, RIGHT, top, "grid"), text(LEFT - 6, top + 4, f"{share * 100:g}%", "tick", "end")]
    parts += [text(x(math.log10(v)), BOTTOM + 18, number(v), "tick", "middle") for v in log_ticks(low, high)]
    parts.append(text(RIGHT, BOTTOM + 36, "latency, ms", "axis", "end"))
    ends = spread([x(math.log10(one.latencies_ms[-1])) for one in series], 17, LEFT + 60, RIGHT + 10)
    for one, end in zip(series, ends, strict=True):
        points = [(x(math.log10(v)), y(tail(s))) for s, v in zip(one.shares, one.latencies_ms, strict=True)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(one.family, path))
        parts.append(line(*points[-1], end, TOP + 28, "leader"))
        parts.append(text(end, TOP + 24, str(one.index), "key", "middle"))
        for (px, py), share, value in zip(points, one.shares, one.latencies_ms, strict=True):
            if share in DOTS:
                dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="dot {}"/>').format(px, py, one.family)
                parts.append(mark(one.name, f"{share * 100:g}% within {number(value)} ms", dot))
    return svg(BOTTOM + 45, label, parts)


def ratios(rows: list[Sureness], label: str) -> Markup:
    """Ratios to the baseline with their intervals, and a line where there is no difference."""
    bounds = [value for row in rows for value in (row.ratio, *(row.interval or ()))]
    low, high = min(0.95, *bounds) * 0.97, max(1.05, *bounds) * 1.03
    x = Scale(math.log(low), math.log(high), 12, WIDTH - 12)
    bottom = TOP + len(rows) * ROW + 8
    parts = [line(x(0), TOP, x(0), bottom, "limit")]
    parts += [text(x(math.log(v)), bottom + 16, f"{v:g}x", "tick", "middle") for v in ratio_ticks(low, high)]
    for place, row in enumerate(rows):
        top = TOP + place * ROW + 14.0
        name = row.name if len(row.name) <= 30 else row.name[:29] + "…"
        parts.append(text(0, top, f"{row.index}  {name}: {row.words}", "over"))
        px, shapes = x(math.log(row.ratio)), Markup("")
        facts = f"{row.ratio:.3f}x"
        if row.interval:
            ends = [x(math.log(bound)) for bound in row.interval]
            shapes += line(ends[0], top + 11, ends[1], top + 11, "whisker")
            facts += f", 95% {row.interval[0]:.3f} to {row.interval[1]:.3f}"
        form = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" class="dot {}"/>')
        drawn = mark(row.name, f"{facts}: {row.words}", shapes + form.format(px, top + 11, row.family))
        parts.append(drawn if row.judged else Markup('<g class="off">{}</g>').format(drawn))
    return svg(bottom + 24, label, parts)


def ratio_ticks(low: float, high: float) -> list[float]:
    """A few round ratios within `low..high`, 1 among them."""
    steps = (0.1, 0.2, 0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0, 5.0, 10.0, 20.0, 50.0)
    found = [value for value in steps if low <= value <= high]
    wide = math.log(high / low)
    return [value for value in found if value == 1.0 or abs(math.log(value)) > wide / 8]
