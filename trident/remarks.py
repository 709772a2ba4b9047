"""What the figures of a comparison do not say by themselves, in sentences."""

from __future__ import annotations

from typing import Final

from core.comparison import Summary
from core.intervals import steady
from core.load_results import LoadReport, ServedAccuracy
from core.results import Interval
from core.scenario import Protocol
from loadtest.events import PROTOCOL_NAMES, coverage, describe_capacity, describe_ceiling, limited_by_generator
from loadtest.verdicts import CEILING_SHARE

AGREEMENT: Final = 0.999  # with the in-process decisions, which FP32 and static INT8 keep


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
    found += [
        f"{row.variant}: {row.failures} requests failed{_kinds(row.reasons)}" for row in summary.rows if row.failures
    ]
    found += [describe_capacity(row) for row in load.capacity if row.rate_rps is None]
    if summary.price_per_hour is not None and summary.scenario.load.kind == "open":
        found.append(
            "no cost is given: an open loop's rate is what was asked for, and not what the machine can do; take a "
            "closed loop, or --scenario capacity"
        )
    for protocol in PROTOCOL_NAMES:
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


def _kinds(reasons: dict[str, int]) -> str:
    return f" ({', '.join(f'{kind}: {count}' for kind, count in reasons.items())})" if reasons else ""


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
