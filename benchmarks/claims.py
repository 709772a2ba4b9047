"""What every benchmark makes of its measurements: claims, and their table on a page."""

from __future__ import annotations

from statistics import median
from typing import Literal

from core.comparison import Benchmark, Claim
from core.intervals import median_interval

Better = Literal["higher", "lower"]


def claim(name: str, values: list[float], unit: str, target: float, better: Better = "higher") -> Claim:
    """A claim over repeated measurements. A single one has no interval, and so does not hold."""
    low, high = median_interval(values)
    met = low >= target if better == "higher" else high <= target
    return Claim(
        id=name, value=median(values), ci95=(low, high), unit=unit, target=target, better=better,
        holds=met and len(values) > 1,
    )  # fmt: skip


def counted(name: str, value: float, unit: str, target: float | None, better: Better) -> Claim:
    """A claim over something that is counted or was run once, which therefore has no interval."""
    holds = target is None or (value >= target if better == "higher" else value <= target)
    return Claim(id=name, value=value, ci95=(value, value), unit=unit, target=target, better=better, holds=holds)


def tally(benchmark: Benchmark) -> str:
    """How many claims hold, of those that have a target to miss."""
    aimed = [claim.holds for claim in benchmark.claims if claim.target is not None]
    return f"{sum(aimed)} of {len(aimed)} claims hold"


def claims_table(benchmark: Benchmark, how: str = "") -> str:
    """Where it was measured, and `how`; then a row for each claim."""
    machine = benchmark.machine
    lines = [
        f"Measured on {benchmark.created_at[:10]}: {machine.cpu_model}, {machine.cores} cores{how}, "
        f"{', '.join(machine.isa_flags)}.",
        "",
        "| claim | value | 95% interval | target | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for c in benchmark.claims:
        bound = f"{'at least' if c.better == 'higher' else 'at most'} {c.target:g}" if c.target is not None else "-"
        interval = f"{c.ci95[0]:.3g} to {c.ci95[1]:.3g}" if c.ci95[0] < c.ci95[1] else "-"
        holds = "-" if c.target is None else "yes" if c.holds else "**no**"
        lines.append(f"| {c.id} ({c.unit}) | {c.value:.3g} | {interval} | {bound} | {holds} |")
    return "\n".join(lines)


def between(page: str, begin: str, end: str, table: str) -> str:
    """The page with what stands between two marks made anew."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}\n{end}{after}"
