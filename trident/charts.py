"""Arithmetic and primitives of the report's charts: scales, ticks, the Pareto front, labels that do not overlap.

Hand-made SVG instead of a plotting library: a plotly bundle is 5 MB of script, cannot be themed by CSS, and its points
cannot be reached by keyboard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH = 400  # of every chart's viewBox: a phone shows it at about 0.85, so that 13 units stay 11 px
TOP = 44  # the strip that holds the tooltip


class Figure(NamedTuple):
    """A picture on a page: its title, its takeaway in a sentence, its SVG, and what its colours mean (class, name)."""

    title: str
    words: str
    chart: Markup
    swatches: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Scale:
    """Linear, from data `low..high` to pixels `start..end`. Of a range of zero every value lies in the middle."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        if self.high <= self.low:
            return (self.start + self.end) / 2
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within `low..high`, about `count` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(values: list[float], share: float = 0.1) -> tuple[float, float]:
    """The range of values with a margin, also where they are all the same."""
    low, high = min(values), max(values)
    margin = (high - low) * share or abs(high) * share or 1.0
    return low - margin, high + margin


def pareto(points: list[tuple[float, float]], noise: list[float] | None = None) -> list[int]:
    """Indices of the points `(cost, gain)` that no other beats: none is as good in both and better in one.

    `noise` is how far each gain may be off: a cheaper point whose gain is less by no more than that counts as good, so
    that a lucky sample or two puts nothing on the front.
    """
    off = noise or [0.0] * len(points)

    def beaten(i: int, j: int) -> bool:
        (x, y), (a, b) = points[i], points[j]
        if a < x:
            return b >= y - max(off[i], off[j])
        return a == x and b > y

    return [i for i in range(len(points)) if not any(beaten(i, j) for j in range(len(points)))]


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, in the same order, at least `gap` apart, within `low..high` if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    edge = low - gap
    for i in order:
        edge = placed[i] = max(wanted[i], edge + gap)
    edge = high + gap
    for i in reversed(order):
        edge = placed[i] = min(placed[i], edge - gap)
    return placed


def family(variant: str) -> str:
    """The class of a variant's colour: `f0` to `f3`, by its runtime."""
    return next((f"f{i}" for i, name in enumerate(("torch", "onnx", "openvino")) if name in variant), "f3")


def number(value: float) -> str:
    """Three sensible digits, thousands by comma."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> Markup:
    """One line of text."""
    form = Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>')
    return form.format(x, y, kind, anchor, words)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    form = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>')
    return form.format(x1, y1, x2, y2, kind)


def mark(name: str, facts: str, shapes: Markup) -> Markup:
    """Shapes that can be reached by keyboard, with a tooltip in the strip at the chart's top."""
    short = name if len(name) <= 44 else name[:43] + "…"
    tip = text(WIDTH / 2, 15, short, "tip-name", "middle") + text(WIDTH / 2, 32, facts, "", "middle")
    form = Markup(
        '<g class="mark" tabindex="0" role="img" aria-label="{}: {}"><title>{}: {}</title>{}'
        '<g class="tip" aria-hidden="true"><rect width="400" height="40" rx="6"/>{}</g></g>'
    )
    return form.format(name, facts, name, facts, shapes, tip)


def svg(height: float, label: str, parts: list[Markup]) -> Markup:
    """A chart. Its parts stay readable one by one to a screen reader."""
    form = Markup('<svg viewBox="0 0 400 {:.0f}" role="group" aria-label="{}">{}</svg>')
    return form.format(height, label, Markup("").join(escape(part) for part in parts))
