"""Which of two variants is faster: from blocks, one a pass, in which both were loaded in turn.

What a machine does meanwhile (another tenant, heat, a clock that changes) lasts longer than a request, so requests are
no independent evidence; passes nearly are. A block's ratio compares windows that lie seconds apart, the variants in
random order, and the interval comes from the ranks of the blocks' ratios, which a few disturbed blocks do not move.
Where requests failed, or the load generator was a part of what was measured, there is no verdict, and the reason
instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from core.intervals import block_ratio
from core.load_results import Contrast, LoadWindow

MIN_BLOCKS: Final = 6  # fewer make an interval that is too wide to tell anything
CEILING_SHARE: Final = 0.7  # of what the generator can send; above, it is a part of what is measured
Figure = Literal["throughput", "p50", "p99"]
FIGURES: Final[tuple[Figure, ...]] = ("throughput", "p50", "p99")
FIELDS: Final = {"throughput": "throughput_rps", "p50": "p50_ms", "p99": "p99_ms"}


def value_of(window: LoadWindow, figure: Figure) -> float | None:
    """A window's figure; none where no answer was good."""
    value: float | None = getattr(window, FIELDS[figure])
    return value or None


def contrasts(windows: Sequence[LoadWindow], baseline: str) -> tuple[Contrast, ...]:
    """Every variant beside the baseline, for each load that both were under. An open loop's throughput is what was
    offered, so there it is not compared."""
    levels = dict.fromkeys((w.protocol, w.users, w.offered_rps) for w in windows)
    found = []
    for protocol, users, offered_rps in levels:
        level = [w for w in windows if (w.protocol, w.users, w.offered_rps) == (protocol, users, offered_rps)]
        base = [w for w in level if w.variant == baseline]
        for variant in dict.fromkeys(w.variant for w in level if base and w.variant != baseline):
            mine = [w for w in level if w.variant == variant]
            figures = FIGURES if offered_rps is None else FIGURES[1:]
            found += [contrast(mine, base, figure) for figure in figures]
    return tuple(found)


def contrast(mine: Sequence[LoadWindow], base: Sequence[LoadWindow], figure: Figure) -> Contrast:
    """Windows of one variant beside another's under the same load, matched by their pass."""
    theirs = {w.pass_number: value_of(w, figure) for w in base}
    pairs = [(value_of(w, figure), theirs.get(w.pass_number)) for w in mine]
    ratios = [one / other for one, other in pairs if one and other]
    ratio, interval = block_ratio(ratios) if len(ratios) > 1 else (ratios[0] if ratios else None, None)
    reason = objection([*mine, *base]) or few_blocks(len(ratios))
    return Contrast(
        variant=mine[0].variant,
        against=base[0].variant,
        protocol=mine[0].protocol,
        users=mine[0].users,
        offered_rps=mine[0].offered_rps,
        figure=figure,
        blocks=len(ratios),
        ratio=ratio,
        ci95=interval,
        verdict="none" if reason or interval is None else decide(interval, figure),
        reason=reason,
    )


def decide(interval: tuple[float, float], figure: Figure) -> Literal["faster", "slower", "no significant difference"]:
    """The verdict on an interval of ratios: a latency is better below 1, a throughput above."""
    low, high = interval
    if low <= 1 <= high:
        return "no significant difference"
    return "faster" if (low > 1) == (figure == "throughput") else "slower"


def few_blocks(blocks: int) -> str:
    """What speaks against a verdict from so few blocks."""
    if blocks >= MIN_BLOCKS:
        return ""
    return f"{blocks} {'pass is' if blocks == 1 else 'passes are'} too few, {MIN_BLOCKS} are needed"


def objection(windows: Sequence[LoadWindow]) -> str:
    """What else does; empty for sound windows."""
    if failures := sum(w.failures for w in windows):
        return f"{failures} requests failed"
    if (share := max((w.generator_share or 0.0 for w in windows), default=0.0)) > CEILING_SHARE:
        return near_ceiling(share)
    if not all(w.warm for w in windows):
        return "a variant was still getting faster when its window began"
    return ""


def near_ceiling(share: float) -> str:
    """That the load generator was a part of what was measured, in words."""
    return f"the load generator was at {share:.0%} of what it can send, above {CEILING_SHARE:.0%}"
