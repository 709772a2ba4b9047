"""A comparison of two load tests as Markdown, for a pull request or the terminal."""

from __future__ import annotations

from core.changes import Change, Check, RunComparison
from loadtest.events import PROTOCOL_NAMES

MARKS = {"better": "better", "worse": "**worse**", "no significant difference": "no significant difference"}
UNITS = {"throughput": "1/s", "capacity": "1/s", "p50": "ms", "p99": "ms"}


def markdown(comparison: RunComparison) -> str:
    """The verdicts of the limits first, then every change."""
    lines = [f"### {comparison.model}: {comparison.before} → {comparison.after}", ""]
    lines += [f"- {describe_check(check)}" for check in comparison.checks]
    lines += [f"- {name} was loaded in one of the two only" for name in comparison.missing]
    lines += [""] if lines[-1] else []
    lines += [
        "| variant | load | figure | before | after | change | 95% interval | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_row, comparison.changes),
        "",
        f"Scenario `{comparison.scenario.name}`. The two were made at different times: what the machine did otherwise "
        "is part of a difference.",
    ]
    return "\n".join(lines)


def describe_check(check: Check) -> str:
    """What became of a limit for one variant."""
    change = check.change
    what = f"`{check.limit.text}` {change.variant} over {PROTOCOL_NAMES[change.protocol]}"
    where = f"{what}, {change.load}" if change.load else what
    words = {
        "kept": "kept",
        "broken": "**broken**",
        "undecided": f"**undecided**: {change.reason or 'beyond the limit, but perhaps by chance; more --passes tell'}",
    }
    return f"{where}: {shown(change)}, {words[check.outcome]}"


def shown(change: Change) -> str:
    """The change alone."""
    return _form(change, change.change)


def _form(change: Change, value: float) -> str:
    return f"{value * 100:+.2f} pt" if change.figure == "accuracy" else f"{value * 100:+.1f}%"


def _row(change: Change) -> str:
    percent = change.figure == "accuracy"
    values = [
        f"{value * 100:.2f}%" if percent else f"{value:.4g} {UNITS[change.figure]}"
        for value in (change.before, change.after)
    ]
    interval = " to ".join(_form(change, bound) for bound in change.ci95) if change.ci95 else "-"
    verdict = MARKS.get(change.judgement, f"none: {change.reason}")
    load = f"{PROTOCOL_NAMES[change.protocol]}{', ' if change.load else ''}{change.load}"
    cells = (f"`{change.variant}`", load, change.figure, *values, shown(change), interval, verdict)
    return f"| {' | '.join(cells)} |"
